//! Connections, and what holds on every one of them.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use crate::error::OpenProblem;
use crate::schema::{pragma_journal_mode, sqlite_version};

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

pub(crate) fn refuse_unsafe_sqlite(connection: &mut SqliteConnection) -> Result<(), OpenProblem> {
    let version: String = diesel::select(sqlite_version()).get_result(connection)?;
    let numbers: Vec<u32> = version.split('.').map_while(|part| part.parse().ok()).collect();
    if numbers.as_slice() < FIRST_SAFE_SQLITE.as_slice() {
        return Err(OpenProblem::UnsafeSqlite { version });
    }
    Ok(())
}

/// Switches the file to write-ahead logging, where it stays.
pub(crate) fn switch_on_write_ahead_log(connection: &mut SqliteConnection) -> Result<(), OpenProblem> {
    for _ in 0..TRIES {
        let mode: String =
            pragma_journal_mode::table.select(pragma_journal_mode::journal_mode).get_result(connection)?;
        if mode == "wal" {
            return Ok(());
        }
        match connection.batch_execute("PRAGMA journal_mode = WAL").map_err(OpenProblem::from) {
            Ok(()) => {
                let mode: String = pragma_journal_mode::table
                    .select(pragma_journal_mode::journal_mode)
                    .get_result(connection)?;
                return if mode == "wal" { Ok(()) } else { Err(OpenProblem::NoWriteAheadLog { mode }) };
            }
            // The switch turns a read lock into a write lock, and SQLite does not wait for that, lest two wait
            // for each other. Waiting for an ordinary write lock lets whoever was first finish.
            Err(OpenProblem::Locked) => connection.batch_execute("BEGIN IMMEDIATE; ROLLBACK")?,
            Err(problem) => return Err(problem),
        }
    }
    Err(OpenProblem::Locked)
}
