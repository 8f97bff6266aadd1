//! Whether the store serves, found out by having it serve.

use std::time::Duration;

use async_trait::async_trait;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::ports::{PortError, Readiness, Requester};
use tokio::sync::Mutex;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::calling_thread::Connection;
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
        let looking = async move {
            let mut last = inside.last_check.0.lock().await;
            if let Some((at, outcome)) = &*last
                && inside.clock.monotonic().saturating_sub(*at) < HOLDS
            {
                return outcome.clone();
            }
            let outcome = look(&inside, counted).await;
            *last = Some((inside.clock.monotonic(), outcome.clone()));
            outcome
        };
        let checked = self.tasks.spawn_on(looking, &self.runtime).await;
        Ok(checked.unwrap_or_else(|ended| Err(StoreError::unavailable(ended)))?)
    }
}

async fn look(inside: &Inside, counted: TaskTrackerToken) -> Result<(), StoreError> {
    let marked = inside.writer.write(counted, Requester::Bulk, async |connection: &mut Connection| {
        // In the transaction that marks, so that a file which is unmarked meanwhile does not become ours again.
        if !connection.spawn_blocking(migrations::is_marked).await? {
            return Err(StoreError::unavailable("the schema was taken back; run `auth-api migrate up`"));
        }
        Ok(connection.spawn_blocking(migrations::mark).await?)
    });
    marked.await?;
    // One row, by way of the index and of the table: what a log-in reads.
    let somebody =
        users::table.order(users::username_key).select((users::username_key, users::password_hash));
    let look = async move |reader: &mut Connection| {
        Ok(somebody.first::<(String, String)>(reader).await.optional()?)
    };
    inside.readers.read(look).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use diesel::connection::SimpleConnection;
    use domain::ports::UserRepo;
    use futures_util::FutureExt;
    use futures_util::future::join_all;

    use super::*;
    use crate::testing::{Fixture, attempt, is_done, is_unavailable, key, person, settings};

    /// A page and its header, in the log.
    const FRAME: u64 = 4096 + 24;

    #[tokio::test]
    async fn a_look_is_a_commit_on_disk() {
        let fixture = Fixture::new();
        let before = log_length(&fixture);

        fixture.store.check().await.unwrap();

        assert_eq!(log_length(&fixture), before + FRAME);
    }

    #[tokio::test]
    async fn many_who_ask_within_a_second_cost_one_commit() {
        let fixture = Fixture::new();
        let before = log_length(&fixture);

        for _ in 0..50 {
            let _ = fixture.store.check().now_or_never();
        }
        let answers = join_all((0..50).map(|_| fixture.store.check())).await;
        fixture.clock.advance(Duration::from_micros(999_999));
        fixture.store.check().await.unwrap();

        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(log_length(&fixture), before + FRAME);

        fixture.clock.advance(Duration::from_micros(1));
        fixture.store.check().await.unwrap();
        assert_eq!(log_length(&fixture), before + 2 * FRAME);
    }

    #[tokio::test]
    async fn a_bad_answer_holds_for_a_second_too() {
        let fixture = Fixture::new();
        let mut outsider = fixture.outsider();

        outsider.batch_execute("BEGIN IMMEDIATE").unwrap();
        assert!(is_unavailable(&fixture.store.check().await));
        outsider.batch_execute("ROLLBACK").unwrap();
        assert!(is_unavailable(&fixture.store.check().await));

        fixture.clock.advance(HOLDS);
        assert!(fixture.store.check().await.is_ok());
    }

    #[tokio::test]
    async fn a_store_that_cannot_write_is_not_ready() {
        let fixture = Fixture::new();

        fixture.tamper("PRAGMA query_only = ON").await;
        assert!(is_unavailable(&fixture.store.check().await));
    }

    #[tokio::test]
    async fn a_schema_taken_back_is_unavailable_and_stays_unmarked_until_it_is_there_again() {
        let fixture = Fixture::new();
        fixture.store.insert(person("ann"), attempt()).await.unwrap();
        fixture.store.check().await.unwrap();

        while migrations::down(&fixture.path(), None).unwrap().is_some() {}
        fixture.clock.advance(HOLDS);

        assert!(is_unavailable(&fixture.store.check().await));
        assert!(is_unavailable(&fixture.store.insert(person("bob"), attempt()).await));
        assert!(is_unavailable(&fixture.store.find_by_name(key("ann")).await));
        assert_eq!(migrations::is_marked(&mut fixture.outsider()), Ok(false));

        migrations::up(&fixture.path()).unwrap();
        fixture.clock.advance(HOLDS);
        assert!(fixture.store.check().await.is_ok());
        assert!(is_done(&fixture.store.insert(person("bob"), attempt()).await));
    }

    #[tokio::test]
    async fn a_damaged_file_is_not_ready() {
        let fixture = Fixture::new();
        fixture.store.insert(person("ann"), attempt()).await.unwrap();
        fixture.store.close().await;
        let path = settings(&fixture.folder).path;
        let page = fixture.first_page_of("users") * 4096;
        let mut bytes = fs::read(&path).unwrap();
        bytes[page - 4096..page].fill(0xa5);
        let folder = tempfile::tempdir().unwrap();
        fs::write(settings(&folder).path, bytes).unwrap();

        let damaged = Fixture::on(folder);

        assert!(is_unavailable(&damaged.store.check().await));
    }

    fn log_length(fixture: &Fixture) -> u64 {
        fs::metadata(fixture.log_path()).unwrap().len()
    }
}
