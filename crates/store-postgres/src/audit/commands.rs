//! What is changed, each in a transaction that the caller opened. Rows of `users` are locked before those of
//! `audit_events`, and both in the order of their numbers: so nobody waits for somebody who waits for them.

use std::collections::BTreeSet;

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{Anchor, Attempt, AuditKey, Conclusion, Event, Inspection, Tampering, UserId};
use jiff::Timestamp;

use super::chain::lock_chain;
use super::queries::anchor;
use super::rows::Row;
use crate::error::StoreError;
use crate::schema::{audit_anchor, audit_erasures, audit_events, users};
use crate::sql_types::timestamptz;

/// How many events of an account its deletion blanks in its own transaction.
const BLANKED_AT_ONCE: u32 = 500;

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

/// Blanks what could point to a person: a batch now, and the rest by [`blank_deleted`].
///
/// The account is locked, and so are those who write an event of it until they commit. So no event of it that still has
/// its client comes after this.
async fn forget(connection: &mut AsyncPgConnection, user: UserId) -> Result<(), StoreError> {
    add_erasure(connection, user).await?;
    blank(connection, user.0, 0, BLANKED_AT_ONCE).await
}

/// Puts an account on the list of those whose events are to be blanked.
pub(super) async fn add_erasure(connection: &mut AsyncPgConnection, user: UserId) -> Result<(), StoreError> {
    diesel::insert_into(audit_erasures::table)
        .values(audit_erasures::user_id.eq(user.0))
        .on_conflict_do_nothing()
        .execute(connection)
        .await?;
    Ok(())
}

/// Blanks up to `limit` events of the first account on the list that no other instance works on; tells whether there is
/// one.
pub(super) async fn blank_deleted(
    connection: &mut AsyncPgConnection,
    limit: u32,
) -> Result<bool, StoreError> {
    let first: Option<(i64, i64)> = audit_erasures::table
        .order(audit_erasures::user_id)
        .limit(1)
        .for_update()
        .skip_locked()
        .get_result(connection)
        .await
        .optional()?;
    let Some((user, blanked_to)) = first else { return Ok(false) };
    blank(connection, user, blanked_to, limit).await?;
    Ok(true)
}

/// Blanks up to `limit` events of an account above this identifier, and takes the account from the list if that was the
/// last of them.
async fn blank(
    connection: &mut AsyncPgConnection,
    user: i64,
    blanked_to: i64,
    limit: u32,
) -> Result<(), StoreError> {
    let left = audit_events::user_id.eq(user).and(audit_events::id.gt(blanked_to));
    // In the order in which they are sealed.
    let ids: Vec<i64> = audit_events::table
        .filter(left)
        .order(audit_events::id)
        .limit(limit.into())
        .for_no_key_update()
        .select(audit_events::id)
        .load(connection)
        .await?;
    let last = ids.last().copied().unwrap_or(blanked_to);
    diesel::update(audit_events::table.filter(left.and(audit_events::id.le(last))))
        .set((
            audit_events::salt.eq(None::<Vec<u8>>),
            audit_events::address.eq(None::<String>),
            audit_events::user_agent.eq(None::<String>),
        ))
        .execute(connection)
        .await?;
    if ids.len() < limit as usize {
        diesel::delete(audit_erasures::table.find(user)).execute(connection).await?;
    } else {
        diesel::update(audit_erasures::table.find(user))
            .set(audit_erasures::blanked_to.eq(last))
            .execute(connection)
            .await?;
    }
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
