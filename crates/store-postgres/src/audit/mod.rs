//! Events as rows: what is written in the transaction of a change, what is sealed a moment later, what is read, and what
//! a row must be.
//!
//! A seal covers the one before it. Were each change to seal its own event, all of them would queue for the end of the
//! chain, from there to their commits. So a row is written without a place in the chain, and whoever is first gives one
//! to all that are there: a task of every instance that writes, twice a second, and everybody who is about to read.
//! Order among rows is that of their numbers, not of their commits, and only sealed ones are read.
//!
//! Until then, whoever can write to the database can remove such a row without a trace, or add it once more. They can
//! neither change it nor make one up, at that time or later: it carries a mark, a MAC over itself, which goes when it is
//! sealed. A row without the mark that it should have gets a place where no seal holds, so that an inspection names it.
//! A process with another key than the log's would take every row for such a one; it seals nothing.

pub(crate) mod bulk_copy;
mod chain;
mod commands;
mod queries;
mod rows;

use async_trait::async_trait;
use domain::ports::{AuditLog, AuditQuery, ListedEvent, PortError};
use domain::{Event, Link, Tampering};
use futures_util::FutureExt as _;
use jiff::Timestamp;

pub(crate) use self::chain::OtherKey;
pub(crate) use self::commands::{record, record_all};
use crate::PostgresStore;
use crate::error::StoreError;

#[async_trait]
impl AuditLog for PostgresStore {
    async fn append(&self, events: Vec<Event>) -> Result<(), PortError> {
        let work = self.write((self.inside.audit_key.clone(), events), |connection, (key, events)| {
            commands::append(connection, key, events).boxed()
        });
        Ok(work.await?)
    }

    async fn list_events(
        &self,
        query: AuditQuery,
        after: i64,
        limit: u32,
    ) -> Result<Vec<ListedEvent>, PortError> {
        self.seal().await?;
        let asked = (self.inside.audit_key.clone(), query, after, limit);
        Ok(self
            .read(asked, |connection, (key, query, after, limit)| {
                queries::list(connection, key, query, *after, *limit).boxed()
            })
            .await?)
    }

    async fn inspect(&self, expected: Option<Link>) -> Result<Result<Link, Tampering>, PortError> {
        let sealing = self.try_to_seal().await?;
        let inside = self.inside.clone();
        // Not within the time of other questions: a log may be long, and this is asked by a command.
        let inspected = self.spawn(async move { inside.inspect(expected).await }).await?;
        // What was tampered with is named, whatever else is the matter; but what waits was not looked at.
        Ok(match (inspected, sealing) {
            (Ok(_), Err(other_key)) => return Err(StoreError::failed(other_key).into()),
            (inspected, _) => inspected,
        })
    }

    async fn head(&self) -> Result<Link, PortError> {
        self.seal().await?;
        Ok(self.read((), |connection, ()| queries::head(connection).boxed()).await?)
    }

    async fn blank_deleted(&self, limit: u32) -> Result<bool, PortError> {
        let work = self.write(limit, |connection, limit| commands::blank_deleted(connection, *limit).boxed());
        Ok(work.await?)
    }

    async fn remove_before(&self, at: Timestamp, limit: u32) -> Result<Result<usize, Tampering>, PortError> {
        // What is removed is looked at, so that another key removes nothing.
        _ = self.try_to_seal().await?;
        let work = self.write((self.inside.audit_key.clone(), at, limit), |connection, (key, at, limit)| {
            commands::remove_before(connection, key, *at, *limit).boxed()
        });
        Ok(work.await?)
    }
}
