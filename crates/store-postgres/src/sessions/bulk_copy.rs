//! All sessions and known networks, for whoever carries them over.

use std::net::{IpAddr, Ipv4Addr};

use diesel::data_types::PgTimestamp;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::ports::KnownNetwork;
use domain::{ClientNetwork, KeptSession, Session, SessionId, UserId};
use ipnet::IpNet;

use super::queries::known_network;
use super::rows::Row;
use crate::error::{BrokenRow, StoreError};
use crate::schema::{known_networks, sessions};
use crate::sql_types::{Id, inet, timestamptz};

pub(crate) async fn page(
    connection: &mut AsyncPgConnection,
    after: Option<SessionId>,
    limit: u32,
) -> Result<Vec<KeptSession>, StoreError> {
    let page = sessions::table.order(sessions::id).limit(limit.into());
    let page = page.select((Row::as_select(), sessions::end_cause)).into_boxed();
    let page = match after {
        Some(after) => page.filter(sessions::id.gt(Id::from(after))),
        None => page,
    };
    let rows: Vec<(Row, Option<String>)> = page.load(connection).await?;
    let kept = |(row, end_cause)| Ok(KeptSession { session: Session::try_from(row)?, end_cause });
    Ok(rows.into_iter().map(kept).collect::<Result<_, BrokenRow>>()?)
}

pub(crate) async fn fill(
    connection: &mut AsyncPgConnection,
    kept: Vec<KeptSession>,
) -> Result<(), StoreError> {
    let row = |KeptSession { session, end_cause }| (Row::from(session), sessions::end_cause.eq(end_cause));
    let rows: Vec<_> = kept.into_iter().map(row).collect();
    diesel::insert_into(sessions::table).values(rows).execute(connection).await?;
    Ok(())
}

pub(crate) async fn page_of_networks(
    connection: &mut AsyncPgConnection,
    after: Option<(UserId, ClientNetwork)>,
    limit: u32,
) -> Result<Vec<(UserId, KnownNetwork)>, StoreError> {
    use known_networks::{last_login_at, network, user_id};

    // Nobody has a number that low.
    let first = (UserId(i64::MIN), ClientNetwork::of(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
    let (owner, last) = after.unwrap_or(first);
    // The first condition says nothing that the second does not, but where in the index to begin.
    let rows: Vec<(i64, IpNet, PgTimestamp)> = known_networks::table
        .filter(user_id.ge(owner.0))
        .filter(user_id.gt(owner.0).or(network.gt(inet(last.first_address()))))
        .order((user_id, network))
        .limit(limit.into())
        .select((user_id, network, last_login_at))
        .load(connection)
        .await?;
    let known = |(owner, known, at)| Ok((UserId(owner), known_network(UserId(owner), known, at)?));
    Ok(rows.into_iter().map(known).collect::<Result<_, BrokenRow>>()?)
}

pub(crate) async fn fill_networks(
    connection: &mut AsyncPgConnection,
    networks: Vec<(UserId, KnownNetwork)>,
) -> Result<(), StoreError> {
    let row = |(owner, known): (UserId, KnownNetwork)| {
        (
            known_networks::user_id.eq(owner.0),
            known_networks::network.eq(inet(known.network.first_address())),
            known_networks::last_login_at.eq(timestamptz(known.last_login_at)),
        )
    };
    let rows: Vec<_> = networks.into_iter().map(row).collect();
    diesel::insert_into(known_networks::table).values(rows).execute(connection).await?;
    Ok(())
}
