//! What a reader is asked, and the writer before it appends.

use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use domain::ports::{AuditQuery, ListedEvent};
use domain::{Anchor, AuditKey, Inspection, Link, Seal, SealedEntry, Subject, Tampering, Username};

use super::rows::{Row, broken, bytes};
use crate::calling_thread::Connection;
use crate::error::{BrokenRow, StoreError};
use crate::schema::{audit_anchor, audit_events, users};

/// How many events are looked at between two looks into the file.
const PAGE: i64 = 1000;

pub(super) async fn list(
    reader: &mut Connection,
    key: &AuditKey,
    query: &AuditQuery,
    after: i64,
    limit: u32,
) -> Result<Vec<ListedEvent>, StoreError> {
    let mut events = audit_events::table
        .left_join(users::table.on(users::id.nullable().eq(audit_events::user_id)))
        .filter(audit_events::number.gt(after))
        .order(audit_events::number)
        .limit(limit.into())
        .select((Row::as_select(), (users::username, users::username_key).nullable()))
        .into_boxed();
    if let Some(since) = query.since {
        events = events.filter(audit_events::at.ge(since.as_microsecond()));
    }
    if let Some(name) = &query.name {
        // Two look-ups and not one by a join, so that both indexes serve.
        let owner: Option<i64> = users::table
            .filter(users::username_key.eq(name.as_str()))
            .select(users::id)
            .get_result(reader)
            .await
            .optional()?;
        let (_, digest) = key.subject(&Subject::Name(name.clone()));
        // Nobody has a number below 1.
        let by_number = audit_events::user_id.eq(owner.unwrap_or(0)).assume_not_null();
        events = events.filter(by_number.or(audit_events::name_digest.eq(digest).assume_not_null()));
    }
    let rows: Vec<(Row, Option<(String, String)>)> = events.load(reader).await?;
    let listed = |(row, name): (Row, Option<(String, String)>)| {
        let SealedEntry { entry, link } = row.try_into()?;
        let username = name.map(|(typed, key)| Username::from_stored(typed, key));
        Ok(ListedEvent { number: link.number, entry, username })
    };
    Ok(rows.into_iter().map(listed).collect::<Result<_, BrokenRow>>()?)
}

pub(super) async fn inspect(
    reader: &mut Connection,
    key: &AuditKey,
    expected: Option<Link>,
) -> Result<Result<Link, Tampering>, StoreError> {
    // One transaction, so that what is removed or blanked meanwhile is not missed.
    let inspecting = async |reader: &mut Connection| {
        let mut inspection = match Inspection::begin(key, anchor(reader).await?, expected) {
            Ok(inspection) => inspection,
            Err(tampering) => return Ok(Err(tampering)),
        };
        let mut after = i64::MIN;
        loop {
            let page: Vec<Row> = audit_events::table
                .filter(audit_events::number.gt(after))
                .order(audit_events::number)
                .limit(PAGE)
                .select(Row::as_select())
                .load(reader)
                .await?;
            let Some(last) = page.last() else { return Ok(inspection.end()) };
            after = last.number;
            for row in page {
                if let Err(tampering) = row.inspected(&mut inspection) {
                    return Ok(Err(tampering));
                }
            }
        }
    };
    reader.transaction(inspecting).await
}

pub(super) async fn head(connection: &mut Connection) -> Result<Link, StoreError> {
    let last: Option<(i64, Vec<u8>)> = audit_events::table
        .order(audit_events::number.desc())
        .select((audit_events::number, audit_events::seal))
        .first(connection)
        .await
        .optional()?;
    match last {
        Some((number, seal)) => Ok(link(number, &seal)?),
        None => Ok(anchor(connection).await?.map_or(Link::NONE, |anchor| anchor.link)),
    }
}

pub(super) async fn anchor(connection: &mut Connection) -> Result<Option<Anchor>, StoreError> {
    let row: Option<(i64, Vec<u8>, Vec<u8>)> = audit_anchor::table
        .select((audit_anchor::number, audit_anchor::seal, audit_anchor::proof))
        .first(connection)
        .await
        .optional()?;
    let Some((number, seal, proof)) = row else { return Ok(None) };
    let proof = bytes(&proof).ok_or_else(|| broken(number, "proof", &"of another length"))?;
    Ok(Some(Anchor { link: link(number, &seal)?, proof: Seal(proof) }))
}

pub(super) fn link(number: i64, seal: &[u8]) -> Result<Link, BrokenRow> {
    let seal = bytes(seal).ok_or_else(|| broken(number, "seal", &"of another length"))?;
    Ok(Link { number, seal: Seal(seal) })
}
