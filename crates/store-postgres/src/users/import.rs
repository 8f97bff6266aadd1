//! Taking in users who come from elsewhere, several in one transaction.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection as _};
use domain::{Account, Conflict, Importation, ImportedUser, UserId, UsernameKey};

use super::queries::{find_by_names, last_number};
use crate::error::StoreError;
use crate::schema::users;
use crate::sql_types::timestamptz;

/// Changes nothing, but has whoever needs a number wait until this transaction is over, and waits itself for those who
/// have one and did not commit yet. A sequence takes no other lock, and `setval` outlives a transaction that is rolled
/// back: what was to be kept by it would be given for good, and to nobody.
pub(super) const STOP_NUMBERS: &str = "ALTER SEQUENCE users_id_seq INCREMENT BY 1";

pub(super) async fn import(
    connection: &mut AsyncPgConnection,
    imported: &[ImportedUser],
) -> Result<Vec<Importation>, StoreError> {
    let keeps_numbers = imported.iter().any(|user| user.id.is_some());
    let last = if keeps_numbers {
        connection.batch_execute(STOP_NUMBERS).await?;
        last_number(connection).await?
    } else {
        UserId(0)
    };
    // Those who are there are looked up first, for an insertion uses up a number whether or not it takes place.
    let there = accounts(connection, imported.iter()).await?;
    let settled = |user: &ImportedUser| match there.get(user.name.key()) {
        Some(account) => Some(user.compared_with(account)),
        None => user.after(last),
    };
    let mut all: Vec<Option<Importation>> = imported.iter().map(settled).collect();
    // The unique index decides all the same, as it does at a sign-up. Those who get a number come after those who have
    // one, which is then none of theirs.
    let (kept, others): (Vec<_>, Vec<_>) = open(imported, &all).partition(|user| user.id.is_some());
    let mut inserted = insert(connection, kept).await?;
    inserted.extend(insert(connection, others).await?);
    for (user, settled) in imported.iter().zip(&mut all).filter(|(_, settled)| settled.is_none()) {
        let id = inserted.remove(user.name.key().as_str());
        *settled = id.map(|id| Importation::Done(UserId(id)));
    }
    // It may have decided for somebody who signed up or was imported a moment ago, or who comes before them in here.
    let there = accounts(connection, open(imported, &all)).await?;
    let late = |user: &ImportedUser| match there.get(user.name.key()) {
        Some(account) => user.compared_with(account),
        // And who has gone since.
        None => Importation::Refused(Conflict::UsernameTaken),
    };
    Ok(imported.iter().zip(all).map(|(user, settled)| settled.unwrap_or_else(|| late(user))).collect())
}

/// Those of whom it is not known yet what becomes of them.
fn open<'users>(
    imported: &'users [ImportedUser],
    all: &'users [Option<Importation>],
) -> impl Iterator<Item = &'users ImportedUser> {
    imported.iter().zip(all).filter(|(_, settled)| settled.is_none()).map(|(user, _)| user)
}

async fn accounts(
    connection: &mut AsyncPgConnection,
    users: impl Iterator<Item = &ImportedUser>,
) -> Result<HashMap<UsernameKey, Account>, StoreError> {
    let names: Vec<_> = users.map(|user| user.name.key().clone()).collect();
    if names.is_empty() {
        return Ok(HashMap::new());
    }
    let accounts = find_by_names(connection, &names).await?;
    Ok(accounts.into_iter().map(|account| (account.user.name.key().clone(), account)).collect())
}

/// Inserts those whose names nobody has, and tells their numbers by name. All of them have one already, or none has.
async fn insert(
    connection: &mut AsyncPgConnection,
    new: Vec<&ImportedUser>,
) -> Result<HashMap<String, i64>, StoreError> {
    if new.is_empty() {
        return Ok(HashMap::new());
    }
    let last = new.iter().filter_map(|user| user.id).max();
    let row = |user: &ImportedUser| {
        (
            user.id.map(|id| users::id.eq(id.0)),
            users::username.eq(user.name.as_typed().to_owned()),
            users::username_key.eq(user.name.key().as_str().to_owned()),
            users::password_hash.eq(user.password_hash.as_str().to_owned()),
            users::created_at.eq(timestamptz(user.created_at)),
            users::updated_at.eq(timestamptz(user.updated_at)),
            users::disabled_at.eq(user.disabled_at.map(timestamptz)),
        )
    };
    let inserted: Vec<(String, i64)> = diesel::insert_into(users::table)
        .values(new.into_iter().map(row).collect::<Vec<_>>())
        .on_conflict(users::username_key)
        .do_nothing()
        .returning((users::username_key, users::id))
        .load(connection)
        .await?;
    if let Some(last) = last {
        // In this transaction, so that a number is given if its user is kept, and not otherwise.
        let next = last.0.saturating_add(1);
        connection.batch_execute(&format!("ALTER SEQUENCE users_id_seq RESTART WITH {next}")).await?;
    }
    Ok(inserted.into_iter().collect())
}
