//! Every setting there is, each described once: `config show`, the check for unknown keys and the comparison
//! with `.env.example` all read this table.

use super::readers::Wrong;
use super::{
    Environment, audit, database, hashing, http, introspection_clients, limits, observability, readers,
    sessions, tls, tokens,
};

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
pub(crate) struct Setting<T> {
    pub(crate) key: Key,
    pub(crate) read: fn(&str) -> Result<T, Wrong>,
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
        is_secret
            || (std::ptr::eq(self, &raw const database::DATABASE_URL.key) && !text.starts_with("sqlite://"))
    }

    /// Finds a key by its name in the environment.
    pub fn named(name: &str) -> Option<&'static Self> {
        KEYS.into_iter().find(|key| key.name == name)
    }

    pub(crate) const fn text(name: &'static str, default: DefaultValue, meaning: &'static str) -> Self {
        let takes_empty = matches!(default, DefaultValue::Text(text) if text.is_empty());
        let (is_secret, is_live, edges) = (false, false, Edges::Bare);
        Self { name, default, shape: Shape::Text, is_secret, is_live, takes_empty, edges, meaning }
    }

    pub(crate) const fn secret(name: &'static str, default: DefaultValue, meaning: &'static str) -> Self {
        Self { is_secret: true, ..Self::text(name, default, meaning) }
    }

    /// One that may change while a server serves.
    pub(crate) const fn live(self) -> Self {
        Self { is_live: true, ..self }
    }

    /// One whose text may be empty, though its default is not.
    pub(crate) const fn or_empty(self) -> Self {
        Self { takes_empty: true, ..self }
    }

    /// One whose text may have blanks and line ends around it.
    pub(crate) const fn trimmed(self) -> Self {
        Self { edges: Edges::Trimmed, ..self }
    }

    pub(crate) const fn number(name: &'static str, default: DefaultValue, meaning: &'static str) -> Self {
        Self { shape: Shape::Number, ..Self::text(name, default, meaning) }
    }

    pub(crate) const fn flag(name: &'static str, default: DefaultValue, meaning: &'static str) -> Self {
        Self { shape: Shape::Flag, ..Self::text(name, default, meaning) }
    }
}

/// Every key, in the order in which they are shown.
pub static KEYS: [&Key; 67] = [
    &ENV.key,
    &http::HTTP_ADDR.key,
    &http::HTTP_BEHIND_TLS_PROXY.key,
    &http::HTTP_TRUSTED_PROXIES.key,
    &http::HTTP_CLIENT_IP_HEADER.key,
    &http::HTTP_GRACE.key,
    &http::HTTP_CHANGE_PASSWORD_PAGE.key,
    &http::HTTP_IDLE_TIMEOUT.key,
    &http::HTTP_MAX_CONNECTIONS.key,
    &http::CORS_ORIGINS.key,
    &http::CORS_HEADERS.key,
    &limits::SIGNUP_ENABLED.key,
    &limits::LIMITS_ENABLED.key,
    &limits::LIMITS_SIGNUPS.key,
    &limits::LIMITS_LOGINS.key,
    &limits::LIMITS_REFRESHES.key,
    &limits::LIMITS_ANONYMOUS.key,
    &limits::LIMITS_SESSION.key,
    &limits::LIMITS_ACCOUNT.key,
    &limits::LIMITS_USERNAME_CHANGES.key,
    &limits::LIMITS_IPV6_PREFIX.key,
    &limits::LIMITS_FAILURES.key,
    &tls::TLS_CERT_PATH.key,
    &tls::TLS_KEY_PATH.key,
    &database::DATABASE_URL.key,
    &database::DATABASE_URL_FILE,
    &database::DATABASE_POOL_SIZE.key,
    &database::DATABASE_MIGRATE_ON_START.key,
    &hashing::PASSWORD_BCRYPT_COST.key,
    &hashing::PASSWORD_MIN_LENGTH.key,
    &hashing::HASHING_ENGINE.key,
    &hashing::HASHING_LANES.key,
    &hashing::HASHING_WORKERS.key,
    &hashing::HASHING_QUEUE.key,
    &hashing::HASHING_DEADLINE.key,
    &tokens::TOKEN_ALGORITHM.key,
    &tokens::TOKEN_KEYS_DIR.key,
    &tokens::TOKEN_PRIVATE_KEY.key,
    &tokens::TOKEN_PRIVATE_KEY_FILE,
    &tokens::TOKEN_PRIVATE_KEY_PREVIOUS.key,
    &tokens::TOKEN_PRIVATE_KEY_PREVIOUS_FILE,
    &tokens::TOKEN_TYPE.key,
    &tokens::TOKEN_SECRET.key,
    &tokens::TOKEN_SECRET_FILE,
    &tokens::TOKEN_ISSUER.key,
    &tokens::TOKEN_AUDIENCE.key,
    &tokens::TOKEN_ACCESS_TTL.key,
    &tokens::TOKEN_CLIENT_ID.key,
    &sessions::SESSION_IDLE_TTL.key,
    &sessions::SESSION_ABSOLUTE_TTL.key,
    &sessions::SESSION_GRACE.key,
    &sessions::SESSION_REFRESH_KEY.key,
    &sessions::SESSION_REFRESH_KEY_FILE,
    &sessions::SESSION_REFRESH_KEY_PREVIOUS.key,
    &sessions::SESSION_REFRESH_KEY_PREVIOUS_FILE,
    &audit::AUDIT_KEEP.key,
    &audit::AUDIT_KEY.key,
    &audit::AUDIT_KEY_FILE,
    &observability::LOG_LEVEL.key,
    &observability::LOG_FORMAT.key,
    &observability::OPS_ADDR.key,
    &observability::OPS_HOSTS.key,
    &observability::OTLP_ENDPOINT.key,
    &observability::SENTRY_DSN.key,
    &observability::SENTRY_DSN_FILE,
    &introspection_clients::INTROSPECTION_CLIENTS.key,
    &DOCS_ENABLED.key,
];

pub(crate) static ENV: Setting<Environment> = Setting {
    key: Key::text(
        "AUTH_ENV",
        DefaultValue::Text("development"),
        "development, which makes its own secret, or production, which asks for one",
    ),
    read: readers::environment,
};

pub(crate) static DOCS_ENABLED: Setting<bool> = Setting {
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
        assert_eq!(http::HTTP_BEHIND_TLS_PROXY.key.path(), "http.behind_tls_proxy");
        assert_eq!(ENV.key.path(), "env");
        assert!(std::ptr::eq(Key::named("AUTH_ENV").unwrap(), &raw const ENV.key));
        assert!(Key::named("AUTH_HTTP__ADR").is_none());
    }

    #[test]
    fn the_default_number_of_lanes_is_the_one_that_measured_best() {
        let DefaultValue::Text(lanes) = hashing::HASHING_LANES.key.default else { panic!("no default") };

        assert_eq!(lanes, hasher_bcrypt::DEFAULT_LANES.to_string());
    }
}
