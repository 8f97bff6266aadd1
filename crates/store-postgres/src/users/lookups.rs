//! What is only looked up.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{Account, UserId, UsernameKey};

use super::Row;
use crate::error::StoreError;
use crate::schema::users;

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

pub(super) async fn list(
    connection: &mut AsyncPgConnection,
    after: UserId,
    limit: u32,
) -> Result<Vec<Account>, StoreError> {
    let page = users::table.filter(users::id.gt(after.0)).order(users::id).limit(limit.into());
    let rows: Vec<Row> = page.select(Row::as_select()).load(connection).await?;
    Ok(rows.into_iter().map(Account::try_from).collect::<Result<_, _>>()?)
}

fn account(row: QueryResult<Row>) -> Result<Option<Account>, StoreError> {
    Ok(row.optional()?.map(Account::try_from).transpose()?)
}
