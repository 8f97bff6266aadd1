//! Many more logins than can be served, from clients that try again at once.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::Result;
use crate::ambient::now;
use crate::callers::{self, PASSWORD};
use crate::client::Connection;
use crate::database::name;
use crate::load::{Tally, closed_loop};
use crate::machine::cores;
use crate::report::{Figure, Target};
use crate::sections::{Bench, everybody};
use crate::server::DEADLINE;
use crate::stats::{median, milliseconds, number};
use crate::yardstick::bcrypt_per_second;

pub(super) const NAME: &str = "flood";

const COST: u32 = 12;
const CALM: usize = 64;
const FLOOD: usize = 500;

/// How long after the flood a login should be as quick as ever.
const REST: Duration = Duration::from_secs(2);

/// A value for each round.
#[derive(Default)]
struct Rounds {
    paces: Vec<f64>,
    to_calm: Vec<f64>,
    to_crate: Vec<f64>,
    refused: Vec<f64>,
    longest: Vec<f64>,
    longest_login: Vec<f64>,
    wrong: Vec<f64>,
    after: Vec<f64>,
}

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let server = bench.serve(COST, FLOOD)?;
    let (calm, flood) = (bench.plan.window(3, 6), bench.plan.window(2, 10));
    let mut rounds = Rounds::default();
    for round in 0..bench.plan.rounds() {
        bench.progress(NAME, &format!("{FLOOD} logins at a time"), round);
        let crate_pace = bcrypt_per_second(cores(), COST, bench.plan.seconds(3));
        let before = single_login(server.address)?;
        let calm_tally = closed_loop(server.address, everybody(CALM), calm)?;
        let calm_pace = calm_tally.per_second(calm);
        bench.report.blame(NAME, calm_tally.wrong);

        let tally = closed_loop(server.address, everybody(FLOOD), flood)?;
        thread::sleep(REST);
        rounds.after.push(single_login(server.address)? / before);
        let pace = tally.per_second(flood);
        rounds.to_calm.push(pace / calm_pace);
        rounds.to_crate.push(pace / crate_pace);
        rounds.paces.push(pace);
        rounds.take(&tally);
        bench.report.blame(NAME, tally.wrong);
    }
    let memory = server.most_memory()?;
    server.stop()?;
    rounds.report(bench, memory);
    Ok(())
}

/// How many milliseconds a login takes that is alone, the median of five.
fn single_login(address: SocketAddr) -> Result<f64> {
    let mut connection = Connection::open(address)?;
    let mut waits = Vec::new();
    for number in 1..=5 {
        let name = name(number);
        let request = callers::log_in(&name, PASSWORD);
        let begun = now();
        let answer = connection.ask(&request)?;
        waits.push(milliseconds(begun.elapsed()));
        callers::access_token(&answer, &name)?;
    }
    Ok(median(&waits))
}

impl Rounds {
    fn take(&mut self, tally: &Tally) {
        let longest = tally.refused.iter().map(|sample| sample.took).max();
        self.refused.push(number(tally.refused.len()));
        // Where nobody was refused, nobody waited for it.
        self.longest.push(longest.unwrap_or_default().as_secs_f64());
        let longest = tally.done.iter().map(|sample| sample.took).max();
        self.longest_login.push(longest.unwrap_or_default().as_secs_f64());
        self.wrong.push(number(tally.wrong.count()));
    }

    fn report(self, bench: &mut Bench, memory: f64) {
        let what = format!("{FLOOD} connections");
        let mut add = |name: &str, unit, rounds, target: Option<Target>| {
            let figure = Figure::new(NAME, format!("{what}: {name}"), unit, rounds);
            bench.report.add(match target {
                Some(target) => figure.with_target(target),
                None => figure,
            });
        };
        add("logins", "/s", self.paces, None);
        add(&format!("÷ {CALM} connections"), "×", self.to_calm, Some(Target::AtLeast(0.9)));
        add("÷ bcrypt crate on all cores", "×", self.to_crate, Some(Target::AtLeast(2.5)));
        add(
            "longest wait for a login",
            "s",
            self.longest_login,
            Some(Target::AtMost(DEADLINE.as_secs_f64())),
        );
        add("503s", "", self.refused, None);
        add("longest wait for a 503", "s", self.longest, Some(Target::AtMost(DEADLINE.as_secs_f64())));
        add("wrong answers", "", self.wrong, Some(Target::AtMost(0.0)));
        add("memory at most", "MiB", vec![memory], Some(Target::AtMost(64.0)));
        add("a login 2 s after ÷ before", "×", self.after, Some(Target::AtMost(1.5)));
    }
}
