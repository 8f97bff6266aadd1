//! How long sessions live, and what refresh tokens are made with.

use std::time::Duration;

use domain::SessionRules;

use super::keys::{DefaultValue, Key, Setting};
use super::reading::Reading;
use super::{Secret, readers};

/// How long sessions live, and what their refresh tokens are made with.
#[derive(Clone, Debug)]
pub struct Session {
    /// The times.
    pub rules: SessionRules,
    /// What refresh tokens are made with, if it was given.
    pub refresh_key: Option<Secret>,
    /// What they were made with before.
    pub previous_refresh_key: Option<Secret>,
}

pub(crate) static SESSION_IDLE_TTL: Setting<Duration> = Setting {
    key: Key::text(
        "AUTH_SESSION__IDLE_TTL",
        DefaultValue::Text("14d"),
        "how long a session lives without being used",
    ),
    read: readers::session_ttl,
};

pub(crate) static SESSION_ABSOLUTE_TTL: Setting<Duration> = Setting {
    key: Key::text(
        "AUTH_SESSION__ABSOLUTE_TTL",
        DefaultValue::Text("90d"),
        "how long a session lives however much it is used",
    ),
    read: readers::session_ttl,
};

pub(crate) static SESSION_GRACE: Setting<Duration> = Setting {
    key: Key::text(
        "AUTH_SESSION__GRACE",
        DefaultValue::Text("10s"),
        "how long an exchanged refresh token is taken for a second tab's",
    ),
    read: readers::session_grace,
};

pub(crate) static SESSION_REFRESH_KEY: Setting<Secret> = Setting {
    key: Key::secret(
        "AUTH_SESSION__REFRESH_KEY",
        DefaultValue::Depends("in development made once and kept in data/refresh-key; in production none"),
        "what refresh tokens are made with, 32 bytes or more, not the secret that signs",
    ),
    read: readers::secret,
};

pub(crate) static SESSION_REFRESH_KEY_FILE: Key = Key::text(
    "AUTH_SESSION__REFRESH_KEY_FILE",
    DefaultValue::Unset,
    "a file to read AUTH_SESSION__REFRESH_KEY from",
);

pub(crate) static SESSION_REFRESH_KEY_PREVIOUS: Setting<Secret> = Setting {
    key: Key::secret(
        "AUTH_SESSION__REFRESH_KEY_PREVIOUS",
        DefaultValue::Unset,
        "the key before, whose refresh tokens still hold",
    ),
    read: readers::secret,
};

pub(crate) static SESSION_REFRESH_KEY_PREVIOUS_FILE: Key = Key::text(
    "AUTH_SESSION__REFRESH_KEY_PREVIOUS_FILE",
    DefaultValue::Unset,
    "a file to read AUTH_SESSION__REFRESH_KEY_PREVIOUS from",
);

impl Reading {
    pub(crate) fn session(&mut self) -> Option<Session> {
        let idle_ttl = self.read(&SESSION_IDLE_TTL);
        let absolute_ttl = self.read(&SESSION_ABSOLUTE_TTL);
        let grace = self.read(&SESSION_GRACE);
        let refresh_key = self.read(&SESSION_REFRESH_KEY);
        let previous_refresh_key = self.read(&SESSION_REFRESH_KEY_PREVIOUS);
        let rules = SessionRules { idle_ttl: idle_ttl?, absolute_ttl: absolute_ttl?, grace: grace? };
        Some(Session { rules, refresh_key, previous_refresh_key })
    }
}
