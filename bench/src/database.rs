//! Accounts that were there before the server: a million sign-ups would take longer than anybody waits.

use std::path::Path;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use crate::Result;

/// The name of one of the users that [`populate`] makes, counted from one.
pub(crate) fn name(number: usize) -> String {
    format!("user{number:08}")
}

/// Adds so many users with one hash to a database that no server has open.
pub(crate) fn populate(database: &Path, users: usize, hash: &str) -> Result<()> {
    // Nothing is lost with a file that is thrown away. The server turns the log on again.
    connect(database)?.batch_execute(&format!(
        "PRAGMA journal_mode = OFF;
         PRAGMA synchronous = OFF;
         INSERT INTO users (username, username_key, password_hash, created_at, updated_at)
         WITH RECURSIVE numbers (number) AS (
             SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < {users}
         )
         SELECT printf('user%08d', number), printf('user%08d', number), '{hash}', number, number FROM numbers;"
    ))?;
    Ok(())
}

fn connect(database: &Path) -> Result<SqliteConnection> {
    let path = database.to_str().ok_or("the path of the database is no text")?;
    Ok(SqliteConnection::establish(path)?)
}
