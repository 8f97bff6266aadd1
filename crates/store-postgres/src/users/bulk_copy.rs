//! All users, for whoever carries them over.

use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection as _};
use domain::{Account, UserId};

use super::import::STOP_NUMBERS;
use super::queries;
use super::rows::Row;
use crate::error::StoreError;
use crate::schema::users;

pub(crate) async fn page(
    connection: &mut AsyncPgConnection,
    after: UserId,
    limit: u32,
) -> Result<Vec<Account>, StoreError> {
    queries::list(connection, after, limit).await
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
    let last = queries::last_number(connection).await?;
    Ok(Some(last).filter(|last| last.0 > 0))
}

/// Has whoever signs up meanwhile wait for their number until this transaction is over.
pub(crate) async fn stop_numbers(connection: &mut AsyncPgConnection) -> Result<(), StoreError> {
    Ok(connection.batch_execute(STOP_NUMBERS).await?)
}

/// In this transaction, which `setval` would outlive.
pub(crate) async fn set_last_number(
    connection: &mut AsyncPgConnection,
    last: UserId,
) -> Result<(), StoreError> {
    let next = last.0.saturating_add(1);
    Ok(connection.batch_execute(&format!("ALTER SEQUENCE users_id_seq RESTART WITH {next}")).await?)
}
