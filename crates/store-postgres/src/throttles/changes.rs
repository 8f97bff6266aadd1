//! What is changed, each in a transaction that the caller opened. Every decision rests on a row that is locked. Whoever
//! also changes the account has locked its row of `users` before; who only counts locks one row of these and no other.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::ports::{Admittance, Change, Compared, Place};
use domain::{CountedName, Counter, ThrottleRules, Tries, UsernameKey, Verdict, Whence};
use jiff::Timestamp;

use super::Row;
use crate::error::StoreError;
use crate::schema::{throttles, users};
use crate::users::Row as UserRow;
use crate::values::timestamptz;

pub(super) async fn admit(
    connection: &mut AsyncPgConnection,
    counter: Counter,
    at: Timestamp,
    rules: ThrottleRules,
) -> Result<Admittance, StoreError> {
    let before = match find(connection, &counter).await? {
        Some(tries) => tries,
        None => begin(connection, &counter, at).await?,
    };
    let (after, verdict) = before.admit(at, rules);
    if before != after {
        keep(connection, &counter, &after).await?;
    }
    Ok(match verdict {
        Verdict::Go => Admittance::Admitted(Place { counter, taken_at: at }),
        Verdict::Wait => Admittance::Undecided,
        Verdict::Refuse { retry_after } => Admittance::Refused { retry_after },
    })
}

pub(crate) async fn fail(connection: &mut AsyncPgConnection, compared: &Compared) -> Result<(), StoreError> {
    let Compared { place, at } = compared;
    let before = match find(connection, &place.counter).await? {
        Some(tries) => tries,
        None => begin(connection, &place.counter, *at).await?,
    };
    keep(connection, &place.counter, &before.failed(place.taken_at, *at)).await
}

pub(crate) async fn succeed(
    connection: &mut AsyncPgConnection,
    compared: &Compared,
) -> Result<(), StoreError> {
    let Place { counter, taken_at } = compared.place;
    let Some(before) = find(connection, &counter).await? else { return Ok(()) };
    keep(connection, &counter, &before.succeeded(taken_at)).await
}

pub(super) async fn give_back(connection: &mut AsyncPgConnection, place: &Place) -> Result<(), StoreError> {
    let Some(before) = find(connection, &place.counter).await? else { return Ok(()) };
    keep(connection, &place.counter, &before.given_back(place.taken_at)).await
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

/// Has what was counted of a name be that of another one, of which nothing else is counted any more.
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
        for row in rows {
            let (whence, tries) = <(Whence, Tries)>::try_from(row)?;
            let counter = Counter { name: new, whence, is_somebodys: true };
            diesel::insert_into(throttles::table)
                .values(&Row::new(&counter, &tries.passed_on()))
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
    let old: Vec<Vec<u8>> = throttles::table
        .filter(throttles::is_stray.eq(true))
        .filter(throttles::failed_at.le(timestamptz(at)))
        .order(throttles::failed_at)
        .limit(limit.into())
        .for_update()
        .skip_locked()
        .select(throttles::name)
        .load(connection)
        .await?;
    // Of a name that nobody has there is one row.
    let removed = throttles::name.eq_any(old).and(throttles::is_stray.eq(true));
    Ok(diesel::delete(throttles::table.filter(removed)).execute(connection).await?)
}

/// What a counter holds, which nobody else changes until the transaction ends.
async fn find(connection: &mut AsyncPgConnection, counter: &Counter) -> Result<Option<Tries>, StoreError> {
    let row: Option<Row> = throttles::table
        .find((counter.name.0.as_slice(), counter.whence.to_bytes()))
        .for_update()
        .select(Row::as_select())
        .get_result(connection)
        .await
        .optional()?;
    Ok(row.map(tries).transpose()?)
}

/// The same of one that was not there. It is there now: what is not there cannot be locked, and of many who find nothing
/// at once all but one wait here.
async fn begin(
    connection: &mut AsyncPgConnection,
    counter: &Counter,
    at: Timestamp,
) -> Result<Tries, StoreError> {
    let row: Row = diesel::insert_into(throttles::table)
        .values(Row::new(counter, &Tries::none(at)))
        .on_conflict((throttles::name, throttles::whence))
        .do_update()
        .set(throttles::is_stray.eq(!counter.is_somebodys))
        .returning(Row::as_returning())
        .get_result(connection)
        .await?;
    Ok(tries(row)?)
}

/// Keeps what a counter holds; nothing takes no row.
async fn keep(
    connection: &mut AsyncPgConnection,
    counter: &Counter,
    tries: &Tries,
) -> Result<(), StoreError> {
    let row = throttles::table.find((counter.name.0.as_slice(), counter.whence.to_bytes()));
    if tries.is_nothing() {
        diesel::delete(row).execute(connection).await?;
    } else {
        diesel::update(row).set(Row::new(counter, tries)).execute(connection).await?;
    }
    Ok(())
}

fn tries(row: Row) -> Result<Tries, crate::error::BrokenRow> {
    <(Whence, Tries)>::try_from(row).map(|(_, tries)| tries)
}
