//! What is changed, each in a transaction that the caller opened. Every decision rests on a row that is locked. The row of
//! `users` is locked before those of these, by whoever changes the account and by whoever asks for a place.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::ports::{Admittance, Change, Compared, Place};
use domain::{
    Account, AuditKey, CountedName, Counter, MOST_KNOWN_NETWORKS, ThrottleRules, Tries, UsernameKey, Whence,
};
use jiff::Timestamp;

use super::rows::Row;
use crate::error::{BrokenRow, StoreError};
use crate::schema::{throttles, users};
use crate::sql_types::timestamptz;
use crate::users::rows::Row as UserRow;

pub(super) async fn admit(
    connection: &mut AsyncPgConnection,
    key: &AuditKey,
    counter: Counter,
    at: Timestamp,
    rules: ThrottleRules,
) -> Result<Admittance, StoreError> {
    // Asked whether there is an owner or not, so that the time it takes tells nothing.
    if !is_owners(connection, key, &counter).await? && counter.owner.is_some() {
        return Ok(Admittance::Moved);
    }
    let found = find(connection, &counter).await?;
    let is_another = counter.owner.is_some() && found.as_ref().is_none_or(|found| found.is_stray);
    let before = match found {
        Some(found) => found,
        None => begin(connection, &counter, at, counter.owner.is_none()).await?,
    };
    let is_stray = counter.owner.is_none() && before.is_stray;
    let (after, verdict) = before.tries.admit(at, rules);
    let after = Found { tries: after, is_stray };
    if before != after {
        keep(connection, &counter, &after).await?;
    }
    if is_another && counter.whence != Whence::Elsewhere {
        bound_networks(connection, counter.name).await?;
    }
    Ok(Admittance::of(verdict, counter, at))
}

/// Has an account no more counters of networks than it may know, however many it forgets again. The others go the way of
/// those that nobody has, and no sooner: what is forgotten at once admits again. Those that somebody is about to change
/// are left to whoever comes next.
async fn bound_networks(connection: &mut AsyncPgConnection, name: CountedName) -> Result<(), StoreError> {
    let of_networks = || {
        let of_name = throttles::name.eq(name.0.to_vec());
        of_name.and(throttles::whence.ne(Vec::new())).and(throttles::is_stray.eq(false))
    };
    let others: Vec<Vec<u8>> = throttles::table
        .filter(of_networks())
        .order((throttles::failed_at.desc(), throttles::whence))
        .offset(MOST_KNOWN_NETWORKS.into())
        .for_update()
        .skip_locked()
        .select(throttles::whence)
        .load(connection)
        .await?;
    if others.is_empty() {
        return Ok(());
    }
    diesel::update(throttles::table.filter(of_networks()).filter(throttles::whence.eq_any(others)))
        .set(throttles::is_stray.eq(true))
        .execute(connection)
        .await?;
    Ok(())
}

pub(crate) async fn fail(connection: &mut AsyncPgConnection, compared: &Compared) -> Result<(), StoreError> {
    let Compared { place, at } = compared;
    let before = match find(connection, &place.counter).await? {
        Some(found) => found,
        // What was forgotten meanwhile may have been so because nobody has the name any more.
        None => begin(connection, &place.counter, *at, true).await?,
    };
    keep(connection, &place.counter, &before.with(before.tries.failed(place.taken_at, *at))).await
}

pub(crate) async fn succeed(
    connection: &mut AsyncPgConnection,
    compared: &Compared,
) -> Result<(), StoreError> {
    let Place { counter, taken_at } = compared.place;
    let Some(before) = find(connection, &counter).await? else { return Ok(()) };
    keep(connection, &counter, &before.with(before.tries.succeeded(taken_at))).await
}

pub(super) async fn give_back(connection: &mut AsyncPgConnection, place: &Place) -> Result<(), StoreError> {
    let Some(before) = find(connection, &place.counter).await? else { return Ok(()) };
    keep(connection, &place.counter, &before.with(before.tries.given_back(place.taken_at))).await
}

pub(super) async fn unlock(
    connection: &mut AsyncPgConnection,
    name: &UsernameKey,
    counted: CountedName,
) -> Result<Change, StoreError> {
    let account: Option<UserRow> = users::table
        .filter(users::username_key.eq(name.as_str()))
        .for_no_key_update()
        .select(UserRow::as_select())
        .get_result(connection)
        .await
        .optional()?;
    let Some(account) = account else { return Ok(Change::UnknownUser) };
    forget(connection, &[counted]).await?;
    Ok(Change::Done(account.try_into()?))
}

/// Forgets what was counted of names.
pub(crate) async fn forget(
    connection: &mut AsyncPgConnection,
    counted: &[CountedName],
) -> Result<(), StoreError> {
    let names: Vec<_> = counted.iter().map(|counted| counted.0.as_slice()).collect();
    diesel::delete(throttles::table.filter(throttles::name.eq_any(names))).execute(connection).await?;
    Ok(())
}

/// Has what was counted of a name be that of another one, of which nothing else is counted any more. What is of networks
/// that are forgotten is not taken along.
pub(crate) async fn pass_on(
    connection: &mut AsyncPgConnection,
    old: CountedName,
    new: CountedName,
) -> Result<(), StoreError> {
    if old != new {
        forget(connection, &[new]).await?;
        let rows: Vec<Row> = diesel::delete(throttles::table.filter(throttles::name.eq(old.0.as_slice())))
            .returning(Row::as_returning())
            .get_results(connection)
            .await?;
        for row in rows.into_iter().filter(Row::is_remembered) {
            let (whence, tries) = <(Whence, Tries)>::try_from(row)?;
            let row = Row::new(&Counter { name: new, whence, owner: None }, &tries.passed_on(), false);
            diesel::insert_into(throttles::table)
                .values(&row)
                .on_conflict((throttles::name, throttles::whence))
                // Somebody has tried the new name since all of it was forgotten.
                .do_update()
                .set(&row)
                .execute(connection)
                .await?;
        }
    }
    Ok(())
}

pub(super) async fn remove_strays(
    connection: &mut AsyncPgConnection,
    at: Timestamp,
    limit: u32,
) -> Result<usize, StoreError> {
    // Whoever is about to change one keeps it.
    let old: Vec<(Vec<u8>, Vec<u8>)> = throttles::table
        .filter(throttles::is_stray.eq(true))
        .filter(throttles::failed_at.le(timestamptz(at)))
        .order(throttles::failed_at)
        .limit(limit.into())
        .for_update()
        .skip_locked()
        .select((throttles::name, throttles::whence))
        .load(connection)
        .await?;
    // A key is both together, for a name has the same length always; by the name alone it is looked up.
    let keys: Vec<_> = old.iter().map(|(name, whence)| [name.as_slice(), whence].concat()).collect();
    let names = old.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let removed = throttles::name.eq_any(names).and(throttles::name.concat(throttles::whence).eq_any(keys));
    Ok(diesel::delete(throttles::table.filter(removed)).execute(connection).await?)
}

/// A row that is there.
#[derive(PartialEq)]
struct Found {
    tries: Tries,
    is_stray: bool,
}

impl Found {
    /// Another number of tries by the same name.
    fn with(&self, tries: Tries) -> Self {
        Self { tries, ..*self }
    }
}

impl TryFrom<Row> for Found {
    type Error = BrokenRow;

    fn try_from(row: Row) -> Result<Self, BrokenRow> {
        let is_stray = row.is_stray;
        let (_, tries) = row.try_into()?;
        Ok(Self { tries, is_stray })
    }
}

/// What a counter holds, which nobody else changes until the transaction ends.
async fn find(connection: &mut AsyncPgConnection, counter: &Counter) -> Result<Option<Found>, StoreError> {
    let row: Option<Row> = throttles::table
        .find((counter.name.0.as_slice(), counter.whence.to_bytes()))
        .for_update()
        .select(Row::as_select())
        .get_result(connection)
        .await
        .optional()?;
    Ok(row.map(TryInto::try_into).transpose()?)
}

/// The same of one that was not there. It is there now: what is not there cannot be locked, and of many who find nothing
/// at once all but one wait here.
async fn begin(
    connection: &mut AsyncPgConnection,
    counter: &Counter,
    at: Timestamp,
    is_stray: bool,
) -> Result<Found, StoreError> {
    let row: Row = diesel::insert_into(throttles::table)
        .values(Row::new(counter, &Tries::none(at), is_stray))
        .on_conflict((throttles::name, throttles::whence))
        .do_update()
        // Changes nothing: whoever does nothing is not given the row.
        .set(throttles::name.eq(counter.name.0.as_slice()))
        .returning(Row::as_returning())
        .get_result(connection)
        .await?;
    Ok(row.try_into()?)
}

/// Whether whoever had the name when that was looked up has it still, and will have it until the transaction ends. Who is
/// being deleted or renamed at the moment is waited for.
async fn is_owners(
    connection: &mut AsyncPgConnection,
    key: &AuditKey,
    counter: &Counter,
) -> Result<bool, StoreError> {
    let account: Option<UserRow> = users::table
        // Nobody is number 0; asking for them takes as long.
        .find(counter.owner.map_or(0, |owner| owner.0))
        .for_key_share()
        .select(UserRow::as_select())
        .get_result(connection)
        .await
        .optional()?;
    let account = account.map(Account::try_from).transpose()?;
    Ok(account.is_some_and(|account| key.counted(account.user.name.key()) == counter.name))
}

/// Keeps what a counter holds; nothing takes no row.
async fn keep(
    connection: &mut AsyncPgConnection,
    counter: &Counter,
    found: &Found,
) -> Result<(), StoreError> {
    let row = throttles::table.find((counter.name.0.as_slice(), counter.whence.to_bytes()));
    if found.tries.is_nothing() {
        diesel::delete(row).execute(connection).await?;
    } else {
        let found = Row::new(counter, &found.tries, found.is_stray);
        diesel::update(row).set(found).execute(connection).await?;
    }
    Ok(())
}
