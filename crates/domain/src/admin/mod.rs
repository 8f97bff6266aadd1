//! What an operator does at the command line.
//!
//! It needs the database, and a hasher only where a password is set: no signing key and no secret of tokens.

mod accounts;
mod audit;
mod import;
mod sessions;

use std::sync::Arc;

pub use self::accounts::{AdminError, CreateAccountError, SetPasswordError};

use crate::audit::recorder::{AuditRecorder, PendingAuditEvent};
use crate::ports::{
    AuditLog, AuditStream, Clock, Entropy, Finisher, PortError, SessionRepo, Throttle, UserRepo,
};
use crate::{Action, Origin, PasswordPolicy, Subject};

/// The use cases of an operator.
#[derive(Clone)]
pub struct Admin {
    ports: AdminPorts,
    passwords: PasswordPolicy,
    recorder: AuditRecorder,
}

/// Everything [`Admin`] rests on.
#[derive(Clone)]
pub struct AdminPorts {
    /// Where users are kept.
    pub users: Arc<dyn UserRepo>,
    /// Where sessions are kept, in the same place.
    pub sessions: Arc<dyn SessionRepo>,
    /// Where wrong passwords are counted, in the same place.
    pub throttle: Arc<dyn Throttle>,
    /// Where events are kept, in the same place.
    pub audit_log: Arc<dyn AuditLog>,
    /// Who is told of every event.
    pub audit_stream: Arc<dyn AuditStream>,
    /// Who runs work to its end.
    pub finisher: Arc<dyn Finisher>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where randomness comes from.
    pub entropy: Arc<dyn Entropy>,
}

impl Admin {
    /// Puts the use cases on their ports.
    pub fn new(ports: AdminPorts, passwords: PasswordPolicy) -> Self {
        let AdminPorts { audit_log, audit_stream, finisher, clock, entropy, .. } = ports.clone();
        let recorder = AuditRecorder::new(audit_log, audit_stream, finisher, clock, entropy);
        Self { ports, passwords, recorder }
    }

    /// Writes the events that were only counted until now. To be called before the process ends.
    pub async fn flush_audit_aggregates(&self) -> Result<(), PortError> {
        self.recorder.flush().await
    }

    fn begin(&self, action: Action, subject: impl Into<Subject>) -> PendingAuditEvent {
        self.recorder.begin(action, subject.into(), Origin::CommandLine)
    }
}
