//! Events as rows: what is appended in the transaction of a change, what is read, and what a row must be.

pub(crate) mod bulk_copy;
mod commands;
mod queries;
mod rows;

use async_trait::async_trait;
use domain::ports::{AuditLog, AuditQuery, ListedEvent, PortError, Requester};
use domain::{Event, Link, Tampering};
use jiff::Timestamp;

pub(crate) use self::commands::record;
use crate::SqliteStore;
use crate::calling_thread::Connection;

#[async_trait]
impl AuditLog for SqliteStore {
    async fn append(&self, events: Vec<Event>) -> Result<(), PortError> {
        let key = self.inside.audit_key.clone();
        // What was counted is kept for nobody in particular.
        let requester = match &*events {
            [one] => one.attempt.origin.requester(),
            _ => Requester::Bulk,
        };
        let append = async move |connection: &mut Connection| {
            for event in &events {
                commands::append(connection, &key, event).await?;
            }
            Ok(())
        };
        Ok(self.write_for(requester, append).await?)
    }

    async fn list_events(
        &self,
        query: AuditQuery,
        after: i64,
        limit: u32,
    ) -> Result<Vec<ListedEvent>, PortError> {
        let key = self.inside.audit_key.clone();
        Ok(self
            .read(async move |reader: &mut Connection| {
                queries::list(reader, &key, &query, after, limit).await
            })
            .await?)
    }

    async fn inspect(&self, expected: Option<Link>) -> Result<Result<Link, Tampering>, PortError> {
        let key = self.inside.audit_key.clone();
        Ok(self
            .read(async move |reader: &mut Connection| queries::inspect(reader, &key, expected).await)
            .await?)
    }

    async fn head(&self) -> Result<Link, PortError> {
        Ok(self.read(queries::head).await?)
    }

    async fn blank_deleted(&self, limit: u32) -> Result<bool, PortError> {
        Ok(self
            .write(async move |connection: &mut Connection| commands::blank_deleted(connection, limit).await)
            .await?)
    }

    async fn remove_before(&self, at: Timestamp, limit: u32) -> Result<Result<usize, Tampering>, PortError> {
        let key = self.inside.audit_key.clone();
        Ok(self
            .write(async move |connection: &mut Connection| {
                commands::remove_before(connection, &key, at, limit).await
            })
            .await?)
    }
}
