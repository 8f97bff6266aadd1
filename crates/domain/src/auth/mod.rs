//! The use cases, one file each.

mod administer;
mod log_in;
mod open_session;
mod race;
mod sign_up;
mod whoami;

use std::time::Duration;

pub use self::administer::{AdministerError, SetPasswordError};
pub use self::log_in::{LogInError, LoggedIn};
pub use self::open_session::Refusal;
use self::race::Races;
pub use self::sign_up::SignUpError;
pub use self::whoami::WhoamiError;
use crate::ports::{PortError, Ports};
use crate::{Action, Event, Origin, Outcome, PasswordPolicy, Subject};

/// What people can do here.
#[derive(Clone)]
pub struct Auth {
    ports: Ports,
    rules: Rules,
    races: Races,
}

/// The choices an operator makes.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Which passwords may be chosen.
    pub passwords: PasswordPolicy,
    /// How long an access token holds at most.
    pub access_ttl: Duration,
}

impl Auth {
    /// Puts the use cases on their ports.
    pub fn new(ports: Ports, rules: Rules) -> Self {
        Self { ports, rules, races: Races::default() }
    }

    /// The choices in force.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Whether a sign-up or a login would find the store ready.
    pub async fn check_readiness(&self) -> Result<(), PortError> {
        self.ports.readiness.check().await
    }

    fn record(&self, action: Action, outcome: Outcome, subject: Subject, origin: Origin) {
        self.ports.audit.record(Event { action, outcome, subject, origin });
    }
}
