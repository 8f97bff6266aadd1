//! The whole audit log as it is, for whoever carries it over. Nothing is judged here.

use diesel::dsl::exists;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::{Anchor, SealedEntry, UserId};

use super::rows::Row;
use super::{commands, queries};
use crate::calling_thread::Connection;
use crate::error::{BrokenRow, StoreError};
use crate::schema::audit_events;

pub(crate) async fn page(
    connection: &mut Connection,
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

pub(crate) async fn fill(connection: &mut Connection, events: Vec<SealedEntry>) -> Result<(), StoreError> {
    let deleted: Vec<UserId> = events
        .iter()
        .filter(|event| event.entry.is_deletion())
        .filter_map(|event| event.entry.user)
        .collect();
    let rows: Vec<Row> = events.into_iter().map(Row::from).collect();
    let insert = diesel::insert_into(audit_events::table).values(rows);
    connection.spawn_blocking(|connection| diesel::RunQueryDsl::execute(insert, connection)).await?;
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

pub(crate) async fn anchor(connection: &mut Connection) -> Result<Option<Anchor>, StoreError> {
    queries::anchor(connection).await
}

/// Where there is none yet.
pub(crate) async fn set_anchor(connection: &mut Connection, anchor: Anchor) -> Result<(), StoreError> {
    commands::keep_anchor(connection, anchor, false).await
}
