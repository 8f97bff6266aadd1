//! The readers: a few connections that cannot write, and never wait for the writer.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use diesel::{ConnectionError, ConnectionResult, SqliteConnection};
use diesel_async::pooled_connection::deadpool::{Object, Pool};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::PATIENCE;
use crate::connection::{self, Role};
use crate::error::StoreError;
use crate::file::OpenFile;

/// A look-up takes microseconds on one of these, so that a few serve many.
const READERS: usize = 4;

pub(crate) type Reader = SyncConnectionWrapper<SqliteConnection>;
pub(crate) type PooledReader = Object<Reader>;

pub(crate) struct Readers {
    pool: Pool<Reader>,
    file: Arc<OpenFile>,
}

impl Readers {
    pub(crate) fn new(file: Arc<OpenFile>, busy_timeout: Duration) -> Self {
        let mut config = ManagerConfig::default();
        let opened = file.clone();
        config.custom_setup =
            Box::new(move |url| Box::pin(establish(opened.clone(), url.to_owned(), busy_timeout)));
        // No query before each use: a local file has no line that could have dropped.
        config.recycling_method = RecyclingMethod::Fast;
        let manager = AsyncDieselConnectionManager::new_with_config(file.url(), config);
        #[expect(
            clippy::expect_used,
            reason = "building fails only for timeouts without a runtime, and has none"
        )]
        let pool = Pool::builder(manager).max_size(READERS).build().expect("a pool without timeouts");
        Self { pool, file }
    }

    /// A connection of its own, for as long as the answer is kept. Only for tasks of the store's own runtime:
    /// diesel-async blocks the thread on which one of its futures is dropped too early.
    pub(crate) async fn take(&self) -> Result<PooledReader, StoreError> {
        self.file.still_there()?;
        let reader = timeout(PATIENCE, self.pool.get()).await;
        // As a text: the pool's error tells its cause and has it for a source too.
        reader.map_err(StoreError::unavailable)?.map_err(|error| StoreError::unavailable(error.to_string()))
    }

    pub(crate) fn close(&self) {
        self.pool.close();
    }
}

async fn establish(file: Arc<OpenFile>, url: String, busy_timeout: Duration) -> ConnectionResult<Reader> {
    let connected = spawn_blocking(move || {
        let connection =
            connection::connect(&url, Role::Reader, busy_timeout).map_err(|error| bad(&error))?;
        // Replaced since the last look, and this connection would read somebody else's file for ever.
        file.still_there().map_err(|error| bad(&error))?;
        Ok(connection)
    });
    connected.await.unwrap_or_else(|error| Err(bad(&error))).map(SyncConnectionWrapper::new)
}

/// diesel-async's pool has room for a text only.
fn bad(error: &dyn Error) -> ConnectionError {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    ConnectionError::BadConnection(format!("{error}{cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::Location;
    use crate::testing::Fixture;

    #[test]
    fn a_file_that_is_gone_is_said_to_be_so_once() {
        let fixture = Fixture::new();
        let location = Location::new(&fixture.path()).unwrap();
        let file = OpenFile::new(location.clone(), location.identity().unwrap()).unwrap();
        std::fs::remove_file(fixture.path()).unwrap();

        let refused = bad(&file.still_there().unwrap_err()).to_string();

        assert_eq!(refused.matches("was deleted").count(), 1, "{refused}");
    }

    #[tokio::test]
    async fn a_reader_that_cannot_be_had_is_said_why_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.db");
        std::fs::write(&path, "hello").unwrap();
        let location = Location::new(&path).unwrap();
        let file = OpenFile::without_log(location.clone(), location.identity().unwrap()).unwrap();

        let readers = Readers::new(Arc::new(file), Duration::ZERO);
        let refused = readers.take().await.err().unwrap();

        assert_eq!(refused.to_string().matches("not a SQLite database").count(), 1, "{refused}");
        assert!(refused.source().is_none(), "{refused}");
    }
}
