//! `auth-api users`: what an operator does with accounts, by the same use cases as the API.

use std::io::{self, IsTerminal};
use std::sync::Arc;

use clap::Subcommand;
use domain::ports::HasherError;
use domain::{Account, Admin, CreateAccountError, Password, SetPasswordError, Tries, Username, Whence};
use hasher_bcrypt::BcryptHasher;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use settings::Config;
use telemetry::logging::Audience;
use tokio::task::JoinSet;

use super::accounts::{PATIENCE, existing, for_each_page, not_done, not_reached, parse};
use super::export;
use super::import::{self, Import};
use super::{Exit, Failure, output, password};
use crate::console::{Console, KeyUse};
use crate::signals;
use crate::wiring::Access;

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// Make a user
    Create {
        /// The name; with --count, what comes before the number
        name: String,
        /// Make COUNT test users NAME-1, NAME-2 …, all of one password
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
    },
    /// List users by number
    List {
        /// As a JSON array
        #[arg(long)]
        json: bool,
        /// The first LIMIT only
        #[arg(long)]
        limit: Option<u64>,
    },
    /// Show one user
    Show {
        /// Whom, in any spelling
        name: String,
        /// As a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Shut a user's account: it logs in no more, and its sessions end
    Disable {
        /// Whose
        name: String,
    },
    /// Open a user's account again
    Enable {
        /// Whose
        name: String,
    },
    /// Set a user's password, without asking for the old one
    SetPassword {
        /// Whose
        name: String,
    },
    /// Forget the wrong passwords that were tried for a user, so that they can log in at once from anywhere
    Unlock {
        /// Whose
        name: String,
    },
    /// Delete a user and everything of theirs, for good
    Delete {
        /// Whom
        name: String,
        /// Do not ask first
        #[arg(long)]
        yes: bool,
    },
    /// Write all users as JSON Lines, by number, with the hashes of their passwords
    ///
    /// That somebody does is kept in the audit log. Users are read 500 at a time: whoever signs up meanwhile may be left
    /// out, and a name that passes from one user to another may stand there twice, which no import accepts.
    Export(export::Arguments),
    /// Take users in as JSON Lines tell of them, or as the database of the Python service does, with their passwords
    ///
    /// First all are checked. Each who cannot be imported is named by the line or the id, with the reason, and then
    /// nobody is imported unless --skip-refused is given. Those who are there already, by name and time of creation,
    /// are left as they are; so what was broken off is gone on with by the same command.
    Import(import::Arguments),
}

impl Command {
    /// Who reads the log meanwhile.
    pub(super) fn audience(&self) -> Audience {
        match self {
            Self::Create { count: Some(_), .. } | Self::Export(_) | Self::Import(_)
                if io::stderr().is_terminal() =>
            {
                Audience::Watcher
            }
            _ => Audience::Caller,
        }
    }

    fn access(&self) -> Access {
        match self {
            Self::List { .. } | Self::Show { .. } => Access::ReadOnly,
            Self::Create { .. }
            | Self::Disable { .. }
            | Self::Enable { .. }
            | Self::SetPassword { .. }
            | Self::Unlock { .. }
            | Self::Delete { .. }
            | Self::Export(_)
            | Self::Import(_) => Access::ReadWrite,
        }
    }

    pub(super) fn run(self, config: &Config) -> Result<(), Failure> {
        let access = self.access();
        let key_use = if matches!(self, Self::List { .. }) { KeyUse::Optional } else { KeyUse::Required };
        let task = self.prepare()?;
        let console = Console::open(config, access, key_use)?;
        let result = console.runtime.block_on(task.perform(&console, config));
        let closed = console.close(PATIENCE);
        result?;
        closed.map_err(|error| Failure::from_error(Exit::Failed, &error))
    }

    /// Asks the caller for everything there is to ask, before anything is opened.
    fn prepare(self) -> Result<Task, Failure> {
        Ok(match self {
            Self::Create { name, count: None } => Task::Create(parse(&name)?, password::read()?),
            Self::Create { name, count: Some(count) } => {
                // The first name is the shortest and the last the longest; if both can be names, all can.
                parse(&numbered(&name, 1))?;
                parse(&numbered(&name, count))?;
                Task::CreateMany { name, count, password: password::read()? }
            }
            Self::List { json, limit } => Task::List { json, limit: limit.unwrap_or(u64::MAX) },
            Self::Show { name, json } => Task::Show { name: existing(&name)?, json },
            Self::Disable { name } => Task::Disable(existing(&name)?),
            Self::Enable { name } => Task::Enable(existing(&name)?),
            Self::SetPassword { name } => Task::SetPassword(existing(&name)?, password::read()?),
            Self::Unlock { name } => Task::Unlock(existing(&name)?),
            Self::Delete { name, yes } => {
                let name = existing(&name)?;
                if !yes {
                    confirm_deletion(&name)?;
                }
                Task::Delete(name)
            }
            Self::Export(arguments) => Task::Export(arguments),
            Self::Import(arguments) => Task::Import(arguments.prepare()?),
        })
    }
}

/// A command whose names are names, and that has its password.
enum Task {
    Create(Username, Password),
    CreateMany { name: String, count: u64, password: Password },
    List { json: bool, limit: u64 },
    Show { name: Username, json: bool },
    Disable(Username),
    Enable(Username),
    SetPassword(Username, Password),
    Unlock(Username),
    Delete(Username),
    Export(export::Arguments),
    Import(Import),
}

impl Task {
    async fn perform(self, console: &Console, config: &Config) -> Result<(), Failure> {
        let admin = &console.admin;
        match self {
            Self::Create(name, password) => {
                let shown = name.as_typed().to_owned();
                let user = admin.create_account(&*console.hasher(config)?, name, password).await;
                let user = user.map_err(|error| not_created(&shown, error))?;
                output::line(format_args!("created {} with number {}", user.name.as_typed(), user.id))
            }
            Self::CreateMany { name, count, password } => {
                let hasher = console.hasher(config)?;
                create_many(admin, &hasher, &name, count, &password, config.hashing.at_once()).await
            }
            Self::SetPassword(name, password) => {
                let account = admin.set_password(&*console.hasher(config)?, &name, password).await;
                let account = account.map_err(|error| match error {
                    SetPasswordError::Password(problem) => password::refused(problem),
                    SetPasswordError::Hasher(error) => not_hashed(&error),
                    SetPasswordError::Account(error) => not_done(&name, &error),
                })?;
                output::line(format_args!("{} has another password", account.user.name.as_typed()))
            }
            Self::Import(import) => import.perform(admin, &*console.hasher(config)?).await,
            Self::List { json: true, limit } => {
                let mut array = output::JsonArray::begin()?;
                for_each_page(admin, limit, |page| {
                    page.iter().try_for_each(|account| array.push(&view(account)))
                })
                .await?;
                array.end()
            }
            Self::List { json: false, limit } => {
                let mut rows = Vec::new();
                for_each_page(admin, limit, |page| {
                    rows.extend(page.iter().map(row));
                    Ok(())
                })
                .await?;
                output::table(["ID", "NAME", "CREATED", "DISABLED"], rows)
            }
            Self::Show { name, json } => {
                let account = admin.find_account(&name).await.map_err(|error| not_done(&name, &error))?;
                let tries = admin.tries(&name).await.map_err(|error| not_reached(&error))?;
                if json { output::line(view_with(&account, &tries)) } else { show(&account, &tries) }
            }
            Self::Disable(name) => {
                let account = admin.disable(&name).await.map_err(|error| not_done(&name, &error))?;
                output::line(format_args!("{} is disabled", account.user.name.as_typed()))
            }
            Self::Enable(name) => {
                let account = admin.enable(&name).await.map_err(|error| not_done(&name, &error))?;
                output::line(format_args!("{} is enabled", account.user.name.as_typed()))
            }
            Self::Unlock(name) => {
                let account = admin.unlock(&name).await.map_err(|error| not_done(&name, &error))?;
                output::line(format_args!("{} is unlocked", account.user.name.as_typed()))
            }
            Self::Delete(name) => {
                let account = admin.delete(&name).await.map_err(|error| not_done(&name, &error))?;
                output::line(format_args!("{} is deleted", account.user.name.as_typed()))
            }
            Self::Export(export) => export.perform(admin).await,
        }
    }
}

/// Makes as many at once as can be hashed, until all are there or a signal comes. Those
/// begun are finished either way.
async fn create_many(
    admin: &Admin,
    hasher: &Arc<BcryptHasher>,
    name: &str,
    count: u64,
    password: &Password,
    at_once: usize,
) -> Result<(), Failure> {
    let bar = ProgressBar::new(count);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos} of {len}, {eta} left") {
        bar.set_style(style);
    }
    let mut next = 1;
    let mut under_way = JoinSet::new();
    let (mut made, mut existing, mut first_failure, mut interrupted) = (0, 0, None, false);
    let mut interrupt = std::pin::pin!(signals::interrupted());
    loop {
        while next <= count && under_way.len() < at_once && first_failure.is_none() && !interrupted {
            match parse(&numbered(name, next)) {
                Ok(name) => {
                    let (admin, hasher, password) = (admin.clone(), hasher.clone(), password.clone());
                    under_way.spawn(async move {
                        let shown = name.as_typed().to_owned();
                        let made = admin.create_account(&*hasher, name, password).await;
                        made.map_err(|error| (shown, error))
                    });
                }
                Err(failure) => first_failure = Some(failure),
            }
            next += 1;
        }
        let finished = tokio::select! {
            finished = under_way.join_next() => finished,
            () = &mut interrupt, if !interrupted => {
                interrupted = true;
                continue;
            }
        };
        match finished {
            None => break,
            Some(Ok(Ok(_))) => made += 1,
            Some(Ok(Err((_, CreateAccountError::UsernameTaken)))) => existing += 1,
            Some(Ok(Err((shown, error)))) => _ = first_failure.get_or_insert(not_created(&shown, error)),
            Some(Err(error)) => _ = first_failure.get_or_insert(Failure::from_error(Exit::Failed, &error)),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    output::line(format_args!("created {made} users; {existing} existed already"))?;
    match first_failure {
        Some(failure) => Err(failure),
        None if made + existing < count => {
            Err(Failure::new(Exit::Failed, "interrupted; the same command goes on"))
        }
        None => Ok(()),
    }
}

fn show(account: &Account, tries: &[(Whence, Tries)]) -> Result<(), Failure> {
    let [id, name, created, disabled] = row(account);
    let updated = format!("{:.6}", account.user.updated_at);
    let disabled = if disabled.is_empty() { "no".to_owned() } else { format!("since {disabled}") };
    let rows =
        [("id", id), ("name", name), ("created", created), ("updated", updated), ("disabled", disabled)];
    let mut rows = rows.map(|(name, value)| [name.to_owned(), value]).to_vec();
    rows.extend(failed(tries).map(|(whence, failures)| {
        ["wrong passwords".to_owned(), format!("{failures} in a row from {whence}")]
    }));
    output::table(["", ""], rows)
}

/// The same as [`view`], and how many wrong passwords in a row came from where.
fn view_with(account: &Account, tries: &[(Whence, Tries)]) -> Value {
    let mut view = view(account);
    view["wrong_passwords"] = failed(tries).collect::<serde_json::Map<_, _>>().into();
    view
}

fn failed(tries: &[(Whence, Tries)]) -> impl Iterator<Item = (String, Value)> {
    let failed = tries.iter().filter(|(_, tries)| tries.failures > 0);
    failed.map(|(whence, tries)| {
        let whence = match whence {
            Whence::Elsewhere => "elsewhere".to_owned(),
            Whence::Known(network) => network.first_address().to_string(),
        };
        (whence, tries.failures.into())
    })
}

/// An account as JSON, by the names that the API gives its parts.
fn view(account: &Account) -> Value {
    let Account { user, disabled_at, .. } = account;
    json!({
        "username": user.name.as_typed(),
        "id": user.id.0,
        "created_at": format!("{:.6}", user.created_at),
        "updated_at": format!("{:.6}", user.updated_at),
        "disabled_at": disabled_at.map(|at| format!("{at:.6}")),
    })
}

fn row(account: &Account) -> [String; 4] {
    let Account { user, disabled_at, .. } = account;
    let disabled = disabled_at.map(|at| format!("{at:.0}")).unwrap_or_default();
    [user.id.to_string(), user.name.as_typed().to_owned(), format!("{:.0}", user.created_at), disabled]
}

fn numbered(name: &str, number: u64) -> String {
    format!("{name}-{number}")
}

fn confirm_deletion(name: &Username) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::new(
            Exit::Usage,
            "nobody is there to be asked; say --yes to delete without a question",
        ));
    }
    let question = format!("Delete {} and everything of theirs, for good? [y/N]", name.as_typed());
    match output::ask(&question)?.to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new(Exit::Refused, "not confirmed; nothing was deleted")),
    }
}

fn not_created(name: &str, error: CreateAccountError) -> Failure {
    match error {
        CreateAccountError::UsernameTaken => {
            Failure::new(Exit::Refused, format_args!("the name {name} is taken, in this spelling or another"))
        }
        CreateAccountError::Password(problem) => password::refused(problem),
        CreateAccountError::Hasher(error) => not_hashed(&error),
        CreateAccountError::Port(error) => not_reached(&error),
    }
}

fn not_hashed(error: &HasherError) -> Failure {
    Failure::from_error(Exit::Failed, error)
}
