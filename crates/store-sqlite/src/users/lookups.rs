//! What a reader is asked.

use diesel::prelude::{ExpressionMethods, QueryDsl, SelectableHelper};
use diesel::{OptionalExtension, QueryResult};
use diesel_async::RunQueryDsl;
use domain::{Account, UserId, UsernameKey};

use super::Row;
use crate::error::StoreError;
use crate::readers::Reader;
use crate::schema::users;

pub(super) async fn find(reader: &mut Reader, id: UserId) -> Result<Option<Account>, StoreError> {
    account(users::table.find(id.0).select(Row::as_select()).get_result(reader).await)
}

pub(super) async fn find_by_name(
    reader: &mut Reader,
    name: &UsernameKey,
) -> Result<Option<Account>, StoreError> {
    let named = users::table.filter(users::username_key.eq(name.as_str()));
    account(named.select(Row::as_select()).get_result(reader).await)
}

pub(super) async fn list(reader: &mut Reader, after: UserId, limit: u32) -> Result<Vec<Account>, StoreError> {
    let page = users::table.filter(users::id.gt(after.0)).order(users::id).limit(limit.into());
    let rows: Vec<Row> = page.select(Row::as_select()).load(reader).await?;
    Ok(rows.into_iter().map(Account::try_from).collect::<Result<_, _>>()?)
}

fn account(row: QueryResult<Row>) -> Result<Option<Account>, StoreError> {
    Ok(row.optional()?.map(Account::try_from).transpose()?)
}
