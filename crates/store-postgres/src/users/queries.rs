//! What is only looked up.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{Account, UserId, UsernameKey};

use super::rows::Row;
use crate::error::StoreError;
use crate::schema::{users, users_id_seq};

pub(super) async fn find(
    connection: &mut AsyncPgConnection,
    id: UserId,
) -> Result<Option<Account>, StoreError> {
    account(users::table.find(id.0).select(Row::as_select()).get_result(connection).await)
}

pub(super) async fn find_by_name(
    connection: &mut AsyncPgConnection,
    name: &UsernameKey,
) -> Result<Option<Account>, StoreError> {
    let named = users::table.filter(users::username_key.eq(name.as_str()));
    account(named.select(Row::as_select()).get_result(connection).await)
}

pub(super) async fn find_by_names(
    connection: &mut AsyncPgConnection,
    names: &[UsernameKey],
) -> Result<Vec<Account>, StoreError> {
    let keys: Vec<&str> = names.iter().map(UsernameKey::as_str).collect();
    let rows = users::table.filter(users::username_key.eq_any(keys));
    accounts(rows.select(Row::as_select()).load(connection).await)
}

pub(super) async fn last_number(connection: &mut AsyncPgConnection) -> Result<UserId, StoreError> {
    let columns = (users_id_seq::last_value, users_id_seq::is_called);
    let (value, is_given): (i64, bool) = users_id_seq::table.select(columns).get_result(connection).await?;
    Ok(UserId(if is_given { value } else { value - 1 }))
}

pub(super) async fn list(
    connection: &mut AsyncPgConnection,
    after: UserId,
    limit: u32,
) -> Result<Vec<Account>, StoreError> {
    let page = users::table.filter(users::id.gt(after.0)).order(users::id).limit(limit.into());
    accounts(page.select(Row::as_select()).load(connection).await)
}

fn account(row: QueryResult<Row>) -> Result<Option<Account>, StoreError> {
    Ok(row.optional()?.map(Account::try_from).transpose()?)
}

fn accounts(rows: QueryResult<Vec<Row>>) -> Result<Vec<Account>, StoreError> {
    Ok(rows?.into_iter().map(Account::try_from).collect::<Result<_, _>>()?)
}
