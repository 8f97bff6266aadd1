//! Sign-ups as fast as they are answered: a hash and a durable row each.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::Result;
use crate::callers::SignUp;
use crate::load::closed_loop;
use crate::machine::cores;
use crate::report::Figure;
use crate::sections::Bench;
use crate::yardstick::bcrypt_per_second;

pub(super) const NAME: &str = "sign_up";

const COST: u32 = 12;
const CONNECTIONS: usize = 16;

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let server = bench.serve(COST, 1)?;
    let window = bench.plan.window(3, 6);
    let taken = Arc::new(AtomicUsize::new(0));
    let (mut paces, mut ratios) = (Vec::new(), Vec::new());
    let what = format!("cost {COST}, {CONNECTIONS} connections");
    for round in 0..bench.plan.rounds() {
        bench.progress(NAME, &what, round);
        let crate_pace = bcrypt_per_second(cores(), COST, bench.plan.seconds(3));
        let callers = (0..CONNECTIONS).map(|_| SignUp::new(taken.clone())).collect();
        let tally = closed_loop(server.address, callers, window)?;
        let pace = tally.per_second(window);
        paces.push(pace);
        ratios.push(pace / crate_pace);
        bench.report.blame(NAME, tally.wrong);
    }
    server.stop()?;
    bench.report.add(Figure::new(NAME, format!("{what}: ÷ bcrypt crate on all cores"), "×", ratios));
    bench.report.add(Figure::new(NAME, format!("{what}: sign-ups"), "/s", paces));
    Ok(())
}
