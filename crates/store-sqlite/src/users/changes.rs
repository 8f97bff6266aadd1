//! What the writer is asked. Every change is one conditional statement: nothing is looked up first and decided
//! upon later, because between the two another process may have changed it.

use diesel::dsl::case_when;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use domain::ports::{Change, Insertion, NewUser};
use domain::{Account, EndCause, PasswordHash, UserId, UsernameKey};
use jiff::Timestamp;

use super::Row;
use crate::error::StoreError;
use crate::schema::users;
use crate::sessions::changes::end_all;

pub(super) fn insert(connection: &mut SqliteConnection, user: &NewUser) -> Result<Insertion, StoreError> {
    let at = user.at.as_microsecond();
    // The unique index decides, not a look-up first: two sign-ups in the same millisecond would both find the
    // name free.
    let row: Option<Row> = diesel::insert_into(users::table)
        .values((
            users::username.eq(user.name.as_typed()),
            users::username_key.eq(user.name.key().as_str()),
            users::password_hash.eq(user.password_hash.as_str()),
            users::created_at.eq(at),
            users::updated_at.eq(at),
        ))
        .on_conflict(users::username_key)
        .do_nothing()
        .returning(Row::as_returning())
        .get_result(connection)
        .optional()?;
    match row {
        Some(row) => Ok(Insertion::Done(Account::try_from(row)?.user)),
        None => Ok(Insertion::UsernameTaken),
    }
}

pub(super) fn rehash(
    connection: &mut SqliteConnection,
    id: UserId,
    old: &PasswordHash,
    new: &PasswordHash,
) -> Result<(), StoreError> {
    diesel::update(users::table.find(id.0).filter(users::password_hash.eq(old.as_str())))
        .set(users::password_hash.eq(new.as_str()))
        .execute(connection)?;
    Ok(())
}

pub(super) fn set_password(
    connection: &mut SqliteConnection,
    name: &UsernameKey,
    hash: &PasswordHash,
    at: Timestamp,
) -> Result<Change, StoreError> {
    let row = diesel::update(users::table.filter(users::username_key.eq(name.as_str())))
        .set((
            users::password_hash.eq(hash.as_str()),
            users::credentials_epoch.eq(users::credentials_epoch + 1),
            users::updated_at.eq(at.as_microsecond()),
        ))
        .returning(Row::as_returning())
        .get_result(connection);
    end_sessions(connection, change(row)?, EndCause::PasswordChanged, at)
}

pub(super) fn disable(
    connection: &mut SqliteConnection,
    name: &UsernameKey,
    at: Timestamp,
) -> Result<Change, StoreError> {
    // Every right-hand side sees the row as it was. One that is disabled keeps both of its times.
    let since = at.as_microsecond().into_sql::<BigInt>();
    let was_enabled = users::disabled_at.is_null();
    let row = diesel::update(users::table.filter(users::username_key.eq(name.as_str())))
        .set((
            users::disabled_at.eq(case_when(was_enabled, since.nullable()).otherwise(users::disabled_at)),
            users::updated_at.eq(case_when(was_enabled, since).otherwise(users::updated_at)),
        ))
        .returning(Row::as_returning())
        .get_result(connection);
    end_sessions(connection, change(row)?, EndCause::Disabled, at)
}

pub(super) fn enable(
    connection: &mut SqliteConnection,
    name: &UsernameKey,
    at: Timestamp,
) -> Result<Change, StoreError> {
    let at = at.as_microsecond().into_sql::<BigInt>();
    let was_disabled = users::disabled_at.is_not_null();
    let row = diesel::update(users::table.filter(users::username_key.eq(name.as_str())))
        .set((
            users::disabled_at.eq(None::<i64>),
            users::updated_at.eq(case_when(was_disabled, at).otherwise(users::updated_at)),
        ))
        .returning(Row::as_returning())
        .get_result(connection);
    change(row)
}

// Their sessions and networks go with them, by the foreign keys.
pub(super) fn delete(connection: &mut SqliteConnection, name: &UsernameKey) -> Result<Change, StoreError> {
    let row = diesel::delete(users::table.filter(users::username_key.eq(name.as_str())))
        .returning(Row::as_returning())
        .get_result(connection);
    change(row)
}

/// Ends the sessions of the account that was changed, so that a refresh may decide upon its session alone.
fn end_sessions(
    connection: &mut SqliteConnection,
    change: Change,
    cause: EndCause,
    at: Timestamp,
) -> Result<Change, StoreError> {
    if let Change::Done(account) = &change {
        end_all(connection, account.user.id, None, cause, at)?;
    }
    Ok(change)
}

fn change(row: QueryResult<Row>) -> Result<Change, StoreError> {
    match row.optional()? {
        Some(row) => Ok(Change::Done(row.try_into()?)),
        None => Ok(Change::UnknownUser),
    }
}
