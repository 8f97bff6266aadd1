//! `auth-api audit`: what was attempted, and the proof that nobody changed the record of it.

use clap::Subcommand;
use domain::ports::{AuditQuery, ListedEvent};
use domain::{Admin, InvalidHead, Link, UserAgent, Username};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use settings::Config;

use super::accounts::{PATIENCE, parse};
use super::{Exit, Failure, output};
use crate::console::{Console, KeyUse};
use crate::wiring::Access;

/// How many events are looked up at once.
const PAGE: u32 = 1000;

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// List what was attempted, in the order in which it was kept
    List {
        /// As a JSON array
        #[arg(long)]
        json: bool,
        /// Only what is about the user who has this name now, or about the name itself
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// Only what was decided since then: a day (2026-11-23) or a moment (2026-11-23T10:00:00Z), UTC
        #[arg(long, value_name = "TIME", value_parser = moment)]
        since: Option<Timestamp>,
    },
    /// Prove that no event was changed, inserted, removed or moved since it was sealed
    ///
    /// Prints the head of the log. A log whose end was cut off looks like one that had never been longer, unless it
    /// is compared with a head that it had before; the server writes heads to its own log.
    Verify {
        /// A head that the log had before
        #[arg(long, value_name = "HEAD", value_parser = head)]
        head: Option<Link>,
    },
}

impl Command {
    pub(super) fn run(self, config: &Config) -> Result<(), Failure> {
        let task = self.prepare()?;
        let key_use = match &task {
            Task::List { query: AuditQuery { name: None, .. }, .. } => KeyUse::Optional,
            Task::List { .. } | Task::Verify(_) => KeyUse::Required,
        };
        let console = Console::open(config, Access::ReadOnly, key_use)?;
        let result = console.runtime.block_on(task.perform(&console.admin));
        let closed = console.close(PATIENCE);
        result?;
        closed.map_err(|error| Failure::from_error(Exit::Failed, &error))
    }

    fn prepare(self) -> Result<Task, Failure> {
        Ok(match self {
            Self::List { json, user, since } => {
                let name = user.as_deref().map(parse).transpose()?;
                let name = name.as_ref().map(|name: &Username| name.key().clone());
                Task::List { json, query: AuditQuery { name, since } }
            }
            Self::Verify { head } => Task::Verify(head),
        })
    }
}

enum Task {
    List { json: bool, query: AuditQuery },
    Verify(Option<Link>),
}

impl Task {
    async fn perform(self, admin: &Admin) -> Result<(), Failure> {
        match self {
            Self::List { json: true, query } => {
                let mut array = output::JsonArray::begin()?;
                for_each(admin, query, |event| array.push(&view(event))).await?;
                array.end()
            }
            Self::List { json: false, query } => {
                let mut rows = Vec::new();
                for_each(admin, query, |event| {
                    rows.push(row(event));
                    Ok(())
                })
                .await?;
                output::table(["NO", "TIME", "EVENT", "OUTCOME", "TIMES", "USER", "CLIENT", "REQUEST"], rows)
            }
            Self::Verify(expected) => {
                let inspected = admin.inspect_audit_log(expected).await;
                match inspected.map_err(|error| Failure::from_error(Exit::Failed, &error))? {
                    Ok(head) => output::line(head),
                    Err(tampering) => Err(Failure::from_error(Exit::Refused, &tampering)),
                }
            }
        }
    }
}

async fn for_each(
    admin: &Admin,
    query: AuditQuery,
    mut show: impl FnMut(&ListedEvent) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut after = 0;
    loop {
        let page = admin.list_events(query.clone(), after, PAGE).await;
        let page = page.map_err(|error| Failure::from_error(Exit::Failed, &error))?;
        page.iter().try_for_each(&mut show)?;
        match page.last() {
            Some(last) if page.len() == PAGE as usize => after = last.number,
            _ => return Ok(()),
        }
    }
}

fn view(ListedEvent { number, entry, username }: &ListedEvent) -> Value {
    let client = entry.client.as_ref();
    json!({
        "number": number,
        "time": format!("{:.6}", entry.at),
        "event": entry.event,
        "outcome": entry.outcome,
        "reason": entry.reason,
        "count": entry.count,
        "user_id": entry.user.map(|id| id.0),
        "username": username.as_ref().map(Username::as_typed),
        "name_digest": entry.name_digest,
        "old_name_digest": entry.renamed.as_ref().map(|renamed| &renamed.old),
        "new_name_digest": entry.renamed.as_ref().map(|renamed| &renamed.new),
        "address": client.map(|client| client.address.to_string()),
        "user_agent": client.and_then(|client| client.user_agent.as_ref()).map(UserAgent::as_str),
        "request_id": entry.request_id,
    })
}

fn row(ListedEvent { number, entry, username }: &ListedEvent) -> [String; 8] {
    let mut user = match (username, entry.user, &entry.name_digest) {
        (Some(name), _, _) => name.as_typed().to_owned(),
        (None, Some(id), _) => format!("{id} (deleted)"),
        (None, None, Some(digest)) => format!("nobody ({digest})"),
        (None, None, None) => String::new(),
    };
    if let Some(renamed) = &entry.renamed {
        user = format!("{user} ({} -> {})", renamed.old, renamed.new);
    }
    let client = match (&entry.client, &entry.request_id) {
        (Some(client), _) => client.address.to_string(),
        (None, Some(_)) => String::new(),
        (None, None) => "command line".to_owned(),
    };
    [
        number.to_string(),
        format!("{:.0}", entry.at),
        entry.event.clone(),
        entry
            .reason
            .as_ref()
            .map_or_else(|| entry.outcome.clone(), |why| format!("{}: {why}", entry.outcome)),
        entry.count.to_string(),
        user,
        client,
        entry.request_id.clone().unwrap_or_default(),
    ]
}

/// A moment, or the first of a day.
fn moment(text: &str) -> Result<Timestamp, &'static str> {
    let day = || text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok();
    let moment = text.parse().ok().or_else(|| Some(day()?.timestamp()));
    moment.ok_or("give a day such as 2026-11-23, or a moment such as 2026-11-23T10:00:00Z")
}

fn head(text: &str) -> Result<Link, InvalidHead> {
    text.parse()
}
