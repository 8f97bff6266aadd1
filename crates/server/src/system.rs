//! The time and the chance of the machine we run on: the only place that takes them from the air.

use std::pin::Pin;
use std::time::{Duration, Instant};

use domain::ports::{Clock, Entropy, Timer};
use jiff::Timestamp;

/// The machine's clocks.
#[derive(Debug)]
pub(crate) struct SystemClock {
    made: Instant,
}

/// The timer of the runtime that it is used on.
#[derive(Debug)]
pub(crate) struct SystemTimer;

/// The operating system's generator.
#[derive(Debug)]
pub(crate) struct SystemEntropy;

impl SystemClock {
    /// A clock whose `monotonic` counts from now.
    #[expect(clippy::disallowed_methods, reason = "this is what stands behind the Clock port")]
    pub(crate) fn new() -> Self {
        Self { made: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is what stands behind the Clock port")]
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        // Cut to what a store keeps, so that a time read back equals the one that was written.
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }

    fn monotonic(&self) -> Duration {
        self.made.elapsed()
    }
}

impl Timer for SystemTimer {
    fn sleep(&self, time: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(time))
    }
}

impl Entropy for SystemEntropy {
    #[expect(clippy::disallowed_methods, reason = "this is what stands behind the Entropy port")]
    #[expect(
        clippy::expect_used,
        reason = "without the kernel's generator nothing here is safe to go on with"
    )]
    fn draw(&self) -> [u8; 16] {
        let mut drawn = [0; 16];
        getrandom::fill(&mut drawn).expect("the operating system gives random bytes");
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_has_whole_microseconds() {
        assert_eq!(SystemClock::new().now().subsec_nanosecond() % 1000, 0);
    }

    #[test]
    fn two_draws_differ() {
        assert_ne!(SystemEntropy.draw(), SystemEntropy.draw());
    }
}
