//! Where sessions are kept.

use std::net::IpAddr;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Compared, PortError};
use crate::{
    Account, Attempt, ClientNetwork, EndCause, Generation, Misuse, Nonce, Session, SessionId, SessionRules,
    User, UserAgent, UserId,
};

/// Keeps sessions, by the same promise as [`UserRepo`](super::UserRepo): every method is one transaction, and what it answers and
/// what the attempt came to are on disk. Together the two keep a third: a session of an account that is disabled, deleted or has another
/// password since the login is not live, whatever happened at once.
#[cfg_attr(test, mockall::automock)]
#[async_trait]
pub trait SessionRepo: Send + Sync {
    /// Opens a session if the account is still as it was when its password was checked. Ends the user's oldest
    /// live ones if there would be more than [`crate::MOST_SESSIONS`], and remembers the network, of which it
    /// keeps the [`crate::MOST_KNOWN_NETWORKS`] newest. For the counter that admitted the attempt it is a success, and
    /// a failure if there is no session.
    async fn open(&self, new: NewSession, attempt: Attempt) -> Result<Opening, PortError>;

    /// The session of this identifier, live or not, and the account it belongs to. It may be removed once it is
    /// not live any more.
    async fn look_up(&self, id: SessionId) -> Result<Option<(Session, Account)>, PortError>;

    /// Does what [`crate::Lineage::present`] decides about a genuine refresh token. Of many who show one at once, one
    /// exchanges it. What ends a session is kept, as every change is.
    async fn rotate(&self, shown: Shown, attempt: Attempt) -> Result<Rotation, PortError>;

    /// Notes that an access token of this generation was shown, if it is the newest one.
    async fn mark_seen(&self, id: SessionId, generation: Generation) -> Result<(), PortError>;

    /// Ends a live session of this user.
    async fn end(
        &self,
        id: SessionId,
        owner: UserId,
        cause: EndCause,
        attempt: Attempt,
    ) -> Result<Ending, PortError>;

    /// Ends the sessions of this user, or all but one, and tells how many had not been ended before.
    async fn end_all(
        &self,
        owner: UserId,
        but: Option<SessionId>,
        cause: EndCause,
        attempt: Attempt,
    ) -> Result<EndingAll, PortError>;

    /// The live sessions of this user, the newest first.
    async fn live_sessions(&self, owner: UserId, at: Timestamp) -> Result<Vec<Session>, PortError>;

    /// How many live sessions there are of all users together.
    async fn count_live(&self, at: Timestamp) -> Result<u64, PortError>;

    /// The networks from which this user has logged in, the last one first.
    async fn known_networks(&self, owner: UserId) -> Result<Vec<KnownNetwork>, PortError>;

    /// Removes up to `limit` sessions that are not live any more, and as many networks of which nobody has to
    /// know any more; tells how many of both.
    async fn remove_over(&self, at: Timestamp, limit: u32) -> Result<usize, PortError>;
}

/// A session that is about to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSession {
    /// Its identifier.
    pub id: SessionId,
    /// Whose it is to be.
    pub user: UserId,
    /// The epoch of the credentials that were checked.
    pub credentials_epoch: i64,
    /// What its refresh tokens are to hang on.
    pub nonce: Nonce,
    /// When somebody logs in.
    pub at: Timestamp,
    /// When it ends unless it is used before.
    pub expires_at: Timestamp,
    /// When it ends however much it is used.
    pub ends_at: Timestamp,
    /// From where they log in.
    pub address: Option<IpAddr>,
    /// With what.
    pub user_agent: Option<UserAgent>,
    /// How they were admitted, if that is counted.
    pub compared: Option<Compared>,
}

/// How opening a session ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It is open, for this user.
    Done(User),
    /// The account is gone.
    UnknownUser,
    /// The account is disabled.
    Disabled,
    /// The password was changed since it was checked.
    CredentialsChanged,
}

/// A refresh token that was found genuine, on its way to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// Of which session it is.
    pub session: SessionId,
    /// Of which generation.
    pub generation: Generation,
    /// When it is shown.
    pub at: Timestamp,
    /// The rules in force.
    pub rules: SessionRules,
}

/// What a refresh token was good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// It was exchanged; this is the session with the next generation.
    Rotated(Session),
    /// It had been exchanged before, and may have been; this is the session with its newest generation.
    Again(Session, Reuse),
    /// It was misused, and the session has just ended for it.
    Ended(Misuse),
    /// There is no such session, or it was over before.
    Over,
}

/// Why a refresh token that was exchanged before may be shown again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Another tab was faster.
    Concurrent,
    /// The answer to the exchange was lost.
    Recovered,
}

/// How ending a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is over now.
    Done,
    /// This user has no such live session.
    Unknown,
}

/// How ending all sessions, or all but one, ends: so many had not been ended before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndingAll(pub usize);

/// A network from which somebody has logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownNetwork {
    /// Which one.
    pub network: ClientNetwork,
    /// When they last did.
    pub last_login_at: Timestamp,
}
