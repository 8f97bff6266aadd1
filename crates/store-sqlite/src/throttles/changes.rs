//! What the writer is asked. It holds the only write lock there is, so what is looked up here is still so when it is
//! decided upon.

use diesel::prelude::*;
use domain::ports::{Admittance, Change, Compared, Place};
use domain::{CountedName, Counter, ThrottleRules, Tries, UsernameKey, Verdict, Whence};
use jiff::Timestamp;

use super::Row;
use crate::error::StoreError;
use crate::schema::throttles;
use crate::users::find_by_name;

pub(super) fn admit(
    connection: &mut SqliteConnection,
    counter: Counter,
    at: Timestamp,
    rules: ThrottleRules,
) -> Result<Admittance, StoreError> {
    let before = find(connection, &counter)?;
    let (after, verdict) = before.clone().unwrap_or_else(|| Tries::none(at)).admit(at, rules);
    if before.is_some_and(|before| before != after) || verdict == Verdict::Go {
        keep(connection, &counter, &after)?;
    }
    Ok(match verdict {
        Verdict::Go => Admittance::Admitted(Place { counter, taken_at: at }),
        Verdict::Wait => Admittance::Undecided,
        Verdict::Refuse { retry_after } => Admittance::Refused { retry_after },
    })
}

pub(crate) fn fail(connection: &mut SqliteConnection, compared: &Compared) -> Result<(), StoreError> {
    let Compared { place, at } = compared;
    let before = find(connection, &place.counter)?.unwrap_or_else(|| Tries::none(*at));
    keep(connection, &place.counter, &before.failed(place.taken_at, *at))
}

pub(crate) fn succeed(connection: &mut SqliteConnection, compared: &Compared) -> Result<(), StoreError> {
    let Place { counter, taken_at } = compared.place;
    let Some(before) = find(connection, &counter)? else { return Ok(()) };
    keep(connection, &counter, &before.succeeded(taken_at))
}

pub(super) fn give_back(connection: &mut SqliteConnection, place: &Place) -> Result<(), StoreError> {
    let Some(before) = find(connection, &place.counter)? else { return Ok(()) };
    keep(connection, &place.counter, &before.given_back(place.taken_at))
}

pub(super) fn unlock(
    connection: &mut SqliteConnection,
    name: &UsernameKey,
    counted: CountedName,
) -> Result<Change, StoreError> {
    let Some(account) = find_by_name(connection, name)? else { return Ok(Change::UnknownUser) };
    forget(connection, counted)?;
    Ok(Change::Done(account))
}

/// Forgets what was counted of a name.
pub(crate) fn forget(connection: &mut SqliteConnection, counted: CountedName) -> Result<(), StoreError> {
    diesel::delete(throttles::table.filter(throttles::name.eq(counted.0.as_slice()))).execute(connection)?;
    Ok(())
}

/// Has what was counted of a name be that of another one, of which nothing else is counted any more.
pub(crate) fn pass_on(
    connection: &mut SqliteConnection,
    old: CountedName,
    new: CountedName,
) -> Result<(), StoreError> {
    if old != new {
        forget(connection, new)?;
        let rows: Vec<Row> = throttles::table
            .filter(throttles::name.eq(old.0.as_slice()))
            .select(Row::as_select())
            .load(connection)?;
        forget(connection, old)?;
        for row in rows {
            let (whence, tries) = <(Whence, Tries)>::try_from(row)?;
            keep(connection, &Counter { name: new, whence, is_somebodys: true }, &tries.passed_on())?;
        }
    }
    Ok(())
}

pub(super) fn remove_strays(
    connection: &mut SqliteConnection,
    at: Timestamp,
    limit: u32,
) -> Result<usize, StoreError> {
    let old: Vec<(Vec<u8>, Vec<u8>)> = throttles::table
        .filter(throttles::is_stray.eq(true))
        .filter(throttles::failed_at.le(at.as_microsecond()))
        .order(throttles::failed_at)
        .limit(limit.into())
        .select((throttles::name, throttles::whence))
        .load(connection)?;
    for (name, whence) in &old {
        diesel::delete(throttles::table.find((name, whence))).execute(connection)?;
    }
    Ok(old.len())
}

fn find(connection: &mut SqliteConnection, counter: &Counter) -> Result<Option<Tries>, StoreError> {
    let row: Option<Row> = throttles::table
        .find((counter.name.0.as_slice(), counter.whence.to_bytes()))
        .select(Row::as_select())
        .get_result(connection)
        .optional()?;
    let tries = row.map(|row| <(Whence, Tries)>::try_from(row).map(|(_, tries)| tries));
    Ok(tries.transpose()?)
}

/// Keeps what a counter holds; nothing takes no row.
fn keep(connection: &mut SqliteConnection, counter: &Counter, tries: &Tries) -> Result<(), StoreError> {
    if tries.is_nothing() {
        let row = throttles::table.find((counter.name.0.as_slice(), counter.whence.to_bytes()));
        diesel::delete(row).execute(connection)?;
        return Ok(());
    }
    let row = Row::new(counter, tries);
    diesel::insert_into(throttles::table)
        .values(&row)
        .on_conflict((throttles::name, throttles::whence))
        .do_update()
        .set(&row)
        .execute(connection)?;
    Ok(())
}
