//! How long somebody who has a token waits while many others log in.

use std::net::SocketAddr;
use std::thread;

use crate::Result;
use crate::callers::Me;
use crate::client::Connection;
use crate::database::name;
use crate::load::{Tally, open_loop, while_calling};
use crate::report::{Figure, Target};
use crate::sections::{Bench, everybody, profile, token};
use crate::stats::{median, milliseconds, number, percentile};
use crate::yardstick::BareHandler;

pub(super) const NAME: &str = "storm";

const COST: u32 = 12;
const STORM: usize = 64;

/// How many questions a second fall due, and on how many connections.
const RATE: u32 = 200;
const CONNECTIONS: usize = 4;

/// Somebody who asks, and what they are answered.
struct Asker {
    token: String,
    body: Vec<u8>,
}

/// The medians, the tails and the slowest of one kind of round.
#[derive(Default)]
struct Waits {
    medians: Vec<f64>,
    tails: Vec<f64>,
    slowest: Vec<f64>,
}

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let server = bench.serve(COST, STORM)?;
    let idle_memory = server.resident_memory()?;
    let askers = askers(server.address)?;
    let bare = BareHandler::start(&askers[0].body)?;
    let (length, settle) = (bench.plan.seconds(5), bench.plan.seconds(3));
    let [mut of_bare, mut idle, mut stormy] = [const { Waits::new() }; 3];
    let (mut wrong, mut refused) = (Vec::new(), Vec::new());
    for round in 0..bench.plan.rounds() {
        bench.progress(NAME, &format!("{RATE} questions a second, {STORM} logins at a time"), round);
        // Everybody is answered the same there.
        let same = (0..CONNECTIONS).map(|_| askers[0].caller()).collect();
        let tally = open_loop(bare.address, same, RATE, length)?;
        of_bare.take(&tally);
        bench.report.blame(NAME, tally.wrong);

        let tally = open_loop(server.address, callers(&askers), RATE, length)?;
        idle.take(&tally);
        let mut errors = tally.wrong.count();
        bench.report.blame(NAME, tally.wrong);

        let (asked, logins) = while_calling(server.address, everybody(STORM), || {
            thread::sleep(settle);
            open_loop(server.address, callers(&askers), RATE, length * 2)
        })?;
        let asked = asked?;
        stormy.take(&asked);
        errors += asked.wrong.count() + logins.wrong.count();
        wrong.push(number(errors));
        refused.push(number(logins.refused.len()));
        bench.report.blame(NAME, asked.wrong);
        bench.report.blame(NAME, logins.wrong);
    }
    let most_memory = server.most_memory()?;
    server.stop()?;

    of_bare.report(bench, "bare handler, idle", None);
    idle.report(bench, "idle", None);
    stormy.report(bench, &format!("{STORM} logins at a time"), Some(Target::AtMost(10.0)));
    let none = Target::AtMost(0.0);
    bench.report.add(Figure::new(NAME, "wrong answers", "", wrong).with_target(none));
    bench.report.add(Figure::new(NAME, "logins refused", "", refused));
    bench.report.add(Figure::new(NAME, "memory before", "MiB", vec![idle_memory]));
    let memory = Figure::new(NAME, "memory at most", "MiB", vec![most_memory]);
    bench.report.add(memory.with_target(Target::AtMost(64.0)));
    Ok(())
}

fn askers(address: SocketAddr) -> Result<Vec<Asker>> {
    let mut connection = Connection::open(address)?;
    let mut asker = |number| {
        let name = name(number);
        let token = token(&mut connection, &name)?;
        let body = profile(&mut connection, &token, &name)?;
        Ok(Asker { token, body })
    };
    (1..=CONNECTIONS).map(&mut asker).collect()
}

fn callers(askers: &[Asker]) -> Vec<Me> {
    askers.iter().map(Asker::caller).collect()
}

impl Asker {
    fn caller(&self) -> Me {
        Me::new(&self.token, &self.body)
    }
}

impl Waits {
    const fn new() -> Self {
        Self { medians: Vec::new(), tails: Vec::new(), slowest: Vec::new() }
    }

    fn take(&mut self, tally: &Tally) {
        let waits: Vec<f64> = tally.done.iter().map(|sample| milliseconds(sample.took)).collect();
        self.medians.push(median(&waits));
        self.tails.push(percentile(&waits, 99));
        self.slowest.push(percentile(&waits, 100));
    }

    fn report(self, bench: &mut Bench, what: &str, target: Option<Target>) {
        let tail = Figure::new(NAME, format!("{what}: p99"), "ms", self.tails);
        bench.report.add(Figure::new(NAME, format!("{what}: p50"), "ms", self.medians));
        bench.report.add(match target {
            Some(target) => tail.with_target(target),
            None => tail,
        });
        bench.report.add(Figure::new(NAME, format!("{what}: slowest"), "ms", self.slowest));
    }
}
