//! Refreshes as fast as they are answered: each is a change of its session that is on the disk before the answer is
//! sent.

use crate::Result;
use crate::callers::{self, PASSWORD, Refresh};
use crate::client::Connection;
use crate::database::name;
use crate::load::closed_loop;
use crate::report::{Figure, Target};
use crate::sections::{Bench, everybody};
use crate::server::Server;
use crate::stats::{median, percentile};
use crate::yardstick::OneByOne;

pub(super) const NAME: &str = "refresh";

const COST: u32 = 10;
const CONNECTIONS: usize = 64;

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let server = bench.serve(COST, CONNECTIONS)?;
    let mut sessions = log_everybody_in(&server)?;
    let deployment = bench.deployment(COST)?;
    let mut one_by_one = OneByOne::open(&deployment.migrate()?, CONNECTIONS)?;
    let (window, logins) = (bench.plan.window(1, 4), bench.plan.window(1, 3));
    let (mut paces, mut naive_paces, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut medians, mut tails, mut login_paces) = (Vec::new(), Vec::new(), Vec::new());
    let what = format!("{CONNECTIONS} connections");
    for round in 0..bench.plan.rounds() {
        bench.progress(NAME, &what, round);
        let naive_pace = one_by_one.commits_per_second(window.length)?;
        let tally = closed_loop(server.address, sessions.iter_mut().collect(), window)?;
        let (pace, latencies) = (tally.per_second(window), tally.latencies(window));
        naive_paces.push(naive_pace);
        paces.push(pace);
        ratios.push(pace / naive_pace);
        medians.push(median(&latencies));
        tails.push(percentile(&latencies, 99));
        bench.report.blame(NAME, tally.wrong);

        let tally = closed_loop(server.address, everybody(CONNECTIONS), logins)?;
        login_paces.push(tally.per_second(logins));
        bench.report.blame(NAME, tally.wrong);
    }
    server.stop()?;
    let ratio = Figure::new(NAME, format!("{what}: ÷ one commit after the other"), "×", ratios);
    bench.report.add(ratio.with_target(Target::AtLeast(2.0)));
    bench.report.add(Figure::new(NAME, format!("{what}: refreshes"), "/s", paces));
    bench.report.add(Figure::new(NAME, format!("{what}: p50"), "ms", medians));
    bench.report.add(Figure::new(NAME, format!("{what}: p99"), "ms", tails));
    bench.report.add(Figure::new(NAME, "one commit after the other, each with its fsync", "/s", naive_paces));
    let logins = format!("{what}: logins at cost {COST}, each opens a session");
    bench.report.add(Figure::new(NAME, logins, "/s", login_paces));
    Ok(())
}

/// A session of each user, which is refreshed from its first generation on.
fn log_everybody_in(server: &Server) -> Result<Vec<Refresh>> {
    let mut connection = Connection::open(server.address)?;
    let log_in = |number| {
        let answer = connection.ask(&callers::log_in(&name(number), PASSWORD))?;
        callers::access_token(&answer, &name(number))?;
        Ok(Refresh::of(&answer)?)
    };
    (1..=CONNECTIONS).map(log_in).collect()
}
