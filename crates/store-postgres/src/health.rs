//! Whether the store serves, found out by having it serve.

use std::time::Duration;

use async_trait::async_trait;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::ports::{PortError, Readiness};
use futures_util::FutureExt as _;
use tokio::sync::Mutex;

use crate::error::StoreError;
use crate::schema::{auth_api, users};
use crate::sql_types::timestamptz;
use crate::{Inside, PostgresStore};

/// How long an answer holds, good or bad. Anybody may ask, and each look costs a sync of the disk.
const HOLDS: Duration = Duration::from_secs(1);

/// When the last look ended, and what it showed. The lock is held while looking, so that of many who ask at
/// once one looks.
#[derive(Default)]
pub(crate) struct LastCheck(Mutex<Option<(Duration, Result<(), StoreError>)>>);

#[async_trait]
impl Readiness for PostgresStore {
    async fn check(&self) -> Result<(), PortError> {
        let inside = self.inside.clone();
        // The whole of it is a task: callers that hang up must not cost a look each.
        let checked = self.spawn(async move {
            let mut last = inside.last_check.0.lock().await;
            if let Some((at, outcome)) = &*last
                && inside.clock.monotonic().saturating_sub(*at) < HOLDS
            {
                return outcome.clone();
            }
            let outcome = inside.in_time(look(&inside)).await;
            *last = Some((inside.clock.monotonic(), outcome.clone()));
            outcome
        });
        Ok(checked.await?)
    }
}

async fn look(inside: &Inside) -> Result<(), StoreError> {
    let at = inside.clock.now();
    inside.write(&at, |connection, at| mark(connection, *at).boxed()).await?;
    inside.read(&(), |connection, ()| somebody(connection).boxed()).await
}

async fn mark(connection: &mut AsyncPgConnection, at: jiff::Timestamp) -> Result<(), StoreError> {
    let rows = diesel::update(auth_api::table)
        .set(auth_api::written_at.eq(timestamptz(at)))
        .execute(connection)
        .await?;
    if rows == 1 { Ok(()) } else { Err(StoreError::unavailable("the table auth_api has lost its row")) }
}

/// One row, by way of the index and of the table: what a log-in reads.
async fn somebody(connection: &mut AsyncPgConnection) -> Result<(), StoreError> {
    let somebody =
        users::table.order(users::username_key).select((users::username_key, users::password_hash));
    somebody.first::<(String, String)>(connection).await.optional()?;
    Ok(())
}
