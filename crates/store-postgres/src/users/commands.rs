//! What is changed, each in a transaction that the caller opened. Every change is one conditional statement: nothing is
//! looked up first and decided upon later, because between the two somebody else may have changed it.
//!
//! Whatever touches more than one row of an account locks the row of `users` first. So nobody waits for somebody who
//! waits for them.

use diesel::dsl::{case_when, exists};
use diesel::prelude::*;
use diesel::result::DatabaseErrorKind;
use diesel::sql_types::Timestamptz;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use domain::ports::{Change, ConfirmedChange, Insertion, NewSession, NewUser, Renaming};
use domain::{Account, EndCause, PasswordHash, UserId, Username, UsernameKey};
use jiff::Timestamp;

use super::rows::Row;
use crate::error::StoreError;
use crate::schema::{sessions, users};
use crate::sessions::commands::{add, end_theirs};
use crate::sql_types::{Id, timestamptz};

pub(super) async fn insert(
    connection: &mut AsyncPgConnection,
    user: &NewUser,
) -> Result<Insertion, StoreError> {
    let at = timestamptz(user.at);
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

pub(super) async fn rehash(
    connection: &mut AsyncPgConnection,
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
    connection: &mut AsyncPgConnection,
    name: &UsernameKey,
    hash: &PasswordHash,
    at: Timestamp,
) -> Result<Change, StoreError> {
    let row = diesel::update(users::table.filter(users::username_key.eq(name.as_str())))
        .set((
            users::password_hash.eq(hash.as_str()),
            users::credentials_epoch.eq(users::credentials_epoch + 1),
            users::updated_at.eq(timestamptz(at)),
        ))
        .returning(Row::as_returning())
        .get_result(connection)
        .await;
    end_sessions(connection, change(row)?, EndCause::PasswordChanged, at).await
}

pub(super) async fn disable(
    connection: &mut AsyncPgConnection,
    name: &UsernameKey,
    at: Timestamp,
) -> Result<Change, StoreError> {
    // Every right-hand side sees the row as it was. One that is disabled keeps both of its times.
    let since = timestamptz(at).into_sql::<Timestamptz>();
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
    connection: &mut AsyncPgConnection,
    name: &UsernameKey,
    at: Timestamp,
) -> Result<Change, StoreError> {
    let at = timestamptz(at).into_sql::<Timestamptz>();
    let was_disabled = users::disabled_at.is_not_null();
    let row = diesel::update(users::table.filter(users::username_key.eq(name.as_str())))
        .set((
            users::disabled_at.eq(None::<diesel::data_types::PgTimestamp>),
            users::updated_at.eq(case_when(was_disabled, at).otherwise(users::updated_at)),
        ))
        .returning(Row::as_returning())
        .get_result(connection)
        .await;
    change(row)
}

// Their sessions and networks go with them, by the foreign keys.
pub(super) async fn delete(
    connection: &mut AsyncPgConnection,
    name: &UsernameKey,
) -> Result<Change, StoreError> {
    let theirs = users::table.filter(users::username_key.eq(name.as_str()));
    let id = theirs.for_no_key_update().select(users::id).get_result(connection).await.optional()?;
    lock_sessions(connection, id).await?;
    let row = diesel::delete(users::table.filter(users::username_key.eq(name.as_str())))
        .returning(Row::as_returning())
        .get_result(connection)
        .await;
    change(row)
}

pub(super) async fn rename(
    connection: &mut AsyncPgConnection,
    id: UserId,
    credentials_epoch: i64,
    name: &Username,
    at: Timestamp,
) -> Result<Renaming, StoreError> {
    // Two who swap their names would each wait for the other's commit to know whether the name is free. Locked by
    // number, the account and the one that has the name, one comes after the other.
    let involved = users::id.eq(id.0).or(users::username_key.eq(name.key().as_str()));
    let involved: Vec<Row> = users::table
        .filter(involved)
        .order(users::id)
        .for_update()
        .select(Row::as_select())
        .load(connection)
        .await?;
    let before = involved.into_iter().find(|row| row.is_of(id)).map(Account::try_from).transpose()?;
    let Some(Account { user: before, .. }) = before else { return Ok(Renaming::NoAccount) };
    // The unique index decides here too. An update knows no `DO NOTHING`, so it speaks by an error, and one's own
    // key, which is in the index already, is no violation. The savepoint keeps the error from the rest of the
    // transaction.
    let row = connection
        .transaction(async |connection| {
            diesel::update(users::table.find(id.0).filter(is_as_checked(credentials_epoch)))
                .set((
                    users::username.eq(name.as_typed()),
                    users::username_key.eq(name.key().as_str()),
                    users::updated_at.eq(timestamptz(at)),
                ))
                .returning(Row::as_returning())
                .get_result::<Row>(connection)
                .await
        })
        .await;
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
    connection: &mut AsyncPgConnection,
    hash: &PasswordHash,
    session: &NewSession,
) -> Result<ConfirmedChange, StoreError> {
    let NewSession { user: id, credentials_epoch, at, .. } = *session;
    let row = diesel::update(users::table.find(id.0).filter(is_as_checked(credentials_epoch)))
        .set((
            users::password_hash.eq(hash.as_str()),
            users::credentials_epoch.eq(users::credentials_epoch + 1),
            users::updated_at.eq(timestamptz(at)),
        ))
        .returning(Row::as_returning())
        .get_result(connection)
        .await;
    let change = confirmed(connection, id, row).await?;
    if let ConfirmedChange::Done(user) = &change {
        end_theirs(connection, user.id, None, EndCause::PasswordChanged, at).await?;
        add(connection, session).await?;
    }
    Ok(change)
}

// Their sessions and networks go with them, by the foreign keys.
pub(super) async fn close_account(
    connection: &mut AsyncPgConnection,
    id: UserId,
    credentials_epoch: i64,
) -> Result<ConfirmedChange, StoreError> {
    let theirs = users::table.find(id.0).filter(is_as_checked(credentials_epoch));
    let locked = theirs.for_no_key_update().select(users::id).get_result(connection).await.optional()?;
    lock_sessions(connection, locked).await?;
    let row = diesel::delete(users::table.find(id.0).filter(is_as_checked(credentials_epoch)))
        .returning(Row::as_returning())
        .get_result(connection)
        .await;
    confirmed(connection, id, row).await
}

/// Waits for those who are about to change one of the sessions that are going to be removed. They keep the account there
/// while they record that, so that nobody may wait for them who would not let them have it.
async fn lock_sessions(connection: &mut AsyncPgConnection, owner: Option<i64>) -> Result<(), StoreError> {
    let Some(owner) = owner else { return Ok(()) };
    sessions::table
        .filter(sessions::user_id.eq(owner))
        .order(sessions::id)
        .for_update()
        .select(sessions::id)
        .load::<Id>(connection)
        .await?;
    Ok(())
}

/// Whether an account is enabled, and its password the one that was checked.
#[diesel::dsl::auto_type(no_type_alias)]
fn is_as_checked(credentials_epoch: i64) -> _ {
    users::disabled_at.is_null().and(users::credentials_epoch.eq(credentials_epoch))
}

/// What became of a change that had a condition: if it found no row, the account as it is tells why.
async fn confirmed(
    connection: &mut AsyncPgConnection,
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
    connection: &mut AsyncPgConnection,
    change: Change,
    cause: EndCause,
    at: Timestamp,
) -> Result<Change, StoreError> {
    if let Change::Done(account) = &change {
        end_theirs(connection, account.user.id, None, cause, at).await?;
    }
    Ok(change)
}

fn change(row: QueryResult<Row>) -> Result<Change, StoreError> {
    match row.optional()? {
        Some(row) => Ok(Change::Done(row.try_into()?)),
        None => Ok(Change::UnknownUser),
    }
}
