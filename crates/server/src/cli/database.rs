//! `auth-api database`: everything at once, into a file or into another database, and back.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use domain::ports::PortError;
use domain::{Checksum, Kind, Progress, carry_over};
use indicatif::{ProgressBar, ProgressStyle};
use settings::{Config, Database, Environment, Location, Problem};
use store_sqlite::backup::{self, BackupError, BackupProblem, Counts};
use telemetry::logging::Audience;
use tracing::warn;

use super::{Exit, Failure, migrate, output};
use crate::wiring::{Access, Databases, StartError, Store};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write all that an SQLite database has now into a new file, also while a server runs
    ///
    /// The file is of mode 600, has its name only once it is whole, was checked and is on disk, and is never written
    /// over another one. Rows that were deleted are not in it.
    Backup {
        /// The file to make
        file: PathBuf,
    },
    /// Put a backup where an SQLite database is to be, once there is nothing any more
    ///
    /// Stop every server and move away what there is. The backup is checked before and after. One that an older release
    /// made is brought up to date by `migrate up`, or by the next start.
    Restore {
        /// The backup
        file: PathBuf,
    },
    /// Copy everything from one database into another one that is empty
    ///
    /// Users keep their numbers, passwords and sessions, and the audit log its seals. Stop every server first. What is
    /// written is read again and compared, and is kept whole or not at all.
    Copy(Copy),
}

#[derive(Args, Debug)]
#[command(
    override_usage = "auth-api database copy <--from <URL>|--from-file <FILE>> [--to <URL>|--to-file <FILE>]"
)]
pub(super) struct Copy {
    /// Where everything is: sqlite:// or postgres://, without a password
    #[arg(long, value_name = "URL", required_unless_present = "from_file", conflicts_with = "from_file")]
    from: Option<String>,
    /// The same, in a file
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// Where it is to be, without a password; if this is not given, the configured database
    #[arg(long, value_name = "URL", conflicts_with = "to_file")]
    to: Option<String>,
    /// The same, in a file
    #[arg(long, value_name = "FILE")]
    to_file: Option<PathBuf>,
}

impl Command {
    /// Who reads the log meanwhile.
    pub(super) fn audience(&self) -> Audience {
        match self {
            Self::Copy(_) if io::stderr().is_terminal() => Audience::Watcher,
            _ => Audience::Caller,
        }
    }

    pub(super) fn run(self, config: &Config) -> Result<(), Failure> {
        match self {
            Self::Backup { file } => {
                named("FILE", &file)?;
                let database = path(config, "`pg_dump --format=custom`")?;
                let waiting = waiting("backing up");
                let counts = backup::write(database, &file)?;
                waiting.finish_and_clear();
                show(counts)?;
                output::line(format_args!("backed up {} to {}", database.display(), file.display()))
            }
            Self::Restore { file } => {
                named("FILE", &file)?;
                let database = path(config, "`pg_restore`")?;
                let waiting = waiting("restoring");
                let counts = backup::restore(&file, database)?;
                waiting.finish_and_clear();
                show(counts)?;
                output::line(format_args!("restored {} to {}", file.display(), database.display()))
            }
            Self::Copy(copy) => copy.run(config),
        }
    }
}

/// Refuses a path with characters in it that are there by mistake.
pub(super) fn named(argument: &str, path: &Path) -> Result<(), Failure> {
    Location::check_path(argument, path).map_err(|problem| Failure::from(vec![problem]))
}

/// The file of the configured database.
fn path<'config>(config: &'config Config, instead: &str) -> Result<&'config Path, Failure> {
    match &config.database.location {
        Location::Sqlite(path) => Ok(path),
        Location::Postgres(url) => Err(Failure::new(
            Exit::Usage,
            format_args!("this is for SQLite, and the database is {url}; on PostgreSQL use {instead}"),
        )),
    }
}

fn waiting(what: &'static str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(what);
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

fn show(counts: Counts) -> Result<(), Failure> {
    let rows = counts.into_iter().map(|(table, count)| [table.to_owned(), count.to_string()]);
    output::table(["KIND", "RECORDS"], rows)
}

impl Copy {
    fn run(self, config: &Config) -> Result<(), Failure> {
        let from = given(config.environment, "--from", self.from, self.from_file)?;
        let to = given(config.environment, "--to", self.to, self.to_file)?;
        // One of the two is always given.
        let configured = || config.database.location.clone();
        let (from, to) = (from.unwrap_or_else(configured), to.unwrap_or_else(configured));
        if is_same(&from, &to) {
            return Err(Failure::new(Exit::Usage, format_args!("both are {to}; a copy needs two databases")));
        }
        let databases = Databases::prepare(config)?;
        let mut stores = Vec::new();
        let copied = copy(&databases, config, from, &to, &mut stores);
        databases.close(stores);
        let Copied { all, has_changed } = copied?;
        let rows = all
            .into_iter()
            .map(|(kind, sum)| [kind.to_string(), sum.records.to_string(), sum.sum().to_string()]);
        output::table(["KIND", "RECORDS", "CHECKSUM"], rows)?;
        match has_changed {
            Ok(false) => output::line(format_args!("copied everything to {to}, where it is the same")),
            Ok(true) => Err(Failure::new(
                Exit::Failed,
                "something has written to the source since the copy began, which is not in it: stop every server, empty \
                 the target and copy once more",
            )),
            Err(error) => {
                let mut failure = not_reached("source", &error);
                failure.lines.push(format!(
                    "the copy to {to} is whole and is kept, and it cannot be told whether something has written to the \
                     source since it began: unless every server was stopped, empty the target and copy once more"
                ));
                Err(failure)
            }
        }
    }
}

/// What was copied and is kept, and whether the source is another one by now, if that can be told.
struct Copied {
    all: Vec<(Kind, Checksum)>,
    has_changed: Result<bool, PortError>,
}

fn copy(
    databases: &Databases,
    config: &Config,
    from: Location,
    to: &Location,
    stores: &mut Vec<Arc<dyn Store>>,
) -> Result<Copied, Failure> {
    let mut open = |database: &Database, access| -> Result<Arc<dyn Store>, Failure> {
        let store = databases.open(database, access).map_err(not_opened)?;
        stores.push(store.clone());
        Ok(store)
    };
    let pool_size = config.database.pool_size;
    let source = open(&Database { location: from, pool_size, migrate_on_start: false }, Access::ReadOnly)?;
    let source = databases.runtime.block_on(source.snapshot());
    let mut source = source.map_err(|error| not_reached("source", &error))?;
    // One that was never migrated is, now that there is something to write into it. One that is of another release is for
    // its operator to look at.
    let target = Database { location: to.clone(), pool_size, migrate_on_start: migrate::is_blank(to)? };
    let target = open(&target, Access::ReadWrite)?;
    databases.runtime.block_on(async {
        let intake = target.intake().await.map_err(|error| not_reached("target", &error))?;
        let intake = intake.ok_or_else(|| {
            Failure::new(Exit::Refused, format_args!("{to} is not empty, and nothing is copied over it"))
        })?;
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos} of {len}, {eta} left") {
            bar.set_style(style);
        }
        let mut watch = |Progress { done, of }| {
            bar.set_length(of);
            bar.set_position(done);
        };
        let all = carry_over(&mut *source, intake, &mut watch).await;
        bar.finish_and_clear();
        let all = all.map_err(|error| Failure::from_error(Exit::Failed, &error))?;
        Ok(Copied { all, has_changed: source.end().await })
    })
}

/// What an option names, or the one that takes a file.
fn given(
    environment: Environment,
    option: &str,
    url: Option<String>,
    file: Option<PathBuf>,
) -> Result<Option<Location>, Failure> {
    let located = match (url, file) {
        (None, None) => return Ok(None),
        (Some(url), _) => Location::from_argument(option, &url).map(|location| (location, None)),
        (None, Some(path)) => Location::from_file(&format!("{option}-file"), &path),
    };
    let checked = located.and_then(|(location, of_file)| {
        let (location, of_network) = location.encrypted(option, environment)?;
        of_file.iter().chain(&of_network).for_each(|warning| warn!("{warning}"));
        Ok(location)
    });
    Ok(Some(checked.map_err(|problem: Problem| Failure::from(vec![problem]))?))
}

/// Whether two names lead to one database, as far as can be told without asking it.
fn is_same(one: &Location, other: &Location) -> bool {
    let real = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).ok();
    match (one, other) {
        (Location::Sqlite(one), Location::Sqlite(other)) => real(one) == real(other),
        (one, other) => one == other,
    }
}

/// What to do about a database that is not the configured one, which is what other commands would be about.
fn not_opened(error: StartError) -> Failure {
    use store_postgres::OpenProblem as Postgres;
    use store_sqlite::OpenProblem as Sqlite;
    let (database, pending) = match &error {
        StartError::Sqlite(store_sqlite::OpenError { path, problem: Sqlite::Pending { migrations } }) => {
            (path.display().to_string(), migrations)
        }
        StartError::Postgres(store_postgres::OpenError {
            database,
            problem: Postgres::Pending { migrations },
        }) => (database.clone(), migrations),
        StartError::Sqlite(store_sqlite::OpenError { path, problem: Sqlite::Missing }) => {
            let database = path.display();
            return Failure::new(
                Exit::Failed,
                format_args!("the database {database}: there is no database yet, and nothing to copy"),
            );
        }
        _ => return error.into(),
    };
    Failure::new(
        Exit::Failed,
        format_args!(
            "the database {database}: migrations are pending ({}); run `auth-api migrate up` with AUTH_DATABASE__URL \
             set to this database",
            pending.join(", ")
        ),
    )
}

fn not_reached(which: &str, error: &PortError) -> Failure {
    let Failure { exit, lines } = Failure::from_error(Exit::Failed, error);
    Failure { exit, lines: lines.into_iter().map(|line| format!("the {which}: {line}")).collect() }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let exit = match error.problem {
            BackupProblem::Exists | BackupProblem::Busy | BackupProblem::InTheWay(_) => Exit::Refused,
            _ => Exit::Failed,
        };
        Self::from_error(exit, &error)
    }
}
