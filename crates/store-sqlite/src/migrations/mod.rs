//! The schema: which version the file has, and the way from one to the next and back.
//!
//! Everything here blocks. Whatever runs, runs in one transaction: several processes may start on one file,
//! and of them one applies what is pending while the others wait and find it done.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::migration::{MigrationConnection as _, MigrationSource};
use diesel::prelude::*;
use diesel::sqlite::Sqlite;
use diesel_migrations::{EmbeddedMigrations, FileBasedMigrations, MigrationHarness as _, embed_migrations};

use crate::connection::{self, Role};
use crate::database_file::{Location, OpenFile};
use crate::error::{OpenError, OpenProblem};
use crate::schema::{__diesel_schema_migrations, pragma_application_id, sqlite_master};
use crate::{Access, PATIENCE, Settings};

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

/// What reverting the newest migration deletes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reversal {
    /// The migration.
    pub migration: Migration,
    /// The tables and columns that only it has a place for, by name.
    pub losses: Vec<Loss>,
}

/// A table, or a column of a table that stays, and how much is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The table.
    pub table: String,
    /// The column, if the table stays.
    pub column: Option<String>,
    /// The rows of the table, or those with a value in the column.
    pub rows: u64,
}

/// Applies what is pending, and says what that was, oldest first. Makes the file if it is missing.
pub fn up(path: &Path) -> Result<Vec<Migration>, OpenError> {
    up_with(path, known)
}

/// The same with the migrations of a folder in place of those of this release, as a later one has more of them: for
/// whoever tries out what those do to servers that run.
pub fn up_from(path: &Path, folder: &Path) -> Result<Vec<Migration>, OpenError> {
    up_with(path, || sorted(FileBasedMigrations::from_path(folder).map_err(Box::from)))
}

fn up_with(
    path: &Path,
    known: impl Fn() -> Result<Vec<Step>, OpenProblem>,
) -> Result<Vec<Migration>, OpenError> {
    let applied = || {
        let location = Location::new(path)?;
        location.create()?;
        let mut connection = connect(&location, Role::Writer, PATIENCE)?;
        apply_pending(&mut connection, known)
    };
    applied().map_err(|problem: OpenProblem| problem.at(path))
}

/// What [`down`] would delete now, or `None` if no migration is applied. Changes nothing.
pub fn preview_down(path: &Path) -> Result<Option<Reversal>, OpenError> {
    with_newest(path, None, |connection, newest| {
        Ok(Reversal { migration: Migration::of(newest), losses: losses(connection, newest)? })
    })
}

/// Reverts the newest migration, with the data that only it has a place for, and returns it. Does nothing if there is
/// none, or if it is another one than `expected`.
pub fn down(path: &Path, expected: Option<&Migration>) -> Result<Option<Migration>, OpenError> {
    with_newest(path, expected, |connection, newest| {
        connection.revert_migration(&**newest).map_err(failed)?;
        Ok(Migration::of(newest))
    })
}

/// Reverts the newest migration as [`down`] does, and applies it again.
pub fn redo(path: &Path, expected: Option<&Migration>) -> Result<Option<Migration>, OpenError> {
    with_newest(path, expected, |connection, newest| {
        connection.revert_migration(&**newest).map_err(failed)?;
        connection.run_migration(&**newest).map_err(failed)?;
        Ok(Migration::of(newest))
    })
}

/// Every migration that this release knows, oldest first. A file that is missing stays so, and has none.
pub fn status(path: &Path) -> Result<Vec<Status>, OpenError> {
    let status = || {
        let location = Location::new(path)?;
        let known = known()?;
        let applied = if location.exists()? { look(&location, &known)? } else { BTreeSet::new() };
        let known = known.iter().map(Migration::of);
        Ok(known
            .map(|migration| Status { applied: applied.contains(&migration.version), migration })
            .collect())
    };
    status().map_err(|problem: OpenProblem| problem.at(path))
}

/// Opens the file: ours and current, and to write in it also writable, with write-ahead logging.
pub(crate) fn open_current(settings: &Settings) -> Result<(SqliteConnection, OpenFile), OpenError> {
    let open = match settings.access {
        Access::ReadWrite => open_to_write,
        Access::ReadOnly => open_to_read,
    };
    open(settings).map_err(|problem| problem.at(&settings.path))
}

fn open_to_write(settings: &Settings) -> Result<(SqliteConnection, OpenFile), OpenProblem> {
    let location = Location::new(&settings.path)?;
    if settings.migrate {
        location.create()?;
    } else if !location.exists()? {
        return Err(OpenProblem::Pending { migrations: names(&known()?) });
    }
    let identity = location.identity()?;
    let mut connection = connect(&location, Role::Writer, settings.busy_timeout)?;
    let pending = pending(&mut connection, known()?)?;
    if !settings.migrate && !pending.is_empty() {
        return Err(OpenProblem::Pending { migrations: names(&pending) });
    }
    connection::switch_on_write_ahead_log(&mut connection)?;
    if !pending.is_empty() {
        apply_pending(&mut connection, known)?;
    }
    mark(&mut connection)?;
    location.warn_if_others_may_read()?;
    Ok((connection, OpenFile::new(location, identity)?))
}

fn open_to_read(settings: &Settings) -> Result<(SqliteConnection, OpenFile), OpenProblem> {
    let location = Location::new(&settings.path)?;
    if !location.exists()? {
        return Err(OpenProblem::Missing);
    }
    let identity = location.identity()?;
    let mut connection = connect(&location, Role::Reader, settings.busy_timeout)?;
    let pending = pending(&mut connection, known()?)?;
    if !pending.is_empty() {
        return Err(OpenProblem::Pending { migrations: names(&pending) });
    }
    location.warn_if_others_may_read()?;
    Ok((connection, OpenFile::without_log(location, identity)?))
}

/// Writes, durably, what is there already. A file or disk that takes no writes shows itself here, at no cost
/// of space: the page goes through the log like any other.
pub(crate) fn mark(connection: &mut SqliteConnection) -> QueryResult<()> {
    connection.batch_execute(&format!("PRAGMA application_id = {APPLICATION_ID}"))
}

/// Whether the file is still marked as ours: the way back from the first migration erases that.
pub(crate) fn is_marked(connection: &mut SqliteConnection) -> QueryResult<bool> {
    Ok(application_id(connection)? == APPLICATION_ID)
}

/// What is applied to a file that may be on a disk which takes no writes.
fn look(location: &Location, known: &[Step]) -> Result<BTreeSet<String>, OpenProblem> {
    let looked = connect(location, Role::Reader, PATIENCE);
    match looked.and_then(|mut connection| applied(&mut connection, known)) {
        // SQLite makes files beside this one even to read it. Where it cannot, and no log is left from before,
        // all there is stands in the file.
        Err(OpenProblem::Disk(_) | OpenProblem::ReadOnly) if !location.log()?.exists() => {
            applied(&mut connection::connect(&location.unchanging_url(), Role::Reader, PATIENCE)?, known)
        }
        looked => looked,
    }
}

pub(crate) fn connect(
    location: &Location,
    role: Role,
    busy_timeout: Duration,
) -> Result<SqliteConnection, OpenProblem> {
    let mut connection = connection::connect(location.url(), role, busy_timeout)?;
    connection::refuse_unsafe_sqlite(&mut connection)?;
    Ok(connection)
}

fn apply_pending(
    connection: &mut SqliteConnection,
    known: impl Fn() -> Result<Vec<Step>, OpenProblem>,
) -> Result<Vec<Migration>, OpenProblem> {
    // Looked at without a lock first, so that nothing is written to a file that is not ours, and again with
    // it, because another process may have been faster.
    if pending(connection, known()?)?.is_empty() {
        return Ok(Vec::new());
    }
    connection.immediate_transaction(|connection| {
        let pending = pending(connection, known()?)?;
        connection.setup()?;
        for step in &pending {
            connection.run_migration(&**step).map_err(failed)?;
        }
        Ok(pending.iter().map(Migration::of).collect())
    })
}

/// Calls `work` with the newest migration, if there is one and it is the expected one, in a transaction.
fn with_newest<T>(
    path: &Path,
    expected: Option<&Migration>,
    work: impl Fn(&mut SqliteConnection, &Step) -> Result<T, OpenProblem>,
) -> Result<Option<T>, OpenError> {
    let changed = || {
        let location = Location::new(path)?;
        if !location.exists()? {
            return Ok(None);
        }
        let mut connection = connect(&location, Role::Writer, PATIENCE)?;
        if applied(&mut connection, &known()?)?.is_empty() {
            return Ok(None);
        }
        connection.immediate_transaction(|connection| {
            let mut known = known()?;
            let applied = applied(connection, &known)?;
            known.retain(|step| applied.contains(&version(step)));
            let newest = known.pop().filter(|newest| expected.is_none_or(|it| *it == Migration::of(newest)));
            newest.map(|newest| work(connection, &newest)).transpose()
        })
    };
    changed().map_err(|problem: OpenProblem| problem.at(path))
}

/// Reverts the newest migration in a savepoint to see what it takes along, and counts that once it is back.
fn losses(connection: &mut SqliteConnection, newest: &Step) -> Result<Vec<Loss>, OpenProblem> {
    let mut gone = None;
    let tried = connection.transaction(|connection| {
        let before = columns(connection)?;
        connection.revert_migration(&**newest).map_err(failed)?;
        let after = columns(connection)?;
        gone = Some((&before - &after, after));
        Err::<(), OpenProblem>(diesel::result::Error::RollbackTransaction.into())
    });
    let Some((gone, after)) = gone else { return tried.map(|()| Vec::new()) };
    let stays = |table: &str| after.iter().any(|(other, _)| other == table);
    let place = |(table, column): (String, String)| {
        let column = stays(&table).then_some(column);
        (table, column)
    };
    let mut places: Vec<_> = gone.into_iter().map(place).collect();
    places.dedup();
    places
        .into_iter()
        .map(|(table, column)| {
            #[expect(clippy::disallowed_methods, reason = "the DSL knows only tables of the newest schema")]
            let count_rows = |sql: String| diesel::sql_query(sql);
            let counted = column.as_deref().map_or_else(|| "*".to_owned(), quoted);
            let count = count_rows(format!("SELECT count({counted}) AS number FROM {}", quoted(&table)));
            let Count { number } = count.get_result(connection)?;
            Ok(Loss { table, column, rows: number.try_into().unwrap_or_default() })
        })
        .collect()
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    number: i64,
}

/// A column of a table.
#[derive(QueryableByName)]
struct Column {
    #[diesel(sql_type = diesel::sql_types::Text)]
    of_table: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    named: String,
}

fn columns(connection: &mut SqliteConnection) -> QueryResult<BTreeSet<(String, String)>> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the DSL has no table-valued functions and no joined catalogs"
    )]
    let columns: Vec<Column> = diesel::sql_query(
        "SELECT tables.name AS of_table, columns.name AS named \
         FROM sqlite_master AS tables JOIN pragma_table_info(tables.name) AS columns \
         WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )
    .load(connection)?;
    Ok(columns.into_iter().map(|Column { of_table, named }| (of_table, named)).collect())
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

type Step = Box<dyn diesel::migration::Migration<Sqlite>>;

/// What this release knows, oldest first.
pub(crate) fn known() -> Result<Vec<Step>, OpenProblem> {
    sorted(Ok(EMBEDDED))
}

fn sorted(source: diesel::migration::Result<impl MigrationSource<Sqlite>>) -> Result<Vec<Step>, OpenProblem> {
    let mut steps = source.and_then(|source| source.migrations()).map_err(OpenProblem::Migration)?;
    steps.sort_by_key(version);
    Ok(steps)
}

fn pending(connection: &mut SqliteConnection, known: Vec<Step>) -> Result<Vec<Step>, OpenProblem> {
    let applied = applied(connection, &known)?;
    Ok(known.into_iter().filter(|step| !applied.contains(&version(step))).collect())
}

/// The versions the file has, if the file is ours, or nobody's yet, and no newer than what is known.
pub(crate) fn applied(
    connection: &mut SqliteConnection,
    known: &[Step],
) -> Result<BTreeSet<String>, OpenProblem> {
    const RECORD: &str = "__diesel_schema_migrations";
    let contents: Vec<String> = sqlite_master::table.select(sqlite_master::name).load(connection)?;
    let application_id = application_id(connection)?;
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
    let known: BTreeSet<String> = known.iter().map(version).collect();
    let versions: Vec<String> = applied.difference(&known).cloned().collect();
    if versions.is_empty() { Ok(applied) } else { Err(OpenProblem::Newer { versions }) }
}

fn application_id(connection: &mut SqliteConnection) -> QueryResult<i32> {
    pragma_application_id::table.select(pragma_application_id::application_id).get_result(connection)
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
