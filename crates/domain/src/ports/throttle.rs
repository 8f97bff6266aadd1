//! Where wrong passwords are counted.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Change, PortError, Requester};
use crate::{
    Attempt, ClientNetwork, Counter, LoginName, Refusal, ThrottleRules, Tries, UsernameKey, Verdict, Whence,
};

/// Counts wrong passwords, by the same promise as [`UserRepo`](super::UserRepo). Names that nobody has are counted like all others.
#[cfg_attr(test, mockall::automock)]
#[async_trait]
pub trait Throttle: Send + Sync {
    /// By what an attempt of this name is counted that comes from this network, or from none: apart if whoever has the
    /// name has logged in from there within [`crate::KNOWN_NETWORK_TTL`].
    async fn counter(
        &self,
        name: LoginName,
        network: Option<ClientNetwork>,
        at: Timestamp,
    ) -> Result<Counter, PortError>;

    /// Does what [`Tries::admit`] decides about an attempt, if whoever had the name has it still. Of many who ask at once,
    /// as many are admitted as may be. The counter is one of an account from then on if it has an owner; what comes of an
    /// attempt makes it none.
    async fn admit(
        &self,
        counter: Counter,
        requester: Requester,
        at: Timestamp,
        rules: ThrottleRules,
    ) -> Result<Admittance, PortError>;

    /// Counts a failure, and keeps what the attempt came to if there is one: repeats of a refusal are kept together.
    async fn fail(
        &self,
        compared: Compared,
        refusal: Refusal,
        attempt: Option<Attempt>,
    ) -> Result<Refusal, PortError>;

    /// Takes back the place of an attempt that was given up.
    async fn give_back(&self, place: Place) -> Result<(), PortError>;

    /// Forgets what was counted of the name of an account.
    async fn unlock(&self, name: UsernameKey, attempt: Attempt) -> Result<Change, PortError>;

    /// What is counted of a name, elsewhere first.
    async fn tries(&self, name: UsernameKey) -> Result<Vec<(Whence, Tries)>, PortError>;

    /// When the last failure was of the newest counter of a name that nobody has which is not among the `most` newest.
    async fn newest_strays_end(&self, most: u32) -> Result<Option<Timestamp>, PortError>;

    /// Removes up to `limit` of the counters of names that nobody has, if their last failure was at `at` or before; tells
    /// how many. Those of accounts stay, or anybody could have them forgotten.
    async fn remove_strays(&self, at: Timestamp, limit: u32) -> Result<usize, PortError>;
}

/// An attempt's place at a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which counter.
    pub counter: Counter,
    /// When it was taken.
    pub taken_at: Timestamp,
}

/// An attempt that was admitted, and whose password was then compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Its place.
    pub place: Place,
    /// When that was done.
    pub at: Timestamp,
}

/// How asking for admittance ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admittance {
    /// With a place, which is to be given back, or to fail or succeed.
    Admitted(Place),
    /// It depends on what comes of those that were admitted.
    Undecided,
    /// Too many have failed.
    Refused {
        /// When it is worth another try.
        retry_after: Duration,
    },
    /// Whoever had the name when the counter was looked up has another one by now, or is gone.
    Moved,
}

impl Admittance {
    /// What is said of an attempt at this time that was decided upon.
    pub fn of(verdict: Verdict, counter: Counter, at: Timestamp) -> Self {
        match verdict {
            Verdict::Go => Self::Admitted(Place { counter, taken_at: at }),
            Verdict::Wait => Self::Undecided,
            Verdict::Refuse { retry_after } => Self::Refused { retry_after },
        }
    }
}
