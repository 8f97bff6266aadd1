//! How rows get their places in the chain.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Binary};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{AuditEntry, AuditKey, Link, Seal, SealedEntry};
use futures_util::FutureExt as _;
use thiserror::Error;

use super::queries::{anchor, head};
use super::rows::Row;
use crate::error::StoreError;
use crate::schema::{audit_anchor, audit_events};
use crate::{Inside, PostgresStore};

/// How many rows are sealed in one transaction.
const BATCH: u16 = 1000;

/// The seal of a row that was not written here. It is no MAC of anything.
const NO_SEAL: Seal = Seal([0; 32]);

/// How many sealed rows are asked whose key sealed them: the last one, and if that cannot be told of it, since somebody
/// changed it or the one before, these.
const WITNESSES: [i64; 2] = [1, 100];

/// Nothing was sealed, since it would be wrong for good.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "AUTH_AUDIT__KEY, by default the refresh key, is not the key of this audit log, so nothing is sealed with it; set \
     the one that the log was written with"
)]
pub(crate) struct OtherKey;

impl PostgresStore {
    /// Seals what can be seen now, so that whoever reads sees what was answered before. This changes nothing that was
    /// recorded, and is done for those as well who only look.
    pub(crate) async fn seal(&self) -> Result<(), StoreError> {
        self.try_to_seal().await?.map_err(StoreError::failed)
    }

    /// The same for whoever looks through what is sealed, and may find there why no more is.
    pub(super) async fn try_to_seal(&self) -> Result<Result<(), OtherKey>, StoreError> {
        if !self.inside.seal {
            return Ok(Ok(()));
        }
        let inside = self.inside.clone();
        self.spawn(async move { inside.seal().await }).await
    }
}

impl Inside {
    pub(crate) async fn seal(&self) -> Result<Result<(), OtherKey>, StoreError> {
        // Most often there is nothing, and then nobody is locked.
        while self.in_time(self.read(&(), |connection, ()| is_any_unsealed(connection).boxed())).await? {
            let sealing = self.write(&self.audit_key, |connection, key| seal_some(connection, key).boxed());
            match self.in_time(sealing).await? {
                Ok(count) if count < BATCH.into() => break,
                Ok(_) => {}
                Err(other_key) => return Ok(Err(other_key)),
            }
        }
        Ok(Ok(()))
    }
}

/// Has whoever else makes the chain longer or shorter wait until this transaction is over.
pub(super) async fn lock_chain(connection: &mut AsyncPgConnection) -> Result<(), StoreError> {
    let rows = audit_anchor::table.for_update().select(audit_anchor::only_row).execute(connection).await?;
    if rows == 1 { Ok(()) } else { Err(StoreError::unavailable("the table audit_anchor has lost its row")) }
}

pub(super) async fn is_any_unsealed(connection: &mut AsyncPgConnection) -> Result<bool, StoreError> {
    let unsealed = audit_events::table.filter(audit_events::number.is_null());
    Ok(diesel::select(diesel::dsl::exists(unsealed)).get_result(connection).await?)
}

/// Seals the first rows that are not, and tells how many.
async fn seal_some(
    connection: &mut AsyncPgConnection,
    key: &AuditKey,
) -> Result<Result<usize, OtherKey>, StoreError> {
    lock_chain(connection).await?;
    // A statement of its own, which sees what was committed by whoever had the lock before.
    let mut last = head(connection).await?;
    let rows: Vec<Row> = audit_events::table
        .filter(audit_events::number.is_null())
        .order(audit_events::id)
        .limit(BATCH.into())
        .for_no_key_update()
        .select(Row::as_select())
        .load(connection)
        .await?;
    let rows: Vec<(i64, Option<AuditEntry>)> =
        rows.into_iter().map(|row| (row.id, row.genuine(key))).collect();
    // To another key every row is a forgery, and would be sealed as one.
    let is_ours = match is_sealed_with(connection, key).await? {
        Some(is_ours) => is_ours,
        None => rows.is_empty() || rows.iter().any(|(_, entry)| entry.is_some()),
    };
    if !is_ours {
        return Ok(Err(OtherKey));
    }
    let count = rows.len();
    let (mut ids, mut numbers, mut seals) = (Vec::new(), Vec::new(), Vec::new());
    for (id, entry) in rows {
        ids.push(id);
        last = match entry {
            Some(entry) => key.seal(&entry, last),
            None => Link { number: last.number + 1, seal: NO_SEAL },
        };
        numbers.push(last.number);
        seals.push(last.seal.0.to_vec());
    }
    #[expect(clippy::disallowed_methods, reason = "the DSL knows no UPDATE with a FROM")]
    let placing = diesel::sql_query(
        "UPDATE audit_events SET number = place.number, seal = place.seal, mark = NULL \
         FROM unnest($1, $2, $3) AS place (id, number, seal) WHERE audit_events.id = place.id",
    );
    let placing = placing.bind::<Array<BigInt>, _>(ids).bind::<Array<BigInt>, _>(numbers);
    placing.bind::<Array<Binary>, _>(seals).execute(connection).await?;
    Ok(Ok(count))
}

/// Whether this key made the proof of what was removed, or one of the last seals; nothing if there are none.
///
/// One is enough, for nobody makes one without the key. Were it to be the last, whoever can write to the database could
/// end the sealing by a change of one row.
async fn is_sealed_with(
    connection: &mut AsyncPgConnection,
    key: &AuditKey,
) -> Result<Option<bool>, StoreError> {
    let anchor = anchor(connection).await?;
    if anchor.is_some_and(|anchor| key.anchor(anchor.link) == anchor) {
        return Ok(Some(true));
    }
    let mut is_any = anchor.is_some();
    for limit in WITNESSES {
        let witnesses: Vec<Row> = audit_events::table
            .filter(audit_events::number.is_not_null().and(audit_events::seal.ne(NO_SEAL.0.to_vec())))
            .order(audit_events::number.desc())
            .limit(limit)
            .select(Row::as_select())
            .load(connection)
            .await?;
        is_any |= !witnesses.is_empty();
        let before: Vec<i64> =
            witnesses.iter().filter_map(|row| row.number).map(|number| number - 1).collect();
        let before: Vec<(Option<i64>, Option<Vec<u8>>)> = audit_events::table
            .filter(audit_events::number.eq_any(before))
            .select((audit_events::number, audit_events::seal))
            .load(connection)
            .await?;
        let mut links: BTreeMap<i64, Link> = [Some(Link::NONE), anchor.map(|anchor| anchor.link)]
            .into_iter()
            .flatten()
            .map(|link| (link.number, link))
            .collect();
        for (number, seal) in before {
            if let (Some(number), Some(seal)) = (number, seal.as_deref().and_then(super::rows::bytes)) {
                links.insert(number, Link { number, seal: Seal(seal) });
            }
        }
        // One that cannot be read is no witness.
        let is_ours = witnesses.into_iter().filter_map(|row| SealedEntry::try_from(row).ok()).any(|sealed| {
            let previous = links.get(&(sealed.link.number - 1));
            previous.is_some_and(|previous| key.seal(&sealed.entry, *previous) == sealed.link)
        });
        if is_ours {
            return Ok(Some(true));
        }
    }
    Ok(is_any.then_some(false))
}
