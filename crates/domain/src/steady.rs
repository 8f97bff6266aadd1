//! A time of day that does not follow a clock that is set, unless it stays so.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use crate::ports::Clock;

/// How far from the time of day is near enough: by that much the clocks of several machines differ anyway.
const NEAR: SignedDuration = SignedDuration::from_secs(1);

/// How long the time of day has to be another one until that is believed. No delay is longer, so one that was under way
/// when the clock was set is over by then.
const LASTING: Duration = Duration::from_mins(10);

/// Tells what time it is by what passed since it was made. A clock that is set meanwhile, by an hour or by a second, and
/// set right again, changes nothing about it: what is to last does, and no longer.
///
/// But the clock may have been wrong when this was made, as after a start before the network told the time, and rows that
/// other machines read would be wrong as long as the process lives. So once the time of day was another one for ten
/// minutes, and the same other one whenever somebody asked, that is taken over. If it is earlier, a delay that is under
/// way begins anew; if it is later, one that began within the last minutes is cut short, that once, and an attempt whose
/// password is being compared at that moment may lose its place to another. What failed stays counted.
#[derive(Clone)]
pub(crate) struct Steady {
    clock: Arc<dyn Clock>,
    setting: Arc<Mutex<Setting>>,
}

struct Setting {
    /// The time of day when the monotonic clock began.
    began: Timestamp,
    /// When it would have begun by what the time of day is instead, and since when that is so.
    instead: Option<(Timestamp, Duration)>,
}

impl Steady {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let began = earlier(clock.now(), clock.monotonic());
        Self { clock, setting: Arc::new(Mutex::new(Setting { began, instead: None })) }
    }

    /// In whole microseconds, as stores keep times.
    pub(crate) fn now(&self) -> Timestamp {
        let passed = self.clock.monotonic();
        let told = earlier(self.clock.now(), passed);
        let mut setting = self.setting.lock();
        setting.hear(told, passed);
        setting.began.saturating_add(whole(passed)).unwrap_or(Timestamp::MAX)
    }
}

impl Setting {
    fn hear(&mut self, told: Timestamp, passed: Duration) {
        if is_near(told, self.began) {
            self.instead = None;
            return;
        }
        match self.instead {
            Some((instead, since)) if is_near(told, instead) => {
                if passed.saturating_sub(since) >= LASTING {
                    *self = Self { began: told, instead: None };
                }
            }
            _ => self.instead = Some((told, passed)),
        }
    }
}

fn is_near(one: Timestamp, other: Timestamp) -> bool {
    one.duration_since(other).abs() <= NEAR
}

fn earlier(time: Timestamp, by: Duration) -> Timestamp {
    time.saturating_sub(whole(by)).unwrap_or(Timestamp::MIN)
}

fn whole(time: Duration) -> Duration {
    Duration::from_micros(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

    use super::*;
    use crate::ports::MockClock;
    use crate::testing::noon;

    const HOUR: i64 = 3600;
    const CENTURY: i64 = 100 * 365 * 24 * HOUR;

    /// A clock that is set by hand, and a second hand that always goes on.
    #[derive(Clone)]
    struct Hands {
        set_by: Arc<AtomicI64>,
        passed: Arc<AtomicU64>,
    }

    impl Hands {
        /// What it made of noon, when seven seconds had passed.
        fn steady() -> (Self, Steady) {
            let hands = Self { set_by: Arc::default(), passed: Arc::new(AtomicU64::new(7)) };
            let (of_day, of_passed) = (hands.clone(), hands.clone());
            let mut clock = MockClock::new();
            clock.expect_now().returning(move || {
                noon() + SignedDuration::from_secs(of_day.set_by.load(Ordering::SeqCst)) + of_day.passed()
                    - Duration::from_secs(7)
            });
            clock.expect_monotonic().returning(move || of_passed.passed());
            (hands, Steady::new(Arc::new(clock)))
        }

        fn passed(&self) -> Duration {
            Duration::from_secs(self.passed.load(Ordering::SeqCst))
        }

        /// The clock is off by so much from now on, and so much time passes.
        fn go(&self, set_by: i64, seconds: u64) {
            self.set_by.store(set_by, Ordering::SeqCst);
            self.passed.fetch_add(seconds, Ordering::SeqCst);
        }
    }

    fn after(seconds: i64) -> Timestamp {
        noon() + SignedDuration::from_secs(seconds)
    }

    #[test]
    fn a_clock_that_is_set_by_an_hour_moves_it_neither_on_nor_back() {
        let (hands, steady) = Hands::steady();

        for (second, set_by) in [(1, HOUR), (2, -HOUR), (3, 0)] {
            hands.go(set_by, 1);
            assert_eq!(steady.now(), after(second));
        }
    }

    #[test]
    fn a_clock_that_stays_set_is_believed_after_ten_minutes_and_no_earlier() {
        for set_by in [HOUR, -HOUR, 2, -2, CENTURY, -CENTURY] {
            let (hands, steady) = Hands::steady();
            hands.go(set_by, 0);
            for minute in 0..10 {
                assert_eq!(steady.now(), after(60 * minute), "{set_by}");
                hands.go(set_by, 60);
            }
            // Those who have it from before hear of it too.
            let same = steady.clone();
            assert_eq!(steady.now(), after(600 + set_by));
            hands.go(set_by, 60);
            assert_eq!(same.now(), after(660 + set_by));
            // And it is steady again.
            hands.go(0, 60);
            assert_eq!(same.now(), after(720 + set_by));
        }
    }

    #[test]
    fn a_clock_that_is_set_right_again_or_otherwise_has_ten_minutes_from_then_on() {
        for meanwhile in [0, 2 * HOUR] {
            let (hands, steady) = Hands::steady();
            hands.go(HOUR, 0);
            assert_eq!(steady.now(), after(0));
            hands.go(meanwhile, 300);
            assert_eq!(steady.now(), after(300));
            hands.go(HOUR, 300);
            assert_eq!(steady.now(), after(600));
            hands.go(HOUR, 599);
            assert_eq!(steady.now(), after(1199));
            hands.go(HOUR, 1);
            assert_eq!(steady.now(), after(1200 + HOUR));
        }
    }

    #[test]
    fn a_clock_that_is_set_by_no_more_than_a_second_changes_nothing() {
        let (hands, steady) = Hands::steady();

        for minute in 0..30 {
            hands.go(if minute % 2 == 0 { 1 } else { -1 }, 60);
            assert_eq!(steady.now(), after(60 * (minute + 1)));
        }
    }
}
