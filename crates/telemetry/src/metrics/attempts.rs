//! How many attempts ended how.

use std::collections::BTreeMap;

use domain::Event;
use domain::ports::AuditStream;
use parking_lot::Mutex;

use crate::audit_lines::AuditLines;

/// Counts attempts, and lets the log tell of them. An attempt has a line in the log, beside which a lock is nothing.
pub struct CountedAttempts {
    lines: AuditLines,
    counts: Mutex<BTreeMap<Ending, u64>>,
}

/// What was attempted, how it ended, and why. Each is a word of ours, so there is an end to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ending {
    pub action: &'static str,
    pub outcome: &'static str,
    /// Empty unless it was refused.
    pub reason: &'static str,
}

impl CountedAttempts {
    /// Counts nothing yet, and logs each event by these lines.
    pub fn new(lines: AuditLines) -> Self {
        Self { lines, counts: Mutex::default() }
    }

    /// How many attempts ended how, since the start.
    pub fn counts(&self) -> BTreeMap<Ending, u64> {
        self.counts.lock().clone()
    }
}

impl AuditStream for CountedAttempts {
    fn publish(&self, event: Event) {
        let (outcome, reason) = event.outcome.as_strs();
        let action = event.attempt.action.as_str();
        let ending = Ending { action, outcome, reason: reason.unwrap_or_default() };
        let mut counts = self.counts.lock();
        *counts.entry(ending).or_default() += u64::from(event.count);
        drop(counts);
        self.lines.publish(event);
    }
}
