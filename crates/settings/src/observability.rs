//! The log, the listener of operators, traces and error reports.

use std::net::SocketAddr;

use super::keys::{DefaultValue, Key, Setting};
use super::reading::Reading;
use super::{Dsn, Environment, Http, readers};

/// What the log shows.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    /// From which level on.
    pub level: tracing::Level,
    /// In which form.
    pub format: LogFormat,
}

/// The listener for operators.
#[derive(Clone, Debug)]
pub struct Ops {
    /// Where it listens, if it does.
    pub address: Option<SocketAddr>,
    /// The host names that it answers to besides those of loopback and IP addresses.
    pub hosts: Vec<String>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// For machines.
    Json,
}

pub(crate) static LOG_LEVEL: Setting<tracing::Level> = Setting {
    key: Key::text("AUTH_LOG__LEVEL", DefaultValue::Text("info"), "error, warn, info, debug or trace").live(),
    read: readers::log_level,
};

pub(crate) static LOG_FORMAT: Setting<LogFormat> = Setting {
    key: Key::text(
        "AUTH_LOG__FORMAT",
        DefaultValue::Depends("pretty in development, json in production"),
        "how log lines look: pretty or json",
    ),
    read: readers::log_format,
};

pub(crate) static OPS_ADDR: Setting<Option<SocketAddr>> = Setting {
    key: Key::text(
        "AUTH_OPS__ADDR",
        DefaultValue::Text("127.0.0.1:9464"),
        "address and port of /metrics and the detailed /health, for operators; empty for none",
    )
    .or_empty(),
    read: readers::ops_address,
};

pub(crate) static OPS_HOSTS: Setting<Vec<String>> = Setting {
    key: Key::text(
        "AUTH_OPS__HOSTS",
        DefaultValue::Text(""),
        "host names that operators ask by, with commas between them, besides localhost and IP addresses",
    )
    .trimmed(),
    read: readers::host_names,
};

pub(crate) static OTLP_ENDPOINT: Setting<String> = Setting {
    key: Key::text(
        "AUTH_OTLP__ENDPOINT",
        DefaultValue::Unset,
        "the collector of OpenTelemetry that traces are sent to, by OTLP over HTTP",
    ),
    read: readers::otlp_endpoint,
};

pub(crate) static SENTRY_DSN: Setting<Dsn> = Setting {
    key: Key::secret(
        "AUTH_SENTRY__DSN",
        DefaultValue::Unset,
        "the project of a server that speaks Sentry's protocol, to which errors are reported",
    ),
    read: readers::dsn,
};

pub(crate) static SENTRY_DSN_FILE: Key =
    Key::text("AUTH_SENTRY__DSN_FILE", DefaultValue::Unset, "a file to read AUTH_SENTRY__DSN from");

impl Reading {
    pub(crate) fn log(&mut self, environment: Option<Environment>) -> Option<Log> {
        let level = self.read(&LOG_LEVEL);
        let format = match environment {
            Some(Environment::Production) => "json",
            Some(Environment::Development) | None => "pretty",
        };
        let format = self.read_or(&LOG_FORMAT, format);
        Some(Log { level: level?, format: format? })
    }

    pub(crate) fn ops(&mut self, http: Option<&Http>) -> Option<Ops> {
        let hosts = self.read(&OPS_HOSTS);
        let address = self.read(&OPS_ADDR)?;
        // Port 0 is another port each time.
        let is_taken = |address: SocketAddr| {
            address.port() != 0 && http.is_some_and(|http| http.address.port() == address.port())
        };
        if address.is_some_and(is_taken) {
            self.refuse(
                &OPS_ADDR.key,
                "has the port of AUTH_HTTP__ADDR; what it shows is kept from the public, so take another one",
            );
        }
        Some(Ops { address, hosts: hosts? })
    }
}
