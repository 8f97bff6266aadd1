//! Looking at the audit log, and verifying it.

use super::Admin;
use crate::ports::{AuditQuery, ListedEvent, PortError};
use crate::{Link, Tampering};

impl Admin {
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
}
