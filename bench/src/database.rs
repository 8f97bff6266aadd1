//! Accounts that were there before the server: a million sign-ups would take longer than anybody waits.

use std::path::Path;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use crate::Result;

diesel::table! {
    sessions (id) {
        id -> Binary,
        user_id -> BigInt,
        nonce -> Binary,
        generation -> BigInt,
        superseded -> Binary,
        seen -> Bool,
        recoveries -> Binary,
        created_at -> BigInt,
        last_used_at -> BigInt,
        expires_at -> BigInt,
        ends_at -> BigInt,
    }
}

/// As many bytes of times as a session has that is refreshed without a pause.
const BURST: [u8; 512] = [1; 512];

/// Later than any time that is written here.
const END: i64 = i64::MAX;

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

/// Adds a session of the first user.
pub(crate) fn open_session(connection: &mut SqliteConnection, id: &[u8; 16]) -> QueryResult<()> {
    let values = (
        (sessions::id.eq(id.as_slice()), sessions::user_id.eq(1), sessions::nonce.eq(id.as_slice())),
        (sessions::generation.eq(1), sessions::superseded.eq(BURST.as_slice()), sessions::seen.eq(false)),
        (sessions::recoveries.eq([].as_slice()), sessions::created_at.eq(1), sessions::last_used_at.eq(1)),
        (sessions::expires_at.eq(1), sessions::ends_at.eq(END)),
    );
    diesel::insert_into(sessions::table).values(values).execute(connection).map(drop)
}

/// Changes of a session what a refresh changes.
pub(crate) fn change_session(
    connection: &mut SqliteConnection,
    id: &[u8; 16],
    number: i64,
) -> QueryResult<()> {
    let changes = (
        (sessions::generation.eq(number), sessions::superseded.eq(BURST.as_slice())),
        (sessions::seen.eq(false), sessions::recoveries.eq([].as_slice())),
        (sessions::last_used_at.eq(number), sessions::expires_at.eq(number)),
    );
    let rows = diesel::update(sessions::table.find(id.as_slice())).set(changes).execute(connection)?;
    if rows == 1 { Ok(()) } else { Err(diesel::result::Error::NotFound) }
}

#[cfg(test)]
pub(crate) fn newest_generation(database: &Path) -> Result<Option<i64>> {
    let newest = sessions::table.select(diesel::dsl::max(sessions::generation));
    Ok(newest.get_result(&mut connect(database)?)?)
}

pub(crate) fn connect(database: &Path) -> Result<SqliteConnection> {
    let path = database.to_str().ok_or("the path of the database is no text")?;
    Ok(SqliteConnection::establish(path)?)
}
