//! Accounts that were there before the server: a million sign-ups would take longer than anybody waits.

use std::path::Path;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use crate::Result;

/// Somebody who is in the database.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account<'a> {
    pub(crate) name: &'a str,
    pub(crate) hash: &'a str,
    pub(crate) is_disabled: bool,
}

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

/// Adds one user.
pub(crate) fn add(database: &Path, account: Account<'_>) -> Result<()> {
    let Account { name, hash, is_disabled } = account;
    let disabled_at = if is_disabled { "1" } else { "NULL" };
    connect(database)?.batch_execute(&format!(
        "INSERT INTO users (username, username_key, password_hash, disabled_at, created_at, updated_at)
         VALUES ('{name}', '{name}', '{hash}', {disabled_at}, 1, 1);"
    ))?;
    Ok(())
}

fn connect(database: &Path) -> Result<SqliteConnection> {
    let path = database.to_str().ok_or("the path of the database is no text")?;
    Ok(SqliteConnection::establish(path)?)
}
