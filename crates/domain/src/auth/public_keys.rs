//! Telling backends what to verify tokens with.

use super::Auth;
use crate::PublicKeySet;

impl Auth {
    /// The keys that backends may verify tokens with, those that will sign soon and those that no longer do among
    /// them.
    pub fn public_keys(&self) -> PublicKeySet {
        self.ports.tokens.public_keys()
    }
}
