//! What a reader is asked.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::{ClientNetwork, CountedName, Counter, Tries, UserId, UsernameKey, Whence};
use jiff::Timestamp;

use super::rows::{Row, is_remembered};
use crate::calling_thread::Connection;
use crate::error::{BrokenRow, StoreError};
use crate::schema::{known_networks, throttles, users};

/// One question whether somebody has the name or not, so that the time it takes tells nothing.
pub(super) async fn counter(
    reader: &mut Connection,
    counted: CountedName,
    name: &UsernameKey,
    network: Option<ClientNetwork>,
    at: Timestamp,
) -> Result<Counter, StoreError> {
    // None is known by this text.
    let text = network.map(|network| network.first_address().to_string()).unwrap_or_default();
    let known = known_networks::user_id.eq(users::id).and(known_networks::network.eq(text));
    let owner: Option<(i64, Option<i64>)> = users::table
        .left_join(known_networks::table.on(known))
        .filter(users::username_key.eq(name.as_str()))
        .select((users::id, known_networks::last_login_at.nullable()))
        .get_result(reader)
        .await
        .optional()?;
    let time = |microseconds| Timestamp::from_microsecond(microseconds).ok();
    let owner = owner.map(|(id, last_login_at)| (UserId(id), last_login_at.and_then(time)));
    Ok(Counter::of(counted, owner, network, at))
}

pub(super) async fn tries(
    reader: &mut Connection,
    counted: CountedName,
) -> Result<Vec<(Whence, Tries)>, StoreError> {
    let rows: Vec<Row> = throttles::table
        .filter(throttles::name.eq(counted.0.as_slice()))
        .filter(is_remembered())
        .order(throttles::whence)
        .select(Row::as_select())
        .load(reader)
        .await?;
    Ok(rows.into_iter().map(TryInto::try_into).collect::<Result<_, BrokenRow>>()?)
}

pub(super) async fn newest_strays_end(
    reader: &mut Connection,
    most: u32,
) -> Result<Option<Timestamp>, StoreError> {
    let failed_at: Option<i64> = throttles::table
        .filter(throttles::is_stray.eq(true))
        .order(throttles::failed_at.desc())
        .offset(most.into())
        .select(throttles::failed_at)
        .first(reader)
        .await
        .optional()?;
    // What cannot be a time is no reason to forget others.
    Ok(failed_at.and_then(|at| Timestamp::from_microsecond(at).ok()))
}
