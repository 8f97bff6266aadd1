//! The whole audit log as it is, for whoever carries it over. Nothing is judged here.

use diesel::dsl::exists;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{Anchor, SealedEntry, UserId};

use super::rows::Row;
use super::{chain, commands, queries};
use crate::error::{BrokenRow, StoreError};
use crate::schema::audit_events;

/// Whether there are events without a place in the chain.
pub(crate) async fn is_any_unsealed(connection: &mut AsyncPgConnection) -> Result<bool, StoreError> {
    chain::is_any_unsealed(connection).await
}

/// Keeps everybody else from the end of the chain until this transaction is over.
pub(crate) async fn lock(connection: &mut AsyncPgConnection) -> Result<(), StoreError> {
    chain::lock_chain(connection).await
}

/// Of the chain, in its order.
pub(crate) async fn page(
    connection: &mut AsyncPgConnection,
    after: i64,
    limit: u32,
) -> Result<Vec<SealedEntry>, StoreError> {
    let rows: Vec<Row> = audit_events::table
        .filter(audit_events::number.gt(after))
        .order(audit_events::number)
        .limit(limit.into())
        .select(Row::as_select())
        .load(connection)
        .await?;
    Ok(rows.into_iter().map(SealedEntry::try_from).collect::<Result<_, BrokenRow>>()?)
}

/// In the order of the chain, so that `id`, which the rows are given here, goes the same way.
pub(crate) async fn fill(
    connection: &mut AsyncPgConnection,
    events: Vec<SealedEntry>,
) -> Result<(), StoreError> {
    let deleted: Vec<UserId> = events
        .iter()
        .filter(|event| event.entry.is_deletion())
        .filter_map(|event| event.entry.user)
        .collect();
    let rows: Vec<Row> = events.into_iter().map(Row::from).collect();
    diesel::insert_into(audit_events::table).values(rows).execute(connection).await?;
    // Deletions come after the events that they blank. What was not blanked where it comes from is blanked here.
    for user in deleted {
        let theirs = audit_events::table.filter(audit_events::user_id.eq(user.0));
        let left = theirs.filter(audit_events::address.is_not_null());
        if diesel::select(exists(left)).get_result(connection).await? {
            commands::add_erasure(connection, user).await?;
        }
    }
    Ok(())
}

pub(crate) async fn anchor(connection: &mut AsyncPgConnection) -> Result<Option<Anchor>, StoreError> {
    queries::anchor(connection).await
}

pub(crate) async fn set_anchor(connection: &mut AsyncPgConnection, anchor: Anchor) -> Result<(), StoreError> {
    commands::keep_anchor(connection, anchor).await
}
