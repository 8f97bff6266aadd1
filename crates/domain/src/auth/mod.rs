//! The use cases, one file each.

mod administer;
mod admission;
mod attempt;
mod audit_log;
mod change_password;
mod change_quota;
mod client;
mod close_account;
mod confirm;
mod import;
mod introspect;
mod line;
mod log_in;
mod log_out;
mod open_session;
mod public_keys;
mod refresh;
mod rename;
mod revoke;
mod sessions;
mod sign_up;
mod sweep;
mod tally;
mod whoami;

use std::num::NonZeroU32;
use std::time::Duration;

use futures_channel::oneshot;

pub use self::administer::{AdministerError, SetPasswordError};
pub use self::admission::Throttled;
use self::admission::Throttling;
use self::attempt::{Record, UnderWay};
pub use self::change_password::ChangePasswordError;
use self::change_quota::ChangeQuota;
pub use self::client::{Client, ClientCredentials, ClientKey, UnknownClient};
pub use self::confirm::ConfirmError;
pub use self::introspect::{AskedAbout, Introspected};
pub use self::log_in::{LogInError, LoggedIn};
pub use self::log_out::{Farewell, LogOutError};
pub use self::open_session::Refusal;
pub use self::refresh::{RefreshError, Refreshed};
pub use self::rename::RenameError;
pub use self::sign_up::SignUpError;
use self::whoami::Marks;
pub use self::whoami::{Holder, ShownToken, WhoamiError};
use crate::ports::{HasherError, PortError, Ports};
use crate::session::cache::SessionCache;
use crate::{Action, Origin, Outcome, PasswordPolicy, SessionRules, Subject, ThrottleRules};

/// What people can do here.
#[derive(Clone)]
pub struct Auth {
    ports: Ports,
    rules: Rules,
    marks: Marks,
    session_cache: SessionCache,
    record: Record,
    throttling: Option<Throttling>,
    username_changes: ChangeQuota,
}

/// The choices an operator makes.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Whether anybody may sign up; otherwise only operators make accounts.
    pub open_to_sign_up: bool,
    /// Which passwords may be chosen.
    pub passwords: PasswordPolicy,
    /// How long an access token holds at most.
    pub access_ttl: Duration,
    /// How long sessions live.
    pub sessions: SessionRules,
    /// How long attempts are kept.
    pub audit_keep: Duration,
    /// How many wrong passwords may be tried; without, nothing is counted.
    pub throttle: Option<ThrottleRules>,
    /// How often an account may change its username within an hour; without, as often as it likes.
    pub username_changes: Option<NonZeroU32>,
}

impl Auth {
    /// Puts the use cases on their ports.
    pub fn new(mut ports: Ports, rules: Rules) -> Self {
        let session_cache = SessionCache::in_front_of(&mut ports);
        let marks = Marks::new(ports.clock.clone());
        let record = Record::new(&ports);
        let throttling = rules.throttle.map(|rules| Throttling::new(rules, &ports));
        let username_changes = ChangeQuota::new(rules.username_changes, ports.clock.clone());
        Self { ports, rules, marks, session_cache, record, throttling, username_changes }
    }

    /// The choices in force.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Whether a sign-up or a login would find the store ready.
    pub async fn check_readiness(&self) -> Result<(), PortError> {
        self.ports.readiness.check().await
    }

    fn attempt(&self, action: Action, subject: impl Into<Subject>, origin: Origin) -> UnderWay {
        self.record.begin(action, subject.into(), origin)
    }

    /// Does `work` to its end, though whoever waits for it goes away. What changes something is done in here
    /// together with its record, or there would be changes that nobody finds in the audit log.
    async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, PortError> {
        let (answer, answered) = oneshot::channel();
        self.ports.finisher.finish(Box::pin(async move {
            // Nobody may be waiting any more.
            let _ = answer.send(work.await);
        }));
        answered.await.map_err(|canceled| PortError::Failed(Box::new(canceled)))
    }
}

/// How an attempt ends that was not admitted.
const THROTTLED: Outcome = Outcome::Refused("throttled");

impl HasherError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Overloaded { .. } => Outcome::Refused("overloaded"),
            Self::Port(_) => Outcome::Failed,
        }
    }
}
