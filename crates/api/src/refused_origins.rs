//! Which refused origins the log has heard of, so that each has one line a minute.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use domain::ports::Clock;
use parking_lot::Mutex;

const MINUTE: Duration = Duration::from_mins(1);

/// The most origins that have a line within a minute. Anybody can make up origins, and the log must not grow by them.
const MAX_ORIGINS: usize = 64;

/// When each refused origin had its last line.
pub(crate) struct RefusedOrigins {
    logged: Mutex<HashMap<String, Duration>>,
    clock: Arc<dyn Clock>,
}

impl RefusedOrigins {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { logged: Mutex::default(), clock }
    }

    /// Whether an origin has a line now: not if it had one within the last minute, or too many others had.
    pub(crate) fn has_line(&self, origin: &str) -> bool {
        let now = self.clock.monotonic();
        let is_recent = |then: Duration| now.saturating_sub(then) < MINUTE;
        let mut logged = self.logged.lock();
        if logged.get(origin).is_some_and(|then| is_recent(*then)) {
            return false;
        }
        if logged.len() >= MAX_ORIGINS {
            logged.retain(|_, then| is_recent(*then));
        }
        let has_room = logged.len() < MAX_ORIGINS || logged.contains_key(origin);
        if has_room {
            logged.insert(origin.to_owned(), now);
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use jiff::Timestamp;

    use super::*;

    #[derive(Default)]
    struct Seconds(AtomicU64);

    impl Clock for Seconds {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn origin_has_one_line_a_minute() {
        let clock = Arc::new(Seconds::default());
        let refused = RefusedOrigins::new(clock.clone());

        assert!(refused.has_line("https://a.example"));
        assert!(refused.has_line("https://b.example"));
        clock.0.store(59, Ordering::Relaxed);
        assert!(!refused.has_line("https://a.example"));
        clock.0.store(60, Ordering::Relaxed);
        assert!(refused.has_line("https://a.example"));
        assert!(!refused.has_line("https://a.example"));
    }

    #[test]
    fn made_up_origins_fill_neither_memory_nor_log() {
        let clock = Arc::new(Seconds::default());
        let refused = RefusedOrigins::new(clock.clone());

        let lines = (0..10_000).filter(|n| refused.has_line(&format!("https://{n}.example"))).count();

        assert_eq!(lines, MAX_ORIGINS);
        assert_eq!(refused.logged.lock().len(), MAX_ORIGINS);
        clock.0.store(60, Ordering::Relaxed);
        assert!(refused.has_line("https://fresh.example"));
        assert_eq!(refused.logged.lock().len(), 1);
    }
}
