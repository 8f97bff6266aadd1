//! What a reader is asked.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::{Account, UserId, UsernameKey};

use super::rows::Row;
use crate::calling_thread::Connection;
use crate::error::StoreError;
use crate::schema::{sqlite_sequence, users};

pub(crate) async fn find(reader: &mut Connection, id: UserId) -> Result<Option<Account>, StoreError> {
    account(users::table.find(id.0).select(Row::as_select()).get_result(reader).await)
}

pub(crate) async fn find_by_name(
    reader: &mut Connection,
    name: &UsernameKey,
) -> Result<Option<Account>, StoreError> {
    let named = users::table.filter(users::username_key.eq(name.as_str()));
    account(named.select(Row::as_select()).get_result(reader).await)
}

pub(super) async fn find_by_names(
    reader: &mut Connection,
    names: &[UsernameKey],
) -> Result<Vec<Account>, StoreError> {
    let rows = users::table.filter(users::username_key.eq_any(names.iter().map(UsernameKey::as_str)));
    accounts(rows.select(Row::as_select()).load(reader).await)
}

pub(super) async fn last_number(reader: &mut Connection) -> Result<UserId, StoreError> {
    let given = sqlite_sequence::table.find("users").select(sqlite_sequence::seq);
    Ok(UserId(given.get_result(reader).await.optional()?.unwrap_or(0)))
}

pub(super) async fn list(
    reader: &mut Connection,
    after: UserId,
    limit: u32,
) -> Result<Vec<Account>, StoreError> {
    let page = users::table.filter(users::id.gt(after.0)).order(users::id).limit(limit.into());
    accounts(page.select(Row::as_select()).load(reader).await)
}

fn account(row: QueryResult<Row>) -> Result<Option<Account>, StoreError> {
    Ok(row.optional()?.map(Account::try_from).transpose()?)
}

fn accounts(rows: QueryResult<Vec<Row>>) -> Result<Vec<Account>, StoreError> {
    Ok(rows?.into_iter().map(Account::try_from).collect::<Result<_, _>>()?)
}
