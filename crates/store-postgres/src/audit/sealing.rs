//! How rows get their places in the chain.

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Binary};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{AuditKey, Link, Seal};
use futures_util::FutureExt as _;

use super::Row;
use super::lookups::head;
use crate::editions::Concerns;
use crate::error::StoreError;
use crate::schema::{audit_anchor, audit_events};
use crate::{Inside, PostgresStore};

/// How many rows are sealed in one transaction.
const BATCH: u16 = 1000;

/// The seal of a row that was not written here. It is no MAC of anything.
const NO_SEAL: Seal = Seal([0; 32]);

impl PostgresStore {
    /// Seals what can be seen now, so that whoever reads sees what was answered before. This changes nothing that was
    /// recorded, and is done for those as well who only look.
    pub(crate) async fn seal(&self) -> Result<(), StoreError> {
        let inside = self.inside.clone();
        self.spawn(async move { inside.seal().await }).await
    }
}

impl Inside {
    pub(crate) async fn seal(&self) -> Result<(), StoreError> {
        // Most often there is nothing, and then nobody is locked.
        while self.in_time(self.read(&(), |connection, ()| is_any_unsealed(connection).boxed())).await? {
            let sealing = self.write(
                &self.audit_key,
                |connection, key| seal_some(connection, key).boxed(),
                |_, _| Concerns::Nobody,
            );
            if self.in_time(sealing).await? < BATCH.into() {
                break;
            }
        }
        Ok(())
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
async fn seal_some(connection: &mut AsyncPgConnection, key: &AuditKey) -> Result<usize, StoreError> {
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
    let count = rows.len();
    let (mut ids, mut numbers, mut seals) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        ids.push(row.id);
        last = match row.genuine(key) {
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
    Ok(count)
}
