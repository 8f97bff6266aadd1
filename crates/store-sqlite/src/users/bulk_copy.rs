//! All users, for whoever carries them over.

use diesel::prelude::*;
use domain::{Account, UserId};

use super::{Row, queries};
use crate::error::StoreError;
use crate::schema::{sqlite_sequence, users};

/// The name by which SQLite notes the last number of a user.
const USERS: &str = "users";

pub(crate) fn page(
    connection: &mut SqliteConnection,
    after: UserId,
    limit: u32,
) -> Result<Vec<Account>, StoreError> {
    queries::list(connection, after, limit)
}

pub(crate) fn fill(connection: &mut SqliteConnection, accounts: Vec<Account>) -> Result<(), StoreError> {
    let rows: Vec<Row> = accounts.into_iter().map(Row::from).collect();
    diesel::insert_into(users::table).values(rows).execute(connection)?;
    Ok(())
}

pub(crate) fn last_number(connection: &mut SqliteConnection) -> Result<Option<UserId>, StoreError> {
    let last = queries::last_number(connection)?;
    Ok(Some(last).filter(|last| last.0 > 0))
}

/// After the users: each of them raises it.
pub(crate) fn set_last_number(connection: &mut SqliteConnection, last: UserId) -> Result<(), StoreError> {
    let seq = sqlite_sequence::seq.eq(last.0);
    // It has no unique index that a conflict could be with.
    if diesel::update(sqlite_sequence::table.find(USERS)).set(seq).execute(connection)? == 0 {
        let row = (sqlite_sequence::name.eq(USERS), seq);
        diesel::insert_into(sqlite_sequence::table).values(row).execute(connection)?;
    }
    Ok(())
}
