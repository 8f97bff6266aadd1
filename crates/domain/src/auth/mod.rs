//! The use cases, one file each.

mod admission;
mod authenticate;
mod authenticate_client;
mod change_password;
mod change_quota;
mod change_username;
mod create_session;
mod delete_account;
mod introspect;
mod line;
mod log_in;
mod log_out;
mod public_keys;
mod reauthenticate;
mod refresh;
mod revoke;
mod sessions;
pub(crate) mod sign_up;

use std::num::NonZeroU32;
use std::time::Duration;

pub use self::admission::Throttled;
pub use self::authenticate::{AuthenticateError, AuthenticatedUser, VerifiedToken};
pub use self::authenticate_client::{Client, ClientCredentials, ClientKey, UnknownClient};
pub use self::change_password::ChangePasswordError;
pub use self::change_username::ChangeUsernameError;
pub use self::create_session::Refusal;
pub use self::introspect::{AskedAbout, Introspected};
pub use self::log_in::{LogInError, LoggedIn};
pub use self::log_out::{LogOutError, LogoutCredential};
pub use self::reauthenticate::ReauthenticateError;
pub use self::refresh::{RefreshError, Refreshed};
pub use self::sign_up::SignUpError;

use self::admission::Throttling;
use self::authenticate::SeenDebounce;
use self::change_quota::ChangeQuota;
use crate::audit::recorder::{AuditRecorder, PendingAuditEvent};
use crate::maintenance::Maintenance;
use crate::ports::{HasherError, PortError, Ports};
use crate::session::cache::SessionCache;
use crate::{Action, Origin, Outcome, PasswordPolicy, SessionRules, Subject, ThrottleRules};

/// What people can do here.
#[derive(Clone)]
pub struct Auth {
    ports: Ports,
    rules: Rules,
    marks: SeenDebounce,
    session_cache: SessionCache,
    recorder: AuditRecorder,
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
        let marks = SeenDebounce::new(ports.clock.clone());
        let Ports { audit_log, audit_stream, finisher, clock, entropy, .. } = ports.clone();
        let recorder = AuditRecorder::new(audit_log, audit_stream, finisher, clock, entropy);
        let throttling = rules.throttle.map(|rules| Throttling::new(rules, &ports));
        let username_changes = ChangeQuota::new(rules.username_changes, ports.clock.clone());
        Self { ports, rules, marks, session_cache, recorder, throttling, username_changes }
    }

    /// The choices in force.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Whether a sign-up or a login would find the store ready.
    pub async fn check_readiness(&self) -> Result<(), PortError> {
        self.ports.readiness.check().await
    }

    fn attempt(&self, action: Action, subject: impl Into<Subject>, origin: Origin) -> PendingAuditEvent {
        self.recorder.begin(action, subject.into(), origin)
    }

    async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, PortError> {
        self.recorder.finish(work).await
    }

    /// What a server has to do in the background, on the same ports.
    pub fn maintenance(&self) -> Maintenance {
        let Ports { sessions, throttle, audit_log, clock, .. } = self.ports.clone();
        let throttle_clock = self.throttling.as_ref().map(Throttling::clock);
        let recorder = self.recorder.clone();
        Maintenance {
            sessions,
            throttle,
            audit_log,
            clock,
            throttle_clock,
            recorder,
            audit_keep: self.rules.audit_keep,
        }
    }
}

/// How an attempt ends that was not admitted.
const THROTTLED: Outcome = Outcome::Refused("throttled");

impl HasherError {
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Overloaded { .. } => Outcome::Refused("overloaded"),
            Self::Port(_) => Outcome::Failed,
        }
    }
}
