//! What is changed, each in a transaction that the caller opened. Whatever touches more than one row of an account locks
//! the row of `users` first, and what clears up locks nothing that it would have to wait for: so nobody waits for
//! somebody who waits for them. It is locked against other such changes only: who changes one session, and then records
//! that, keeps the account from being deleted, and must not have to wait for whoever waits for that session.

use diesel::data_types::PgTimestamp;
use diesel::prelude::*;
use diesel::upsert::excluded;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::ports::{Ending, EndingAll, NewSession, Opening, Reuse, Rotation, Shown};
use domain::{
    Account, ClientNetwork, Decision, EndCause, Generation, KNOWN_NETWORK_TTL, Lineage, MOST_KNOWN_NETWORKS,
    MOST_SESSIONS, Session, SessionId, UserId,
};
use ipnet::IpNet;
use jiff::Timestamp;

use super::rows::Row;
use crate::error::StoreError;
use crate::schema::{known_networks, sessions, users};
use crate::sql_types::{Id, inet, timestamptz};
use crate::throttles::commands as throttles;
use crate::users::rows::Row as UserRow;

/// What is changed of a session; the rest stays.
#[derive(AsChangeset, Default)]
#[diesel(table_name = sessions)]
struct Changes {
    generation: Option<i64>,
    superseded: Option<Vec<PgTimestamp>>,
    seen: Option<bool>,
    recoveries: Option<Vec<PgTimestamp>>,
    last_used_at: Option<PgTimestamp>,
    expires_at: Option<PgTimestamp>,
    ended_at: Option<PgTimestamp>,
    end_cause: Option<&'static str>,
}

pub(super) async fn open(
    connection: &mut AsyncPgConnection,
    new: &NewSession,
) -> Result<Opening, StoreError> {
    let opening = open_uncounted(connection, new).await?;
    match (&opening, &new.compared) {
        (_, None) => {}
        (Opening::Done(_), Some(compared)) => throttles::succeed(connection, compared).await?,
        (_, Some(compared)) => throttles::fail(connection, compared).await?,
    }
    Ok(opening)
}

async fn open_uncounted(connection: &mut AsyncPgConnection, new: &NewSession) -> Result<Opening, StoreError> {
    // Locked: a change of the account that is not committed yet ends only the sessions that it sees, and two logins
    // would both find room for one more.
    let account: Option<UserRow> = users::table
        .find(new.user.0)
        .for_no_key_update()
        .select(UserRow::as_select())
        .get_result(connection)
        .await
        .optional()?;
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
pub(crate) async fn add(connection: &mut AsyncPgConnection, new: &NewSession) -> Result<(), StoreError> {
    diesel::insert_into(sessions::table).values(Row::from(new)).execute(connection).await?;
    if let Some(address) = new.address {
        remember(connection, new.user, ClientNetwork::of(address), new.at).await?;
    }
    Ok(())
}

/// Ends the oldest live sessions until there is room for one more. Not after it is there: with the clock set
/// back, the new one would be the oldest.
async fn make_room(
    connection: &mut AsyncPgConnection,
    owner: UserId,
    at: Timestamp,
) -> Result<(), StoreError> {
    let crowded_out: Vec<Id> = sessions::table
        .filter(sessions::user_id.eq(owner.0))
        .filter(sessions::ended_at.is_null())
        .filter(sessions::expires_at.gt(timestamptz(at)))
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
    connection: &mut AsyncPgConnection,
    owner: UserId,
    network: ClientNetwork,
    at: Timestamp,
) -> Result<(), StoreError> {
    diesel::insert_into(known_networks::table)
        .values((
            known_networks::user_id.eq(owner.0),
            known_networks::network.eq(inet(network.first_address())),
            known_networks::last_login_at.eq(timestamptz(at)),
        ))
        .on_conflict((known_networks::user_id, known_networks::network))
        .do_update()
        .set(known_networks::last_login_at.eq(excluded(known_networks::last_login_at)))
        .execute(connection)
        .await?;
    let of_owner = known_networks::user_id.eq(owner.0);
    let forgotten: Vec<IpNet> = known_networks::table
        .filter(of_owner)
        .order((known_networks::last_login_at.desc(), known_networks::network))
        .offset(MOST_KNOWN_NETWORKS.into())
        .select(known_networks::network)
        .load(connection)
        .await?;
    if !forgotten.is_empty() {
        let forgotten = known_networks::network.eq_any(forgotten);
        diesel::delete(known_networks::table.filter(of_owner).filter(forgotten)).execute(connection).await?;
    }
    Ok(())
}

pub(super) async fn rotate(
    connection: &mut AsyncPgConnection,
    shown: &Shown,
) -> Result<Rotation, StoreError> {
    let Shown { session: id, generation, at, rules } = *shown;
    // Locked, so that of many who show one token each decides upon what the one before left.
    let row: Option<Row> = sessions::table
        .find(Id::from(id))
        .for_update()
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

/// Changes the session that was decided upon, if it is still as it was; if not, all of it is to be done anew. The lock
/// alone would not do on an engine that keeps locks only as long as it likes, as CockroachDB does in part.
async fn change(
    connection: &mut AsyncPgConnection,
    id: SessionId,
    decided_upon: &Lineage,
    changes: Changes,
) -> Result<(), StoreError> {
    let unchanged = sessions::generation
        .eq(decided_upon.generation.number())
        .and(sessions::seen.eq(decided_upon.seen))
        .and(sessions::recoveries.eq(times(&decided_upon.recoveries)))
        .and(sessions::ended_at.is_null());
    let rows = diesel::update(sessions::table.find(Id::from(id)).filter(unchanged))
        .set(changes)
        .execute(connection)
        .await?;
    if rows == 1 { Ok(()) } else { Err(StoreError::passing("the session was changed meanwhile")) }
}

pub(super) async fn mark_seen(
    connection: &mut AsyncPgConnection,
    id: SessionId,
    generation: Generation,
) -> Result<bool, StoreError> {
    let unseen = sessions::generation.eq(generation.number()).and(sessions::seen.eq(false));
    let rows = diesel::update(sessions::table.find(Id::from(id)).filter(unseen))
        .set(sessions::seen.eq(true))
        .execute(connection)
        .await?;
    Ok(rows > 0)
}

pub(super) async fn end(
    connection: &mut AsyncPgConnection,
    id: SessionId,
    owner: UserId,
    cause: EndCause,
    at: Timestamp,
) -> Result<Ending, StoreError> {
    let theirs = sessions::user_id
        .eq(owner.0)
        .and(sessions::ended_at.is_null())
        .and(sessions::expires_at.gt(timestamptz(at)));
    let rows = diesel::update(sessions::table.find(Id::from(id)).filter(theirs))
        .set(Changes::end(cause, at))
        .execute(connection)
        .await?;
    Ok(if rows == 1 { Ending::Done } else { Ending::Unknown })
}

pub(super) async fn end_all(
    connection: &mut AsyncPgConnection,
    owner: UserId,
    but: Option<SessionId>,
    cause: EndCause,
    at: Timestamp,
) -> Result<EndingAll, StoreError> {
    users::table
        .find(owner.0)
        .for_no_key_update()
        .select(users::id)
        .get_result::<i64>(connection)
        .await
        .optional()?;
    end_theirs(connection, owner, but, cause, at).await
}

/// The same, where the account is locked already.
pub(crate) async fn end_theirs(
    connection: &mut AsyncPgConnection,
    owner: UserId,
    but: Option<SessionId>,
    cause: EndCause,
    at: Timestamp,
) -> Result<EndingAll, StoreError> {
    // Those that have expired as well: a clock that is set back would wake them.
    let theirs = sessions::user_id.eq(owner.0).and(sessions::ended_at.is_null());
    let but: Vec<Id> = but.into_iter().map(Id::from).collect();
    let ended = diesel::update(sessions::table.filter(theirs).filter(sessions::id.ne_all(but)))
        .set(Changes::end(cause, at))
        .execute(connection)
        .await?;
    Ok(EndingAll(ended))
}

pub(super) async fn remove_over(
    connection: &mut AsyncPgConnection,
    at: Timestamp,
    limit: u32,
) -> Result<usize, StoreError> {
    // What somebody is busy with is left for the next time, and what another server removes just now is its own.
    let ended: Vec<Id> = sessions::table
        .filter(sessions::ended_at.is_not_null())
        .limit(limit.into())
        .for_update()
        .skip_locked()
        .select(sessions::id)
        .load(connection)
        .await?;
    let expired: Vec<Id> = sessions::table
        .filter(sessions::ended_at.is_null())
        .filter(sessions::expires_at.le(timestamptz(at)))
        .limit(i64::from(limit).saturating_sub_unsigned(ended.len() as u64))
        .for_update()
        .skip_locked()
        .select(sessions::id)
        .load(connection)
        .await?;
    let over = diesel::delete(sessions::table.filter(sessions::id.eq_any([ended, expired].concat())))
        .execute(connection)
        .await?;

    let stale = at.saturating_sub(KNOWN_NETWORK_TTL).unwrap_or(Timestamp::MIN);
    let forgotten: Vec<(i64, IpNet)> = known_networks::table
        .filter(known_networks::last_login_at.le(timestamptz(stale)))
        .limit(limit.into())
        .for_update()
        .skip_locked()
        .select((known_networks::user_id, known_networks::network))
        .load(connection)
        .await?;
    for network in &forgotten {
        diesel::delete(known_networks::table.find(*network)).execute(connection).await?;
    }
    Ok(over + forgotten.len())
}

pub(super) fn times(times: &[Timestamp]) -> Vec<PgTimestamp> {
    times.iter().copied().map(timestamptz).collect()
}

impl Changes {
    /// What a rotation or a recovery makes of a session.
    fn to(session: &Session) -> Self {
        let Lineage { generation, superseded, seen, recoveries } = &session.lineage;
        Self {
            generation: Some(generation.number()),
            superseded: Some(times(superseded)),
            seen: Some(*seen),
            recoveries: Some(times(recoveries)),
            last_used_at: Some(timestamptz(session.last_used_at)),
            expires_at: Some(timestamptz(session.expires_at)),
            ..Self::default()
        }
    }

    fn end(cause: EndCause, at: Timestamp) -> Self {
        Self { ended_at: Some(timestamptz(at)), end_cause: Some(cause.as_str()), ..Self::default() }
    }
}
