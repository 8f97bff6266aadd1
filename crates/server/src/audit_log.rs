//! The audit log: one line of the log for each attempt.
//!
//! A name is written as a keyed digest, whether somebody has it or not: people type their password into the
//! wrong field. The same name has the same digest as long as the token secret stays, so that a reader can
//! follow one attacked account without learning whose it is.

use std::fmt::Write as _;

use domain::ports::AuditLog;
use domain::{Event, Origin, Outcome, Subject};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tracing::info;
use zeroize::Zeroizing;

use crate::config::Secret;

/// The target of its lines. They are written whatever the log's level is.
pub(crate) const TARGET: &str = "audit";

/// Writes events to the log of the process.
pub(crate) struct LineLog {
    key: Zeroizing<[u8; 32]>,
}

impl LineLog {
    /// A log whose digests hang on `secret`, through a key of their own.
    pub(crate) fn new(secret: &Secret) -> Self {
        Self { key: Zeroizing::new(mac(secret.expose(), &[b"auth-api audit name digest 1"])) }
    }

    /// Half of an HMAC's half: enough to tell names apart, too little to be mistaken for a credential.
    fn digest(&self, kind: &[u8], text: &str) -> String {
        let mut digest = String::with_capacity(16);
        for byte in &mac(&*self.key, &[kind, text.as_bytes()])[..8] {
            _ = write!(digest, "{byte:02x}");
        }
        digest
    }
}

impl AuditLog for LineLog {
    fn record(&self, event: Event) {
        let (outcome, reason) = match event.outcome {
            Outcome::Success => ("success", None),
            Outcome::Refused(reason) => ("refused", Some(reason)),
            Outcome::Failed => ("failed", None),
            Outcome::Abandoned => ("abandoned", None),
        };
        let (user_id, name_digest) = match &event.subject {
            Subject::User(id) => (Some(id.0), None),
            Subject::Name(name) => (None, Some(self.digest(b"name:", name.as_str()))),
            Subject::Text(text) => (None, Some(self.digest(b"text:", text.expose()))),
            Subject::Unknown => (None, None),
        };
        let (client, request_id) = match &event.origin {
            Origin::Request { address, request_id, .. } => (address.to_string(), Some(request_id.as_str())),
            Origin::CommandLine => ("command_line".to_owned(), None),
        };
        info!(
            target: TARGET,
            event = event.action.as_str(),
            outcome,
            reason,
            user_id,
            name_digest,
            client,
            request_id,
        );
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length (RFC 2104, section 2)")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use domain::{Action, LoginName, UserId};
    use serde_json::Value;

    use super::*;
    use crate::logging::testing::json_lines;

    fn recorded(subject: Subject, origin: Origin) -> Value {
        let secret = "7d1f0c9e3b5a48627e8d9c0b1a2f3e4d".to_owned();
        let log = LineLog::new(&Secret::parse(Zeroizing::new(secret)).unwrap());
        let outcome = Outcome::Refused("unknown_user");
        let mut lines = json_lines(|| log.record(Event { action: Action::LogIn, outcome, subject, origin }));
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
        let time: jiff::Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
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

    #[test]
    fn the_spellings_of_a_name_have_one_digest() {
        let digest = |typed| {
            recorded(Subject::from(&LoginName::from_typed(typed)), request())["name_digest"].to_string()
        };

        assert_eq!(digest("Ann"), digest("ann"));
        assert_ne!(digest("ann"), digest("bob"));
    }
}
