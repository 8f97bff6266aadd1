//! All sessions and known networks, for whoever carries them over.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::ports::KnownNetwork;
use domain::{ClientNetwork, KeptSession, Session, SessionId, UserId};
use jiff::Timestamp;

use super::queries::known_network;
use super::rows::Row;
use crate::calling_thread::Connection;
use crate::error::{BrokenRow, StoreError};
use crate::schema::{known_networks, sessions};

pub(crate) async fn page(
    connection: &mut Connection,
    after: Option<SessionId>,
    limit: u32,
) -> Result<Vec<KeptSession>, StoreError> {
    let after = after.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
    let rows: Vec<(Row, Option<String>)> = sessions::table
        .filter(sessions::id.gt(after))
        .order(sessions::id)
        .limit(limit.into())
        .select((Row::as_select(), sessions::end_cause))
        .load(connection)
        .await?;
    let kept = |(row, end_cause)| Ok(KeptSession { session: Session::try_from(row)?, end_cause });
    Ok(rows.into_iter().map(kept).collect::<Result<_, BrokenRow>>()?)
}

pub(crate) async fn fill(connection: &mut Connection, kept: Vec<KeptSession>) -> Result<(), StoreError> {
    let row = |KeptSession { session, end_cause }| (Row::from(session), sessions::end_cause.eq(end_cause));
    let rows: Vec<_> = kept.into_iter().map(row).collect();
    let insert = diesel::insert_into(sessions::table).values(rows);
    connection.spawn_blocking(|connection| diesel::RunQueryDsl::execute(insert, connection)).await?;
    Ok(())
}

pub(crate) async fn page_of_networks(
    connection: &mut Connection,
    after: Option<(UserId, ClientNetwork)>,
    limit: u32,
) -> Result<Vec<(UserId, KnownNetwork)>, StoreError> {
    use known_networks::{last_login_at, network, user_id};

    let (owner, last) = after.map_or((i64::MIN, String::new()), |(owner, last)| (owner.0, text(last)));
    // The first condition says nothing that the second does not, but where in the index to begin.
    let rows: Vec<(i64, String, i64)> = known_networks::table
        .filter(user_id.ge(owner))
        .filter(user_id.gt(owner).or(network.gt(last)))
        .order((user_id, network))
        .limit(limit.into())
        .select((user_id, network, last_login_at))
        .load(connection)
        .await?;
    let known = |(owner, stored, at): (i64, String, i64)| {
        let known = known_network(UserId(owner), &stored, at)?;
        // Written otherwise, it would be sought after in another place than it has.
        if text(known.network) != stored {
            let id = format!("({owner}, {stored})");
            return Err(BrokenRow { table: "known_networks", column: "network", id, found: stored });
        }
        Ok((UserId(owner), known))
    };
    Ok(rows.into_iter().map(known).collect::<Result<_, BrokenRow>>()?)
}

pub(crate) async fn fill_networks(
    connection: &mut Connection,
    networks: Vec<(UserId, KnownNetwork)>,
) -> Result<(), StoreError> {
    let row = |(owner, known): (UserId, KnownNetwork)| {
        (
            known_networks::user_id.eq(owner.0),
            known_networks::network.eq(text(known.network)),
            known_networks::last_login_at.eq(Timestamp::as_microsecond(known.last_login_at)),
        )
    };
    let rows: Vec<_> = networks.into_iter().map(row).collect();
    let insert = diesel::insert_into(known_networks::table).values(rows);
    connection.spawn_blocking(|connection| diesel::RunQueryDsl::execute(insert, connection)).await?;
    Ok(())
}

fn text(network: ClientNetwork) -> String {
    network.first_address().to_string()
}
