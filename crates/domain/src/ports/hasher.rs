//! How passwords become hashes.

use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;

use super::PortError;
use crate::{ClientNetwork, NewPassword, Password, PasswordHash, PasswordProblem};

/// Hashes passwords and verifies them. A call whose future is dropped before its turn costs nothing. What could
/// not be answered in time is refused without waiting for it, and clients go before bulk work that has not begun.
#[cfg_attr(test, mockall::automock)]
#[async_trait]
pub trait Hasher: Send + Sync {
    /// Judges a password that somebody chooses, and hashes it if it may be chosen.
    async fn hash_new(&self, password: NewPassword, requester: Requester) -> Result<NewHash, HasherError>;

    /// Judges a password that somebody chooses, and hashes nothing.
    async fn judge(
        &self,
        password: NewPassword,
        requester: Requester,
    ) -> Result<Option<PasswordProblem>, HasherError>;

    /// Hashes at the current cost, in the current format, with a salt of its own, as bulk work. The password
    /// is not empty and holds no NUL.
    async fn hash(&self, password: Password) -> Result<PasswordHash, HasherError>;

    /// Tells whether `password` is the one `hash` was made of. Without a hash it is not, after the same work,
    /// and the same goes for a hash that cannot be read and for a password that no hash can be of. Work is
    /// never less than at the current cost.
    async fn verify(
        &self,
        password: Password,
        hash: Option<PasswordHash>,
        requester: Requester,
    ) -> Result<Verification, HasherError>;

    /// Whether a password could be verified with this hash, wherever it was made. Waits for nothing.
    fn inspect(&self, hash: &PasswordHash) -> Result<(), UnusableHash>;

    /// Whether another program may have hashed a part of the password only, or decomposed Unicode, which no login matches.
    fn may_be_truncated(&self, hash: &PasswordHash) -> bool;
}

/// For whom a password is hashed, or a change is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requester {
    /// Somebody who waits for the answer. When many do, they share by network what there is.
    Client(ClientNetwork),
    /// Nobody who could not wait longer: an operator's command, or housekeeping.
    Bulk,
}

/// How hashing a password that somebody chooses ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewHash {
    /// This is its hash.
    Done(PasswordHash),
    /// It cannot be chosen.
    Refused(PasswordProblem),
}

/// What comparing a password with a hash shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// Another password, or nothing to compare it with.
    Mismatch,
    /// Nothing: the hash is of no format and no cost that the hasher takes. Somebody should look.
    Unreadable,
    /// The password.
    Match,
    /// The password, in a hash of an older cost or format.
    MatchStale,
}

/// Why no password can be verified with a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UnusableHash {
    /// Another algorithm's, or damaged.
    #[error("the hash is of no format that is known here")]
    Format,
    /// It takes too much work, or too little.
    #[error("the hash has a cost of {cost}, and {least} to {most} are accepted")]
    Cost {
        /// Its cost.
        cost: u32,
        /// The lowest that is accepted.
        least: u32,
        /// The highest.
        most: u32,
    },
}

/// Why no hash came back.
#[derive(Debug, Error)]
pub enum HasherError {
    /// More passwords are waiting than can be answered in time.
    #[error("too many passwords are waiting to be hashed")]
    Overloaded {
        /// When it is worth another try.
        retry_after: Duration,
    },
    /// The hasher itself is broken.
    #[error(transparent)]
    Port(#[from] PortError),
}
