//! One attempt, from its beginning to its line in the audit log.

use std::sync::Arc;

use crate::ports::AuditLog;
use crate::{Action, Event, Origin, Outcome, Subject};

/// An attempt that is under way. It is recorded once, however it ends; when whoever made it goes away before
/// it is decided, that is how it ended.
pub(super) struct Attempt {
    audit: Arc<dyn AuditLog>,
    event: Option<Event>,
}

impl Attempt {
    pub(super) fn begin(audit: Arc<dyn AuditLog>, action: Action, subject: Subject, origin: Origin) -> Self {
        Self { audit, event: Some(Event { action, outcome: Outcome::Abandoned, subject, origin }) }
    }

    /// It succeeded, and this is whom it was about.
    pub(super) fn succeed(self, subject: Subject) {
        self.end(Outcome::Success, Some(subject));
    }

    /// It did not.
    pub(super) fn fail(self, outcome: Outcome) {
        self.end(outcome, None);
    }

    fn end(mut self, outcome: Outcome, subject: Option<Subject>) {
        if let Some(event) = &mut self.event {
            event.outcome = outcome;
            event.subject = subject.unwrap_or_else(|| event.subject.clone());
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(event) = self.event.take() {
            self.audit.record(event);
        }
    }
}
