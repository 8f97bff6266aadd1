//! What is looked up: one statement each.

use diesel::data_types::PgTimestamp;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{ClientNetwork, CountedName, Counter, Tries, UserId, UsernameKey, Whence};
use jiff::Timestamp;

use super::rows::{Row, is_remembered};
use crate::error::{BrokenRow, StoreError};
use crate::schema::{known_networks, throttles, users};
use crate::sql_types::{self, inet};

/// One question whether somebody has the name or not, so that the time it takes tells nothing.
pub(super) async fn counter(
    connection: &mut AsyncPgConnection,
    counted: CountedName,
    name: &UsernameKey,
    network: Option<ClientNetwork>,
    at: Timestamp,
) -> Result<Counter, StoreError> {
    // None is known by NULL.
    let address = network.map(|network| inet(network.first_address()));
    let known = known_networks::user_id.eq(users::id).and(known_networks::network.nullable().eq(address));
    let owner: Option<(i64, Option<PgTimestamp>)> = users::table
        .left_join(known_networks::table.on(known))
        .filter(users::username_key.eq(name.as_str()))
        .select((users::id, known_networks::last_login_at.nullable()))
        .get_result(connection)
        .await
        .optional()?;
    let owner = owner.map(|(id, last_login_at)| (UserId(id), last_login_at.and_then(sql_types::time)));
    Ok(Counter::of(counted, owner, network, at))
}

pub(super) async fn tries(
    connection: &mut AsyncPgConnection,
    counted: CountedName,
) -> Result<Vec<(Whence, Tries)>, StoreError> {
    let rows: Vec<Row> = throttles::table
        .filter(throttles::name.eq(counted.0.as_slice()))
        .filter(is_remembered())
        .order(throttles::whence)
        .select(Row::as_select())
        .load(connection)
        .await?;
    Ok(rows.into_iter().map(TryInto::try_into).collect::<Result<_, BrokenRow>>()?)
}

pub(super) async fn newest_strays_end(
    connection: &mut AsyncPgConnection,
    most: u32,
) -> Result<Option<Timestamp>, StoreError> {
    let failed_at: Option<PgTimestamp> = throttles::table
        .filter(throttles::is_stray.eq(true))
        .order(throttles::failed_at.desc())
        .offset(most.into())
        .select(throttles::failed_at)
        .first(connection)
        .await
        .optional()?;
    // What cannot be a time is no reason to forget others.
    Ok(failed_at.and_then(sql_types::time))
}
