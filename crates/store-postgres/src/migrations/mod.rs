//! The schema: which version the database has, and the way from one to the next and back.
//!
//! Everything here blocks. Whatever runs, runs in one transaction, under an advisory lock: several instances may start
//! on one database, and of them one applies what is pending while the others wait and find it done. The lock is the
//! transaction's and not the session's, which a PgBouncer would give to somebody else.
//!
//! Others are served meanwhile. A migration that waits for a table keeps everybody from it who comes later, so it gives
//! up soon, lets them have their turn and begins anew.

mod checks;
mod losses;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::migration::{MigrationConnection as _, MigrationSource};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::AsyncPgConnection;
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_migrations::{EmbeddedMigrations, FileBasedMigrations, MigrationHarness as _, embed_migrations};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::Access;
use crate::connection::Servers;
use crate::database_url::Url;
use crate::error::{OpenError, OpenProblem};
use crate::pooler;
use crate::schema::{__diesel_schema_migrations, current_schema, pg_proc, pg_tables};

use self::checks::{
    refuse_asynchronous_commits, refuse_missing_schema_rights, refuse_missing_table_rights,
    refuse_other_encodings,
};
use self::losses::losses;

const EMBEDDED: EmbeddedMigrations = embed_migrations!("../../migrations/postgres");

/// The table that says that the schema is ours. The first migration makes it, and the way back from there removes it.
const MARK: &str = "auth_api";

/// The table where diesel notes what has been applied.
const RECORD: &str = "__diesel_schema_migrations";

/// "auth-api" in ASCII: the number of the lock.
const LOCK: i64 = 0x6175_7468_2d61_7069;

/// How long a migration waits for a table at a time: shorter than the two seconds that those wait whom it keeps waiting,
/// and than the one after which a server looks for deadlocks, so that it is never the others who are sent away.
const TURN: Duration = Duration::from_millis(500);

/// How long the others have it in between, and for how long a migration tries.
const PAUSE: Duration = Duration::from_millis(1500);
const PATIENCE: Duration = Duration::from_mins(1);

/// How long to wait for a table that is only looked at, and for another process that migrates.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
const MIGRATING_TIMEOUT: Duration = Duration::from_mins(1);

/// How long a server may take for the checks that come before any change.
pub(crate) const CHECK_TIMEOUT: Duration = Duration::from_secs(20);

/// One step of the schema.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Migration {
    /// What orders it among the others, as in `0001`.
    pub version: String,
    /// What it does, as in `users`.
    pub name: String,
}

/// A migration that this release knows, and whether the database has it.
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

/// Applies what is pending, and says what that was, oldest first.
pub fn up(url: &Url) -> Result<Vec<Migration>, OpenError> {
    on_a_connection(url, |connection| apply_pending(connection, known))
}

/// The same with the migrations of a folder in place of those of this release, as a later one has more of them: for
/// whoever tries out what those do to servers that run.
pub fn up_from(url: &Url, folder: &Path) -> Result<Vec<Migration>, OpenError> {
    let folder = folder.to_owned();
    on_a_connection(url, move |connection| {
        let of_folder = || sorted(FileBasedMigrations::from_path(&folder).map_err(Box::from));
        apply_pending(connection, of_folder)
    })
}

/// What [`down`] would delete now, or `None` if no migration is applied. Changes nothing.
pub fn preview_down(url: &Url) -> Result<Option<Reversal>, OpenError> {
    on_a_connection(url, |connection| {
        with_newest(connection, None, |connection, newest| {
            Ok(Reversal { migration: Migration::of(newest), losses: losses(connection, newest)? })
        })
    })
}

/// Reverts the newest migration, with the data that only it has a place for, and returns it. Does nothing if there is
/// none, or if it is another one than `expected`.
pub fn down(url: &Url, expected: Option<&Migration>) -> Result<Option<Migration>, OpenError> {
    let expected = expected.cloned();
    on_a_connection(url, move |connection| {
        with_newest(connection, expected.as_ref(), |connection, newest| {
            connection.revert_migration(&**newest).map_err(OpenProblem::Migration)?;
            Ok(Migration::of(newest))
        })
    })
}

/// Reverts the newest migration as [`down`] does, and applies it again.
pub fn redo(url: &Url, expected: Option<&Migration>) -> Result<Option<Migration>, OpenError> {
    let expected = expected.cloned();
    on_a_connection(url, move |connection| {
        with_newest(connection, expected.as_ref(), |connection, newest| {
            connection.revert_migration(&**newest).map_err(OpenProblem::Migration)?;
            connection.run_migration(&**newest).map_err(OpenProblem::Migration)?;
            Ok(Migration::of(newest))
        })
    })
}

/// Every migration that this release knows, oldest first.
pub fn status(url: &Url) -> Result<Vec<Status>, OpenError> {
    on_a_connection(url, |connection| {
        let known = known()?;
        let applied = looked_at(connection, |connection| applied(connection, &known))?;
        let known = known.iter().map(Migration::of);
        Ok(known
            .map(|migration| Status { applied: applied.contains(&migration.version), migration })
            .collect())
    })
}

/// Sees to it that the database is ours, current and safe to write to.
pub(crate) async fn open_current(
    connection: AsyncPgConnection,
    migrate: bool,
    access: Access,
) -> Result<AsyncPgConnection, OpenProblem> {
    let checked = blocking(connection, move |connection| {
        refuse_other_encodings(connection)?;
        let pending = looked_at(connection, |connection| pending(connection, known()?))?;
        if !migrate && !pending.is_empty() {
            return Err(OpenProblem::Pending { migrations: names(&pending) });
        }
        if access == Access::ReadWrite {
            refuse_missing_table_rights(connection, &["INSERT", "UPDATE", "DELETE"])?;
        }
        refuse_asynchronous_commits(connection)?;
        Ok(!pending.is_empty())
    });
    let (connection, is_pending) = in_time(checked).await??;
    if !is_pending {
        return Ok(connection);
    }
    let migrated = blocking(connection, |connection| apply_pending(connection, known)).await;
    migrated.map(|(connection, _)| connection)
}

/// Bounds the checks that come before any change, in case the server does not answer.
pub(crate) async fn in_time<T>(looking: impl Future<Output = T>) -> Result<T, OpenProblem> {
    timeout(CHECK_TIMEOUT, looking).await.map_err(|_| OpenProblem::Silent { waited: CHECK_TIMEOUT })
}

/// What diesel's migrations take: a connection that blocks.
type Blocking = AsyncConnectionWrapper<AsyncPgConnection>;

fn on_a_connection<T: Send + 'static>(
    url: &Url,
    work: impl FnOnce(&mut Blocking) -> Result<T, OpenProblem> + Send + 'static,
) -> Result<T, OpenError> {
    let work = || {
        let runtime = Builder::new_current_thread().enable_all().build();
        runtime.map_err(OpenProblem::Runtime)?.block_on(async {
            let servers = Servers::of(url)?;
            in_time(pooler::refuse_unsupported(&servers)).await??;
            let connection = servers.connect_patiently().await?;
            let (_, outcome) = blocking(connection, work).await?;
            Ok(outcome)
        })
    };
    // On a thread of its own, since there may be a runtime on this one already.
    let worked = thread::scope(|scope| scope.spawn(work).join());
    let panicked = |_| Err(OpenProblem::Runtime(io::Error::other("the thread that migrates panicked")));
    worked.unwrap_or_else(panicked).map_err(|problem| problem.at(url))
}

async fn blocking<T: Send + 'static>(
    connection: AsyncPgConnection,
    work: impl FnOnce(&mut Blocking) -> Result<T, OpenProblem> + Send + 'static,
) -> Result<(AsyncPgConnection, T), OpenProblem> {
    // Not a thread of the runtime, whose end would wait for it: a silent server blocks this thread for ever.
    let (done, outcome) = oneshot::channel();
    let runtime = Handle::current();
    let spawned = thread::Builder::new().name("migrations".to_owned()).spawn(move || {
        let _inside = runtime.enter();
        let mut connection = Blocking::from(connection);
        let outcome = work(&mut connection);
        _ = done.send(outcome.map(|outcome| (connection.into_inner(), outcome)));
    });
    spawned.map_err(OpenProblem::Runtime)?;
    outcome.await.unwrap_or_else(|ended| Err(OpenProblem::Failed(ended.into())))
}

fn apply_pending(
    connection: &mut Blocking,
    known: impl Fn() -> Result<Vec<Step>, OpenProblem>,
) -> Result<Vec<Migration>, OpenProblem> {
    // Looked at without the lock first, so that nobody waits who has nothing to do, and again with it, because
    // another instance may have been faster.
    refuse_other_encodings(connection)?;
    if looked_at(connection, |connection| pending(connection, known()?))?.is_empty() {
        return Ok(Vec::new());
    }
    refuse_missing_schema_rights(connection)?;
    alone(connection, |connection| {
        let pending = pending(connection, known()?)?;
        connection.setup()?;
        for step in &pending {
            connection.run_migration(&**step).map_err(OpenProblem::Migration)?;
        }
        Ok(pending.iter().map(Migration::of).collect())
    })
}

/// Calls `work` with the newest migration, if there is one and it is the expected one, in a transaction.
fn with_newest<T>(
    connection: &mut Blocking,
    expected: Option<&Migration>,
    work: impl Fn(&mut Blocking, &Step) -> Result<T, OpenProblem>,
) -> Result<Option<T>, OpenProblem> {
    if looked_at(connection, |connection| applied(connection, &known()?))?.is_empty() {
        return Ok(None);
    }
    alone(connection, |connection| {
        let mut known = known()?;
        let applied = applied(connection, &known)?;
        known.retain(|step| applied.contains(&version(step)));
        let newest = known.pop().filter(|newest| expected.is_none_or(|it| *it == Migration::of(newest)));
        newest.map(|newest| work(connection, &newest)).transpose()
    })
}

/// Reads the schema. Gives up after [`LOCK_TIMEOUT`] if another session has locked it.
fn looked_at<T>(
    connection: &mut Blocking,
    look: impl FnOnce(&mut Blocking) -> Result<T, OpenProblem>,
) -> Result<T, OpenProblem> {
    let begun = now();
    let looked = connection.transaction(|connection| {
        connection.batch_execute(&format!("SET LOCAL lock_timeout = {}", LOCK_TIMEOUT.as_millis()))?;
        look(connection)
    });
    // diesel does not tell the code of this error, and its words may be in any language.
    looked.map_err(
        |problem| if begun.elapsed() < LOCK_TIMEOUT { problem } else { locked(LOCK_TIMEOUT, problem) },
    )
}

fn locked(waited: Duration, problem: OpenProblem) -> OpenProblem {
    OpenProblem::Locked { waited, source: Box::new(problem) }
}

/// Does `work` in a transaction, while nobody else migrates. As often as a table that it needs is not to be had, it is
/// done anew.
fn alone<T>(
    connection: &mut Blocking,
    work: impl Fn(&mut Blocking) -> Result<T, OpenProblem>,
) -> Result<T, OpenProblem> {
    let first = now();
    loop {
        let mut begun = None;
        let outcome = connection.transaction(|connection| {
            lock(connection)?;
            begun = Some(now());
            work(connection)
        });
        // diesel does not tell the code of this error, and its words may be in any language. Whatever went wrong sooner
        // was something else, and what took as long may be tried again, since nothing of it was done.
        let may_have_waited = begun.is_some_and(|begun| begun.elapsed() >= TURN);
        if outcome.is_ok() || !may_have_waited || first.elapsed() >= PATIENCE {
            let waited = first.elapsed();
            let is_locked = if begun.is_some() { waited >= PATIENCE } else { waited >= MIGRATING_TIMEOUT };
            return outcome.map_err(|problem| if is_locked { locked(waited, problem) } else { problem });
        }
        thread::sleep(PAUSE);
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a server took; nothing is decided for a user")]
fn now() -> Instant {
    Instant::now()
}

/// Waits until nobody else migrates, and from then on not for long.
fn lock(connection: &mut Blocking) -> Result<(), OpenProblem> {
    // CockroachDB had no such lock for long. Where there is none, whoever migrates must be the only one to.
    let function = pg_proc::table.filter(pg_proc::proname.eq("pg_advisory_xact_lock")).count();
    if function.get_result::<i64>(connection)? > 0 {
        connection.batch_execute(&format!("SET LOCAL lock_timeout = {}", MIGRATING_TIMEOUT.as_millis()))?;
        connection.batch_execute(&format!("SELECT pg_advisory_xact_lock({LOCK})"))?;
    }
    connection.batch_execute(&format!("SET LOCAL lock_timeout = {}", TURN.as_millis()))?;
    Ok(())
}

type Step = Box<dyn diesel::migration::Migration<Pg>>;

/// What this release knows, oldest first.
fn known() -> Result<Vec<Step>, OpenProblem> {
    sorted(Ok(EMBEDDED))
}

fn sorted(source: diesel::migration::Result<impl MigrationSource<Pg>>) -> Result<Vec<Step>, OpenProblem> {
    let mut steps = source.and_then(|source| source.migrations()).map_err(OpenProblem::Migration)?;
    steps.sort_by_key(version);
    Ok(steps)
}

fn pending(connection: &mut Blocking, known: Vec<Step>) -> Result<Vec<Step>, OpenProblem> {
    let applied = applied(connection, &known)?;
    Ok(known.into_iter().filter(|step| !applied.contains(&version(step))).collect())
}

/// The versions the database has, if the schema is ours, or nobody's yet, and no newer than what is known.
fn applied(connection: &mut Blocking, known: &[Step]) -> Result<BTreeSet<String>, OpenProblem> {
    let here = pg_tables::schemaname.nullable().eq(current_schema());
    let tables: Vec<String> = pg_tables::table.filter(here).select(pg_tables::tablename).load(connection)?;
    let has = |name: &str| tables.iter().any(|table| table == name);
    let mut applied = BTreeSet::new();
    if has(MARK) {
        refuse_missing_table_rights(connection, &["SELECT"])?;
    }
    if has(RECORD) {
        let versions: Vec<String> =
            __diesel_schema_migrations::table.select(__diesel_schema_migrations::version).load(connection)?;
        applied.extend(versions);
    }

    // Where every migration was reverted the record is left, empty, and nothing says any more whose it is.
    let is_blank = applied.is_empty() && tables.iter().all(|table| table == RECORD);
    if !has(MARK) && !is_blank {
        return Err(OpenProblem::Foreign);
    }
    let known: BTreeSet<String> = known.iter().map(version).collect();
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
