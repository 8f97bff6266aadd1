//! What it was measured on. Figures from two machines are no comparison.

use std::fs;
use std::num::NonZero;
use std::thread;

use serde::Serialize;

use crate::ambient::date;

#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    date: String,
    processor: String,
    cores: usize,
    kernel: String,
    /// How many threads wanted to run in the minute before: what others did to the figures.
    load_before: String,
}

impl Machine {
    pub(crate) fn survey() -> Self {
        let first = |path, separator| {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.split(separator).next().unwrap_or_default().trim().to_owned()
        };
        let described = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = described.lines().find_map(|line| line.strip_prefix("model name"));
        Self {
            date: format!("{:.0}", date()),
            processor: model.unwrap_or_default().trim_start_matches(['\t', ':', ' ']).to_owned(),
            cores: cores(),
            kernel: first("/proc/sys/kernel/osrelease", '\n'),
            load_before: first("/proc/loadavg", ' '),
        }
    }

    /// In one line.
    pub(crate) fn text(&self) -> String {
        let Self { date, processor, cores, kernel, load_before } = self;
        format!("{processor}, {cores} cores, Linux {kernel}, load {load_before} before, {date}")
    }
}

/// What the cores have done so far, in ticks of the system's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    all: u64,
    busy: u64,
    ours: u64,
}

impl Work {
    /// Nothing where the system does not tell.
    pub(crate) fn so_far() -> Option<Self> {
        let machine = fs::read_to_string("/proc/stat").ok()?;
        Self::parse(&machine, &fs::read_to_string("/proc/self/stat").ok()?)
    }

    /// How many of a hundred ticks of the cores went to others than us and the processes that we have started
    /// and seen end, or to another machine on the same hardware.
    pub(crate) fn percent_of_others(self, since: Self) -> f64 {
        let others = |work: Self| i128::from(work.busy) - i128::from(work.ours);
        let taken = u32::try_from(others(self) - others(since)).unwrap_or(0);
        let all = u32::try_from(self.all - since.all).unwrap_or(u32::MAX).max(1);
        100.0 * f64::from(taken) / f64::from(all)
    }

    /// Reads `proc_stat(5)`: the machine's first line is user, nice, system, idle, waiting for disks, two kinds
    /// of interrupts, stolen; ours has, from the 14th field on, what we and our children did.
    fn parse(machine: &str, process: &str) -> Option<Self> {
        let cores = numbers(machine.lines().next()?.strip_prefix("cpu ")?);
        let idle = cores.get(3)? + cores.get(4)?;
        let all = cores.iter().take(8).sum();
        // Before it stands our name, which may have anything in it.
        let (_, fields) = process.rsplit_once(") ")?;
        let ours = numbers(fields.split_once(' ')?.1);
        Some(Self { all, busy: all - idle, ours: ours.get(10..14)?.iter().sum() })
    }
}

/// How many threads can run at once; the server has as many workers.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Some of the fields are -1, which is none that we look at.
fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace().map(|number| number.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESS: &str = "7 (a) b) R 1 7 7 0 -1 4194304 1 2 3 4 100 20 3000 400 20 0 1 0 99";

    fn work(all: u64, busy: u64, ours: u64) -> Work {
        Work { all, busy, ours }
    }

    #[test]
    fn work_is_read_where_it_stands() {
        let machine = "cpu  1 20 300 4000 50000 600000 7000000 80000000 9 9\ncpu0 1 1 1 1 1 1 1 1 0 0\n";

        let read = Work::parse(machine, PROCESS).unwrap();

        assert_eq!(read, work(87_654_321, 87_600_321, 3_520));
        assert_eq!(Work::parse("", PROCESS), None);
        assert_eq!(Work::parse(machine, "7 (a) R 1 7"), None);
        assert!(Work::so_far().is_some());
    }

    #[test]
    fn others_are_whoever_is_neither_idle_nor_we() {
        let since = work(1000, 500, 300);
        let percent = |all, busy, ours| work(all, busy, ours).percent_of_others(since);

        assert!((percent(1200, 650, 400) - 25.0).abs() < 1e-9);
        assert!(percent(1200, 650, 450).abs() < 1e-9);
        // The clocks of the two do not tick together.
        assert!(percent(1200, 600, 401).abs() < 1e-9);
        assert!(percent(1000, 500, 300).abs() < 1e-9);
    }
}
