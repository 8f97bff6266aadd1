//! A time of day that is not set while a server runs.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::ports::Clock;

/// Tells what time it is by what passed since it was made. A clock that is set meanwhile, by an hour or by a second,
/// changes nothing about it: what is to last does, and no longer.
#[derive(Clone)]
pub(crate) struct Steady {
    began: Timestamp,
    passed: Duration,
    clock: Arc<dyn Clock>,
}

impl Steady {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { began: clock.now(), passed: clock.monotonic(), clock }
    }

    /// In whole microseconds, as stores keep times.
    pub(crate) fn now(&self) -> Timestamp {
        let passed = self.clock.monotonic().saturating_sub(self.passed);
        let passed = Duration::from_micros(u64::try_from(passed.as_micros()).unwrap_or(u64::MAX));
        self.began.saturating_add(passed).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

    use super::*;
    use crate::ports::MockClock;
    use crate::testing::noon;

    #[test]
    fn a_clock_that_is_set_by_an_hour_moves_it_neither_on_nor_back() {
        let (set_by, passed) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicU64::new(7_000_000)));
        let (wall, monotonic) = (set_by.clone(), passed.clone());
        let mut clock = MockClock::new();
        clock
            .expect_now()
            .returning(move || noon() + jiff::SignedDuration::from_secs(wall.load(Ordering::SeqCst)));
        clock.expect_monotonic().returning(move || Duration::from_micros(monotonic.load(Ordering::SeqCst)));
        let steady = Steady::new(Arc::new(clock));

        for (second, hour) in [(1, 3600), (2, -3600), (3, 0)] {
            passed.fetch_add(1_000_000, Ordering::SeqCst);
            set_by.store(hour, Ordering::SeqCst);
            assert_eq!(steady.now(), noon() + Duration::from_secs(second));
        }
    }
}
