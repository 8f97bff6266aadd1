//! What is changed, each in a transaction that the caller opened. Rows of `users` are locked before those of
//! `audit_events`, and both in the order of their numbers: so nobody waits for somebody who waits for them.

use std::collections::BTreeSet;

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{Anchor, Attempt, AuditKey, Conclusion, Event, Inspection, Tampering, UserId};
use jiff::Timestamp;

use super::Row;
use super::lookups::anchor;
use super::sealing::lock_chain;
use crate::error::StoreError;
use crate::schema::{audit_anchor, audit_events, users};
use crate::values::timestamptz;

/// Keeps what an attempt came to, if that is to be kept, in the transaction of the change that it came to.
pub(crate) async fn record(
    connection: &mut AsyncPgConnection,
    key: &AuditKey,
    attempt: Attempt,
    done: &(impl Conclusion + Sync),
) -> Result<(), StoreError> {
    match done.conclude(attempt).filter(|_| done.is_kept()) {
        Some(event) => append(connection, key, &[event]).await,
        None => Ok(()),
    }
}

/// Keeps what several attempts came to, likewise.
pub(crate) async fn record_all<'done, T: Conclusion + 'done>(
    connection: &mut AsyncPgConnection,
    key: &AuditKey,
    attempts: impl Iterator<Item = (Attempt, &'done T)>,
) -> Result<(), StoreError> {
    let kept = attempts.filter(|(_, done)| done.is_kept());
    let events: Vec<_> = kept.filter_map(|(attempt, done)| done.conclude(attempt)).collect();
    if events.is_empty() { Ok(()) } else { append(connection, key, &events).await }
}

pub(super) async fn append(
    connection: &mut AsyncPgConnection,
    key: &AuditKey,
    events: &[Event],
) -> Result<(), StoreError> {
    let entries: Vec<_> = events.iter().map(|event| key.entry(event)).collect();
    let there = keep_there(connection, entries.iter().filter_map(|entry| entry.user).collect()).await?;
    // Else what comes after a deletion would stay, since it is blanked but once.
    let rows = entries.into_iter().map(|entry| {
        let is_gone = entry.user.is_some_and(|user| !there.contains(&user));
        Row::unsealed(key, if is_gone { entry.without_client() } else { entry })
    });
    diesel::insert_into(audit_events::table).values(rows.collect::<Vec<_>>()).execute(connection).await?;
    for user in events.iter().filter_map(Event::forgets) {
        forget(connection, user).await?;
    }
    Ok(())
}

/// Which of these users are there, and stay so until the transaction is over: a deletion at the same moment is done, or
/// finds what is written here.
async fn keep_there(
    connection: &mut AsyncPgConnection,
    users: BTreeSet<UserId>,
) -> Result<BTreeSet<UserId>, StoreError> {
    if users.is_empty() {
        return Ok(users);
    }
    let there: Vec<i64> = users::table
        .filter(users::id.eq_any(users.into_iter().map(|user| user.0).collect::<Vec<_>>()))
        .order(users::id)
        .for_key_share()
        .select(users::id)
        .load(connection)
        .await?;
    Ok(there.into_iter().map(UserId).collect())
}

/// Blanks what could point to a person.
async fn forget(connection: &mut AsyncPgConnection, user: UserId) -> Result<(), StoreError> {
    let of_them = audit_events::user_id.eq(user.0);
    // In the order in which they are sealed.
    audit_events::table
        .filter(of_them)
        .order(audit_events::id)
        .for_no_key_update()
        .select(audit_events::id)
        .load::<i64>(connection)
        .await?;
    diesel::update(audit_events::table.filter(of_them))
        .set((
            audit_events::salt.eq(None::<Vec<u8>>),
            audit_events::address.eq(None::<String>),
            audit_events::user_agent.eq(None::<String>),
        ))
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn remove_before(
    connection: &mut AsyncPgConnection,
    key: &AuditKey,
    at: Timestamp,
    limit: u32,
) -> Result<Result<usize, Tampering>, StoreError> {
    lock_chain(connection).await?;
    let mut inspection = match Inspection::begin(key, anchor(connection).await?, None) {
        Ok(inspection) => inspection,
        Err(tampering) => return Ok(Err(tampering)),
    };
    let oldest: Vec<Row> = audit_events::table
        .filter(audit_events::number.is_not_null())
        .order(audit_events::number)
        .limit(limit.into())
        .select(Row::as_select())
        .load(connection)
        .await?;
    // Up to the first that is to stay, although a clock that was set back may have left older ones behind it: the
    // chain is cut in one place. And none that was not looked at: whoever can make an event look old would have it
    // removed, and what is left proven by this very key.
    let mut last = None;
    for row in oldest.into_iter().take_while(|row| row.at.0 < timestamptz(at).0) {
        match row.inspected(&mut inspection) {
            Ok(link) => last = Some(link),
            Err(tampering) => return Ok(Err(tampering)),
        }
    }
    let Some(last) = last else { return Ok(Ok(0)) };
    keep_anchor(connection, key.anchor(last)).await?;
    let gone = audit_events::table.filter(audit_events::number.le(last.number));
    Ok(Ok(diesel::delete(gone).execute(connection).await?))
}

pub(super) async fn keep_anchor(
    connection: &mut AsyncPgConnection,
    Anchor { link, proof }: Anchor,
) -> Result<(), StoreError> {
    diesel::update(audit_anchor::table)
        .set((
            audit_anchor::number.eq(link.number),
            audit_anchor::seal.eq(link.seal.0.to_vec()),
            audit_anchor::proof.eq(proof.0.to_vec()),
        ))
        .execute(connection)
        .await?;
    Ok(())
}
