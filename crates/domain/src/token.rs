//! What is handed out at a login and shown at every request after it.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{Generation, SessionId, UserId, Username};

/// A signed access token, wiped when dropped.
pub struct AccessToken {
    /// The token as it is sent.
    pub text: Zeroizing<String>,
    /// How long it holds from the moment it was issued, in whole seconds.
    pub lifetime: Duration,
}

/// A refresh token, wiped when dropped.
pub struct RefreshToken {
    /// The token as it is sent.
    pub text: Zeroizing<String>,
    /// How long it holds if nobody uses it.
    pub lifetime: Duration,
}

/// What a login hands out, and every refresh after it.
#[derive(Debug)]
pub struct Tokens {
    /// To be shown with every request.
    pub access: AccessToken,
    /// To be exchanged for the next ones.
    pub refresh: RefreshToken,
    /// The session that both belong to.
    pub session: SessionId,
}

/// What a refresh token says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshClaim {
    /// Of which session.
    pub session: SessionId,
    /// Of which generation.
    pub generation: Generation,
}

/// What an access token is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Whose token it is.
    pub subject: UserId,
    /// The name to show; no decision rests on it.
    pub username: Username,
    /// The session it belongs to.
    pub session: SessionId,
    /// The generation of the refresh token that is handed out with it.
    pub generation: Generation,
    /// From when on it holds.
    pub issued_at: Timestamp,
    /// For how long.
    pub lifetime: Duration,
}

/// Whose access token was shown, and of which session and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// Whose.
    pub user: UserId,
    /// Of which session.
    pub session: SessionId,
    /// Of which generation.
    pub generation: Generation,
}

/// All that a good access token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessClaims {
    /// Whose it is, of which session and generation.
    pub bearer: Bearer,
    /// Its own identifier.
    pub id: String,
    /// Who issued it.
    pub issuer: String,
    /// For whom, if it says so.
    pub audience: Option<String>,
    /// Through which client it was asked for.
    pub client_id: String,
    /// From when on it holds.
    pub issued_at: Timestamp,
    /// Until when.
    pub expires_at: Timestamp,
}

/// Why an access token is refused. Tells what its holder can do about it, and nothing of the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidToken {
    /// It was a good token once.
    #[error("the token has expired")]
    Expired,
    /// It is none of ours, or not an access token.
    #[error("the token is not valid")]
    Invalid,
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshToken").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}
