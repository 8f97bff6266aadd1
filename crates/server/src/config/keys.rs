//! Every setting there is, each described once: `config show`, the check for unknown keys and the comparison
//! with `.env.example` all read this table.

use std::net::SocketAddr;
use std::num::{NonZero, NonZeroU32};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::HeaderName;
use domain::{PasswordPolicy, SitePrefix};
use token_jwt::{KeyPair, TokenType};

use super::readers::{self, Wrong};
use super::{Algorithm, Dsn, EngineName, Environment, Location, LogFormat, Secret};
use crate::clients::ConfiguredClients;

/// What can be said of a setting without reading it.
#[derive(Debug)]
pub struct Key {
    /// Its name in the environment.
    pub name: &'static str,
    /// What holds when nobody sets it.
    pub default: DefaultValue,
    /// How it is written in a file.
    pub shape: Shape,
    /// Whether its value is shown to nobody.
    pub is_secret: bool,
    /// Whether a SIGHUP puts another value in force.
    pub is_live: bool,
    /// Whether an empty text is a value. Elsewhere it means the default.
    pub takes_empty: bool,
    /// What may stand around its text.
    pub edges: Edges,
    /// What it is, in one line.
    pub meaning: &'static str,
}

/// What holds when nobody sets a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// This text.
    Text(&'static str),
    /// What follows from something else, in words.
    Depends(&'static str),
    /// Nothing.
    Unset,
}

/// How a value is written in `auth-api.toml`. In the environment everything is text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// In quotes.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Flag,
}

/// What may stand around a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edges {
    /// Nothing.
    Bare,
    /// Blanks and line ends, which mean nothing.
    Trimmed,
}

/// A key together with how its text is read.
pub(super) struct Setting<T> {
    pub(super) key: Key,
    pub(super) read: fn(&str) -> Result<T, Wrong>,
}

impl Key {
    /// Where it stands in a file: `http.addr` for `AUTH_HTTP__ADDR`.
    pub fn path(&self) -> String {
        self.name["AUTH_".len()..].to_ascii_lowercase().replace("__", ".")
    }

    /// Whether this text, which somebody set it to, is shown to nobody. The URL of a database is no secret as long as it
    /// names a file; any other may have a password in it, also one that is misspelt.
    pub fn hides(&self, text: &str) -> bool {
        let is_secret = self.is_secret && !text.is_empty();
        is_secret || (std::ptr::eq(self, &raw const DATABASE_URL.key) && !text.starts_with("sqlite://"))
    }

    /// Finds a key by its name in the environment.
    pub fn named(name: &str) -> Option<&'static Self> {
        KEYS.into_iter().find(|key| key.name == name)
    }

    const fn text(name: &'static str, default: DefaultValue, meaning: &'static str) -> Self {
        let takes_empty = matches!(default, DefaultValue::Text(text) if text.is_empty());
        let (is_secret, is_live, edges) = (false, false, Edges::Bare);
        Self { name, default, shape: Shape::Text, is_secret, is_live, takes_empty, edges, meaning }
    }

    const fn secret(name: &'static str, default: DefaultValue, meaning: &'static str) -> Self {
        Self { is_secret: true, ..Self::text(name, default, meaning) }
    }

    /// One that may change while a server serves.
    const fn live(self) -> Self {
        Self { is_live: true, ..self }
    }

    /// One whose text may be empty, though its default is not.
    const fn or_empty(self) -> Self {
        Self { takes_empty: true, ..self }
    }

    /// One whose text may have blanks and line ends around it.
    const fn trimmed(self) -> Self {
        Self { edges: Edges::Trimmed, ..self }
    }

    const fn number(name: &'static str, default: DefaultValue, meaning: &'static str) -> Self {
        Self { shape: Shape::Number, ..Self::text(name, default, meaning) }
    }

    const fn flag(name: &'static str, default: DefaultValue, meaning: &'static str) -> Self {
        Self { shape: Shape::Flag, ..Self::text(name, default, meaning) }
    }
}

/// Every key, in the order in which they are shown.
pub static KEYS: [&Key; 67] = [
    &ENV.key,
    &HTTP_ADDR.key,
    &HTTP_BEHIND_TLS_PROXY.key,
    &HTTP_TRUSTED_PROXIES.key,
    &HTTP_CLIENT_IP_HEADER.key,
    &HTTP_GRACE.key,
    &HTTP_CHANGE_PASSWORD_PAGE.key,
    &HTTP_IDLE_TIMEOUT.key,
    &HTTP_MAX_CONNECTIONS.key,
    &CORS_ORIGINS.key,
    &CORS_HEADERS.key,
    &SIGNUP_ENABLED.key,
    &LIMITS_ENABLED.key,
    &LIMITS_SIGNUPS.key,
    &LIMITS_LOGINS.key,
    &LIMITS_REFRESHES.key,
    &LIMITS_ANONYMOUS.key,
    &LIMITS_SESSION.key,
    &LIMITS_ACCOUNT.key,
    &LIMITS_USERNAME_CHANGES.key,
    &LIMITS_IPV6_PREFIX.key,
    &LIMITS_FAILURES.key,
    &TLS_CERT_PATH.key,
    &TLS_KEY_PATH.key,
    &DATABASE_URL.key,
    &DATABASE_URL_FILE,
    &DATABASE_POOL_SIZE.key,
    &DATABASE_MIGRATE_ON_START.key,
    &PASSWORD_BCRYPT_COST.key,
    &PASSWORD_MIN_LENGTH.key,
    &HASHING_ENGINE.key,
    &HASHING_LANES.key,
    &HASHING_WORKERS.key,
    &HASHING_QUEUE.key,
    &HASHING_DEADLINE.key,
    &TOKEN_ALGORITHM.key,
    &TOKEN_KEYS_DIR.key,
    &TOKEN_PRIVATE_KEY.key,
    &TOKEN_PRIVATE_KEY_FILE,
    &TOKEN_PRIVATE_KEY_PREVIOUS.key,
    &TOKEN_PRIVATE_KEY_PREVIOUS_FILE,
    &TOKEN_TYPE.key,
    &TOKEN_SECRET.key,
    &TOKEN_SECRET_FILE,
    &TOKEN_ISSUER.key,
    &TOKEN_AUDIENCE.key,
    &TOKEN_ACCESS_TTL.key,
    &TOKEN_CLIENT_ID.key,
    &SESSION_IDLE_TTL.key,
    &SESSION_ABSOLUTE_TTL.key,
    &SESSION_GRACE.key,
    &SESSION_REFRESH_KEY.key,
    &SESSION_REFRESH_KEY_FILE,
    &SESSION_REFRESH_KEY_PREVIOUS.key,
    &SESSION_REFRESH_KEY_PREVIOUS_FILE,
    &AUDIT_KEEP.key,
    &AUDIT_KEY.key,
    &AUDIT_KEY_FILE,
    &LOG_LEVEL.key,
    &LOG_FORMAT.key,
    &OPS_ADDR.key,
    &OPS_HOSTS.key,
    &OTLP_ENDPOINT.key,
    &SENTRY_DSN.key,
    &SENTRY_DSN_FILE,
    &INTROSPECTION_CLIENTS.key,
    &DOCS_ENABLED.key,
];

pub(super) static ENV: Setting<Environment> = Setting {
    key: Key::text(
        "AUTH_ENV",
        DefaultValue::Text("development"),
        "development, which makes its own secret, or production, which asks for one",
    ),
    read: readers::environment,
};

pub(super) static HTTP_ADDR: Setting<SocketAddr> = Setting {
    key: Key::text("AUTH_HTTP__ADDR", DefaultValue::Text("127.0.0.1:8000"), "address and port to listen on"),
    read: readers::address,
};

pub(super) static HTTP_BEHIND_TLS_PROXY: Setting<bool> = Setting {
    key: Key::flag(
        "AUTH_HTTP__BEHIND_TLS_PROXY",
        DefaultValue::Text("false"),
        "allows plain HTTP on an address other than loopback, because a proxy before it speaks TLS",
    ),
    read: readers::flag,
};

pub(super) static HTTP_TRUSTED_PROXIES: Setting<api::TrustedProxies> = Setting {
    key: Key::text(
        "AUTH_HTTP__TRUSTED_PROXIES",
        DefaultValue::Text(""),
        "networks of the proxies that are believed about the client's address, with commas between them",
    )
    .live()
    .trimmed(),
    read: readers::trusted_proxies,
};

pub(super) static HTTP_CLIENT_IP_HEADER: Setting<api::ClientIpHeader> = Setting {
    key: Key::text(
        "AUTH_HTTP__CLIENT_IP_HEADER",
        DefaultValue::Text("x-forwarded-for"),
        "the header in which trusted proxies name the client: x-forwarded-for, forwarded or x-real-ip",
    )
    .live(),
    read: readers::client_ip_header,
};

pub(super) static HTTP_GRACE: Setting<Duration> = Setting {
    key: Key::text(
        "AUTH_HTTP__GRACE",
        DefaultValue::Text("20s"),
        "how long a stop waits for requests that have begun",
    ),
    read: readers::grace,
};

pub(super) static HTTP_CHANGE_PASSWORD_PAGE: Setting<Option<String>> = Setting {
    key: Key::text(
        "AUTH_HTTP__CHANGE_PASSWORD_PAGE",
        DefaultValue::Text(""),
        "page that /.well-known/change-password redirects to; empty for none",
    ),
    read: readers::change_password_page,
};

pub(super) static HTTP_IDLE_TIMEOUT: Setting<Duration> = Setting {
    key: Key::text(
        "AUTH_HTTP__IDLE_TIMEOUT",
        DefaultValue::Text("75s"),
        "how long a connection may wait for its next request; longer than your load balancer keeps it",
    ),
    read: readers::idle_timeout,
};

pub(super) static HTTP_MAX_CONNECTIONS: Setting<NonZero<usize>> = Setting {
    key: Key::number(
        "AUTH_HTTP__MAX_CONNECTIONS",
        DefaultValue::Depends("8192, or fewer if the limit of open files demands it"),
        "connections of clients that may be open at once",
    ),
    read: readers::max_connections,
};

pub(super) static CORS_ORIGINS: Setting<Vec<api::Origin>> = Setting {
    key: Key::text(
        "AUTH_CORS__ORIGINS",
        DefaultValue::Text(""),
        "origins whose pages may ask from a browser, with commas between them",
    )
    .live()
    .trimmed(),
    read: readers::origins,
};

pub(super) static CORS_HEADERS: Setting<Vec<HeaderName>> = Setting {
    key: Key::text(
        "AUTH_CORS__HEADERS",
        DefaultValue::Text(""),
        "headers that these pages may send beside the usual ones, with commas between them",
    )
    .live()
    .trimmed(),
    read: readers::header_names,
};

pub(super) static SIGNUP_ENABLED: Setting<bool> = Setting {
    key: Key::flag(
        "AUTH_SIGNUP__ENABLED",
        DefaultValue::Text("true"),
        "whether anybody may sign up; otherwise only the command line makes accounts",
    ),
    read: readers::flag,
};

pub(super) static LIMITS_ENABLED: Setting<bool> = Setting {
    key: Key::flag(
        "AUTH_LIMITS__ENABLED",
        DefaultValue::Text("true"),
        "whether anything is limited; false is for load tests, and refused in production",
    ),
    read: readers::flag,
};

pub(super) static LIMITS_SIGNUPS: Setting<NonZeroU32> = Setting {
    key: Key::number("AUTH_LIMITS__SIGNUPS", DefaultValue::Text("10"), "sign-ups a minute from one network")
        .live(),
    read: readers::quota,
};

pub(super) static LIMITS_LOGINS: Setting<NonZeroU32> = Setting {
    key: Key::number("AUTH_LIMITS__LOGINS", DefaultValue::Text("30"), "logins a minute from one network")
        .live(),
    read: readers::quota,
};

pub(super) static LIMITS_REFRESHES: Setting<NonZeroU32> = Setting {
    key: Key::number(
        "AUTH_LIMITS__REFRESHES",
        DefaultValue::Text("60"),
        "refreshes a minute from one network",
    )
    .live(),
    read: readers::quota,
};

pub(super) static LIMITS_ANONYMOUS: Setting<NonZeroU32> = Setting {
    key: Key::number(
        "AUTH_LIMITS__ANONYMOUS",
        DefaultValue::Text("600"),
        "other requests a minute without a token that holds, from one network",
    )
    .live(),
    read: readers::quota,
};

pub(super) static LIMITS_SESSION: Setting<NonZeroU32> = Setting {
    key: Key::number(
        "AUTH_LIMITS__SESSION",
        DefaultValue::Text("600"),
        "requests a minute with the tokens of one session",
    )
    .live(),
    read: readers::quota,
};

pub(super) static LIMITS_ACCOUNT: Setting<NonZeroU32> = Setting {
    key: Key::number(
        "AUTH_LIMITS__ACCOUNT",
        DefaultValue::Text("60"),
        "requests a minute that change something, with the tokens of one account",
    )
    .live(),
    read: readers::quota,
};

pub(super) static LIMITS_USERNAME_CHANGES: Setting<NonZeroU32> = Setting {
    key: Key::number(
        "AUTH_LIMITS__USERNAME_CHANGES",
        DefaultValue::Text("10"),
        "tries an hour of one account at another username",
    ),
    read: readers::quota,
};

pub(super) static LIMITS_IPV6_PREFIX: Setting<SitePrefix> = Setting {
    key: Key::number(
        "AUTH_LIMITS__IPV6_PREFIX",
        DefaultValue::Text("48"),
        "leading bits of an IPv6 address that make a site, which may have four times as much as a /64, 32 to 64",
    )
    .live(),
    read: readers::ipv6_prefix,
};

pub(super) static LIMITS_FAILURES: Setting<u32> = Setting {
    key: Key::number(
        "AUTH_LIMITS__FAILURES",
        DefaultValue::Text("100"),
        "how many wrong passwords in a row are compared for an account, 10 to 100",
    ),
    read: readers::failures,
};

pub(super) static TLS_CERT_PATH: Setting<PathBuf> = Setting {
    key: Key::text(
        "AUTH_TLS__CERT_PATH",
        DefaultValue::Unset,
        "a file with the certificate to speak TLS with and its chain, in PEM",
    ),
    read: readers::file,
};

pub(super) static TLS_KEY_PATH: Setting<PathBuf> = Setting {
    key: Key::text(
        "AUTH_TLS__KEY_PATH",
        DefaultValue::Unset,
        "a file with the private key of that certificate, in PEM",
    ),
    read: readers::file,
};

pub(super) static DATABASE_URL: Setting<Location> = Setting {
    key: Key::text(
        "AUTH_DATABASE__URL",
        DefaultValue::Text("sqlite://data/auth.db"),
        "where users are kept: sqlite:// and the path of a file, or the postgres:// URL of a database",
    ),
    read: readers::location,
};

static DATABASE_URL_FILE: Key =
    Key::text("AUTH_DATABASE__URL_FILE", DefaultValue::Unset, "a file to read AUTH_DATABASE__URL from");

pub(super) static DATABASE_POOL_SIZE: Setting<NonZero<usize>> = Setting {
    key: Key::number(
        "AUTH_DATABASE__POOL_SIZE",
        DefaultValue::Text("16"),
        "pooled connections of one server to PostgreSQL, 1 to 256",
    ),
    read: readers::pool_size,
};

pub(super) static DATABASE_MIGRATE_ON_START: Setting<bool> = Setting {
    key: Key::flag(
        "AUTH_DATABASE__MIGRATE_ON_START",
        DefaultValue::Depends("true on SQLite, false on PostgreSQL"),
        "whether a start brings the database's schema up to date",
    ),
    read: readers::flag,
};

pub(super) static PASSWORD_BCRYPT_COST: Setting<u32> = Setting {
    key: Key::number(
        "AUTH_PASSWORD__BCRYPT_COST",
        DefaultValue::Text("12"),
        "work per password, 10 to 16; each step doubles it",
    ),
    read: readers::bcrypt_cost,
};

pub(super) static PASSWORD_MIN_LENGTH: Setting<PasswordPolicy> = Setting {
    key: Key::number(
        "AUTH_PASSWORD__MIN_LENGTH",
        DefaultValue::Text("8"),
        "fewest characters of a new password, 8 or more",
    ),
    read: readers::password_policy,
};

pub(super) static HASHING_ENGINE: Setting<EngineName> = Setting {
    key: Key::text(
        "AUTH_HASHING__ENGINE",
        DefaultValue::Text("lanes"),
        "what hashes passwords: lanes, or reference, the bcrypt crate",
    ),
    read: readers::engine,
};

pub(super) static HASHING_LANES: Setting<usize> = Setting {
    key: Key::number(
        "AUTH_HASHING__LANES",
        DefaultValue::Text("6"),
        "passwords that each worker hashes side by side",
    ),
    read: readers::lanes,
};

pub(super) static HASHING_WORKERS: Setting<usize> = Setting {
    key: Key::number(
        "AUTH_HASHING__WORKERS",
        DefaultValue::Depends("as many as there are cores"),
        "threads that hash passwords, at most as many as there are cores",
    ),
    read: readers::workers,
};

pub(super) static HASHING_QUEUE: Setting<usize> = Setting {
    key: Key::number(
        "AUTH_HASHING__QUEUE",
        DefaultValue::Depends("64 for each worker"),
        "clients' passwords that may wait for a worker",
    ),
    read: readers::queue,
};

pub(super) static HASHING_DEADLINE: Setting<Duration> = Setting {
    key: Key::text(
        "AUTH_HASHING__DEADLINE",
        DefaultValue::Text("5s"),
        "how long a client may wait for a password to be hashed; others are answered 503",
    ),
    read: readers::hashing_deadline,
};

pub(super) static TOKEN_ALGORITHM: Setting<Algorithm> = Setting {
    key: Key::text(
        "AUTH_TOKEN__ALGORITHM",
        DefaultValue::Text("HS256"),
        "what tokens are signed with: HS256, by AUTH_TOKEN__SECRET, or EdDSA, ES256 or RS256, by a private key",
    ),
    read: readers::algorithm,
};

pub(super) static TOKEN_KEYS_DIR: Setting<PathBuf> = Setting {
    key: Key::text(
        "AUTH_TOKEN__KEYS_DIR",
        DefaultValue::Text("data/keys"),
        "the folder of the key files of EdDSA, ES256 and RS256",
    ),
    read: readers::folder,
};

pub(super) static TOKEN_PRIVATE_KEY: Setting<Arc<KeyPair>> = Setting {
    key: Key::secret(
        "AUTH_TOKEN__PRIVATE_KEY",
        DefaultValue::Unset,
        "the private key that signs tokens, in PEM, instead of the folder",
    )
    .live()
    .trimmed(),
    read: readers::private_key,
};

static TOKEN_PRIVATE_KEY_FILE: Key = Key::text(
    "AUTH_TOKEN__PRIVATE_KEY_FILE",
    DefaultValue::Unset,
    "a file to read AUTH_TOKEN__PRIVATE_KEY from",
);

pub(super) static TOKEN_PRIVATE_KEY_PREVIOUS: Setting<Arc<KeyPair>> = Setting {
    key: Key::secret(
        "AUTH_TOKEN__PRIVATE_KEY_PREVIOUS",
        DefaultValue::Unset,
        "what AUTH_TOKEN__PRIVATE_KEY was before, or will be: it is published and verifies",
    )
    .live()
    .trimmed(),
    read: readers::private_key,
};

static TOKEN_PRIVATE_KEY_PREVIOUS_FILE: Key = Key::text(
    "AUTH_TOKEN__PRIVATE_KEY_PREVIOUS_FILE",
    DefaultValue::Unset,
    "a file to read AUTH_TOKEN__PRIVATE_KEY_PREVIOUS from",
);

pub(super) static TOKEN_TYPE: Setting<TokenType> = Setting {
    key: Key::text(
        "AUTH_TOKEN__TYPE",
        DefaultValue::Text("at+jwt"),
        "the typ of access tokens: at+jwt or JWT",
    ),
    read: readers::token_type,
};

pub(super) static TOKEN_SECRET: Setting<Secret> = Setting {
    key: Key::secret(
        "AUTH_TOKEN__SECRET",
        DefaultValue::Depends("in development made once and kept in data/token-secret; in production none"),
        "what signs tokens with HS256, and hides names in the log; 32 bytes or more",
    ),
    read: readers::secret,
};

static TOKEN_SECRET_FILE: Key =
    Key::text("AUTH_TOKEN__SECRET_FILE", DefaultValue::Unset, "a file to read AUTH_TOKEN__SECRET from");

pub(super) static TOKEN_ISSUER: Setting<String> = Setting {
    key: Key::text(
        "AUTH_TOKEN__ISSUER",
        DefaultValue::Depends(
            "in development http://localhost and the port of AUTH_HTTP__ADDR, https where AUTH_TLS__CERT_PATH is set; in \
             production http://localhost:8000, with a warning",
        ),
        "the URL clients know this server by; the iss of its tokens",
    ),
    read: readers::issuer,
};

pub(super) static TOKEN_AUDIENCE: Setting<Option<String>> = Setting {
    key: Key::text(
        "AUTH_TOKEN__AUDIENCE",
        DefaultValue::Text("auth-api"),
        "the aud of tokens; empty, with AUTH_TOKEN__TYPE=JWT only, leaves it out",
    )
    .or_empty(),
    read: readers::audience,
};

pub(super) static TOKEN_ACCESS_TTL: Setting<Duration> = Setting {
    key: Key::text(
        "AUTH_TOKEN__ACCESS_TTL",
        DefaultValue::Text("15m"),
        "how long an access token holds, less up to 5 % at random",
    ),
    read: readers::access_ttl,
};

pub(super) static TOKEN_CLIENT_ID: Setting<String> = Setting {
    key: Key::text("AUTH_TOKEN__CLIENT_ID", DefaultValue::Text("auth-api"), "the client_id of tokens"),
    read: readers::client_id,
};

pub(super) static SESSION_IDLE_TTL: Setting<Duration> = Setting {
    key: Key::text(
        "AUTH_SESSION__IDLE_TTL",
        DefaultValue::Text("14d"),
        "how long a session lives without being used",
    ),
    read: readers::session_ttl,
};

pub(super) static SESSION_ABSOLUTE_TTL: Setting<Duration> = Setting {
    key: Key::text(
        "AUTH_SESSION__ABSOLUTE_TTL",
        DefaultValue::Text("90d"),
        "how long a session lives however much it is used",
    ),
    read: readers::session_ttl,
};

pub(super) static SESSION_GRACE: Setting<Duration> = Setting {
    key: Key::text(
        "AUTH_SESSION__GRACE",
        DefaultValue::Text("10s"),
        "how long an exchanged refresh token is taken for a second tab's",
    ),
    read: readers::session_grace,
};

pub(super) static SESSION_REFRESH_KEY: Setting<Secret> = Setting {
    key: Key::secret(
        "AUTH_SESSION__REFRESH_KEY",
        DefaultValue::Depends("in development made once and kept in data/refresh-key; in production none"),
        "what refresh tokens are made with, 32 bytes or more, not the secret that signs",
    ),
    read: readers::secret,
};

static SESSION_REFRESH_KEY_FILE: Key = Key::text(
    "AUTH_SESSION__REFRESH_KEY_FILE",
    DefaultValue::Unset,
    "a file to read AUTH_SESSION__REFRESH_KEY from",
);

pub(super) static SESSION_REFRESH_KEY_PREVIOUS: Setting<Secret> = Setting {
    key: Key::secret(
        "AUTH_SESSION__REFRESH_KEY_PREVIOUS",
        DefaultValue::Unset,
        "the key before, whose refresh tokens still hold",
    ),
    read: readers::secret,
};

static SESSION_REFRESH_KEY_PREVIOUS_FILE: Key = Key::text(
    "AUTH_SESSION__REFRESH_KEY_PREVIOUS_FILE",
    DefaultValue::Unset,
    "a file to read AUTH_SESSION__REFRESH_KEY_PREVIOUS from",
);

pub(super) static AUDIT_KEEP: Setting<Duration> = Setting {
    key: Key::text(
        "AUTH_AUDIT__KEEP",
        DefaultValue::Text("400d"),
        "how long the audit log keeps what was attempted",
    ),
    read: readers::audit_keep,
};

pub(super) static AUDIT_KEY: Setting<Secret> = Setting {
    key: Key::secret(
        "AUTH_AUDIT__KEY",
        DefaultValue::Depends("AUTH_SESSION__REFRESH_KEY"),
        "what the audit log is sealed with, to be kept as long as the log, not the secret that signs",
    ),
    read: readers::secret,
};

static AUDIT_KEY_FILE: Key =
    Key::text("AUTH_AUDIT__KEY_FILE", DefaultValue::Unset, "a file to read AUTH_AUDIT__KEY from");

pub(super) static LOG_LEVEL: Setting<tracing::Level> = Setting {
    key: Key::text("AUTH_LOG__LEVEL", DefaultValue::Text("info"), "error, warn, info, debug or trace").live(),
    read: readers::log_level,
};

pub(super) static LOG_FORMAT: Setting<LogFormat> = Setting {
    key: Key::text(
        "AUTH_LOG__FORMAT",
        DefaultValue::Depends("pretty in development, json in production"),
        "how log lines look: pretty or json",
    ),
    read: readers::log_format,
};

pub(super) static OPS_ADDR: Setting<Option<SocketAddr>> = Setting {
    key: Key::text(
        "AUTH_OPS__ADDR",
        DefaultValue::Text("127.0.0.1:9464"),
        "address and port of /metrics and the detailed /health, for operators; empty for none",
    )
    .or_empty(),
    read: readers::ops_address,
};

pub(super) static OPS_HOSTS: Setting<Vec<String>> = Setting {
    key: Key::text(
        "AUTH_OPS__HOSTS",
        DefaultValue::Text(""),
        "host names that operators ask by, with commas between them, besides localhost and IP addresses",
    )
    .trimmed(),
    read: readers::host_names,
};

pub(super) static OTLP_ENDPOINT: Setting<String> = Setting {
    key: Key::text(
        "AUTH_OTLP__ENDPOINT",
        DefaultValue::Unset,
        "the collector of OpenTelemetry that traces are sent to, by OTLP over HTTP",
    ),
    read: readers::otlp_endpoint,
};

pub(super) static SENTRY_DSN: Setting<Dsn> = Setting {
    key: Key::secret(
        "AUTH_SENTRY__DSN",
        DefaultValue::Unset,
        "the project of a server that speaks Sentry's protocol, to which errors are reported",
    ),
    read: readers::dsn,
};

static SENTRY_DSN_FILE: Key =
    Key::text("AUTH_SENTRY__DSN_FILE", DefaultValue::Unset, "a file to read AUTH_SENTRY__DSN from");

pub(super) static INTROSPECTION_CLIENTS: Setting<ConfiguredClients> = Setting {
    key: Key::secret(
        "AUTH_INTROSPECTION__CLIENTS",
        DefaultValue::Text(""),
        // No secret, and shown to nobody all the same: somebody may have made up what it is the digest of.
        "backends that may ask about tokens and revoke them: id:digest pairs with commas between them",
    )
    .trimmed(),
    read: readers::clients,
};

pub(super) static DOCS_ENABLED: Setting<bool> = Setting {
    key: Key::flag(
        "AUTH_DOCS__ENABLED",
        DefaultValue::Text("true"),
        "whether /docs, /redoc and /openapi.json are served",
    ),
    read: readers::flag,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_name_in_the_environment_and_one_place_in_a_file() {
        assert_eq!(HTTP_BEHIND_TLS_PROXY.key.path(), "http.behind_tls_proxy");
        assert_eq!(ENV.key.path(), "env");
        assert!(std::ptr::eq(Key::named("AUTH_ENV").unwrap(), &raw const ENV.key));
        assert!(Key::named("AUTH_HTTP__ADR").is_none());
    }

    #[test]
    fn the_default_number_of_lanes_is_the_one_that_measured_best() {
        let DefaultValue::Text(lanes) = HASHING_LANES.key.default else { panic!("no default") };

        assert_eq!(lanes, hasher_bcrypt::DEFAULT_LANES.to_string());
    }
}
