//! What the process and its machine provide: time, randomness, tasks, and the failure of an adapter.

use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use thiserror::Error;

/// Tells whether the store would serve a request now.
#[cfg_attr(test, mockall::automock)]
#[async_trait]
pub trait Readiness: Send + Sync {
    /// Succeeds when something could be read and something could be written durably, at most a second ago.
    async fn check(&self) -> Result<(), PortError>;
}

/// Sees work through.
pub trait Finisher: Send + Sync {
    /// Does `work` to its end, though whoever asked for it goes away, and before the process ends.
    fn finish(&self, work: Pin<Box<dyn Future<Output = ()> + Send>>);
}

/// Tells the time.
#[cfg_attr(test, mockall::automock)]
pub trait Clock: Send + Sync {
    /// The time of day, UTC, in whole microseconds. It may be set back.
    fn now(&self) -> Timestamp;

    /// The time since some moment before; it never goes back.
    fn monotonic(&self) -> Duration;
}

/// Lets time pass.
#[cfg_attr(test, mockall::automock)]
pub trait Timer: Send + Sync {
    /// Resolves when so much time has passed.
    fn sleep(&self, time: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Draws from the operating system's generator.
#[cfg_attr(test, mockall::automock)]
pub trait Entropy: Send + Sync {
    /// 128 bits that nobody can foretell.
    fn draw(&self) -> [u8; 16];
}

/// Something an adapter rests on did not do its part. Two variants, because there are two answers.
#[derive(Debug, Error)]
pub enum PortError {
    /// It may work in a moment: the store is locked, full, or not there.
    #[error("something this rests on is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It will not work until somebody looks.
    #[error("something this rests on is broken")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}
