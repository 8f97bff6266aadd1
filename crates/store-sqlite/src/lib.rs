//! Keeps users, their sessions and what was attempted in one SQLite file.
//!
//! This crate promises that what it answers is on disk, that a caller who stops waiting leaves nothing half
//! done, and that a file which is locked, full, read-only, gone or not ours gives an error and loses nothing.
//! Several processes may share one file. It refuses to know what a name, a password or a hash may look like:
//! the domain has decided that before it comes here.
//!
//! Start reading at [`SqliteStore`]. Every change goes through `writer`, and every query through `read_pool`; the statements are
//! in `users`, `sessions`, `throttles` and `audit`. `bulk_copy` alone writes past the writer, into a file that is empty, and
//! `backup` writes files of its own. Unix only: a file is told from its replacement by device and inode.

pub mod atomic_file;
mod audit;
pub mod backup;
mod bulk_copy;
mod calling_thread;
mod connection;
mod database_file;
mod error;
mod health;
pub mod legacy_import;
pub mod migrations;
pub mod private_files;
mod read_pool;
mod schema;
mod sessions;
mod sql_types;
mod statement_log;
#[cfg(test)]
mod testing;
mod throttles;
mod users;
mod write_queue;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domain::ports::{Clock, Requester};
use domain::{Attempt, AuditKey, Conclusion, Distribution};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

pub use crate::error::{OpenError, OpenProblem};

use crate::calling_thread::Connection;
use crate::connection::Role;
use crate::database_file::OpenFile;
use crate::error::StoreError;
use crate::health::LastCheck;
use crate::read_pool::{READERS, Readers};
use crate::writer::Writer;

/// How long to wait for another process that holds the write lock. A write may have to wait twice as long, behind
/// the batch before its own: it is answered within eight seconds, while somebody may still be there to read it.
const PATIENCE: Duration = Duration::from_secs(4);

/// Which file, and how to treat it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The database file. It is made, with mode 0600, if it is missing and may be written and migrated.
    pub path: PathBuf,
    /// What is going to be asked of it.
    pub access: Access,
    /// Whether to apply pending migrations; if not, they stop the start.
    pub migrate: bool,
    /// How long to wait for another process that holds the write lock. A write may have to wait twice as long,
    /// so half of what a caller waits is the most that makes sense.
    pub busy_timeout: Duration,
}

/// What is going to be asked of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anything.
    ReadWrite,
    /// Look-ups. No file is made or migrated for them, and they wait for no other process that writes. Changes are
    /// answered with `Unavailable`.
    ReadOnly,
}

/// Users and sessions in one SQLite file: one writer, several readers.
///
/// Calls may come from any runtime. Their work runs on the runtime given to [`SqliteStore::open`], and goes on
/// when the caller is gone.
pub struct SqliteStore {
    inside: Arc<Inside>,
    runtime: Handle,
    tasks: TaskTracker,
}

/// What a task of the store needs, so that it can outlive the call that began it.
struct Inside {
    writer: Writer,
    readers: Readers,
    last_check: LastCheck,
    audit_key: AuditKey,
    clock: Arc<dyn Clock>,
    /// What a connection is opened on that is nobody else's.
    file: Arc<OpenFile>,
    busy_timeout: Duration,
}

/// What there is to do, and what was done.
#[derive(Clone, Debug)]
pub struct Load {
    /// How many writes wait for the writer.
    pub writes_waiting: usize,
    /// How many writes were done, and failed ones among them.
    pub writes: u64,
    /// How long the transactions took in which they were done together.
    pub batches: Distribution,
    /// How many queries wait for a reader.
    pub queries_waiting: usize,
    /// How many readers there are.
    pub readers: usize,
    /// How many of them are at work.
    pub readers_busy: usize,
}

impl Settings {
    /// The file at `path`, with pending migrations applied and four seconds of patience.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), access: Access::ReadWrite, migrate: true, busy_timeout: PATIENCE }
    }
}

impl SqliteStore {
    /// Opens the file, and brings its schema up to date if that is wanted. Blocks while it does.
    ///
    /// Events are sealed with `audit_key`. `runtime` is a multi-thread runtime; `tasks` counts the calls that are under
    /// way on it.
    pub fn open(
        settings: &Settings,
        audit_key: AuditKey,
        runtime: Handle,
        tasks: TaskTracker,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let (connection, file) = migrations::open_current(settings)?;
        let file = Arc::new(file);
        let role = match settings.access {
            Access::ReadWrite => Role::Writer,
            Access::ReadOnly => Role::Reader,
        };
        let writer =
            Writer::start(connection, role, file.clone(), settings.busy_timeout, clock.clone(), &runtime)
                .map_err(|problem| problem.at(&settings.path))?;
        let readers = Readers::start(&file, settings.busy_timeout, tasks.clone())
            .map_err(|error| OpenProblem::Threads(error).at(&settings.path))?;
        let last_check = LastCheck::default();
        let busy_timeout = settings.busy_timeout;
        let inside = Inside { writer, readers, last_check, audit_key, clock, file, busy_timeout };
        Ok(Self { inside: Arc::new(inside), runtime, tasks })
    }

    /// How busy it is.
    pub fn load(&self) -> Load {
        let (writes, batches) = self.inside.writer.done();
        let (queries_waiting, readers_busy) = self.inside.readers.load();
        let writes_waiting = self.inside.writer.waiting();
        Load { writes_waiting, writes, batches, queries_waiting, readers: READERS, readers_busy }
    }

    /// Finishes the writes that wait, folds the write-ahead log into the file if it wrote, and lets go of it. Later calls
    /// are answered with `Unavailable`.
    pub async fn close(&self) {
        self.inside.writer.shut();
        self.inside.readers.close().await;
        // Last, for only who writes can remove the log.
        self.inside.writer.close().await;
    }

    /// Has the writer do `work` that no client asked for. Once this was polled, it happens whether or not anybody waits.
    async fn write<T: Send + 'static>(
        &self,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.write_for(Requester::Bulk, work).await
    }

    /// The same for whoever asked for it.
    async fn write_for<T: Send + 'static>(
        &self,
        requester: Requester,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.inside.writer.write(self.tasks.token(), requester, work).await
    }

    /// Has the writer do `work`, which is what `attempt` comes to, and keep that by the same commit.
    async fn make<T: Conclusion + Send + 'static>(
        &self,
        attempt: Attempt,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (key, requester) = (self.inside.audit_key.clone(), attempt.origin.requester());
        let recorded = async move |connection: &mut Connection| {
            let done = work(connection).await?;
            audit::record(connection, &key, attempt, &done).await?;
            Ok(done)
        };
        self.write_for(requester, recorded).await
    }

    /// Has a reader answer `query`.
    async fn read<T: Send + 'static>(
        &self,
        query: impl AsyncFnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.inside.readers.read(query).await
    }
}
