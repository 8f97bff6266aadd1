//! What the audit log is told of: who tried what, from where, and how it ended.

mod aggregator;
mod conclusion;
pub(crate) mod recorder;
mod seal;

use std::net::IpAddr;

use jiff::Timestamp;

pub use self::conclusion::Conclusion;
pub use self::seal::{
    Anchor, AuditEntry, AuditKey, AuditedClient, Inspection, InvalidHead, Link, RenamedDigests, Seal,
    SealedEntry, Tampering,
};

use crate::ports::Requester;
use crate::{ClientNetwork, LoginName, StrayText, UserAgent, UserId, Username, UsernameKey};

/// Where an attempt comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A request over the network.
    Request {
        /// The client's address.
        address: IpAddr,
        /// The request's identifier, as the answer carries it.
        request_id: String,
        /// What the client says it is.
        user_agent: Option<UserAgent>,
    },
    /// An operator at the command line.
    CommandLine,
}

/// What somebody attempts, when it is not known yet how it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// What is attempted.
    pub action: Action,
    /// Whose account it is about.
    pub subject: Subject,
    /// Where it comes from.
    pub origin: Origin,
    /// When it is decided.
    pub at: Timestamp,
    /// What hides the client's digest, drawn anew for each attempt.
    pub salt: [u8; 16],
}

/// An attempt and its end, or several of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The attempt; of several, the first.
    pub attempt: Attempt,
    /// How it ended.
    pub outcome: Outcome,
    /// How many there were.
    pub count: u32,
    /// The names of an account before and after a change of its username.
    pub renamed: Option<Renamed>,
}

/// A change of username: both names, which the audit log stores as salted digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// The name before.
    pub old: UsernameKey,
    /// The name after.
    pub new: UsernameKey,
}

/// What can be attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Making an account.
    SignUp,
    /// Logging in with a password.
    LogIn,
    /// Showing an access token. Recorded only when it is refused.
    ShowToken,
    /// Exchanging a refresh token. Recorded only when it is refused.
    Refresh,
    /// Getting once more what a refresh had handed out, because the answer was lost.
    RecoverRefresh,
    /// Logging out.
    LogOut,
    /// A backend shows who it is. Recorded only when it is refused.
    RecogniseClient,
    /// A backend ends the session of a token.
    RevokeToken,
    /// Ending one of one's sessions.
    EndSession,
    /// Ending all sessions of an account, or all but one.
    EndSessions,
    /// Taking another name.
    Rename,
    /// Changing one's own password.
    ChangePassword,
    /// Deleting one's own account.
    CloseAccount,
    /// An operator disables an account.
    Disable,
    /// An operator enables it again.
    Enable,
    /// An operator sets a password.
    SetPassword,
    /// An operator deletes an account.
    Delete,
    /// An operator has the wrong passwords forgotten that were tried.
    Unlock,
    /// An operator takes in somebody who comes from elsewhere.
    Import,
    /// An operator takes all accounts out, with the hashes of their passwords.
    Export,
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// As hoped.
    Success,
    /// Refused, for a reason named in `snake_case`.
    Refused(&'static str),
    /// Neither: something we rest on was not there, or broke.
    Failed,
    /// Whoever attempted it went away before it was decided, and nothing was done.
    Abandoned,
}

/// Whose account an attempt is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A user's, known by number.
    User(UserId),
    /// Somebody's of this name, who may not exist.
    Name(UsernameKey),
    /// A text that is no name.
    Text(StrayText),
    /// Nobody can tell.
    Unknown,
}

impl Origin {
    /// For whom a password that came this way is hashed.
    pub fn requester(&self) -> Requester {
        match self {
            Self::Request { address, .. } => Requester::Client(ClientNetwork::of(*address)),
            Self::CommandLine => Requester::Bulk,
        }
    }

    /// The client's address, and what it says it is.
    pub fn client(&self) -> (Option<IpAddr>, Option<UserAgent>) {
        match self {
            Self::Request { address, user_agent, .. } => (Some(*address), user_agent.clone()),
            Self::CommandLine => (None, None),
        }
    }
}

impl Attempt {
    /// The attempt with its end.
    pub fn ended(self, outcome: Outcome) -> Event {
        Event { attempt: self, outcome, count: 1, renamed: None }
    }
}

impl Event {
    /// The user who is gone with it: from everything on record of them goes what could point to a person.
    pub fn forgets(&self) -> Option<UserId> {
        match (self.attempt.action, self.outcome, &self.attempt.subject) {
            (Action::CloseAccount | Action::Delete, Outcome::Success, Subject::User(id)) => Some(*id),
            _ => None,
        }
    }
}

impl From<&Username> for Subject {
    fn from(name: &Username) -> Self {
        Self::Name(name.key().clone())
    }
}

impl From<&LoginName> for Subject {
    fn from(name: &LoginName) -> Self {
        match name {
            LoginName::Possible(name) => name.into(),
            LoginName::Impossible(text) => Self::Text(text.clone()),
        }
    }
}

impl Action {
    /// Its name in a log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SignUp => "sign_up",
            Self::LogIn => "log_in",
            Self::ShowToken => "show_token",
            Self::Refresh => "refresh",
            Self::RecoverRefresh => "recover_refresh",
            Self::LogOut => "log_out",
            Self::RecogniseClient => "recognise_client",
            Self::RevokeToken => "revoke_token",
            Self::EndSession => "end_session",
            Self::EndSessions => "end_sessions",
            Self::Rename => "rename",
            Self::ChangePassword => "change_password",
            Self::CloseAccount => "close_account",
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::SetPassword => "set_password",
            Self::Delete => "delete",
            Self::Unlock => "unlock",
            Self::Import => "import",
            Self::Export => "export",
        }
    }
}

impl Outcome {
    /// Its name in a log, and the reason of a refusal.
    pub fn as_strs(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Success => ("success", None),
            Self::Refused(reason) => ("refused", Some(reason)),
            Self::Failed => ("failed", None),
            Self::Abandoned => ("abandoned", None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_clients_and_a_command_is_bulk_work() {
        let address: IpAddr = "192.0.2.7".parse().unwrap();
        let request = Origin::Request { address, request_id: String::new(), user_agent: None };

        assert_eq!(request.requester(), Requester::Client(ClientNetwork::of(address)));
        assert_eq!(Origin::CommandLine.requester(), Requester::Bulk);
    }
}
