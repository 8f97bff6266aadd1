//! The schema: which version the file has, and the way from one to the next and back.
//!
//! Everything here blocks. Whatever runs, runs in one transaction: several processes may start on one file,
//! and of them one applies what is pending while the others wait and find it done.

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
use crate::error::{OpenError, OpenProblem};
use crate::file::{Location, OpenFile};
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsString;
    use std::fs::{self, Permissions};
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};
    use std::sync::Barrier;
    use std::thread;

    use domain::ports::{Requester, SessionRepo as _, Throttle as _, UserRepo as _};
    use domain::{LoginName, ThrottleRules, UserId};
    use tempfile::TempDir;
    use tokio::runtime::Handle;

    use super::*;
    use crate::SqliteStore;
    use crate::schema::{audit_events, sessions, throttles};
    use crate::testing::{
        Fixture, attempt, audit_key, handed, is_unavailable, key, login, open, person, run_alone, settings,
        without_power,
    };

    #[test]
    fn every_migration_goes_down_and_up_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = settings(&folder).path;
        let all = up(&path).unwrap();
        let whole = schema(&path);
        assert!(!all.is_empty() && whole.keys().any(|name| name == "users"));

        for (kept, newest) in all.iter().enumerate().rev() {
            let before = schema(&path);
            assert_eq!(down(&path, None).unwrap().as_ref(), Some(newest));
            let after = schema(&path);
            assert_ne!(after, before);
            assert_eq!(up(&path).unwrap(), all[kept..]);
            assert_eq!(schema(&path), whole);
            for reverted in all[kept..].iter().rev() {
                assert_eq!(down(&path, None).unwrap().as_ref(), Some(reverted));
            }
            assert_eq!(schema(&path), after);
        }

        assert_eq!(schema(&path), BTreeMap::new());
        assert_eq!(down(&path, None).unwrap(), None);
        assert_eq!(up(&path).unwrap(), all);
        assert_eq!(schema(&path), whole);
        assert_eq!(up(&path).unwrap(), []);
    }

    /// Migrations that take away what the release before the last one needed, which nobody runs any more.
    const CONTRACTIONS: [&str; 0] = [];

    #[test]
    fn each_migration_leaves_what_the_release_before_it_needs() {
        let folder = tempfile::tempdir().unwrap();
        let path = settings(&folder).path;
        let steps = up(&path).unwrap();
        let mut after = schema(&path);

        for step in steps.into_iter().rev().map(|step| step.to_string()) {
            down(&path, None).unwrap();
            let before = schema(&path);
            if !CONTRACTIONS.contains(&&*step) {
                for (name, declared) in &before {
                    let kept = after.get(name).unwrap_or_else(|| panic!("{step} removes {name}"));
                    let added = added(declared, kept).unwrap_or_else(|| panic!("{step} changes {name}"));
                    let may_be_left_out = !added.contains("NOT NULL") || added.contains("DEFAULT");
                    assert!(
                        may_be_left_out && !added.contains("CHECK"),
                        "{step} asks more of {name}: {added}"
                    );
                }
                let are_unique = after.iter().filter(|(_, declared)| declared.starts_with("CREATE UNIQUE"));
                for (name, declared) in are_unique.filter(|(name, _)| !before.contains_key(*name)) {
                    let table = declared.split(' ').skip_while(|word| *word != "ON").nth(1).unwrap();
                    assert!(!before.contains_key(table), "{step} asks more of {table}: {name}");
                }
            }
            after = before;
        }
    }

    /// What a declaration has beyond an older one, if it is only columns.
    fn added<'now>(before: &str, now: &'now str) -> Option<&'now str> {
        match before.rsplit_once(')') {
            Some((head, tail)) => now.strip_prefix(head)?.strip_suffix(tail)?.strip_suffix(')'),
            None => (before == now).then_some(""),
        }
    }

    #[test]
    fn the_first_migration_marks_the_file_and_its_way_back_unmarks_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = settings(&folder).path;

        up(&path).unwrap();
        assert_eq!(application_id(&mut outsider(&path)), Ok(APPLICATION_ID));
        while down(&path, None).unwrap().is_some() {}
        assert_eq!(application_id(&mut outsider(&path)), Ok(0));
    }

    #[test]
    fn the_status_tells_what_is_applied_and_makes_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = settings(&folder).path;
        let applied = || status(&path).unwrap().iter().map(|it| it.applied).collect::<Vec<_>>();

        assert!(applied().iter().all(|applied| !applied));
        assert_eq!((down(&path, None).unwrap(), redo(&path, None).unwrap()), (None, None));
        assert!(!path.exists());
        let all = up(&path).unwrap();
        assert!(applied().iter().all(|applied| *applied));
        down(&path, None).unwrap();
        assert_eq!(applied().iter().filter(|applied| **applied).count(), all.len() - 1);
        assert_eq!(status(&path).unwrap()[0].migration.to_string(), "0001_users");
    }

    #[tokio::test]
    async fn a_redo_leaves_the_schema_and_empties_what_the_newest_migration_made() {
        let fixture = Fixture::new();
        fixture.store.insert(person("ann"), attempt()).await.unwrap();
        fixture.store.open(login(UserId(1)), attempt()).await.unwrap();
        let noon = jiff::Timestamp::UNIX_EPOCH;
        let counter = fixture.store.counter(LoginName::from_typed("ann"), None, noon).await.unwrap();
        fixture
            .store
            .admit(counter, Requester::Bulk, noon, ThrottleRules { most_failures: 100 })
            .await
            .unwrap();
        fixture.store.close().await;
        assert_eq!(throttles::table.count().get_result(&mut fixture.outsider()), Ok(1));
        let before = schema(&fixture.path());

        let redone = redo(&fixture.path(), None).unwrap();

        assert_eq!(redone.as_ref(), known().unwrap().last().map(Migration::of).as_ref());
        assert_eq!(schema(&fixture.path()), before);
        assert_eq!(fixture.names(), ["ann"]);
        assert_eq!(sessions::table.count().get_result(&mut fixture.outsider()), Ok(1));
        assert_eq!(audit_events::table.count().get_result(&mut fixture.outsider()), Ok(2));
        assert_eq!(throttles::table.count().get_result(&mut fixture.outsider()), Ok(0));
    }

    #[test]
    fn of_eight_who_start_on_one_empty_file_one_migrates_and_all_serve() {
        for _ in 0..10 {
            let folder = tempfile::tempdir().unwrap();
            let barrier = Barrier::new(8);
            let settings = Settings::new(settings(&folder).path);

            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        barrier.wait();
                        open(&settings).unwrap();
                    });
                }
            });

            assert!(pending(&mut outsider(&settings.path), known().unwrap()).unwrap().is_empty());
        }
    }

    #[test]
    fn of_four_processes_that_start_on_one_empty_file_all_serve() {
        let folder = tempfile::tempdir().unwrap();
        let path = settings(&folder).path;

        let mut starters: Vec<_> = (0..4)
            .map(|_| {
                Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "migrations::tests::one_of_four_processes", "--ignored"])
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        // They wait for the path, so that they start together.
        for starter in &mut starters {
            starter.stdin.take().unwrap().write_all(path.to_str().unwrap().as_bytes()).unwrap();
        }

        for starter in starters {
            let ended = starter.wait_with_output().unwrap();
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
        }
        assert!(pending(&mut outsider(&path), known().unwrap()).unwrap().is_empty());
    }

    #[test]
    #[ignore = "run by the test above, with a path on its standard input"]
    fn one_of_four_processes() {
        let mut path = String::new();
        std::io::stdin().read_to_string(&mut path).unwrap();
        if !path.is_empty() {
            open(&Settings::new(path)).unwrap();
        }
    }

    #[test]
    fn what_is_not_a_database_is_refused_and_left_alone() {
        for content in [b"hello".to_vec(), b"# a text\n".repeat(2000), vec![0xff; 9000]] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(settings(&folder).path, content).unwrap();

            refused_and_left_alone(&folder, "is not a SQLite database");
        }
    }

    #[test]
    fn somebody_elses_database_is_refused_and_left_alone() {
        for sql in [
            "CREATE TABLE notes (text)",
            "CREATE TABLE users (id)",
            "PRAGMA application_id = 252006673",
            "PRAGMA journal_mode = WAL; CREATE TABLE notes (text)",
            "CREATE TABLE __diesel_schema_migrations (version TEXT PRIMARY KEY, run_on TIMESTAMP);
             INSERT INTO __diesel_schema_migrations VALUES ('0001', '')",
        ] {
            let folder = tempfile::tempdir().unwrap();
            sqlite(&settings(&folder).path, sql);

            refused_and_left_alone(&folder, "belongs to another application");
        }
    }

    #[test]
    fn a_schema_of_a_newer_release_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = settings(&folder).path;
        up(&path).unwrap();
        sqlite(&path, "INSERT INTO __diesel_schema_migrations (version) VALUES ('9998'), ('9999')");

        refused_and_left_alone(&folder, "newer release (it has 9998, 9999); upgrade");
    }

    #[test]
    fn pending_migrations_stop_a_start_that_may_not_run_them() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { migrate: false, ..settings(&folder) };

        for _ in 0..2 {
            let refused = open(&settings).unwrap_err().to_string();
            assert!(refused.contains("pending (0001_users"), "{refused}");
            assert!(refused.ends_with("run `auth-api migrate up`"), "{refused}");
            assert!(!settings.path.exists() || schema(&settings.path).is_empty());
            // The second time round there is a file, and nothing in it.
            fs::write(&settings.path, "").unwrap();
        }

        up(&settings.path).unwrap();
        open(&settings).unwrap();
    }

    #[test]
    fn whoever_only_reads_makes_nothing_and_migrates_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { access: Access::ReadOnly, ..settings(&folder) };

        let missing = open(&settings).unwrap_err().to_string();
        assert!(missing.contains("no database yet") && missing.contains("migrate up"), "{missing}");
        assert_eq!(contents(&folder), BTreeMap::new());

        fs::write(&settings.path, "").unwrap();
        let pending = open(&settings).unwrap_err().to_string();
        assert!(pending.contains("pending (0001_users"), "{pending}");
        assert_eq!(fs::read(&settings.path).unwrap(), b"");

        // Not in write-ahead logging until somebody serves it.
        up(&settings.path).unwrap();
        let before = contents(&folder);
        open(&settings).unwrap();
        assert_eq!(contents(&folder), before);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_only_reads_waits_for_no_writer_and_cannot_write() {
        let fixture = Fixture::new();
        fixture.store.insert(person("ann"), attempt()).await.unwrap();
        let mut outsider = fixture.outsider();
        outsider.batch_execute("BEGIN IMMEDIATE").unwrap();
        let log = fs::read(fixture.log_path()).unwrap();

        let settings = Settings { access: Access::ReadOnly, ..Settings::new(fixture.path()) };
        let (tasks, clock) = (fixture.tasks.clone(), fixture.clock.clone());
        let reading = SqliteStore::open(&settings, audit_key(), Handle::current(), tasks, clock).unwrap();

        assert!(reading.find_by_name(key("ann")).await.unwrap().is_some());
        assert!(is_unavailable(&reading.insert(person("bob"), attempt()).await));
        outsider.batch_execute("ROLLBACK").unwrap();
        reading.close().await;
        assert_eq!(fs::read(fixture.log_path()).unwrap(), log, "folding it in would take the write lock");
    }

    #[test]
    fn a_migration_that_fails_is_rolled_back_with_those_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = settings(&folder).path;
        sqlite(&path, "PRAGMA user_version = 1");
        let mut connection = outsider(&path);
        // No room for the tables.
        connection.batch_execute("PRAGMA max_page_count = 2").unwrap();

        let problem = apply_pending(&mut connection, known).unwrap_err();

        assert!(matches!(problem, OpenProblem::Full), "{problem:?}");
        assert_eq!(schema(&path), BTreeMap::new());
        assert_eq!(application_id(&mut outsider(&path)), Ok(0));
        assert!(!up(&path).unwrap().is_empty());
    }

    #[test]
    fn a_locked_file_is_not_waited_for_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder);
        open(&settings).unwrap();
        let mut outsider = outsider(&settings.path);
        outsider.batch_execute("BEGIN IMMEDIATE").unwrap();

        let refused = open(&settings).unwrap_err();

        assert!(matches!(refused.problem, OpenProblem::Locked), "{refused}");
        drop(outsider);
        open(&settings).unwrap();
    }

    #[test]
    fn a_file_that_may_only_be_read_is_refused() {
        let folder = current();
        fs::set_permissions(settings(&folder).path, Permissions::from_mode(0o400)).unwrap();

        without_power("migrations::tests::somebody_whose_file_may_only_be_read", &folder);
    }

    #[test]
    #[ignore = "run by the test above, with a folder on its standard input"]
    fn somebody_whose_file_may_only_be_read() {
        let Some(folder) = handed() else { return };
        let settings = settings(&folder);
        assert!(fs::OpenOptions::new().append(true).open(&settings.path).is_err(), "nothing is tried");

        let refused = open(&settings).unwrap_err();

        assert!(matches!(refused.problem, OpenProblem::ReadOnly), "{refused:?}");
    }

    #[test]
    fn a_folder_that_may_only_be_read_is_refused_and_shows_its_status() {
        let folder = current();
        fs::set_permissions(&folder, Permissions::from_mode(0o500)).unwrap();

        without_power("migrations::tests::somebody_whose_folder_may_only_be_read", &folder);
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    #[ignore = "run by the test above, with a folder on its standard input"]
    fn somebody_whose_folder_may_only_be_read() {
        let Some(folder) = handed() else { return };
        let settings = settings(&folder);
        assert!(fs::write(folder.join("another"), "").is_err(), "nothing is tried");

        // With a file that may not be written either, this is a read-only disk, and SQLite says less about it.
        for mode in [0o600, 0o400] {
            fs::set_permissions(&settings.path, Permissions::from_mode(mode)).unwrap();

            for refused in [open(&settings).unwrap_err(), up(&settings.path).unwrap_err()] {
                assert!(
                    matches!(refused.problem, OpenProblem::ReadOnly | OpenProblem::Disk(_)),
                    "{refused:?}"
                );
                assert!(refused.to_string().contains("read-only"), "{refused}");
            }
            assert!(status(&settings.path).unwrap().iter().all(|it| it.applied), "{mode:o}");
        }
    }

    #[test]
    fn a_full_disk_is_said_to_be_the_trouble() {
        let folder = current();

        // No file of this process may have a byte, and the signal about it is not to kill it.
        let full = ["sh", "-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"];
        run_alone(&full, "migrations::tests::somebody_on_a_full_disk", &folder);
    }

    #[test]
    #[ignore = "run by the test above, with a folder on its standard input"]
    fn somebody_on_a_full_disk() {
        let Some(folder) = handed() else { return };
        let settings = settings(&folder);
        assert!(fs::write(folder.join("another"), "a byte").is_err(), "nothing is tried");

        for refused in [
            open(&settings).unwrap_err(),
            up(&settings.path).unwrap_err(),
            up(&folder.join("new.db")).unwrap_err(),
        ] {
            assert!(matches!(refused.problem, OpenProblem::Disk(_) | OpenProblem::Full), "{refused:?}");
            assert!(refused.to_string().contains("full"), "{refused}");
        }
    }

    #[test]
    fn a_damaged_file_is_said_to_be_so() {
        let folder = current();
        let path = settings(&folder).path;
        let mut bytes = fs::read(&path).unwrap();
        bytes[100..4096].fill(0xa5);
        fs::write(&path, bytes).unwrap();

        let refused = open(&settings(&folder)).unwrap_err();

        assert!(matches!(refused.problem, OpenProblem::Damaged(_)), "{refused:?}");
        assert!(refused.to_string().contains("restore a backup"), "{refused}");
    }

    /// A folder with a database as the last process left it, closed.
    fn current() -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        open(&settings(&folder)).unwrap();
        folder
    }

    fn refused_and_left_alone(folder: &TempDir, why: &str) {
        let settings = settings(folder);
        let before = contents(folder);
        let refusals = [
            open(&settings).err(),
            open(&Settings { migrate: false, ..settings.clone() }).err(),
            up(&settings.path).err(),
            down(&settings.path, None).err(),
            redo(&settings.path, None).err(),
            status(&settings.path).err(),
        ];
        for refusal in refusals {
            let refusal = refusal.unwrap().to_string();
            assert!(refusal.contains(why), "{refusal}");
            assert!(refusal.contains("auth.db"), "{refusal}");
        }
        assert_eq!(contents(folder), before);
    }

    fn contents(folder: &TempDir) -> BTreeMap<OsString, Vec<u8>> {
        let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap());
        files.map(|file| (file.file_name(), fs::read(file.path()).unwrap())).collect()
    }

    /// Everything in the file but SQLite's and diesel's own tables, as it was declared.
    fn schema(path: &Path) -> BTreeMap<String, String> {
        diesel::table! { sqlite_master (name) { name -> Text, sql -> Nullable<Text>, } }
        let entries: Vec<(String, Option<String>)> = sqlite_master::table
            .filter(sqlite_master::name.not_like("sqlite_sequence"))
            .filter(sqlite_master::name.not_like("%diesel%"))
            .select((sqlite_master::name, sqlite_master::sql))
            .load(&mut outsider(path))
            .unwrap();
        entries.into_iter().map(|(name, sql)| (name, sql.unwrap_or_default())).collect()
    }

    fn sqlite(path: &Path, sql: &str) {
        fs::write(path, fs::read(path).unwrap_or_default()).unwrap();
        outsider(path).batch_execute(sql).unwrap();
    }

    fn outsider(path: &Path) -> SqliteConnection {
        connection::connect(&url(path), Role::Writer, Duration::ZERO).unwrap()
    }

    fn url(path: &Path) -> String {
        format!("file:{}?mode=rw", path.display())
    }
}
