//! Errors, reported to a server that speaks the protocol of Sentry.
//!
//! What the log tells at the level ERROR is reported: answers that say that something broke, panics, and what goes wrong
//! beside the requests. Of each such line a report has the fields named here and no others, so that nothing of a client
//! gets into it: no body, no header, no address, no name.
//!
//! By hand, and not by the `sentry` crate, which attaches what it finds of the process and the machine, and whose use is
//! to capture more. A report is one line of JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use data_encoding::HEXLOWER;
use domain::ports::{Clock, Entropy};
use jiff::Timestamp;
use serde_json::{Value, json};
use settings::{Dsn, Environment};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::outbox::{Limits, Outbox, Recipient};

/// A database that is away makes an error of every request. Whoever reads reports needs a few of them.
const LIMITS: Limits = Limits { waiting: 128, together: 128, delay: Duration::from_millis(500) };

/// As many are reported in any minute, counted from the first of them.
const MOST_IN_A_MINUTE: u32 = 60;
const MINUTE: Duration = Duration::from_mins(1);

/// The fields of a line that a report has, all of them words of ours or made here, but for the identifiers of the request,
/// which were found harmless, and the cause, in which the log has nothing of a client's either.
const FIELDS: [&str; 7] = ["message", "request_id", "trace_id", "route", "code", "cause", "place"];

/// Where reports go, once that is known. The log is there before the configuration.
static REPORTS: OnceLock<Reports> = OnceLock::new();

/// Has errors reported.
pub struct ErrorReports;

struct Reports {
    outbox: Outbox<Report>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

/// One error.
struct Report {
    id: [u8; 16],
    at: Timestamp,
    target: &'static str,
    fields: Fields,
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

/// How many were reported since when.
#[derive(Default)]
struct Quota {
    since: Duration,
    used: u32,
}

/// Starts to report errors of this process to whom `dsn` names. Before the process ends, [`finish`] is to be called.
pub fn start(
    dsn: &Dsn,
    environment: Environment,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> std::io::Result<()> {
    let mut server = Recipient::new(dsn.envelopes(), vec![("X-Sentry-Auth", dsn.authorization())]);
    let (mut quota, time) = (Quota::default(), clock.clone());
    let deliver = move |reports: Vec<Report>| {
        for report in reports {
            if quota.admits(time.monotonic()) {
                let envelope = report.envelope(environment);
                server.post("an error report", "application/x-sentry-envelope", envelope.as_bytes());
            }
        }
    };
    let outbox = Outbox::start("reports", LIMITS, clock.clone(), deliver)?;
    // A process serves once.
    let _ = REPORTS.set(Reports { outbox, clock, entropy });
    Ok(())
}

/// Reports what is left.
pub fn finish(patience: Duration) {
    if let Some(reports) = REPORTS.get() {
        reports.outbox.finish(patience);
    }
}

impl<S: Subscriber> Layer<S> for ErrorReports {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() != Level::ERROR {
            return;
        }
        if let Some(Reports { outbox, clock, entropy }) = REPORTS.get() {
            let (id, at, target) = (entropy.draw(), clock.now(), event.metadata().target());
            outbox.offer(Report { id, at, target, fields: Fields::of(event) });
        }
    }
}

impl Report {
    /// An envelope with one event (<https://develop.sentry.dev/sdk/data-model/envelopes/>).
    fn envelope(&self, environment: Environment) -> String {
        let id = HEXLOWER.encode(&self.id);
        let header = json!({ "event_id": id, "sent_at": self.at.to_string() });
        format!("{header}\n{}\n{}\n", json!({ "type": "event" }), self.event(&id, environment))
    }

    fn event(&self, id: &str, environment: Environment) -> Value {
        let field = |name| self.fields.0.get(name);
        let tags: BTreeMap<_, _> = ["request_id", "trace_id", "code"]
            .into_iter()
            .filter_map(|name| Some((name, field(name)?)))
            .collect();
        let extra: BTreeMap<_, _> =
            ["cause", "place"].into_iter().filter_map(|name| Some((name, field(name)?))).collect();
        let message = field("message");
        json!({
            "event_id": id,
            "timestamp": self.at.to_string(),
            "platform": "other",
            "level": "error",
            "logger": self.target,
            "release": concat!("auth-api@", env!("CARGO_PKG_VERSION")),
            "environment": environment.as_str(),
            "transaction": field("route"),
            "message": message,
            // The same fault in the same place is one issue, whatever its cause says of the moment.
            "fingerprint": [message, field("code"), field("place"), field("route")],
            "tags": tags,
            "extra": extra,
        })
    }
}

impl Fields {
    fn of(event: &Event<'_>) -> Self {
        let mut fields = Self::default();
        event.record(&mut fields);
        fields
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if FIELDS.contains(&field.name()) {
            self.0.insert(field.name(), value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if FIELDS.contains(&field.name()) {
            self.0.insert(field.name(), format!("{value:?}"));
        }
    }
}

impl Quota {
    fn admits(&mut self, now: Duration) -> bool {
        if self.used == 0 || now.saturating_sub(self.since) >= MINUTE {
            *self = Self { since: now, used: 0 };
        }
        self.used += 1;
        self.used <= MOST_IN_A_MINUTE
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing::error;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Keeps what a report would have of each line.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<Report>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let (at, target) = (Timestamp::UNIX_EPOCH, event.metadata().target());
            self.0.lock().unwrap().push(Report { id: [7; 16], at, target, fields: Fields::of(event) });
        }
    }

    fn event(work: impl FnOnce()) -> Value {
        let kept = Kept::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(kept.clone()), work);
        let report = kept.0.lock().unwrap().remove(0);
        let envelope = report.envelope(Environment::Production);
        let lines: Vec<&str> = envelope.lines().collect();
        assert_eq!(lines.len(), 3, "{envelope}");
        serde_json::from_str(lines[2]).unwrap()
    }

    #[test]
    fn a_report_has_what_leads_to_the_fault_and_nothing_of_the_client() {
        let event = event(|| {
            error!(
                request_id = "r-1",
                route = Some("/api/login"),
                code = "internal",
                cause = "line one\nline two",
                client = "192.0.2.7",
                username = "canary",
                "a request failed"
            );
        });

        assert_eq!(
            (&event["message"], &event["transaction"]),
            (&json!("a request failed"), &json!("/api/login"))
        );
        assert_eq!(event["tags"], json!({ "request_id": "r-1", "code": "internal" }));
        assert_eq!(event["extra"], json!({ "cause": "line one\nline two" }));
        assert_eq!((&event["environment"], &event["level"]), (&json!("production"), &json!("error")));
        assert!(event["release"].as_str().unwrap().starts_with("auth-api@"));
        assert!(!event.to_string().contains("canary") && !event.to_string().contains("192.0.2.7"), "{event}");
    }

    #[test]
    fn a_panic_is_reported_by_its_place() {
        let event = event(|| error!(place = Some("src/x.rs:1:2".to_owned()), "a thread panicked"));

        assert_eq!(event["message"], "a thread panicked");
        assert!(event["extra"]["place"].as_str().unwrap().contains("src/x.rs:1:2"), "{event}");
    }

    #[test]
    fn a_flood_is_cut_off_until_the_minute_is_over() {
        let mut quota = Quota::default();
        let admitted = |quota: &mut Quota, now| (0..1000).filter(|_| quota.admits(now)).count();

        assert_eq!(admitted(&mut quota, MINUTE), 60);
        assert_eq!(admitted(&mut quota, MINUTE + Duration::from_secs(59)), 0);
        assert_eq!(admitted(&mut quota, 2 * MINUTE), 60);
    }
}
