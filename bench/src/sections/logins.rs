//! Logins as fast as they are answered.

use crate::Result;
use crate::load::closed_loop;
use crate::machine::cores;
use crate::report::{Figure, Target};
use crate::sections::{Bench, everybody};
use crate::server::Server;
use crate::stats::{median, milliseconds, number, percentile};
use crate::yardstick::bcrypt_per_second;

pub(super) const NAME: &str = "logins";

const CONNECTIONS: [usize; 3] = [1, 16, 64];

/// A cost, and how many seconds the yardstick, the warm-up and the window take at it.
const COSTS: [(u32, [u64; 3]); 2] = [(10, [2, 1, 3]), (12, [3, 3, 6])];

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    for (cost, seconds) in COSTS {
        let server = bench.serve(cost, CONNECTIONS[2])?;
        for connections in CONNECTIONS {
            measure_at(bench, &server, (cost, seconds), connections)?;
        }
        server.stop()?;
    }
    Ok(())
}

fn measure_at(
    bench: &mut Bench,
    server: &Server,
    (cost, [yardstick, warm_up, length]): (u32, [u64; 3]),
    connections: usize,
) -> Result<()> {
    let (threads, on, plural) =
        if connections == 1 { (1, "one core", "") } else { (cores(), "all cores", "s") };
    let what = format!("cost {cost}, {connections} connection{plural}");
    let window = bench.plan.window(warm_up, length);
    let (mut paces, mut ratios, mut medians, mut tails) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut refused, mut waits) = (0, Vec::new());
    for round in 0..bench.plan.rounds() {
        bench.progress(NAME, &what, round);
        let crate_pace = bcrypt_per_second(threads, cost, bench.plan.seconds(yardstick));
        let tally = closed_loop(server.address, everybody(connections), window)?;
        let pace = tally.per_second(window);
        let latencies = tally.latencies(window);
        paces.push(pace);
        ratios.push(pace / crate_pace);
        medians.push(median(&latencies));
        tails.push(percentile(&latencies, 99));
        refused += tally.refused.len();
        waits.extend(tally.refused.iter().map(|sample| milliseconds(sample.took)));
        bench.report.blame(NAME, tally.wrong);
    }
    let ratio = Figure::new(NAME, format!("{what}: ÷ bcrypt crate on {on}"), "×", ratios);
    bench.report.add(match connections {
        1 => ratio.with_target(Target::AtLeast(0.9)),
        64 => ratio.with_target(Target::AtLeast(2.5)),
        _ => ratio,
    });
    bench.report.add(Figure::new(NAME, format!("{what}: logins"), "/s", paces));
    bench.report.add(Figure::new(NAME, format!("{what}: p50"), "ms", medians));
    bench.report.add(Figure::new(NAME, format!("{what}: p99"), "ms", tails));
    if refused > 0 {
        bench.report.add(Figure::new(
            NAME,
            format!("{what}: 503s, in all rounds"),
            "",
            vec![number(refused)],
        ));
        bench.report.add(Figure::new(NAME, format!("{what}: waits for a 503"), "ms", waits));
    }
    Ok(())
}
