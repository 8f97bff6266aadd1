//! Attempts for tests that are about what they come to.

use std::net::Ipv4Addr;

use domain::{Action, Attempt, AuditKey, Origin, Subject};
use jiff::Timestamp;

/// What the stores of the tests seal with.
pub(crate) fn audit_key() -> AuditKey {
    AuditKey::new(b"the audit key of the tests, which seals nothing else")
}

/// Somebody's attempt, decided at `at`. A store is not to care what it is.
pub(crate) fn tried(at: Timestamp) -> Attempt {
    tried_to(Action::LogIn, Subject::Unknown, at)
}

pub(crate) fn tried_to(action: Action, subject: Subject, at: Timestamp) -> Attempt {
    let origin = Origin::Request {
        address: Ipv4Addr::LOCALHOST.into(),
        request_id: "r-1".to_owned(),
        user_agent: None,
    };
    Attempt { action, subject, origin, at, salt: [9; 16] }
}
