//! How tokens are made and read, and which backends may ask about them.

use zeroize::Zeroizing;

use super::PortError;
use crate::{AccessClaims, AccessToken, Bearer, Grant, InvalidToken, Nonce, PublicKeySet, RefreshClaim};

/// Makes access tokens and reads them back.
#[cfg_attr(test, mockall::automock)]
pub trait TokenIssuer: Send + Sync {
    /// A signed token that says what `grant` says.
    fn issue(&self, grant: &Grant) -> Result<AccessToken, PortError>;

    /// Whose token this is, if it is one of ours, whole, and holds now.
    fn verify(&self, token: &str) -> Result<Bearer, InvalidToken>;

    /// All that this token says, if [`TokenIssuer::verify`] takes it.
    fn inspect(&self, token: &str) -> Result<AccessClaims, InvalidToken>;

    /// What others verify tokens with. A key is among it some time before it signs and as long as it verifies.
    fn public_keys(&self) -> PublicKeySet;
}

/// Makes refresh tokens and reads them back.
#[cfg_attr(test, mockall::automock)]
pub trait RefreshTokens: Send + Sync {
    /// The token that claims this, of a session with this nonce: the same text whenever it is asked for.
    fn write(&self, claim: &RefreshClaim, nonce: &Nonce) -> Zeroizing<String>;

    /// What a text claims. None of it is proven.
    fn read(&self, text: &str) -> Option<RefreshClaim>;

    /// Whether this text was made here, for a session with this nonce.
    fn is_genuine(&self, text: &str, nonce: &Nonce) -> bool;
}

/// Knows the backends that an operator lets ask about tokens.
#[cfg_attr(test, mockall::automock)]
pub trait Clients: Send + Sync {
    /// Whether there is a backend of this identifier and this is its secret. Neither how long it takes nor anything
    /// else tells which of the two was wrong.
    fn admits(&self, id: &str, secret: &str) -> bool;
}
