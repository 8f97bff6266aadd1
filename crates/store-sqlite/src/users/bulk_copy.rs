//! All users, for whoever carries them over.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::{Account, UserId};

use super::queries;
use super::rows::Row;
use crate::calling_thread::Connection;
use crate::error::StoreError;
use crate::schema::{sqlite_sequence, users};

/// The name by which SQLite notes the last number of a user.
const USERS: &str = "users";

pub(crate) async fn page(
    connection: &mut Connection,
    after: UserId,
    limit: u32,
) -> Result<Vec<Account>, StoreError> {
    queries::list(connection, after, limit).await
}

pub(crate) async fn fill(connection: &mut Connection, accounts: Vec<Account>) -> Result<(), StoreError> {
    let rows: Vec<Row> = accounts.into_iter().map(Row::from).collect();
    let insert = diesel::insert_into(users::table).values(rows);
    connection.spawn_blocking(|connection| diesel::RunQueryDsl::execute(insert, connection)).await?;
    Ok(())
}

pub(crate) async fn last_number(connection: &mut Connection) -> Result<Option<UserId>, StoreError> {
    let last = queries::last_number(connection).await?;
    Ok(Some(last).filter(|last| last.0 > 0))
}

/// After the users: each of them raises it.
pub(crate) async fn set_last_number(connection: &mut Connection, last: UserId) -> Result<(), StoreError> {
    let seq = sqlite_sequence::seq.eq(last.0);
    // It has no unique index that a conflict could be with.
    if diesel::update(sqlite_sequence::table.find(USERS)).set(seq).execute(connection).await? == 0 {
        let row = (sqlite_sequence::name.eq(USERS), seq);
        diesel::insert_into(sqlite_sequence::table).values(row).execute(connection).await?;
    }
    Ok(())
}
