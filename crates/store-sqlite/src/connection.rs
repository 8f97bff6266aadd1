//! Connections, and what holds on every one of them.

use std::time::Duration;

use diesel::Connection as _;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use crate::PATIENCE;
use crate::error::OpenProblem;
use crate::schema::{pragma_journal_mode, sqlite_version};
use crate::statement_log::StatementLog;

/// The first release in which a checkpoint cannot lose commits (<https://www.sqlite.org/wal.html>, "WAL-reset").
const FIRST_SAFE_SQLITE: [u32; 3] = [3, 51, 3];

/// Tries at switching on write-ahead logging. Each fails only because another process got a step further.
const TRIES: u32 = 100;

/// What a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Writer,
    Reader,
}

/// Opens a connection on a file that exists.
pub(crate) fn connect(
    url: &str,
    role: Role,
    busy_timeout: Duration,
) -> Result<SqliteConnection, OpenProblem> {
    let mut connection = SqliteConnection::establish(url)?;
    connection.set_instrumentation(StatementLog::default());
    // A negative cache size is in KiB: a little for each, since the operating system caches the file as well.
    let (cache, query_only) = match role {
        Role::Writer => (-2048, "OFF"),
        Role::Reader => (-1024, "ON"),
    };
    let milliseconds = busy_timeout.as_millis();
    connection.batch_execute(&format!(
        "PRAGMA busy_timeout = {milliseconds};
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA trusted_schema = OFF;
         PRAGMA cache_size = {cache};
         PRAGMA query_only = {query_only};"
    ))?;
    Ok(connection)
}

/// A connection that is open and does nothing. The last one to close folds the log in and deletes it; while
/// this one stays, others may come and go, and the log remains the file it was.
pub(crate) fn anchor(url: &str) -> Result<SqliteConnection, OpenProblem> {
    let mut connection = connect(url, Role::Reader, PATIENCE)?;
    journal_mode(&mut connection)?;
    Ok(connection)
}

pub(crate) fn refuse_unsafe_sqlite(connection: &mut SqliteConnection) -> Result<(), OpenProblem> {
    let version: String = diesel::select(sqlite_version()).get_result(connection)?;
    if is_safe(&version) { Ok(()) } else { Err(OpenProblem::UnsafeSqlite { version }) }
}

/// Switches the file to write-ahead logging, where it stays.
pub(crate) fn switch_on_write_ahead_log(connection: &mut SqliteConnection) -> Result<(), OpenProblem> {
    // Whoever was first finishes before this lock is given.
    switch(connection, |connection| connection.batch_execute("BEGIN IMMEDIATE; ROLLBACK"))
}

/// The switch turns a read lock into a write lock. SQLite does not wait for that, whatever its busy timeout,
/// lest two wait for each other; so `wait` does, with no lock in its hands.
fn switch(
    connection: &mut SqliteConnection,
    mut wait: impl FnMut(&mut SqliteConnection) -> QueryResult<()>,
) -> Result<(), OpenProblem> {
    for _ in 0..TRIES {
        match connection.batch_execute("PRAGMA journal_mode = WAL").map_err(OpenProblem::from) {
            Ok(()) => {
                let mode = journal_mode(connection)?;
                return if mode == "wal" { Ok(()) } else { Err(OpenProblem::NoWriteAheadLog { mode }) };
            }
            Err(OpenProblem::Locked) => wait(connection)?,
            Err(problem) => return Err(problem),
        }
    }
    Err(OpenProblem::Locked)
}

fn journal_mode(connection: &mut SqliteConnection) -> QueryResult<String> {
    pragma_journal_mode::table.select(pragma_journal_mode::journal_mode).get_result(connection)
}

fn is_safe(version: &str) -> bool {
    let numbers: Vec<u32> = version.split('.').map_while(|part| part.parse().ok()).collect();
    numbers.as_slice() >= FIRST_SAFE_SQLITE.as_slice()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database_file::Location;
    use crate::testing::Fixture;

    diesel::table! { pragma_synchronous (synchronous) { synchronous -> Integer, } }
    diesel::table! { pragma_foreign_keys (foreign_keys) { foreign_keys -> Integer, } }
    diesel::table! { pragma_busy_timeout (timeout) { timeout -> Integer, } }
    diesel::table! { pragma_query_only (query_only) { query_only -> Integer, } }

    #[test]
    fn every_connection_logs_ahead_syncs_fully_checks_references_and_waits() {
        let fixture = Fixture::new();

        for (role, query_only) in [(Role::Writer, 0), (Role::Reader, 1)] {
            let mut connection = connect(&fixture.url(), role, Duration::from_secs(4)).unwrap();
            let connection = &mut connection;

            assert_eq!(journal_mode(connection), Ok("wal".to_owned()));
            let synchronous = pragma_synchronous::table.select(pragma_synchronous::synchronous);
            assert_eq!(synchronous.get_result(connection), Ok(2), "2 is FULL");
            let foreign_keys = pragma_foreign_keys::table.select(pragma_foreign_keys::foreign_keys);
            assert_eq!(foreign_keys.get_result(connection), Ok(1));
            let timeout = pragma_busy_timeout::table.select(pragma_busy_timeout::timeout);
            assert_eq!(timeout.get_result(connection), Ok(4000));
            let only = pragma_query_only::table.select(pragma_query_only::query_only);
            assert_eq!(only.get_result(connection), Ok(query_only));
        }
    }

    #[test]
    fn a_switch_to_write_ahead_logging_waits_for_whoever_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("auth.db"), "").unwrap();
        let url = format!("file:{}?mode=rw", folder.path().join("auth.db").display());
        let mut first = connect(&url, Role::Writer, Duration::ZERO).unwrap();
        let mut second = connect(&url, Role::Writer, PATIENCE).unwrap();
        first.batch_execute("BEGIN IMMEDIATE; CREATE TABLE made (by)").unwrap();

        let mut waits = 0;
        switch(&mut second, |_| {
            waits += 1;
            first.batch_execute("COMMIT")
        })
        .unwrap();

        assert_eq!((waits, journal_mode(&mut first)), (1, Ok("wal".to_owned())));
    }

    #[test]
    fn a_connection_does_not_make_a_file_that_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.db");
        let location = Location::new(&path).unwrap();

        let connected = connect(location.url(), Role::Writer, Duration::ZERO);

        assert!(connected.is_err());
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_sqlite_may_only_read_is_said_to_be_read_only() {
        let fixture = Fixture::new();
        let url = fixture.url().replace("mode=rw", "mode=ro");
        let mut connection = connect(&url, Role::Writer, Duration::ZERO).unwrap();

        let refused = crate::migrations::mark(&mut connection).unwrap_err();

        assert!(matches!(OpenProblem::from(refused), OpenProblem::ReadOnly));
    }

    #[test]
    fn a_sqlite_that_can_lose_commits_is_told_from_one_that_cannot() {
        for version in ["3.7.0", "3.51.2", "3.51", "3.9.99", "", "new"] {
            assert!(!is_safe(version), "{version}");
        }
        for version in ["3.51.3", "3.53.2", "3.100.0", "4.0.0"] {
            assert!(is_safe(version), "{version}");
        }
    }
}
