//! `auth-api sessions`: what an operator sees and ends of somebody's sessions.

use clap::Subcommand;
use domain::{Admin, Session, UserAgent, Username};
use serde_json::{Value, json};
use settings::Config;

use super::accounts::{PATIENCE, existing, not_done};
use super::{Exit, Failure, output};
use crate::console::{Console, KeyUse};
use crate::wiring::Access;

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// List a user's live sessions, the newest first
    List {
        /// Whose
        name: String,
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },
    /// End all of a user's sessions: they have to log in again, everywhere
    Revoke {
        /// Whose
        name: String,
    },
}

impl Command {
    pub(super) fn run(self, config: &Config) -> Result<(), Failure> {
        let (name, access) = match &self {
            Self::List { name, .. } => (existing(name)?, Access::ReadOnly),
            Self::Revoke { name } => (existing(name)?, Access::ReadWrite),
        };
        let key_use = if access == Access::ReadOnly { KeyUse::Optional } else { KeyUse::Required };
        let console = Console::open(config, access, key_use)?;
        let result = console.runtime.block_on(self.perform(&console.admin, &name));
        let closed = console.close(PATIENCE);
        result?;
        closed.map_err(|error| Failure::from_error(Exit::Failed, &error))
    }

    async fn perform(self, admin: &Admin, name: &Username) -> Result<(), Failure> {
        match self {
            Self::List { json, .. } => {
                let sessions = admin.list_sessions(name).await.map_err(|error| not_done(name, &error))?;
                if json {
                    let mut array = output::JsonArray::begin()?;
                    sessions.iter().try_for_each(|session| array.push(&view(session)))?;
                    return array.end();
                }
                output::table(
                    ["ID", "CREATED", "LAST USED", "ADDRESS", "USER AGENT"],
                    sessions.iter().map(row),
                )
            }
            Self::Revoke { .. } => {
                let ended = admin.revoke_sessions(name).await;
                let ended = ended.map_err(|error| not_done(name, &error))?;
                output::line(format_args!("ended {ended} sessions of {}", name.as_typed()))
            }
        }
    }
}

/// A session as JSON, by the names that the API gives its parts.
fn view(session: &Session) -> Value {
    json!({
        "id": session.id.to_string(),
        "created_at": format!("{:.6}", session.created_at),
        "last_used_at": format!("{:.6}", session.last_used_at),
        "expires_at": format!("{:.6}", session.expires_at),
        "address": session.address.map(|address| address.to_string()),
        "user_agent": session.user_agent.as_ref().map(UserAgent::as_str),
    })
}

fn row(session: &Session) -> [String; 5] {
    [
        session.id.to_string(),
        format!("{:.0}", session.created_at),
        format!("{:.0}", session.last_used_at),
        session.address.map(|address| address.to_string()).unwrap_or_default(),
        session.user_agent.as_ref().map(|it| it.as_str().to_owned()).unwrap_or_default(),
    ]
}
