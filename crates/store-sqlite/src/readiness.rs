//! Whether the store serves, found out by having it serve.

use std::time::Duration;

use async_trait::async_trait;
use diesel::{OptionalExtension, QueryDsl};
use diesel_async::RunQueryDsl;
use domain::ports::{PortError, Readiness};
use tokio::sync::Mutex;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::error::StoreError;
use crate::schema::users;
use crate::{Inside, SqliteStore, migrations};

/// How long an answer holds, good or bad. Anybody may ask, and each look costs a sync of the disk.
const HOLDS: Duration = Duration::from_secs(1);

/// When the last look ended, and what it showed. The lock is held while looking, so that of many who ask at
/// once one looks.
#[derive(Default)]
pub(crate) struct LastCheck(Mutex<Option<(Duration, Result<(), StoreError>)>>);

#[async_trait]
impl Readiness for SqliteStore {
    async fn check(&self) -> Result<(), PortError> {
        let inside = self.inside.clone();
        let counted = self.tasks.token();
        // The whole of it is a task: callers that hang up must not cost a look each.
        let checked = self.spawn(async move {
            let mut last = inside.last_check.0.lock().await;
            if let Some((at, outcome)) = &*last
                && inside.clock.monotonic().saturating_sub(*at) < HOLDS
            {
                return outcome.clone();
            }
            let outcome = look(&inside, counted).await;
            *last = Some((inside.clock.monotonic(), outcome.clone()));
            outcome
        });
        Ok(checked.await?)
    }
}

async fn look(inside: &Inside, counted: TaskTrackerToken) -> Result<(), StoreError> {
    inside.writer.write(counted, |connection| Ok(migrations::mark(connection)?)).await?;
    // One row, by way of the index and of the table: what a log-in reads.
    let mut reader = inside.readers.take().await?;
    let somebody =
        users::table.order(users::username_key).select((users::username_key, users::password_hash));
    somebody.first::<(String, String)>(&mut reader).await.optional()?;
    Ok(())
}
