//! Where audit events are kept, and where they are published.

use async_trait::async_trait;
use jiff::Timestamp;

use super::PortError;
use crate::{AuditEntry, Event, Link, Tampering, Username, UsernameKey};

/// Keeps attempts, sealed against change, by the same promise as [`UserRepo`](super::UserRepo).
#[cfg_attr(test, mockall::automock)]
#[async_trait]
pub trait AuditLog: Send + Sync {
    /// Keeps events that no change goes with. Of an account that is not there any more nothing is kept that could
    /// point to a person, and so it is with what a change comes to.
    async fn append(&self, events: Vec<Event>) -> Result<(), PortError>;

    /// Up to `limit` of the events that `query` is about with numbers above `after`, by number.
    async fn list_events(
        &self,
        query: AuditQuery,
        after: i64,
        limit: u32,
    ) -> Result<Vec<ListedEvent>, PortError>;

    /// Looks at the whole log as it is at one moment, as [`crate::Inspection`] does. Tells its head, which is
    /// `expected` or comes after it if that is given, or what is wrong.
    async fn inspect(&self, expected: Option<Link>) -> Result<Result<Link, Tampering>, PortError>;

    /// The place of the last event.
    async fn head(&self) -> Result<Link, PortError>;

    /// Blanks what could point to a person in up to `limit` events of an account that was deleted; tells whether there was
    /// anything to do. A deletion blanks a few hundred events itself. The rest is on a list in the database, so that it is
    /// done after a crash too.
    async fn blank_deleted(&self, limit: u32) -> Result<bool, PortError>;

    /// Removes up to `limit` of the oldest events if they were decided before `at` and so were all before them;
    /// tells how many. What is left can be inspected as before. If anything is wrong with what would be removed,
    /// nothing is: it is the proof of it.
    async fn remove_before(&self, at: Timestamp, limit: u32) -> Result<Result<usize, Tampering>, PortError>;
}

/// Is told of every attempt as it ends.
#[cfg_attr(test, mockall::automock)]
pub trait AuditStream: Send + Sync {
    /// Tells of one. Cannot fail, because no attempt may hang on it.
    fn publish(&self, event: Event);
}

/// What somebody wants to see of the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only what is about whoever has this name, or about the name itself.
    pub name: Option<UsernameKey>,
    /// Only what was decided then or later.
    pub since: Option<Timestamp>,
}

/// An event as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedEvent {
    /// Its number.
    pub number: i64,
    /// The event.
    pub entry: AuditEntry,
    /// The present name of the account that it is about.
    pub username: Option<Username>,
}
