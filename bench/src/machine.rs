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

/// How many threads can run at once; the server has as many workers.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}
