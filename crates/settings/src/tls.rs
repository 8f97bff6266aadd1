//! What the listener speaks TLS with.

use std::path::PathBuf;

use super::keys::{DefaultValue, Key, Setting};
use super::readers;
use super::reading::Reading;

/// What TLS is spoken with.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The file with the certificate and its chain.
    pub cert_path: PathBuf,
    /// The file with its private key.
    pub key_path: PathBuf,
}

pub(crate) static TLS_CERT_PATH: Setting<PathBuf> = Setting {
    key: Key::text(
        "AUTH_TLS__CERT_PATH",
        DefaultValue::Unset,
        "a file with the certificate to speak TLS with and its chain, in PEM",
    ),
    read: readers::file,
};

pub(crate) static TLS_KEY_PATH: Setting<PathBuf> = Setting {
    key: Key::text(
        "AUTH_TLS__KEY_PATH",
        DefaultValue::Unset,
        "a file with the private key of that certificate, in PEM",
    ),
    read: readers::file,
};

impl Reading {
    pub(crate) fn tls(&mut self) -> Option<Tls> {
        let (cert_path, key_path) = (self.read(&TLS_CERT_PATH), self.read(&TLS_KEY_PATH));
        if cert_path.is_some() && !self.is_set(&TLS_KEY_PATH.key) {
            self.refuse(&TLS_KEY_PATH.key, "is not set, and AUTH_TLS__CERT_PATH is; TLS needs both");
        }
        if key_path.is_some() && !self.is_set(&TLS_CERT_PATH.key) {
            self.refuse(&TLS_CERT_PATH.key, "is not set, and AUTH_TLS__KEY_PATH is; TLS needs both");
        }
        self.tls = cert_path.zip(key_path).map(|(cert_path, key_path)| Tls { cert_path, key_path });
        self.tls.clone()
    }
}
