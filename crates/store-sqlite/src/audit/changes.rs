//! What the writer is asked. It holds the only write lock there is, so the head that it reads is the head that it
//! appends to.

use diesel::prelude::*;
use domain::{Attempt, AuditKey, Conclusion, Event, SealedEntry, UserId};
use jiff::Timestamp;

use super::Row;
use super::lookups::{anchor, head, link};
use crate::error::StoreError;
use crate::schema::{audit_anchor, audit_events};

/// Keeps what an attempt came to, if that is to be kept, in the transaction of the change that it came to.
pub(crate) fn record(
    connection: &mut SqliteConnection,
    key: &AuditKey,
    attempt: Attempt,
    done: &impl Conclusion,
) -> Result<(), StoreError> {
    match done.conclude(attempt) {
        Some(event) => append(connection, key, &event),
        None => Ok(()),
    }
}

pub(super) fn append(
    connection: &mut SqliteConnection,
    key: &AuditKey,
    event: &Event,
) -> Result<(), StoreError> {
    let entry = key.entry(event);
    let link = key.seal(&entry, head(connection)?);
    diesel::insert_into(audit_events::table)
        .values(Row::from(SealedEntry { entry, link }))
        .execute(connection)?;
    event.forgets().map_or(Ok(()), |user| forget(connection, user))
}

/// Blanks what could point to a person.
fn forget(connection: &mut SqliteConnection, user: UserId) -> Result<(), StoreError> {
    diesel::update(audit_events::table.filter(audit_events::user_id.eq(user.0)))
        .set((
            audit_events::salt.eq(None::<Vec<u8>>),
            audit_events::address.eq(None::<String>),
            audit_events::user_agent.eq(None::<String>),
        ))
        .execute(connection)?;
    Ok(())
}

pub(super) fn remove_before(
    connection: &mut SqliteConnection,
    key: &AuditKey,
    at: Timestamp,
    limit: u32,
) -> Result<usize, StoreError> {
    let oldest: Vec<(i64, i64, Vec<u8>)> = audit_events::table
        .order(audit_events::number)
        .limit(limit.into())
        .select((audit_events::number, audit_events::at, audit_events::seal))
        .load(connection)?;
    // Up to the first that is to stay, although a clock that was set back may have left older ones behind it: the
    // chain is cut in one place.
    let old = oldest.iter().take_while(|(_, decided, _)| *decided < at.as_microsecond());
    let Some((number, _, seal)) = old.last() else { return Ok(0) };
    let anchored = anchor(connection)?.map_or(0, |anchor| anchor.link.number);
    let new = key.anchor(link(*number, seal)?);
    let columns = (
        audit_anchor::number.eq(new.link.number),
        audit_anchor::seal.eq(new.link.seal.0.to_vec()),
        audit_anchor::proof.eq(new.proof.0.to_vec()),
    );
    if anchored == 0 {
        diesel::insert_into(audit_anchor::table)
            .values((audit_anchor::only_row.eq(1), columns))
            .execute(connection)?;
    } else {
        diesel::update(audit_anchor::table).set(columns).execute(connection)?;
    }
    let removed =
        diesel::delete(audit_events::table.filter(audit_events::number.le(number))).execute(connection)?;
    Ok(removed)
}
