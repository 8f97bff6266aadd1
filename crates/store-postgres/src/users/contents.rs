//! All users, for whoever carries them over.

use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection as _};
use domain::{Account, UserId};

use super::{Row, lookups};
use crate::error::StoreError;
use crate::schema::users;

pub(crate) async fn page(
    connection: &mut AsyncPgConnection,
    after: UserId,
    limit: u32,
) -> Result<Vec<Account>, StoreError> {
    lookups::list(connection, after, limit).await
}

pub(crate) async fn fill(
    connection: &mut AsyncPgConnection,
    accounts: Vec<Account>,
) -> Result<(), StoreError> {
    let rows: Vec<Row> = accounts.into_iter().map(Row::from).collect();
    diesel::insert_into(users::table).values(rows).execute(connection).await?;
    Ok(())
}

pub(crate) async fn last_number(connection: &mut AsyncPgConnection) -> Result<Option<UserId>, StoreError> {
    let last = lookups::last_number(connection).await?;
    Ok(Some(last).filter(|last| last.0 > 0))
}

/// A sequence is no part of a transaction: where this is not committed, nobody is there, and the next one who signs up
/// gets a number that nobody had.
pub(crate) async fn set_last_number(
    connection: &mut AsyncPgConnection,
    last: UserId,
) -> Result<(), StoreError> {
    // The DSL has no name for a sequence, as which a text that is bound is not taken.
    Ok(connection.batch_execute(&format!("SELECT setval('users_id_seq', {last})")).await?)
}
