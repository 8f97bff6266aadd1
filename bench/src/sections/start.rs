//! How soon a server with an empty database is ready, and how little memory it takes.

use std::thread;
use std::time::Duration;

use crate::Result;
use crate::ambient::now;
use crate::report::{Figure, Target};
use crate::sections::Bench;
use crate::stats::milliseconds;

pub(super) const NAME: &str = "start";

const STARTS: usize = 10;

/// What it does after it is ready, it has done by then.
const REST: Duration = Duration::from_millis(200);

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    eprintln!("{NAME}: {STARTS} servers one after the other");
    let (mut times, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let deployment = bench.deployment(12)?;
        let begun = now();
        let server = deployment.serve()?;
        server.wait_until_ready()?;
        times.push(milliseconds(begun.elapsed()));
        thread::sleep(REST);
        memory.push(server.resident_memory()?);
        server.stop()?;
    }
    let time = Figure::new(NAME, "with an empty database until ready", "ms", times);
    let memory = Figure::new(NAME, "memory when idle", "MiB", memory);
    bench.report.add(time.with_target(Target::AtMost(100.0)));
    bench.report.add(memory.with_target(Target::AtMost(20.0)));
    Ok(())
}
