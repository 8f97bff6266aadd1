//! What a reader is asked.

use diesel::prelude::*;
use domain::{Account, UserId, UsernameKey};

use super::Row;
use crate::error::StoreError;
use crate::schema::{sqlite_sequence, users};

pub(crate) fn find(reader: &mut SqliteConnection, id: UserId) -> Result<Option<Account>, StoreError> {
    account(users::table.find(id.0).select(Row::as_select()).get_result(reader))
}

pub(crate) fn find_by_name(
    reader: &mut SqliteConnection,
    name: &UsernameKey,
) -> Result<Option<Account>, StoreError> {
    let named = users::table.filter(users::username_key.eq(name.as_str()));
    account(named.select(Row::as_select()).get_result(reader))
}

pub(super) fn find_by_names(
    reader: &mut SqliteConnection,
    names: &[UsernameKey],
) -> Result<Vec<Account>, StoreError> {
    let rows = users::table.filter(users::username_key.eq_any(names.iter().map(UsernameKey::as_str)));
    accounts(rows.select(Row::as_select()).load(reader))
}

pub(super) fn last_number(reader: &mut SqliteConnection) -> Result<UserId, StoreError> {
    let given = sqlite_sequence::table.find("users").select(sqlite_sequence::seq);
    Ok(UserId(given.get_result(reader).optional()?.unwrap_or(0)))
}

pub(super) fn list(
    reader: &mut SqliteConnection,
    after: UserId,
    limit: u32,
) -> Result<Vec<Account>, StoreError> {
    let page = users::table.filter(users::id.gt(after.0)).order(users::id).limit(limit.into());
    accounts(page.select(Row::as_select()).load(reader))
}

fn account(row: QueryResult<Row>) -> Result<Option<Account>, StoreError> {
    Ok(row.optional()?.map(Account::try_from).transpose()?)
}

fn accounts(rows: QueryResult<Vec<Row>>) -> Result<Vec<Account>, StoreError> {
    Ok(rows?.into_iter().map(Account::try_from).collect::<Result<_, _>>()?)
}
