//! Looking at the audit log, and keeping it.

use super::Auth;
use crate::ports::{AuditQuery, ListedEvent, PortError};
use crate::{Link, Tampering};

impl Auth {
    /// Up to `limit` of the events that `query` is about with numbers above `after`, by number.
    pub async fn list_events(
        &self,
        query: AuditQuery,
        after: i64,
        limit: u32,
    ) -> Result<Vec<ListedEvent>, PortError> {
        self.ports.audit_log.list_events(query, after, limit).await
    }

    /// Looks at the whole log, and tells its head or the first thing that is wrong with it. A log that was cut off
    /// at its end looks like one that had never been longer: `expected` is a head that it is known to have had.
    pub async fn inspect_audit_log(
        &self,
        expected: Option<Link>,
    ) -> Result<Result<Link, Tampering>, PortError> {
        self.ports.audit_log.inspect(expected).await
    }

    /// The head of the log, which whoever keeps it elsewhere can prove the log by.
    pub async fn audit_head(&self) -> Result<Link, PortError> {
        self.ports.audit_log.head().await
    }

    /// Keeps what was only counted until now: attempts that anybody can make as often as they like. To be called
    /// every few seconds, and before the process ends.
    pub async fn keep_counted_attempts(&self) -> Result<(), PortError> {
        self.record.keep_counts().await
    }
}
