//! What a reader is asked.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::ports::KnownNetwork;
use domain::{Account, ClientNetwork, Session, SessionId, UserId};
use jiff::Timestamp;

use super::rows::Row;
use crate::calling_thread::Connection;
use crate::error::{BrokenRow, StoreError};
use crate::schema::{known_networks, sessions, users};
use crate::users::rows::Row as UserRow;

pub(super) async fn look_up(
    reader: &mut Connection,
    id: SessionId,
) -> Result<Option<(Session, Account)>, StoreError> {
    let found: Option<(Row, UserRow)> = sessions::table
        .find(id.as_bytes().as_slice())
        .inner_join(users::table)
        .select((Row::as_select(), UserRow::as_select()))
        .get_result(reader)
        .await
        .optional()?;
    let Some((session, account)) = found else { return Ok(None) };
    Ok(Some((session.try_into()?, account.try_into()?)))
}

pub(super) async fn live_sessions(
    reader: &mut Connection,
    owner: UserId,
    at: Timestamp,
) -> Result<Vec<Session>, StoreError> {
    let rows: Vec<Row> = sessions::table
        .filter(sessions::user_id.eq(owner.0))
        .filter(sessions::ended_at.is_null())
        .filter(sessions::expires_at.gt(at.as_microsecond()))
        .order((sessions::created_at.desc(), sessions::id.desc()))
        .select(Row::as_select())
        .load(reader)
        .await?;
    Ok(rows.into_iter().map(Session::try_from).collect::<Result<_, _>>()?)
}

pub(super) async fn count_live(reader: &mut Connection, at: Timestamp) -> Result<u64, StoreError> {
    let count: i64 = sessions::table
        .filter(sessions::ended_at.is_null())
        .filter(sessions::expires_at.gt(at.as_microsecond()))
        .count()
        .get_result(reader)
        .await?;
    Ok(count.unsigned_abs())
}

pub(super) async fn known_networks(
    reader: &mut Connection,
    owner: UserId,
) -> Result<Vec<KnownNetwork>, StoreError> {
    let rows: Vec<(String, i64)> = known_networks::table
        .filter(known_networks::user_id.eq(owner.0))
        .order((known_networks::last_login_at.desc(), known_networks::network))
        .select((known_networks::network, known_networks::last_login_at))
        .load(reader)
        .await?;
    let known = |(network, last_login_at): (String, i64)| known_network(owner, &network, last_login_at);
    Ok(rows.into_iter().map(known).collect::<Result<_, BrokenRow>>()?)
}

pub(super) fn known_network(
    owner: UserId,
    network: &str,
    last_login_at: i64,
) -> Result<KnownNetwork, BrokenRow> {
    let broken = |column, found: String| BrokenRow {
        table: "known_networks",
        column,
        id: format!("({owner}, {network})"),
        found,
    };
    Ok(KnownNetwork {
        network: network.parse().map(ClientNetwork::of).map_err(|_| broken("network", network.to_owned()))?,
        last_login_at: Timestamp::from_microsecond(last_login_at)
            .map_err(|_| broken("last_login_at", last_login_at.to_string()))?,
    })
}
