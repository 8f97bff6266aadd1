//! Who listens to attempts: the log of the process, a line for each of them as it ends.
//!
//! A name is written as a keyed digest, as it is in the audit log.

use domain::ports::AuditStream;
use domain::{AuditKey, Event, Link, Origin};
use tracing::info;

/// The target of its lines. They are written whatever the log's level is.
pub const TARGET: &str = "audit";

/// Writes events to the log of the process.
pub struct AuditLines {
    key: AuditKey,
}

impl AuditLines {
    /// Lines whose digests are those of the audit log that is sealed with `key`.
    pub fn new(key: AuditKey) -> Self {
        Self { key }
    }
}

impl AuditStream for AuditLines {
    fn publish(&self, event: Event) {
        let (outcome, reason) = event.outcome.as_strs();
        let (user, name_digest) = self.key.subject(&event.attempt.subject);
        let (old_name_digest, new_name_digest) =
            self.key.renamed(&event).map(|renamed| (renamed.old, renamed.new)).unzip();
        let (client, request_id) = match &event.attempt.origin {
            Origin::Request { address, request_id, .. } => (address.to_string(), Some(request_id.as_str())),
            Origin::CommandLine => ("command_line".to_owned(), None),
        };
        info!(
            target: TARGET,
            event = event.attempt.action.as_str(),
            outcome,
            reason,
            user_id = user.map(|id| id.0),
            name_digest,
            old_name_digest,
            new_name_digest,
            client,
            request_id,
        );
    }
}

/// Writes down the head of the audit log, out of reach of whoever can write to the database.
pub fn tell_head(head: Link) {
    info!(target: TARGET, head = head.to_string(), "the audit log ends here");
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use domain::{Action, Attempt, LoginName, Outcome, Subject, UserId};
    use jiff::Timestamp;
    use serde_json::Value;

    use super::*;
    use crate::logging::testing::json_lines;

    fn recorded(subject: Subject, origin: Origin) -> Value {
        let lines = AuditLines::new(AuditKey::new(b"a key of the tests"));
        let attempt =
            Attempt { action: Action::LogIn, subject, origin, at: Timestamp::UNIX_EPOCH, salt: [0; 16] };
        let event = attempt.ended(Outcome::Refused("unknown_user"));
        let mut lines = json_lines(|| lines.publish(event));
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines.remove(0)
    }

    fn request() -> Origin {
        Origin::Request {
            address: Ipv4Addr::LOCALHOST.into(),
            request_id: "r-1".to_owned(),
            user_agent: None,
        }
    }

    #[test]
    fn an_event_is_one_line_that_says_what_when_who_and_from_where() {
        let line = recorded(Subject::User(UserId(7)), request());

        assert_eq!(line["target"], "audit");
        assert_eq!((&line["event"], &line["outcome"]), (&"log_in".into(), &"refused".into()));
        assert_eq!((&line["reason"], &line["user_id"]), (&"unknown_user".into(), &7.into()));
        assert_eq!((&line["client"], &line["request_id"]), (&"127.0.0.1".into(), &"r-1".into()));
        let time: Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{time}");
    }

    #[test]
    fn a_name_is_written_as_a_digest_whether_it_is_possible_or_not() {
        for typed in ["hunter2hunter2", "hunter2 hunter2\n{\"event\":\"forged\"}\u{1b}[31m"] {
            let subject = || Subject::from(&LoginName::from_typed(typed));
            let line = recorded(subject(), request());

            let digest = line["name_digest"].as_str().unwrap();
            assert!(digest.len() == 16 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{digest}");
            assert!(!line.to_string().contains("hunter2"), "{line}");
            assert_eq!(recorded(subject(), Origin::CommandLine)["name_digest"], digest);
        }
    }
}
