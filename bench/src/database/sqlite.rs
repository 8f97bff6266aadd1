//! Database files.

use std::path::Path;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use super::{Account, Sessions, values};
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

/// Adds users as [`super::Database::populate`] says.
pub(super) fn populate(database: &Path, users: usize, hash: &str) -> Result<()> {
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

pub(super) fn add(database: &Path, account: Account<'_>) -> Result<()> {
    let disabled_at = if account.is_disabled { "1" } else { "NULL" };
    connect(database)?.batch_execute(&format!(
        "INSERT INTO users (username, username_key, password_hash, disabled_at, created_at, updated_at)
         VALUES ({}, {disabled_at}, 1, 1);",
        values(account)
    ))?;
    Ok(())
}

/// A connection that changes sessions, with the pragmas of the server's writer.
pub(super) struct Changer(SqliteConnection);

impl Changer {
    pub(super) fn open(database: &Path) -> Result<Self> {
        let mut connection = connect(database)?;
        connection.batch_execute(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA foreign_keys = ON;
             PRAGMA trusted_schema = OFF;
             PRAGMA cache_size = -2048;",
        )?;
        Ok(Self(connection))
    }
}

impl Sessions for Changer {
    fn open(&mut self, id: &[u8; 16]) -> Result<()> {
        let values = (
            (sessions::id.eq(id.as_slice()), sessions::user_id.eq(1), sessions::nonce.eq(id.as_slice())),
            (sessions::generation.eq(1), sessions::superseded.eq(BURST.as_slice()), sessions::seen.eq(false)),
            (
                sessions::recoveries.eq([].as_slice()),
                sessions::created_at.eq(1),
                sessions::last_used_at.eq(1),
            ),
            (sessions::expires_at.eq(1), sessions::ends_at.eq(END)),
        );
        diesel::insert_into(sessions::table).values(values).execute(&mut self.0)?;
        Ok(())
    }

    fn change(&mut self, id: &[u8; 16], number: i64) -> Result<()> {
        let changes = (
            (sessions::generation.eq(number), sessions::superseded.eq(BURST.as_slice())),
            (sessions::seen.eq(false), sessions::recoveries.eq([].as_slice())),
            (sessions::last_used_at.eq(number), sessions::expires_at.eq(number)),
        );
        let change = diesel::update(sessions::table.find(id.as_slice())).set(changes);
        let rows = self.0.immediate_transaction(|connection| change.execute(connection))?;
        if rows == 1 { Ok(()) } else { Err("a session that is not there".into()) }
    }
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
