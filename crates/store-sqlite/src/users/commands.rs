//! What the writer is asked. Every change is one conditional statement: nothing is looked up first and decided
//! upon later, because between the two another process may have changed it.

use diesel::dsl::{case_when, exists};
use diesel::prelude::*;
use diesel::result::DatabaseErrorKind;
use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl;
use domain::ports::{Change, ConfirmedChange, Insertion, NewSession, NewUser, Renaming};
use domain::{Account, EndCause, Importation, ImportedUser, PasswordHash, UserId, Username, UsernameKey};
use jiff::Timestamp;

use super::queries::{find, find_by_name, last_number};
use super::rows::Row;
use crate::calling_thread::Connection;
use crate::error::StoreError;
use crate::schema::users;
use crate::sessions::commands::{add, end_all};

pub(super) async fn insert(connection: &mut Connection, user: &NewUser) -> Result<Insertion, StoreError> {
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
        .await
        .optional()?;
    match row {
        Some(row) => Ok(Insertion::Done(Account::try_from(row)?.user)),
        None => Ok(Insertion::UsernameTaken),
    }
}

/// The writer holds the only write lock there is, so what is looked up here is still so when it is decided upon.
pub(super) async fn import(
    connection: &mut Connection,
    user: &ImportedUser,
) -> Result<Importation, StoreError> {
    if let Some(there) = find_by_name(connection, user.name.key()).await? {
        return Ok(user.compared_with(&there));
    }
    if let Some(refused) = user.after(last_number(connection).await?) {
        return Ok(refused);
    }
    // A number that is said becomes the last one that was given.
    let id = diesel::insert_into(users::table)
        .values((
            user.id.map(|id| users::id.eq(id.0)),
            users::username.eq(user.name.as_typed()),
            users::username_key.eq(user.name.key().as_str()),
            users::password_hash.eq(user.password_hash.as_str()),
            users::created_at.eq(user.created_at.as_microsecond()),
            users::updated_at.eq(user.updated_at.as_microsecond()),
            users::disabled_at.eq(user.disabled_at.map(Timestamp::as_microsecond)),
        ))
        .returning(users::id)
        .get_result(connection)
        .await?;
    Ok(Importation::Done(UserId(id)))
}

pub(super) async fn rehash(
    connection: &mut Connection,
    id: UserId,
    old: &PasswordHash,
    new: &PasswordHash,
) -> Result<(), StoreError> {
    diesel::update(users::table.find(id.0).filter(users::password_hash.eq(old.as_str())))
        .set(users::password_hash.eq(new.as_str()))
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn set_password(
    connection: &mut Connection,
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
        .get_result(connection)
        .await;
    end_sessions(connection, change(row)?, EndCause::PasswordChanged, at).await
}

pub(super) async fn disable(
    connection: &mut Connection,
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
        .get_result(connection)
        .await;
    end_sessions(connection, change(row)?, EndCause::Disabled, at).await
}

pub(super) async fn enable(
    connection: &mut Connection,
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
        .get_result(connection)
        .await;
    change(row)
}

// Their sessions and networks go with them, by the foreign keys.
pub(super) async fn delete(connection: &mut Connection, name: &UsernameKey) -> Result<Change, StoreError> {
    let row = diesel::delete(users::table.filter(users::username_key.eq(name.as_str())))
        .returning(Row::as_returning())
        .get_result(connection)
        .await;
    change(row)
}

pub(super) async fn rename(
    connection: &mut Connection,
    id: UserId,
    credentials_epoch: i64,
    name: &Username,
    at: Timestamp,
) -> Result<Renaming, StoreError> {
    // The writer holds the only write lock there is, so the name stays as it is until the update.
    let Some(Account { user: before, .. }) = find(connection, id).await? else {
        return Ok(Renaming::NoAccount);
    };
    let row: QueryResult<Row> =
        diesel::update(users::table.find(id.0).filter(is_as_checked(credentials_epoch)))
            .set((
                users::username.eq(name.as_typed()),
                users::username_key.eq(name.key().as_str()),
                users::updated_at.eq(at.as_microsecond()),
            ))
            .returning(Row::as_returning())
            .get_result(connection)
            .await;
    // The unique index decides here too. An update knows no `DO NOTHING`, so it speaks by an error, and one's own
    // key, which is in the index already, is no violation.
    if let Err(diesel::result::Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) = row {
        return Ok(Renaming::UsernameTaken);
    }
    Ok(match confirmed(connection, id, row).await? {
        ConfirmedChange::Done(user) => Renaming::Done { user, old_name: before.name },
        ConfirmedChange::CredentialsChanged => Renaming::CredentialsChanged,
        ConfirmedChange::NoAccount => Renaming::NoAccount,
    })
}

pub(super) async fn change_password(
    connection: &mut Connection,
    hash: &PasswordHash,
    session: &NewSession,
) -> Result<ConfirmedChange, StoreError> {
    let NewSession { user: id, credentials_epoch, at, .. } = *session;
    let row = diesel::update(users::table.find(id.0).filter(is_as_checked(credentials_epoch)))
        .set((
            users::password_hash.eq(hash.as_str()),
            users::credentials_epoch.eq(users::credentials_epoch + 1),
            users::updated_at.eq(at.as_microsecond()),
        ))
        .returning(Row::as_returning())
        .get_result(connection)
        .await;
    let change = confirmed(connection, id, row).await?;
    if let ConfirmedChange::Done(user) = &change {
        end_all(connection, user.id, None, EndCause::PasswordChanged, at).await?;
        add(connection, session).await?;
    }
    Ok(change)
}

// Their sessions and networks go with them, by the foreign keys.
pub(super) async fn close_account(
    connection: &mut Connection,
    id: UserId,
    credentials_epoch: i64,
) -> Result<ConfirmedChange, StoreError> {
    let row = diesel::delete(users::table.find(id.0).filter(is_as_checked(credentials_epoch)))
        .returning(Row::as_returning())
        .get_result(connection)
        .await;
    confirmed(connection, id, row).await
}

/// Whether an account is enabled, and its password the one that was checked.
#[diesel::dsl::auto_type(no_type_alias)]
fn is_as_checked(credentials_epoch: i64) -> _ {
    users::disabled_at.is_null().and(users::credentials_epoch.eq(credentials_epoch))
}

/// What became of a change that had a condition: if it found no row, the account as it is tells why.
async fn confirmed(
    connection: &mut Connection,
    id: UserId,
    row: QueryResult<Row>,
) -> Result<ConfirmedChange, StoreError> {
    if let Some(row) = row.optional()? {
        return Ok(ConfirmedChange::Done(Account::try_from(row)?.user));
    }
    let enabled = users::table.find(id.0).filter(users::disabled_at.is_null());
    let is_there: bool = diesel::select(exists(enabled)).get_result(connection).await?;
    Ok(if is_there { ConfirmedChange::CredentialsChanged } else { ConfirmedChange::NoAccount })
}

/// Ends the sessions of the account that was changed, so that a refresh may decide upon its session alone.
async fn end_sessions(
    connection: &mut Connection,
    change: Change,
    cause: EndCause,
    at: Timestamp,
) -> Result<Change, StoreError> {
    if let Change::Done(account) = &change {
        end_all(connection, account.user.id, None, cause, at).await?;
    }
    Ok(change)
}

fn change(row: QueryResult<Row>) -> Result<Change, StoreError> {
    match row.optional()? {
        Some(row) => Ok(Change::Done(row.try_into()?)),
        None => Ok(Change::UnknownUser),
    }
}
