//! The schema: which version the file has, and the way from one to the next and back.
//!
//! Everything here blocks. Whatever runs, runs in one transaction: several processes may start on one file,
//! and of them one applies what is pending while the others wait and find it done.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::migration::{MigrationConnection as _, MigrationSource as _};
use diesel::prelude::*;
use diesel::sqlite::Sqlite;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};

use crate::connection::{self, Role};
use crate::error::{OpenError, OpenProblem};
use crate::file::{Location, OpenFile};
use crate::schema::{__diesel_schema_migrations, pragma_application_id, sqlite_master};
use crate::{PATIENCE, Settings};

const EMBEDDED: EmbeddedMigrations = embed_migrations!("../../migrations/sqlite");

/// "auth" in ASCII. The first migration writes it, and the way back from there erases it.
pub(crate) const APPLICATION_ID: i32 = 0x6175_7468;

/// One step of the schema.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Migration {
    /// What orders it among the others, as in `0001`.
    pub version: String,
    /// What it does, as in `users`.
    pub name: String,
}

/// A migration that this release knows, and whether the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The migration.
    pub migration: Migration,
    /// Whether it has been applied.
    pub applied: bool,
}

/// Applies what is pending, and says what that was, oldest first. Makes the file if it is missing.
pub fn up(path: &Path) -> Result<Vec<Migration>, OpenError> {
    let applied = || {
        let location = Location::new(path)?;
        location.create()?;
        let mut connection = connect(&location, PATIENCE)?;
        apply_pending(&mut connection)
    };
    applied().map_err(|problem: OpenProblem| problem.at(path))
}

/// Reverts the newest migration, with the data that only it has a place for, and says which it was. There may
/// be none.
pub fn down(path: &Path) -> Result<Option<Migration>, OpenError> {
    change_newest(path, |connection, newest| {
        connection.revert_migration(&**newest)?;
        Ok(())
    })
}

/// Reverts the newest migration and applies it again, and says which it was. There may be none.
pub fn redo(path: &Path) -> Result<Option<Migration>, OpenError> {
    change_newest(path, |connection, newest| {
        connection.revert_migration(&**newest)?;
        connection.run_migration(&**newest)?;
        Ok(())
    })
}

/// Every migration that this release knows, oldest first. A file that is missing stays so, and has none.
pub fn status(path: &Path) -> Result<Vec<Status>, OpenError> {
    let status = || {
        let location = Location::new(path)?;
        let applied =
            if location.exists()? { applied(&mut connect(&location, PATIENCE)?)? } else { BTreeSet::new() };
        let known = known()?.into_iter().map(|step| Migration::of(&step));
        Ok(known
            .map(|migration| Status { applied: applied.contains(&migration.version), migration })
            .collect())
    };
    status().map_err(|problem: OpenProblem| problem.at(path))
}

/// Opens the file for serving: ours, current, writable, with write-ahead logging.
pub(crate) fn open_current(settings: &Settings) -> Result<(SqliteConnection, OpenFile), OpenError> {
    let open = || {
        let location = Location::new(&settings.path)?;
        if settings.migrate {
            location.create()?;
        } else if !location.exists()? {
            return Err(OpenProblem::Pending { migrations: names(&known()?) });
        }
        let identity = location.identity()?;
        let mut connection = connect(&location, settings.busy_timeout)?;
        let pending = pending(&mut connection)?;
        if !settings.migrate && !pending.is_empty() {
            return Err(OpenProblem::Pending { migrations: names(&pending) });
        }
        connection::switch_on_write_ahead_log(&mut connection)?;
        if !pending.is_empty() {
            apply_pending(&mut connection)?;
        }
        mark(&mut connection)?;
        location.warn_if_others_may_read()?;
        Ok((connection, OpenFile::new(location, identity)?))
    };
    open().map_err(|problem| problem.at(&settings.path))
}

/// Writes, durably, what is there already. A file or disk that takes no writes shows itself here, at no cost
/// of space: the page goes through the log like any other.
pub(crate) fn mark(connection: &mut SqliteConnection) -> QueryResult<()> {
    connection.batch_execute(&format!("PRAGMA application_id = {APPLICATION_ID}"))
}

fn connect(location: &Location, busy_timeout: Duration) -> Result<SqliteConnection, OpenProblem> {
    let mut connection = connection::connect(location.url(), Role::Writer, busy_timeout)?;
    connection::refuse_unsafe_sqlite(&mut connection)?;
    Ok(connection)
}

fn apply_pending(connection: &mut SqliteConnection) -> Result<Vec<Migration>, OpenProblem> {
    // Looked at without a lock first, so that nothing is written to a file that is not ours, and again with
    // it, because another process may have been faster.
    if pending(connection)?.is_empty() {
        return Ok(Vec::new());
    }
    connection.immediate_transaction(|connection| {
        let pending = pending(connection)?;
        connection.setup()?;
        for step in &pending {
            connection.run_migration(&**step).map_err(failed)?;
        }
        Ok(pending.iter().map(Migration::of).collect())
    })
}

fn change_newest(
    path: &Path,
    change: impl Fn(&mut SqliteConnection, &Step) -> diesel::migration::Result<()>,
) -> Result<Option<Migration>, OpenError> {
    let changed = || {
        let location = Location::new(path)?;
        if !location.exists()? {
            return Ok(None);
        }
        let mut connection = connect(&location, PATIENCE)?;
        if applied(&mut connection)?.is_empty() {
            return Ok(None);
        }
        connection.immediate_transaction(|connection| {
            let applied = applied(connection)?;
            let Some(newest) = known()?.into_iter().rfind(|step| applied.contains(&version(step))) else {
                return Ok(None);
            };
            change(connection, &newest).map_err(failed)?;
            Ok(Some(Migration::of(&newest)))
        })
    };
    changed().map_err(|problem: OpenProblem| problem.at(path))
}

type Step = Box<dyn diesel::migration::Migration<Sqlite>>;

/// What this release knows, oldest first.
fn known() -> Result<Vec<Step>, OpenProblem> {
    let mut steps = EMBEDDED.migrations().map_err(OpenProblem::Migration)?;
    steps.sort_by_key(version);
    Ok(steps)
}

fn pending(connection: &mut SqliteConnection) -> Result<Vec<Step>, OpenProblem> {
    let applied = applied(connection)?;
    Ok(known()?.into_iter().filter(|step| !applied.contains(&version(step))).collect())
}

/// The versions the file has, if the file is ours, or nobody's yet, and no newer than this release.
fn applied(connection: &mut SqliteConnection) -> Result<BTreeSet<String>, OpenProblem> {
    const RECORD: &str = "__diesel_schema_migrations";
    let contents: Vec<String> = sqlite_master::table.select(sqlite_master::name).load(connection)?;
    let application_id: i32 =
        pragma_application_id::table.select(pragma_application_id::application_id).get_result(connection)?;
    let mut applied = BTreeSet::new();
    if contents.iter().any(|name| name == RECORD) {
        let versions: Vec<String> =
            __diesel_schema_migrations::table.select(__diesel_schema_migrations::version).load(connection)?;
        applied.extend(versions);
    }

    // A file whose every migration was reverted keeps the record, empty, and nothing says any more whose it is.
    let is_blank = application_id == 0
        && applied.is_empty()
        && contents.iter().all(|name| name == RECORD || name.starts_with("sqlite_"));
    if application_id != APPLICATION_ID && !is_blank {
        return Err(OpenProblem::Foreign);
    }
    let known: BTreeSet<String> = known()?.iter().map(version).collect();
    let versions: Vec<String> = applied.difference(&known).cloned().collect();
    if versions.is_empty() { Ok(applied) } else { Err(OpenProblem::Newer { versions }) }
}

impl Migration {
    fn of(step: &Step) -> Self {
        let full = step.name().to_string();
        let name = full.split_once('_').map_or("", |(_, name)| name).to_owned();
        Self { version: version(step), name }
    }
}

impl fmt::Display for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.version, self.name)
    }
}

fn version(step: &Step) -> String {
    step.name().version().to_string()
}

fn names(steps: &[Step]) -> Vec<String> {
    steps.iter().map(|step| Migration::of(step).to_string()).collect()
}

fn failed(error: Box<dyn std::error::Error + Send + Sync>) -> OpenProblem {
    match error.downcast::<diesel::result::Error>() {
        Ok(error) => match OpenProblem::from(*error) {
            OpenProblem::Database(error) => OpenProblem::Migration(error.into()),
            problem => problem,
        },
        Err(error) => OpenProblem::Migration(error),
    }
}
