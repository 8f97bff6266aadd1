//! Keeps users, their sessions and what was attempted in a PostgreSQL database, or in one that speaks its protocol.
//!
//! This crate promises that what it answers is committed, that a caller who stops waiting leaves nothing half done, and
//! that a server which is gone, paused, full or locked gives an error in time and is found again by itself. Any number
//! of instances may share one database. It refuses to know what a name, a password or a hash may look like: the domain
//! has decided that before it comes here.
//!
//! Start reading at [`PostgresStore`]. Every change goes through `transaction`; the statements are in `users`, `sessions`,
//! `throttles` and `audit`. `bulk_copy` alone has transactions of its own, which span many calls. `database_url`, `tls`,
//! `connection` and `pool` connect to the server. There is no libpq in it.

mod audit;
mod bulk_copy;
mod connection;
mod database_url;
mod error;
mod health;
pub mod migrations;
mod pool;
mod pooler;
mod schema;
mod sessions;
mod sql_types;
mod statement_log;
mod throttles;
mod tls;
mod transaction;
mod users;

use std::num::NonZero;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use domain::ports::Clock;
use domain::{Attempt, AuditKey, Conclusion};
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tracing::{debug, error};

pub use crate::database_url::{InvalidUrl, Plaintext, SCHEMES, Url};
pub use crate::error::{ConnectCause, ConnectError, OpenError, OpenProblem};

use crate::audit::OtherKey;
use crate::connection::Servers;
use crate::error::StoreError;
use crate::health::LastCheck;
use crate::pool::Pool;
use crate::transaction::{DEADLINE, Work};

/// How often to seal what was recorded, so that it is within a second.
const SEAL_EVERY: Duration = Duration::from_millis(500);

/// How many times sealing is refused for the key between two lines about it: those of ten minutes.
const TELL_EVERY: u32 = 1200;

/// How long a store that is closed tries to seal what is left. Another one may.
const LAST_SEAL_PATIENCE: Duration = Duration::from_secs(1);

/// Which database, and how to treat it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The servers and the database.
    pub url: Url,
    /// What is going to be asked of it.
    pub access: Access,
    /// How many pooled connections there may be.
    pub pool_size: NonZero<usize>,
    /// Whether to apply pending migrations; if not, they stop the start.
    pub migrate: bool,
    /// Whether the audit key is the one that events are sealed with. Without it, what is not sealed yet stays so and is not
    /// listed.
    pub seal: bool,
}

/// What is going to be asked of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anything.
    ReadWrite,
    /// Look-ups. Nothing is migrated for them, and changes are answered with `Unavailable`.
    ReadOnly,
}

/// Users and sessions in one PostgreSQL database.
///
/// Calls may come from any runtime. Their work runs on the runtime given to [`PostgresStore::open`], and goes on
/// when the caller is gone.
pub struct PostgresStore {
    inside: Arc<Inside>,
    runtime: Handle,
    tasks: TaskTracker,
    /// What seals, until the store is closed.
    sealing: Mutex<Option<JoinHandle<()>>>,
}

/// What there is to do, and who does it.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How many connections there are.
    pub connections: usize,
    /// How many of them nobody has.
    pub idle: usize,
    /// How many callers wait for one.
    pub waiting: usize,
    /// How many connections there may be.
    pub most: usize,
}

/// What a task of the store needs, so that it can outlive the call that began it.
struct Inside {
    pool: Pool,
    last_check: LastCheck,
    access: Access,
    seal: bool,
    audit_key: AuditKey,
    clock: Arc<dyn Clock>,
}

/// A change, the attempt that it is, and what it is recorded with.
struct Recorded<Input, Outcome> {
    attempt: Attempt,
    key: AuditKey,
    input: Input,
    work: Work<Input, Outcome>,
}

impl PostgresStore {
    /// Connects, and brings the schema up to date if that is wanted. Blocks while it does.
    ///
    /// Events are sealed with `audit_key`. `runtime` is a multi-thread runtime, and not the one that this is called on;
    /// `tasks` counts the calls that are under way on it.
    pub fn open(
        settings: &Settings,
        audit_key: AuditKey,
        runtime: Handle,
        tasks: TaskTracker,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let (opened, opening) = mpsc::channel();
        let (wanted, on) = (settings.clone(), runtime.clone());
        runtime.spawn(async move { opened.send(Inside::open(&wanted, audit_key, on, clock).await) });
        let opened = opening.recv().unwrap_or_else(|_| {
            Err(OpenProblem::Runtime(std::io::Error::other("the task that connects panicked")))
        });
        let inside = opened.map_err(|problem| problem.at(&settings.url))?;
        let seals = settings.access == Access::ReadWrite;
        let sealing = seals.then(|| runtime.spawn(keep_sealing(inside.clone())));
        Ok(Self { inside, runtime, tasks, sealing: Mutex::new(sealing) })
    }

    /// Seals what is left if it can, and closes the connections. Later calls are answered with `Unavailable`.
    ///
    /// Calls that are under way are not waited for: wait for the task tracker first.
    pub async fn close(&self) {
        let sealing = self.sealing.lock().take();
        if let Some(task) = sealing {
            task.abort();
            // It ends for no other reason, and then its connection is closed.
            _ = task.await;
        }
        if self.inside.access == Access::ReadWrite {
            let inside = self.inside.clone();
            let last = timeout(LAST_SEAL_PATIENCE, async move { inside.seal().await });
            _ = self.runtime.spawn(last).await;
        }
        self.inside.pool.close();
    }

    /// How busy it is.
    pub fn load(&self) -> Load {
        self.inside.pool.load()
    }

    /// Has `work` done in a transaction. Once this was polled, it happens whether or not anybody waits.
    async fn write<Input: Send + Sync + 'static, Outcome: Send + 'static>(
        &self,
        input: Input,
        work: Work<Input, Outcome>,
    ) -> Result<Outcome, StoreError> {
        let inside = self.inside.clone();
        self.spawn(async move {
            if inside.access == Access::ReadOnly {
                return Err(StoreError::unavailable("the database was opened to look at it"));
            }
            inside.in_time(inside.write(&input, work)).await
        })
        .await
    }

    /// Has `work` done, which is what `attempt` comes to, and keeps that by the same commit.
    async fn make<Input: Send + Sync + 'static, Outcome: Conclusion + Send + Sync + 'static>(
        &self,
        attempt: Attempt,
        input: Input,
        work: Work<Input, Outcome>,
    ) -> Result<Outcome, StoreError> {
        let key = self.inside.audit_key.clone();
        self.write(Recorded { attempt, key, input, work }, |connection, it| {
            async move {
                let done = (it.work)(connection, &it.input).await?;
                audit::record(connection, &it.key, it.attempt.clone(), &done).await?;
                Ok(done)
            }
            .boxed()
        })
        .await
    }

    /// Has `query` answered.
    async fn read<Input: Send + Sync + 'static, Outcome: Send + 'static>(
        &self,
        input: Input,
        query: Work<Input, Outcome>,
    ) -> Result<Outcome, StoreError> {
        let inside = self.inside.clone();
        self.spawn(async move { inside.in_time(inside.read(&input, query)).await }).await
    }

    /// Does all of `work` on the store's own runtime: what diesel-async has begun must not be dropped by a caller who
    /// leaves, nor on a worker of actix.
    async fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.tasks.spawn_on(work, &self.runtime).await.unwrap_or_else(|ended| {
            Err(if ended.is_panic() { StoreError::failed(ended) } else { StoreError::unavailable(ended) })
        })
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        if let Some(task) = self.sealing.get_mut() {
            task.abort();
        }
    }
}

impl Inside {
    async fn open(
        settings: &Settings,
        audit_key: AuditKey,
        runtime: Handle,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, OpenProblem> {
        let servers = Arc::new(Servers::of(&settings.url)?);
        let migrate = settings.migrate && settings.access == Access::ReadWrite;
        migrations::in_time(pooler::refuse_unsupported(&servers)).await??;
        drop(migrations::open_current(servers.connect_patiently().await?, migrate, settings.access).await?);
        let pool = Pool::new(servers, settings.pool_size, runtime);
        let access = settings.access;
        let seal = settings.seal;
        Ok(Arc::new(Self { pool, last_check: LastCheck::default(), access, seal, audit_key, clock }))
    }

    /// Gives up on work that takes longer than a caller waits. What it did with a connection is undone with it.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let late = |_| Err(StoreError::unavailable("the database did not answer in time"));
        timeout(DEADLINE, work).await.unwrap_or_else(late)
    }
}

/// Seals what was recorded, for ever. What cannot be sealed now is the next time.
async fn keep_sealing(inside: Arc<Inside>) {
    let mut refused: u32 = 0;
    loop {
        sleep(SEAL_EVERY).await;
        match inside.seal().await {
            Ok(Ok(())) => refused = 0,
            Ok(Err(other_key @ OtherKey)) => {
                if refused.is_multiple_of(TELL_EVERY) {
                    error!(cause = %other_key, "cannot seal what was recorded");
                }
                refused = refused.wrapping_add(1);
            }
            Err(error) => debug!(cause = %error, "cannot seal what was recorded"),
        }
    }
}
