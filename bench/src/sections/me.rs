//! Questions who one is, as fast as they are answered: what everything but passwords costs.

use crate::Result;
use crate::callers::Me;
use crate::client::Connection;
use crate::database::name;
use crate::load::closed_loop;
use crate::report::{Figure, Target};
use crate::sections::{Bench, profile, token};
use crate::yardstick::BareHandler;

pub(super) const NAME: &str = "me";

const CONNECTIONS: usize = 16;

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let server = bench.serve(10, 1)?;
    let mut connection = Connection::open(server.address)?;
    let token = token(&mut connection, &name(1))?;
    let body = profile(&mut connection, &token, &name(1))?;
    let bare = BareHandler::start(&body)?;
    let window = bench.plan.window(1, 3);
    let (mut paces, mut bare_paces, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let what = format!("{CONNECTIONS} connections");
    for round in 0..bench.plan.rounds() {
        bench.progress(NAME, &what, round);
        let [bare_pace, pace] = {
            let mut pace_of = |address| -> Result<f64> {
                let callers = (0..CONNECTIONS).map(|_| Me::new(&token, &body)).collect();
                let tally = closed_loop(address, callers, window)?;
                let pace = tally.per_second(window);
                bench.report.blame(NAME, tally.wrong);
                Ok(pace)
            };
            [pace_of(bare.address)?, pace_of(server.address)?]
        };
        paces.push(pace);
        bare_paces.push(bare_pace);
        ratios.push(pace / bare_pace);
    }
    server.stop()?;
    let ratio = Figure::new(NAME, format!("{what}: ÷ bare handler"), "×", ratios);
    bench.report.add(ratio.with_target(Target::AtLeast(0.6)));
    bench.report.add(Figure::new(NAME, format!("{what}: answers"), "/s", paces));
    bench.report.add(Figure::new(NAME, format!("{what}: the bare handler's"), "/s", bare_paces));
    Ok(())
}
