//! What the writer is asked. The writer holds the only write lock there is, also against other processes, so
//! that what is read in here cannot change before it is written. Each change is conditional all the same on what
//! it was decided upon: a database that locks less needs the same statements, and to begin anew when one finds
//! nothing.

use diesel::prelude::*;
use diesel::upsert::excluded;
use diesel_async::RunQueryDsl;
use domain::ports::{Ending, EndingAll, NewSession, Opening, Reuse, Rotation, Shown};
use domain::{
    Account, ClientNetwork, Decision, EndCause, Generation, KNOWN_NETWORK_TTL, Lineage, MOST_KNOWN_NETWORKS,
    MOST_SESSIONS, Session, SessionId, UserId,
};
use jiff::Timestamp;

use super::rows::Row;
use crate::calling_thread::Connection;
use crate::error::StoreError;
use crate::schema::{known_networks, sessions, users};
use crate::sql_types::packed;
use crate::throttles::commands as throttles;
use crate::users::rows::Row as UserRow;

/// What is changed of a session; the rest stays.
#[derive(AsChangeset, Default)]
#[diesel(table_name = sessions)]
struct Changes {
    generation: Option<i64>,
    superseded: Option<Vec<u8>>,
    seen: Option<bool>,
    recoveries: Option<Vec<u8>>,
    last_used_at: Option<i64>,
    expires_at: Option<i64>,
    ended_at: Option<i64>,
    end_cause: Option<&'static str>,
}

pub(super) async fn open(connection: &mut Connection, new: &NewSession) -> Result<Opening, StoreError> {
    let opening = open_uncounted(connection, new).await?;
    match (&opening, &new.compared) {
        (_, None) => {}
        (Opening::Done(_), Some(compared)) => throttles::succeed(connection, compared).await?,
        (_, Some(compared)) => throttles::fail(connection, compared).await?,
    }
    Ok(opening)
}

async fn open_uncounted(connection: &mut Connection, new: &NewSession) -> Result<Opening, StoreError> {
    // Where others may write meanwhile, this row is to be locked: a change of the account that is not
    // committed yet ends only the sessions that it sees.
    let account: Option<UserRow> =
        users::table.find(new.user.0).select(UserRow::as_select()).get_result(connection).await.optional()?;
    let Some(account) = account else { return Ok(Opening::UnknownUser) };
    let account = Account::try_from(account)?;
    if account.disabled_at.is_some() {
        return Ok(Opening::Disabled);
    }
    if account.credentials_epoch != new.credentials_epoch {
        return Ok(Opening::CredentialsChanged);
    }
    make_room(connection, new.user, new.at).await?;
    add(connection, new).await?;
    Ok(Opening::Done(account.user))
}

/// Adds a session that may be, and the network that it is opened from.
pub(crate) async fn add(connection: &mut Connection, new: &NewSession) -> Result<(), StoreError> {
    diesel::insert_into(sessions::table).values(Row::from(new)).execute(connection).await?;
    if let Some(address) = new.address {
        remember(connection, new.user, ClientNetwork::of(address), new.at).await?;
    }
    Ok(())
}

/// Ends the oldest live sessions until there is room for one more. Not after it is there: with the clock set
/// back, the new one would be the oldest.
async fn make_room(connection: &mut Connection, owner: UserId, at: Timestamp) -> Result<(), StoreError> {
    let crowded_out: Vec<Vec<u8>> = sessions::table
        .filter(sessions::user_id.eq(owner.0))
        .filter(sessions::ended_at.is_null())
        .filter(sessions::expires_at.gt(at.as_microsecond()))
        .order((sessions::created_at.desc(), sessions::id.desc()))
        .offset(i64::from(MOST_SESSIONS) - 1)
        .select(sessions::id)
        .load(connection)
        .await?;
    if !crowded_out.is_empty() {
        diesel::update(sessions::table.filter(sessions::id.eq_any(crowded_out)))
            .set(Changes::end(EndCause::CrowdedOut, at))
            .execute(connection)
            .await?;
    }
    Ok(())
}

async fn remember(
    connection: &mut Connection,
    owner: UserId,
    network: ClientNetwork,
    at: Timestamp,
) -> Result<(), StoreError> {
    diesel::insert_into(known_networks::table)
        .values((
            known_networks::user_id.eq(owner.0),
            known_networks::network.eq(network.first_address().to_string()),
            known_networks::last_login_at.eq(at.as_microsecond()),
        ))
        .on_conflict((known_networks::user_id, known_networks::network))
        .do_update()
        .set(known_networks::last_login_at.eq(excluded(known_networks::last_login_at)))
        .execute(connection)
        .await?;
    let of_owner = known_networks::user_id.eq(owner.0);
    let forgotten: Vec<String> = known_networks::table
        .filter(of_owner)
        .order((known_networks::last_login_at.desc(), known_networks::network))
        .offset(MOST_KNOWN_NETWORKS.into())
        .select(known_networks::network)
        .load(connection)
        .await?;
    diesel::delete(known_networks::table.filter(of_owner).filter(known_networks::network.eq_any(forgotten)))
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn rotate(connection: &mut Connection, shown: &Shown) -> Result<Rotation, StoreError> {
    let Shown { session: id, generation, at, rules } = *shown;
    let row: Option<Row> = sessions::table
        .find(id.as_bytes().as_slice())
        .select(Row::as_select())
        .get_result(connection)
        .await
        .optional()?;
    let Some(session) = row.map(Session::try_from).transpose()?.filter(|session| session.is_live(at)) else {
        return Ok(Rotation::Over);
    };
    let before = session.lineage.clone();
    match before.present(generation, at, rules.grace) {
        Decision::Rotate(next) => {
            let session = session.rotated(next, at, &rules);
            change(connection, id, &before, Changes::to(&session)).await?;
            Ok(Rotation::Rotated(session))
        }
        Decision::Concurrent => Ok(Rotation::Again(session, Reuse::Concurrent)),
        Decision::Recover(next) => {
            let session = Session { lineage: next, ..session };
            change(connection, id, &before, Changes::to(&session)).await?;
            Ok(Rotation::Again(session, Reuse::Recovered))
        }
        Decision::End(misuse) => {
            change(connection, id, &before, Changes::end(EndCause::Misused(misuse), at)).await?;
            Ok(Rotation::Ended(misuse))
        }
    }
}

/// Changes the session that was decided upon, if it is still as it was. Nothing else keeps two who show one
/// token from exchanging it twice, wherever a reader may read while a writer writes.
async fn change(
    connection: &mut Connection,
    id: SessionId,
    decided_upon: &Lineage,
    changes: Changes,
) -> Result<(), StoreError> {
    let unchanged = sessions::generation
        .eq(decided_upon.generation.number())
        .and(sessions::seen.eq(decided_upon.seen))
        .and(sessions::recoveries.eq(packed(&decided_upon.recoveries)))
        .and(sessions::ended_at.is_null());
    let rows = diesel::update(sessions::table.find(id.as_bytes().as_slice()).filter(unchanged))
        .set(changes)
        .execute(connection)
        .await?;
    if rows == 1 { Ok(()) } else { Err(StoreError::unavailable("the session was changed meanwhile")) }
}

pub(super) async fn mark_seen(
    connection: &mut Connection,
    id: SessionId,
    generation: Generation,
) -> Result<(), StoreError> {
    let unseen = sessions::generation.eq(generation.number()).and(sessions::seen.eq(false));
    diesel::update(sessions::table.find(id.as_bytes().as_slice()).filter(unseen))
        .set(sessions::seen.eq(true))
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn end(
    connection: &mut Connection,
    id: SessionId,
    owner: UserId,
    cause: EndCause,
    at: Timestamp,
) -> Result<Ending, StoreError> {
    let theirs = sessions::user_id
        .eq(owner.0)
        .and(sessions::ended_at.is_null())
        .and(sessions::expires_at.gt(at.as_microsecond()));
    let rows = diesel::update(sessions::table.find(id.as_bytes().as_slice()).filter(theirs))
        .set(Changes::end(cause, at))
        .execute(connection)
        .await?;
    Ok(if rows == 1 { Ending::Done } else { Ending::Unknown })
}

pub(crate) async fn end_all(
    connection: &mut Connection,
    owner: UserId,
    but: Option<SessionId>,
    cause: EndCause,
    at: Timestamp,
) -> Result<EndingAll, StoreError> {
    // Those that have expired as well: a clock that is set back would wake them.
    let theirs = sessions::user_id.eq(owner.0).and(sessions::ended_at.is_null());
    // No session has an empty identifier.
    let but = but.map_or(Vec::new(), |id| id.as_bytes().to_vec());
    let ended = diesel::update(sessions::table.filter(theirs).filter(sessions::id.ne(but)))
        .set(Changes::end(cause, at))
        .execute(connection)
        .await?;
    Ok(EndingAll(ended))
}

pub(super) async fn remove_over(
    connection: &mut Connection,
    at: Timestamp,
    limit: u32,
) -> Result<usize, StoreError> {
    let ended = sessions::table
        .filter(sessions::ended_at.is_not_null())
        .limit(limit.into())
        .select(sessions::id)
        .load::<Vec<u8>>(connection)
        .await?;
    let expired = sessions::table
        .filter(sessions::ended_at.is_null())
        .filter(sessions::expires_at.le(at.as_microsecond()))
        .limit(i64::from(limit).saturating_sub_unsigned(ended.len() as u64))
        .select(sessions::id)
        .load::<Vec<u8>>(connection)
        .await?;
    let over = diesel::delete(sessions::table.filter(sessions::id.eq_any([ended, expired].concat())))
        .execute(connection)
        .await?;

    let stale = at.saturating_sub(KNOWN_NETWORK_TTL).unwrap_or(Timestamp::MIN).as_microsecond();
    let forgotten: Vec<(i64, String)> = known_networks::table
        .filter(known_networks::last_login_at.le(stale))
        .limit(limit.into())
        .select((known_networks::user_id, known_networks::network))
        .load(connection)
        .await?;
    for network in &forgotten {
        diesel::delete(known_networks::table.find((network.0, &*network.1))).execute(connection).await?;
    }
    Ok(over + forgotten.len())
}

impl Changes {
    /// What a rotation or a recovery makes of a session.
    fn to(session: &Session) -> Self {
        let Lineage { generation, superseded, seen, recoveries } = &session.lineage;
        Self {
            generation: Some(generation.number()),
            superseded: Some(packed(superseded)),
            seen: Some(*seen),
            recoveries: Some(packed(recoveries)),
            last_used_at: Some(session.last_used_at.as_microsecond()),
            expires_at: Some(session.expires_at.as_microsecond()),
            ..Self::default()
        }
    }

    fn end(cause: EndCause, at: Timestamp) -> Self {
        Self { ended_at: Some(at.as_microsecond()), end_cause: Some(cause.as_str()), ..Self::default() }
    }
}
