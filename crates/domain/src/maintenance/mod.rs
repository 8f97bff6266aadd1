//! What a server does in the background: removing what is over, and writing what was counted.

pub(crate) mod purge;

use std::sync::Arc;
use std::time::Duration;

use crate::Link;
use crate::audit::recorder::AuditRecorder;
use crate::ports::{AuditLog, Clock, PortError, SessionRepo, Throttle};
use crate::steady::Steady;

/// The background work of a server. It is made by [`crate::Auth::maintenance`].
#[derive(Clone)]
pub struct Maintenance {
    pub(crate) sessions: Arc<dyn SessionRepo>,
    pub(crate) throttle: Arc<dyn Throttle>,
    pub(crate) audit_log: Arc<dyn AuditLog>,
    pub(crate) clock: Arc<dyn Clock>,
    /// The clock that the login throttle goes by, if there is one.
    pub(crate) throttle_clock: Option<Steady>,
    pub(crate) recorder: AuditRecorder,
    /// How long events are kept.
    pub(crate) audit_keep: Duration,
}

impl Maintenance {
    /// Writes the events that were only counted until now: attempts that anybody can repeat as often as they like. To be
    /// called every few seconds, and before the process ends.
    pub async fn flush_audit_aggregates(&self) -> Result<(), PortError> {
        self.recorder.flush().await
    }

    /// The head of the audit log. Whoever keeps it elsewhere can prove the log by it.
    pub async fn audit_head(&self) -> Result<Link, PortError> {
        self.audit_log.head().await
    }

    /// How many sessions are live, of everybody.
    pub async fn count_live_sessions(&self) -> Result<u64, PortError> {
        self.sessions.count_live(self.clock.now()).await
    }
}
