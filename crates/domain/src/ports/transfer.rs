//! How everything is copied from one store into another.

use async_trait::async_trait;

use super::PortError;
use crate::{Kind, Record};

/// Shows all that a store keeps, and takes in all that another one kept.
#[async_trait]
pub trait Contents: Send + Sync {
    /// One view of everything that was answered before. What is changed later is not in it.
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, PortError>;

    /// A place to write everything to, if nothing is kept yet.
    async fn intake(&self) -> Result<Option<Box<dyn Intake>>, PortError>;
}

/// Records, a page at a time.
#[async_trait]
pub trait Records: Send {
    /// How many there are of a kind.
    async fn count(&mut self, kind: Kind) -> Result<u64, PortError>;

    /// Some records of a kind that come after this one, or the first: all of them in turn, each once, in an order of the
    /// store's own, and in the end none.
    async fn page(&mut self, kind: Kind, after: Option<Record>) -> Result<Vec<Record>, PortError>;
}

/// All that a store keeps at one moment.
#[async_trait]
pub trait Snapshot: Records {
    /// Lets go of it, and tells whether anything was changed since, as far as can be told at once.
    async fn end(self: Box<Self>) -> Result<bool, PortError>;
}

/// One transaction that fills an empty store. What is not committed leaves nothing behind, however it ends.
#[async_trait]
pub trait Intake: Records {
    /// Writes records, each kind in the order of [`Kind::ALL`].
    async fn write(&mut self, records: Vec<Record>) -> Result<(), PortError>;

    /// Keeps what was written.
    async fn commit(self: Box<Self>) -> Result<(), PortError>;
}
