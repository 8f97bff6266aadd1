//! What the writer is asked. It holds the only write lock there is, so what is looked up here is still so when it is
//! decided upon.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::ports::{Admittance, Change, Compared, Place};
use domain::{
    AuditKey, CountedName, Counter, MOST_KNOWN_NETWORKS, ThrottleRules, Tries, UserId, UsernameKey, Verdict,
    Whence,
};
use jiff::Timestamp;

use super::rows::{Row, is_remembered};
use crate::calling_thread::Connection;
use crate::error::StoreError;
use crate::schema::throttles;
use crate::users::queries::{find as find_user, find_by_name};

pub(super) async fn admit(
    connection: &mut Connection,
    key: &AuditKey,
    counter: Counter,
    at: Timestamp,
    rules: ThrottleRules,
) -> Result<Admittance, StoreError> {
    // Asked whether there is an owner or not, so that the time it takes tells nothing.
    if !is_owners(connection, key, &counter).await? && counter.owner.is_some() {
        return Ok(Admittance::Moved);
    }
    let before = find(connection, &counter).await?;
    let is_stray = counter.owner.is_none() && before.as_ref().is_none_or(|before| before.is_stray);
    let (after, verdict) = match &before {
        Some(before) => before.tries.admit(at, rules),
        None => Tries::none(at).admit(at, rules),
    };
    let after = Found { tries: after, is_stray };
    let is_another = !is_stray && before.as_ref().is_none_or(|before| before.is_stray);
    if verdict == Verdict::Go || before.is_some_and(|before| before != after) {
        keep(connection, &counter, &after).await?;
        if is_another && counter.whence != Whence::Elsewhere {
            bound_networks(connection, counter.name).await?;
        }
    }
    Ok(Admittance::of(verdict, counter, at))
}

/// Has an account no more counters of networks than it may know, however many it forgets again. The others go the way of
/// those that nobody has, and no sooner: what is forgotten at once admits again.
async fn bound_networks(connection: &mut Connection, name: CountedName) -> Result<(), StoreError> {
    let of_networks = || {
        let of_name = throttles::name.eq(name.0.to_vec());
        of_name.and(throttles::whence.ne(Vec::new())).and(throttles::is_stray.eq(false))
    };
    let others: Vec<Vec<u8>> = throttles::table
        .filter(of_networks())
        .order((throttles::failed_at.desc(), throttles::whence))
        .offset(MOST_KNOWN_NETWORKS.into())
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

pub(crate) async fn fail(connection: &mut Connection, compared: &Compared) -> Result<(), StoreError> {
    let Compared { place, at } = compared;
    // What was forgotten meanwhile may have been so because nobody has the name any more.
    let before = find(connection, &place.counter)
        .await?
        .unwrap_or_else(|| Found { tries: Tries::none(*at), is_stray: true });
    keep(connection, &place.counter, &before.with(before.tries.failed(place.taken_at, *at))).await
}

pub(crate) async fn succeed(connection: &mut Connection, compared: &Compared) -> Result<(), StoreError> {
    let Place { counter, taken_at } = compared.place;
    let Some(before) = find(connection, &counter).await? else { return Ok(()) };
    keep(connection, &counter, &before.with(before.tries.succeeded(taken_at))).await
}

pub(super) async fn give_back(connection: &mut Connection, place: &Place) -> Result<(), StoreError> {
    let Some(before) = find(connection, &place.counter).await? else { return Ok(()) };
    keep(connection, &place.counter, &before.with(before.tries.given_back(place.taken_at))).await
}

pub(super) async fn unlock(
    connection: &mut Connection,
    name: &UsernameKey,
    counted: CountedName,
) -> Result<Change, StoreError> {
    let Some(account) = find_by_name(connection, name).await? else { return Ok(Change::UnknownUser) };
    forget(connection, counted).await?;
    Ok(Change::Done(account))
}

/// Forgets what was counted of a name.
pub(crate) async fn forget(connection: &mut Connection, counted: CountedName) -> Result<(), StoreError> {
    diesel::delete(throttles::table.filter(throttles::name.eq(counted.0.as_slice())))
        .execute(connection)
        .await?;
    Ok(())
}

/// Has what was counted of a name be that of another one, of which nothing else is counted any more. What is of networks
/// that are forgotten is not taken along.
pub(crate) async fn pass_on(
    connection: &mut Connection,
    old: CountedName,
    new: CountedName,
) -> Result<(), StoreError> {
    if old != new {
        forget(connection, new).await?;
        let rows: Vec<Row> = throttles::table
            .filter(throttles::name.eq(old.0.as_slice()))
            .filter(is_remembered())
            .select(Row::as_select())
            .load(connection)
            .await?;
        forget(connection, old).await?;
        for row in rows {
            let (whence, tries) = <(Whence, Tries)>::try_from(row)?;
            let counter = Counter { name: new, whence, owner: None };
            keep(connection, &counter, &Found { tries: tries.passed_on(), is_stray: false }).await?;
        }
    }
    Ok(())
}

pub(super) async fn remove_strays(
    connection: &mut Connection,
    at: Timestamp,
    limit: u32,
) -> Result<usize, StoreError> {
    let old: Vec<(Vec<u8>, Vec<u8>)> = throttles::table
        .filter(throttles::is_stray.eq(true))
        .filter(throttles::failed_at.le(at.as_microsecond()))
        .order(throttles::failed_at)
        .limit(limit.into())
        .select((throttles::name, throttles::whence))
        .load(connection)
        .await?;
    for (name, whence) in &old {
        diesel::delete(throttles::table.find((name, whence))).execute(connection).await?;
    }
    Ok(old.len())
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

async fn find(connection: &mut Connection, counter: &Counter) -> Result<Option<Found>, StoreError> {
    let row: Option<Row> = throttles::table
        .find((counter.name.0.as_slice(), counter.whence.to_bytes()))
        .select(Row::as_select())
        .get_result(connection)
        .await
        .optional()?;
    let Some(row) = row else { return Ok(None) };
    let is_stray = row.is_stray;
    let (_, tries) = row.try_into()?;
    Ok(Some(Found { tries, is_stray }))
}

/// Whether whoever had the name when that was looked up has it still.
async fn is_owners(
    connection: &mut Connection,
    key: &AuditKey,
    counter: &Counter,
) -> Result<bool, StoreError> {
    // Nobody is number 0; asking for them takes as long.
    let account = find_user(connection, counter.owner.unwrap_or(UserId(0))).await?;
    Ok(account.is_some_and(|account| key.counted(account.user.name.key()) == counter.name))
}

/// Keeps what a counter holds; nothing takes no row.
async fn keep(connection: &mut Connection, counter: &Counter, found: &Found) -> Result<(), StoreError> {
    if found.tries.is_nothing() {
        let row = throttles::table.find((counter.name.0.as_slice(), counter.whence.to_bytes()));
        diesel::delete(row).execute(connection).await?;
        return Ok(());
    }
    let row = Row::new(counter, &found.tries, found.is_stray);
    diesel::insert_into(throttles::table)
        .values(&row)
        .on_conflict((throttles::name, throttles::whence))
        .do_update()
        .set(&row)
        .execute(connection)
        .await?;
    Ok(())
}
