//! What the writer is asked. It holds the only write lock there is, so the head that it reads is the head that it
//! appends to.

use diesel::dsl::exists;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::{Anchor, Attempt, AuditKey, Conclusion, Event, Inspection, SealedEntry, Tampering, UserId};
use jiff::Timestamp;

use super::queries::{anchor, head};
use super::rows::Row;
use crate::calling_thread::Connection;
use crate::error::StoreError;
use crate::schema::{audit_anchor, audit_erasures, audit_events, users};

/// How many events of an account its deletion blanks in its own transaction.
const BLANKED_AT_ONCE: u32 = 500;

/// Keeps what an attempt came to, if that is to be kept, in the transaction of the change that it came to.
pub(crate) async fn record(
    connection: &mut Connection,
    key: &AuditKey,
    attempt: Attempt,
    done: &impl Conclusion,
) -> Result<(), StoreError> {
    match done.conclude(attempt).filter(|_| done.is_kept()) {
        Some(event) => append(connection, key, &event).await,
        None => Ok(()),
    }
}

pub(super) async fn append(
    connection: &mut Connection,
    key: &AuditKey,
    event: &Event,
) -> Result<(), StoreError> {
    let mut entry = key.entry(event);
    // Else what comes after a deletion would stay, since it is blanked but once.
    if let Some(user) = entry.user
        && !diesel::select(exists(users::table.find(user.0))).get_result(connection).await?
    {
        entry = entry.without_client();
    }
    let link = key.seal(&entry, head(connection).await?);
    diesel::insert_into(audit_events::table)
        .values(Row::from(SealedEntry { entry, link }))
        .execute(connection)
        .await?;
    match event.forgets() {
        Some(user) => forget(connection, user).await,
        None => Ok(()),
    }
}

/// Blanks what could point to a person: a batch now, and the rest by [`blank_deleted`].
async fn forget(connection: &mut Connection, user: UserId) -> Result<(), StoreError> {
    add_erasure(connection, user).await?;
    blank(connection, user.0, 0, BLANKED_AT_ONCE).await
}

/// Puts an account on the list of those whose events are to be blanked.
pub(super) async fn add_erasure(connection: &mut Connection, user: UserId) -> Result<(), StoreError> {
    diesel::insert_into(audit_erasures::table)
        .values(audit_erasures::user_id.eq(user.0))
        .on_conflict_do_nothing()
        .execute(connection)
        .await?;
    Ok(())
}

/// Blanks up to `limit` events of the first account on the list; tells whether there is one.
pub(super) async fn blank_deleted(connection: &mut Connection, limit: u32) -> Result<bool, StoreError> {
    let first = audit_erasures::table.order(audit_erasures::user_id);
    let first: Option<(i64, i64)> = first.first(connection).await.optional()?;
    let Some((user, blanked_to)) = first else { return Ok(false) };
    blank(connection, user, blanked_to, limit).await?;
    Ok(true)
}

/// Blanks up to `limit` events of an account above this number, and takes the account from the list if that was the last
/// of them.
async fn blank(
    connection: &mut Connection,
    user: i64,
    blanked_to: i64,
    limit: u32,
) -> Result<(), StoreError> {
    let left = audit_events::user_id.eq(user).and(audit_events::number.gt(blanked_to));
    let numbers: Vec<i64> = audit_events::table
        .filter(left)
        .order(audit_events::number)
        .limit(limit.into())
        .select(audit_events::number)
        .load(connection)
        .await?;
    let last = numbers.last().copied().unwrap_or(blanked_to);
    diesel::update(audit_events::table.filter(left.and(audit_events::number.le(last))))
        .set((
            audit_events::salt.eq(None::<Vec<u8>>),
            audit_events::address.eq(None::<String>),
            audit_events::user_agent.eq(None::<String>),
        ))
        .execute(connection)
        .await?;
    if numbers.len() < limit as usize {
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
    connection: &mut Connection,
    key: &AuditKey,
    at: Timestamp,
    limit: u32,
) -> Result<Result<usize, Tampering>, StoreError> {
    let anchored = anchor(connection).await?;
    let mut inspection = match Inspection::begin(key, anchored, None) {
        Ok(inspection) => inspection,
        Err(tampering) => return Ok(Err(tampering)),
    };
    let oldest: Vec<Row> = audit_events::table
        .order(audit_events::number)
        .limit(limit.into())
        .select(Row::as_select())
        .load(connection)
        .await?;
    // Up to the first that is to stay, although a clock that was set back may have left older ones behind it: the
    // chain is cut in one place. And none that was not looked at: whoever can make an event look old would have it
    // removed, and what is left proven by this very key.
    let mut last = None;
    for row in oldest.into_iter().take_while(|row| row.at < at.as_microsecond()) {
        match row.inspected(&mut inspection) {
            Ok(link) => last = Some(link),
            Err(tampering) => return Ok(Err(tampering)),
        }
    }
    let Some(last) = last else { return Ok(Ok(0)) };
    keep_anchor(connection, key.anchor(last), anchored.is_some()).await?;
    let gone = audit_events::table.filter(audit_events::number.le(last.number));
    Ok(Ok(diesel::delete(gone).execute(connection).await?))
}

pub(super) async fn keep_anchor(
    connection: &mut Connection,
    Anchor { link, proof }: Anchor,
    is_there_one: bool,
) -> Result<(), StoreError> {
    let columns = (
        audit_anchor::number.eq(link.number),
        audit_anchor::seal.eq(link.seal.0.to_vec()),
        audit_anchor::proof.eq(proof.0.to_vec()),
    );
    if is_there_one {
        diesel::update(audit_anchor::table).set(columns).execute(connection).await?;
    } else {
        diesel::insert_into(audit_anchor::table)
            .values((audit_anchor::only_row.eq(1), columns))
            .execute(connection)
            .await?;
    }
    Ok(())
}
