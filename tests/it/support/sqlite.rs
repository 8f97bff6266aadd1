use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use store_sqlite::{Settings, SqliteStore};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::task::TaskTracker;

use super::audit_fixtures::audit_key;
use super::clock::StillClock;
use super::runtime::runtime;

/// A store, and the folder that goes with the last store on it.
pub(crate) struct Store {
    opened: SqliteStore,
    tasks: TaskTracker,
    clock: Arc<StillClock>,
    folder: Arc<TempDir>,
    runtime: Option<Runtime>,
}

/// A store on a database of its own, where nobody is yet.
pub(crate) fn fresh() -> Store {
    open(Arc::new(tempfile::tempdir().unwrap()))
}

impl Store {
    /// Another store on the same database, as a second process would have it.
    pub(crate) fn another(&self) -> Store {
        open(self.folder.clone())
    }

    /// The store as it is after a restart.
    pub(crate) async fn reopened(self) -> Store {
        let folder = self.folder.clone();
        self.tasks.close();
        self.tasks.wait().await;
        self.close().await;
        drop(self);
        open(folder)
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    /// Takes the database away from under the store.
    pub(crate) fn take_away(&self) {
        fs::rename(self.path(), self.path().with_extension("away")).unwrap();
    }

    pub(crate) fn bring_back(&self) {
        fs::rename(self.path().with_extension("away"), self.path()).unwrap();
    }

    /// Does to the database what somebody can who may write to it.
    pub(crate) fn tamper(&self, sql: &str) {
        tamper(&self.path(), sql);
    }

    pub(crate) fn path(&self) -> PathBuf {
        path(&self.folder)
    }
}

impl Deref for Store {
    type Target = SqliteStore;

    fn deref(&self) -> &SqliteStore {
        &self.opened
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Does the same to the database of a deployment.
pub(crate) fn tamper_with(folder: &Path, sql: &str) {
    tamper(&folder.join("data/auth.db"), sql);
}

fn tamper(path: &Path, sql: &str) {
    let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    // A server has something to write at its start.
    connection.batch_execute("PRAGMA busy_timeout = 10000").unwrap();
    connection.batch_execute(sql).unwrap();
}

fn open(folder: Arc<TempDir>) -> Store {
    let runtime = runtime();
    let clock = Arc::new(StillClock::default());
    let (settings, handle) = (Settings::new(path(&folder)), runtime.handle().clone());
    let tasks = TaskTracker::new();
    let opened = SqliteStore::open(&settings, audit_key(), handle, tasks.clone(), clock.clone()).unwrap();
    Store { opened, tasks, clock, folder, runtime: Some(runtime) }
}

fn path(folder: &TempDir) -> PathBuf {
    folder.path().join("auth.db")
}
