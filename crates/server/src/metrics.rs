//! What operators see of the running server.
//!
//! Everything is counted where it happens and looked at when somebody asks: an adapter shows how busy it is, the HTTP
//! surface what it answered, and here alone that becomes Prometheus' names. To show more, have whoever knows it show
//! it, and add it in [`Server::metrics`].

use std::sync::Arc;
use std::time::Duration;

use api::{Health, Limits, Part, Sight, Traffic};
use async_trait::async_trait;
use domain::Auth;
use domain::ports::Clock;
use hasher_bcrypt::BcryptHasher;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::json;
use telemetry::logging;
use telemetry::metrics::{CountedAttempts, Exposition, Process, seconds};

use crate::tls::InForce;
use crate::wiring::{Store, StoreLoad};

/// Our version, without which the figures of two releases cannot be told apart.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The running server, looked at.
pub(crate) struct Server {
    pub(crate) auth: Auth,
    pub(crate) traffic: Arc<Traffic>,
    /// Of connections to the public listener.
    pub(crate) limits: Limits,
    pub(crate) attempts: Arc<CountedAttempts>,
    pub(crate) live_sessions: Arc<LastCount>,
    pub(crate) hasher: Arc<BcryptHasher>,
    pub(crate) store: Arc<dyn Store>,
    /// What TLS is spoken with, where it is ours.
    pub(crate) certificate: Option<Arc<InForce>>,
    pub(crate) clock: Arc<dyn Clock>,
    /// When it started.
    pub(crate) since: Start,
}

/// How many there were of something when they were last counted, if they could be.
#[derive(Default)]
pub(crate) struct LastCount(Mutex<Option<u64>>);

impl LastCount {
    pub(crate) fn set(&self, count: Option<u64>) {
        *self.0.lock() = count;
    }

    fn value(&self) -> Option<u64> {
        *self.0.lock()
    }
}

/// A moment, by both clocks.
#[derive(Clone, Copy)]
pub(crate) struct Start {
    at: Timestamp,
    monotonic: Duration,
}

impl Start {
    pub(crate) fn now(clock: &dyn Clock) -> Self {
        Self { at: clock.now(), monotonic: clock.monotonic() }
    }
}

#[async_trait]
impl Sight for Server {
    async fn metrics(&self) -> String {
        let mut exposition = Exposition::default();
        self.about_itself(&mut exposition);
        Self::about_log(&mut exposition);
        self.about_tls(&mut exposition);
        self.about_connections(&mut exposition);
        self.about_requests(&mut exposition);
        self.about_attempts(&mut exposition);
        self.about_sessions(&mut exposition);
        self.about_hashing(&mut exposition);
        self.about_the_database(&mut exposition);
        exposition.into_text()
    }

    async fn health(&self) -> Health {
        let ready = self.auth.check_readiness().await.is_ok();
        let kind = match self.store.load() {
            StoreLoad::Sqlite(_) => "sqlite",
            StoreLoad::Postgres(_) => "postgresql",
        };
        let hashing = self.hasher.load();
        let (workers, busy) = (hashing.workers, hashing.workers.saturating_sub(hashing.idle));
        let keys = self.auth.public_keys();
        let part = |name, is_well, detail| Part { name, is_well, detail };
        Health {
            version: VERSION,
            uptime_seconds: self.clock.monotonic().saturating_sub(self.since.monotonic).as_secs(),
            parts: vec![
                part("database", ready, object([("kind", json!(kind))])),
                part(
                    "hashing",
                    true,
                    object([
                        ("workers", json!(workers)),
                        ("busy", json!(busy)),
                        ("waiting", json!(hashing.waiting)),
                    ]),
                ),
                part(
                    "keys",
                    true,
                    object([
                        ("algorithm", json!(keys.algorithms.first())),
                        ("published", json!(keys.keys.len())),
                    ]),
                ),
            ],
        }
    }
}

impl Server {
    fn about_itself(&self, to: &mut Exposition) {
        let process = Process::look();
        to.gauge("auth_api_build_info", "Which release this is; always 1.")
            .sample(&[("version", VERSION)], 1);
        // Names that every client library has in common.
        let started = self.since.at.as_microsecond();
        to.gauge("process_start_time_seconds", "When the process started, in seconds since 1970.")
            .sample(&[], format_args!("{}.{:06}", started / 1_000_000, started % 1_000_000));
        let mut if_known = |name, help, value: Option<u64>| {
            if let Some(value) = value {
                to.gauge(name, help).sample(&[], value);
            }
        };
        if_known(
            "process_resident_memory_bytes",
            "How much memory the process has in use.",
            process.resident_bytes,
        );
        if_known("process_open_fds", "How many file descriptors are open.", process.open_files);
        if_known("process_max_fds", "How many file descriptors may be open.", process.most_open_files);
        if_known("process_threads", "How many threads there are.", process.threads);
        if let Some(time) = process.processor_time {
            to.counter("process_cpu_seconds_total", "How long the processors worked for it.")
                .sample(&[], seconds(time));
        }
    }

    fn about_log(to: &mut Exposition) {
        to.counter(
            "auth_api_log_lines_dropped_total",
            "Log lines that were dropped because their reader stalled.",
        )
        .sample(&[], logging::dropped_lines());
    }

    fn about_tls(&self, to: &mut Exposition) {
        if let Some(certificate) = &self.certificate {
            to.gauge(
                "auth_api_tls_certificate_expiry_timestamp_seconds",
                "When the certificate that is served ends, in seconds since 1970.",
            )
            .sample(&[], certificate.ends().as_second());
        }
    }

    fn about_connections(&self, to: &mut Exposition) {
        to.gauge("auth_api_http_connections", "How many connections to the public listener are open.")
            .sample(&[], self.traffic.connections());
        to.gauge("auth_api_http_connections_max", "How many of them there may be.")
            .sample(&[], self.limits.connections);
        let mut cut = to.counter(
            "auth_api_http_connections_cut_total",
            "Connections that were closed from our side where no request tells why, by the reason.",
        );
        for (reason, count) in self.traffic.cut() {
            cut.sample(&[("reason", reason)], count);
        }
    }

    fn about_requests(&self, to: &mut Exposition) {
        to.gauge("auth_api_http_requests_in_flight", "How many requests are being answered.")
            .sample(&[], self.traffic.in_flight());
        let answered = self.traffic.answered();
        let mut requests = to.counter(
            "auth_api_http_requests_total",
            "Requests by template of the path, method and status; 499 stands for a client that went away.",
        );
        for of in &answered {
            let route = of.route.as_deref().unwrap_or(UNMATCHED);
            for (status, count) in &of.statuses {
                let status = status.map_or_else(|| "other".to_owned(), |status| status.to_string());
                requests.sample(&[("route", route), ("method", of.method), ("status", &status)], count);
            }
            // A series that begins with a fault shows no increase.
            if of.statuses.iter().all(|(status, _)| *status != Some(500)) {
                requests.sample(&[("route", route), ("method", of.method), ("status", "500")], 0);
            }
        }
        let mut beyond = to.counter(
            "auth_api_http_limited_total",
            "Requests that were refused because too many had come before, by what the quota is of.",
        );
        for (quota, count) in self.traffic.beyond_quota() {
            beyond.sample(&[("quota", quota)], count);
        }
        let mut unavailable = to.counter(
            "auth_api_http_unavailable_total",
            "Requests that were answered 503, by what was lacking: the database, time, or room to hash.",
        );
        for (lack, count) in self.traffic.unavailable() {
            unavailable.sample(&[("lack", lack)], count);
        }
        let mut took = to.histogram(
            "auth_api_http_request_duration_seconds",
            "How long requests took until their answer was ready.",
        );
        for of in &answered {
            let route = of.route.as_deref().unwrap_or(UNMATCHED);
            took.distribution(&[("route", route), ("method", of.method)], &of.took);
        }
    }

    fn about_attempts(&self, to: &mut Exposition) {
        let mut attempts = to.counter(
            "auth_api_attempts_total",
            "What the audit log is told of: logins, sign-ups, refused refreshes and all others, by outcome and reason.",
        );
        for (ending, count) in self.attempts.counts() {
            let labels = [("action", ending.action), ("outcome", ending.outcome), ("reason", ending.reason)];
            attempts.sample(&labels, count);
        }
    }

    fn about_hashing(&self, to: &mut Exposition) {
        let load = self.hasher.load();
        to.gauge("auth_api_hashing_queue_length", "How many passwords wait for a thread.")
            .sample(&[], load.waiting);
        to.gauge("auth_api_hashing_workers", "How many threads hash passwords.").sample(&[], load.workers);
        to.gauge("auth_api_hashing_workers_busy", "How many of these threads have something to do.")
            .sample(&[], load.workers.saturating_sub(load.idle));
        to.histogram(
            "auth_api_hashing_wait_seconds",
            "How long passwords waited before a thread began with them; the count is that of computations.",
        )
        .distribution(&[], &load.waited);
        to.counter(
            "auth_api_hashing_refusals_total",
            "Passwords that were refused as they came, or after they had waited.",
        )
        .sample(&[("when", "at_once")], load.turned_away)
        .sample(&[("when", "after_waiting")], load.given_up);
    }

    fn about_sessions(&self, to: &mut Exposition) {
        if let Some(count) = self.live_sessions.value() {
            to.gauge(
                "auth_api_sessions_live",
                "How many sessions were live when they were last counted, each minute.",
            )
            .sample(&[], count);
        }
    }

    fn about_the_database(&self, to: &mut Exposition) {
        let load = self.store.load();
        let (open, busy, most, waiting) = match &load {
            StoreLoad::Sqlite(load) => (load.readers, load.readers_busy, load.readers, load.queries_waiting),
            StoreLoad::Postgres(load) => {
                (load.connections, load.connections.saturating_sub(load.idle), load.most, load.waiting)
            }
        };
        to.gauge("auth_api_database_connections", "Connections to the database; on SQLite those that read.")
            .sample(&[("state", "busy")], busy)
            .sample(&[("state", "idle")], open.saturating_sub(busy));
        to.gauge("auth_api_database_connections_max", "How many connections there may be.").sample(&[], most);
        to.gauge("auth_api_database_waiting", "How many callers wait for a connection.").sample(&[], waiting);
        if let StoreLoad::Sqlite(load) = load {
            to.gauge("auth_api_database_writes_waiting", "How many writes wait for the writer.")
                .sample(&[], load.writes_waiting);
            to.counter(
                "auth_api_database_writes_total",
                "Writes that were done, and failed ones among them.",
            )
            .sample(&[], load.writes);
            to.histogram(
                "auth_api_database_write_batch_seconds",
                "How long the transactions took in which writes are done together.",
            )
            .distribution(&[], &load.batches);
        }
    }
}

/// The route of paths that nobody serves.
const UNMATCHED: &str = "unmatched";

fn object<const N: usize>(
    members: [(&str, serde_json::Value); N],
) -> serde_json::Map<String, serde_json::Value> {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
