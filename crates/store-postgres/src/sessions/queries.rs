//! What is only looked up.

use diesel::data_types::PgTimestamp;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::ports::KnownNetwork;
use domain::{Account, ClientNetwork, Session, SessionId, UserId};
use ipnet::IpNet;
use jiff::Timestamp;

use super::rows::Row;
use crate::error::{BrokenRow, StoreError};
use crate::schema::{known_networks, sessions, users};
use crate::sql_types::{self, Id, timestamptz};
use crate::users::rows::Row as UserRow;

pub(super) async fn look_up(
    connection: &mut AsyncPgConnection,
    id: SessionId,
) -> Result<Option<(Session, Account)>, StoreError> {
    let found: Option<(Row, UserRow)> = sessions::table
        .find(Id::from(id))
        .inner_join(users::table)
        .select((Row::as_select(), UserRow::as_select()))
        .get_result(connection)
        .await
        .optional()?;
    let Some((session, account)) = found else { return Ok(None) };
    Ok(Some((session.try_into()?, account.try_into()?)))
}

pub(super) async fn live_sessions(
    connection: &mut AsyncPgConnection,
    owner: UserId,
    at: Timestamp,
) -> Result<Vec<Session>, StoreError> {
    let rows: Vec<Row> = sessions::table
        .filter(sessions::user_id.eq(owner.0))
        .filter(sessions::ended_at.is_null())
        .filter(sessions::expires_at.gt(timestamptz(at)))
        .order((sessions::created_at.desc(), sessions::id.desc()))
        .select(Row::as_select())
        .load(connection)
        .await?;
    Ok(rows.into_iter().map(Session::try_from).collect::<Result<_, _>>()?)
}

pub(super) async fn count_live(connection: &mut AsyncPgConnection, at: Timestamp) -> Result<u64, StoreError> {
    let count: i64 = sessions::table
        .filter(sessions::ended_at.is_null())
        .filter(sessions::expires_at.gt(timestamptz(at)))
        .count()
        .get_result(connection)
        .await?;
    Ok(count.unsigned_abs())
}

pub(super) async fn known_networks(
    connection: &mut AsyncPgConnection,
    owner: UserId,
) -> Result<Vec<KnownNetwork>, StoreError> {
    let rows: Vec<(IpNet, PgTimestamp)> = known_networks::table
        .filter(known_networks::user_id.eq(owner.0))
        .order((known_networks::last_login_at.desc(), known_networks::network))
        .select((known_networks::network, known_networks::last_login_at))
        .load(connection)
        .await?;
    let known = |(network, last_login_at)| known_network(owner, network, last_login_at);
    Ok(rows.into_iter().map(known).collect::<Result<_, BrokenRow>>()?)
}

pub(super) fn known_network(
    owner: UserId,
    network: IpNet,
    last_login_at: PgTimestamp,
) -> Result<KnownNetwork, BrokenRow> {
    let last_login_at = sql_types::time(last_login_at).ok_or_else(|| BrokenRow {
        table: "known_networks",
        column: "last_login_at",
        id: format!("({owner}, {network})"),
        found: sql_types::shown(last_login_at),
    })?;
    Ok(KnownNetwork { network: ClientNetwork::of(network.addr()), last_login_at })
}
