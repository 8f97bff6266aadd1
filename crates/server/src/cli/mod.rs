//! The command line: what can be asked, and how an answer or a refusal comes back.

mod accounts;
mod audit;
mod configuration;
mod database;
mod export;
mod healthcheck;
mod import;
mod keys;
mod migrate;
mod output;
mod password;
mod sessions;
mod users;

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use settings::{Config, Loaded, Problem};
use telemetry::logging::{self, Audience};
use tracing::{info, warn};

use crate::causes;
use crate::hardening;
use crate::lifecycle::{self, ServeError};
use crate::secrets::SecretError;
use crate::signals;
use crate::signing_keys::KeysError;
use crate::tls::TlsError;
use crate::wiring::StartError;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  it was tried and failed
  2  the command line or the configuration is wrong
  3  refused: nobody has the name, it is taken, or the name or the password cannot be chosen;
     a user cannot be imported; the key is not there, is there already, or is still needed;
     the audit log does not hold; a copy or a restored backup would come over something that is there;
     `migrate down` or `redo` would delete data in production, or was not confirmed

Answers go to standard output, everything else to standard error.";

/// A self-hosted authentication API: sign-up, login and tokens over JSON, from one binary and one file.
#[derive(Debug, Parser)]
#[command(name = "auth-api", version, after_help = EXIT_CODES, arg_required_else_help = true)]
struct Arguments {
    /// Read settings from FILE; without it, from auth-api.toml if that is there
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API until SIGTERM or Ctrl-C, or until its terminal is closed
    Serve,
    /// Bring the database's schema up to date, or take it back
    #[command(subcommand)]
    Migrate(migrate::Command),
    /// Back the database up, put a backup in its place, or copy it into another one
    #[command(subcommand)]
    Database(database::Command),
    /// Make users, look at them, change them, take them in and out
    ///
    /// Passwords are asked for, twice, or read from standard input if that is no terminal; one line end after
    /// the password is no part of it. They are never taken from an argument, where every other user of the
    /// machine could read them.
    #[command(subcommand)]
    Users(users::Command),
    /// See where a user is logged in, and log them out
    #[command(subcommand)]
    Sessions(sessions::Command),
    /// See what was attempted, and prove that the record of it was not changed
    #[command(subcommand)]
    Audit(audit::Command),
    /// Make the keys that sign tokens, change them, take them out of use
    ///
    /// Running servers see every change within a second.
    #[command(subcommand)]
    Keys(keys::Command),
    /// See which settings are in force
    #[command(subcommand, after_long_help = configuration::all_keys())]
    Config(configuration::Command),
    /// Print the OpenAPI document
    Openapi,
    /// Ask the server of this configuration whether it is ready, for containers
    Healthcheck,
}

/// Why a command did not do what was asked: what to say, and the exit code.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    lines: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// Nobody reads the answer any more, as after `| head`. That is how they want it.
    Unread = 0,
    Failed = 1,
    Usage = 2,
    Refused = 3,
}

/// Does what the process's arguments ask for.
pub fn run() -> ExitCode {
    let handled = signals::handle();
    let Arguments { config, command } = Arguments::parse();
    let done = match handled {
        Ok(()) => command.run(config.as_deref()),
        Err(error) => Err(Failure::new(Exit::Failed, format_args!("cannot listen for signals: {error}"))),
    };
    // An error goes where the log goes, and would wait for its reader.
    let is_read = logging::finish();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.lines.iter().filter(|_| is_read).for_each(|line| output::error(line));
            ExitCode::from(failure.exit as u8)
        }
    }
}

impl Command {
    fn run(self, file: Option<&Path>) -> Result<(), Failure> {
        match self {
            Self::Serve => {
                let loaded = begin(configuration::checked(file)?, Audience::Operator);
                Ok(lifecycle::serve(loaded, file)?)
            }
            Self::Migrate(command) => command.run(&load(file, Audience::Caller)?.config),
            Self::Database(command) => {
                let loaded = load(file, command.audience())?;
                command.run(&loaded.config)
            }
            Self::Users(command) => {
                let loaded = load(file, command.audience())?;
                command.run(&loaded.config)
            }
            Self::Sessions(command) => command.run(&load(file, Audience::Caller)?.config),
            Self::Audit(command) => command.run(&load(file, Audience::Caller)?.config),
            Self::Keys(command) => command.run(&load(file, Audience::Caller)?.config),
            Self::Config(command) => command.run(file),
            Self::Openapi => {
                let issuer = load(file, Audience::Caller)?.config.token.issuer;
                output::line(api::openapi_json(&issuer)?)
            }
            Self::Healthcheck => healthcheck::run(&load(file, Audience::Caller)?.config.http),
        }
    }
}

/// Reads the configuration and begins the log.
fn load(file: Option<&Path>, audience: Audience) -> Result<Loaded, Failure> {
    Ok(begin(Config::load(file)?, audience))
}

/// Begins the log, and keeps the secrets in memory private. A server first says which it is.
fn begin(loaded: Loaded, audience: Audience) -> Loaded {
    let config = &loaded.config;
    logging::start(config.log, audience);
    if let Err(error) = hardening::keep_memory_private() {
        warn!(cause = %error, "cannot disable core dumps");
    }
    if audience == Audience::Operator {
        let environment = config.environment.as_str();
        info!(environment, database = %config.database.location, version = env!("CARGO_PKG_VERSION"), "starting");
    }
    loaded.warnings.iter().for_each(|warning| warn!("{warning}"));
    loaded
}

impl Failure {
    fn new(exit: Exit, what: impl fmt::Display) -> Self {
        Self { exit, lines: vec![what.to_string()] }
    }

    /// An error and all that it came from, on one line.
    fn from_error(exit: Exit, error: &dyn Error) -> Self {
        Self::new(exit, causes::chain(error))
    }
}

impl From<Vec<Problem>> for Failure {
    fn from(problems: Vec<Problem>) -> Self {
        Self { exit: Exit::Usage, lines: problems.iter().map(ToString::to_string).collect() }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::from_error(Exit::Failed, &error)
    }
}

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Self {
        Self::from_error(Exit::Usage, &error)
    }
}

impl From<KeysError> for Failure {
    fn from(error: KeysError) -> Self {
        Self::from_error(Exit::Usage, &error)
    }
}

impl From<TlsError> for Failure {
    fn from(error: TlsError) -> Self {
        Self::from_error(Exit::Usage, &error)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Secret(error) => error.into(),
            StartError::Keys(error) => error.into(),
            error => Self::from_error(Exit::Failed, &error),
        }
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Start(error) => error.into(),
            ServeError::Tls(error) => error.into(),
            error => Self::from_error(Exit::Failed, &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_one_that_clap_accepts() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn no_argument_takes_a_password() {
        fn arguments(command: &clap::Command) -> Vec<String> {
            let own = command.get_arguments().map(|argument| argument.get_id().to_string());
            own.chain(command.get_subcommands().flat_map(arguments)).collect()
        }

        let all = arguments(&Arguments::command());

        assert!(all.contains(&"name".to_owned()), "{all:?}");
        assert!(
            !all.iter().any(|argument| argument.contains("password") || argument.contains("secret")),
            "{all:?}"
        );
    }
}
