//! How the audit log is kept.

use std::time::Duration;

use super::keys::{DefaultValue, Key, Setting};
use super::{Secret, readers};

/// How the audit log is kept.
#[derive(Clone, Debug)]
pub struct Audit {
    /// For how long.
    pub keep: Duration,
    /// What it is sealed with, if that was given.
    pub key: Option<Secret>,
}

pub(crate) static AUDIT_KEEP: Setting<Duration> = Setting {
    key: Key::text(
        "AUTH_AUDIT__KEEP",
        DefaultValue::Text("400d"),
        "how long the audit log keeps what was attempted",
    ),
    read: readers::audit_keep,
};

pub(crate) static AUDIT_KEY: Setting<Secret> = Setting {
    key: Key::secret(
        "AUTH_AUDIT__KEY",
        DefaultValue::Depends("AUTH_SESSION__REFRESH_KEY"),
        "what the audit log is sealed with, to be kept as long as the log, not the secret that signs",
    ),
    read: readers::secret,
};

pub(crate) static AUDIT_KEY_FILE: Key =
    Key::text("AUTH_AUDIT__KEY_FILE", DefaultValue::Unset, "a file to read AUTH_AUDIT__KEY from");
