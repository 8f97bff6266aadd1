//! The connections: a bounded number, each looked at before it is used, and thrown away if what was done with it did not
//! come to an end.

use std::mem;
use std::num::NonZero;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use deadpool::Runtime;
use deadpool::managed::{self, Manager, Metrics, Object, PoolError, RecycleError, RecycleResult};
use diesel_async::pooled_connection::PoolableConnection as _;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::Load;
use crate::connection::{RETRY_PAUSE, Servers, TRIES};
use crate::error::{ConnectError, StoreError};

/// For how long a connection that was just used is taken for alive, unless something failed since. Whether it is
/// closed is mostly known without asking.
const FRESH: Duration = Duration::from_secs(1);

/// How long somebody may wait until a connection is free. The other half of a caller's patience is for the work.
const TURN: Duration = Duration::from_secs(2);

/// For how long the pool stays smaller after the server took no more connections.
const SMALLER_FOR: Duration = Duration::from_secs(10);

/// How long a server may take to answer that it is there.
const PATIENCE: Duration = Duration::from_secs(1);

/// The connections.
pub(crate) struct Pool {
    connections: managed::Pool<Maker>,
    /// One permit for each connection that there may be now.
    permits: Arc<Semaphore>,
    shrinkage: Mutex<Shrinkage>,
    most: usize,
    waiting: AtomicUsize,
    runtime: Handle,
}

/// How many permits were taken away because the server took no more connections, and when that last happened.
#[derive(Default)]
struct Shrinkage {
    removed: usize,
    since: Option<Instant>,
}

/// A connection, lent. Unless it is given back it is closed: what somebody gave up may have left a transaction open, and
/// a pool would look at it only when it is next taken out, with all locks held until then.
pub(crate) struct Loan {
    connection: Option<Object<Maker>>,
    runtime: Handle,
    /// Released after the connection.
    _permit: OwnedSemaphorePermit,
}

struct Maker {
    servers: Arc<Servers>,
    /// How often the server was found silent. What was connected before that is of no use, and nobody has to wait for
    /// each of them to be found out.
    era: AtomicU64,
    /// When something last failed. A server that ends one connection has often ended all.
    doubted: Mutex<Option<Instant>>,
}

struct Connection {
    connection: AsyncPgConnection,
    era: u64,
}

impl Pool {
    pub(crate) fn new(servers: Arc<Servers>, most: NonZero<usize>, runtime: Handle) -> Self {
        let most = most.get();
        let maker = Maker { servers, era: AtomicU64::new(0), doubted: Mutex::new(None) };
        let builder = managed::Pool::builder(maker).max_size(most);
        let builder = builder.runtime(Runtime::Tokio1).wait_timeout(Some(TURN));
        #[expect(clippy::expect_used, reason = "it fails only for timeouts without a runtime")]
        let connections = builder.build().expect("a runtime that can time");
        let permits = Arc::new(Semaphore::new(most));
        let (shrinkage, waiting) = (Mutex::default(), AtomicUsize::new(0));
        Self { connections, permits, shrinkage, most, waiting, runtime }
    }

    /// A connection that works, as far as can be told. Where the server takes no more of them, it is one of those that
    /// there are, once it is free.
    pub(crate) async fn lend(&self) -> Result<Loan, StoreError> {
        let mut tries = 0;
        loop {
            let permit = self.permit().await?;
            match self.connections.get().await {
                Ok(connection) => {
                    let runtime = self.runtime.clone();
                    return Ok(Loan { connection: Some(connection), runtime, _permit: permit });
                }
                Err(PoolError::Backend(error)) if error.is_connection_limit() && tries < TRIES => {
                    tries += 1;
                    if !self.shrink(permit) {
                        sleep(RETRY_PAUSE).await;
                    }
                }
                Err(error) => return Err(StoreError::unavailable(error)),
            }
        }
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        self.grow_again();
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let _waiting = Waiting::new(&self.waiting);
        let waited = timeout(TURN, self.permits.clone().acquire_owned()).await;
        let waited =
            waited.map_err(|_| StoreError::unavailable("no pooled connection became free in time"))?;
        waited.map_err(StoreError::unavailable)
    }

    /// Takes a permit away for some time, unless it is the last one. Then its owner has to try again.
    fn shrink(&self, permit: OwnedSemaphorePermit) -> bool {
        let mut shrinkage = self.shrinkage.lock();
        if !shrinkage.remove_one(self.most, now()) {
            return false;
        }
        permit.forget();
        true
    }

    /// Gives back what was taken away, once the server may take more connections.
    fn grow_again(&self) {
        let mut shrinkage = self.shrinkage.lock();
        if shrinkage.removed > 0 {
            self.permits.add_permits(shrinkage.return_all(now()));
        }
    }

    /// Has every connection that was used before now asked before it is used again.
    pub(crate) fn doubt(&self) {
        *self.connections.manager().doubted.lock() = Some(now());
    }

    /// How busy they are.
    pub(crate) fn load(&self) -> Load {
        let status = self.connections.status();
        Load {
            connections: status.size,
            idle: status.available,
            waiting: self.waiting.load(Ordering::Relaxed),
            most: self.most,
        }
    }

    /// Lends nothing any more, and closes what nobody has.
    pub(crate) fn close(&self) {
        self.permits.close();
        self.connections.close();
    }
}

impl Shrinkage {
    fn remove_one(&mut self, most: usize, now: Instant) -> bool {
        if self.removed + 1 >= most {
            return false;
        }
        if self.removed == 0 {
            warn!(
                pool_size = most,
                "the server takes no more connections, so requests share those that there are; lower \
                 AUTH_DATABASE__POOL_SIZE or raise the server's limit"
            );
        }
        self.removed += 1;
        self.since = Some(now);
        true
    }

    /// How many permits come back: all of them, or none yet.
    fn return_all(&mut self, now: Instant) -> usize {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) < SMALLER_FOR) {
            return 0;
        }
        self.since = None;
        mem::take(&mut self.removed)
    }
}

/// Counts a caller who waits, until it is dropped.
struct Waiting<'pool>(&'pool AtomicUsize);

impl<'pool> Waiting<'pool> {
    fn new(count: &'pool AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[expect(clippy::disallowed_methods, reason = "the pool tells by this clock when a connection was used")]
fn now() -> Instant {
    Instant::now()
}

impl Loan {
    /// Returns the connection: there is no transaction open on it.
    pub(crate) fn give_back(mut self) {
        drop(self.connection.take());
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let tls = Object::pool(&connection).map(|pool| pool.manager().servers.tls.clone());
        let connection = Object::take(connection).connection;
        // The server would finish a statement that nobody waits for, and only then notice.
        if let Some(tls) = tls {
            let token = connection.cancel_token();
            self.runtime.spawn(async move {
                _ = timeout(PATIENCE, token.cancel_query(tls)).await;
            });
        }
    }
}

impl Deref for Loan {
    type Target = AsyncPgConnection;

    #[expect(clippy::expect_used, reason = "it is taken only by what consumes the loan")]
    fn deref(&self) -> &AsyncPgConnection {
        &self.connection.as_ref().expect("a loan that goes on").connection
    }
}

impl DerefMut for Loan {
    #[expect(clippy::expect_used, reason = "it is taken only by what consumes the loan")]
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        &mut self.connection.as_mut().expect("a loan that goes on").connection
    }
}

impl Manager for Maker {
    type Type = Connection;
    type Error = ConnectError;

    async fn create(&self) -> Result<Connection, ConnectError> {
        let era = self.era.load(Ordering::Relaxed);
        // In a box, for everything that may have to connect would be as large.
        Ok(Connection { connection: Box::pin(self.servers.connect()).await?, era })
    }

    async fn recycle(&self, it: &mut Connection, metrics: &Metrics) -> RecycleResult<ConnectError> {
        if it.connection.is_broken() || it.era != self.era.load(Ordering::Relaxed) {
            return Err(RecycleError::message("closed, or from before the server fell silent"));
        }
        let last_used = metrics.recycled.unwrap_or(metrics.created);
        let doubted = *self.doubted.lock();
        if last_used.elapsed() < FRESH && doubted.is_none_or(|doubted| doubted < last_used) {
            return Ok(());
        }
        match timeout(PATIENCE, it.connection.batch_execute("SELECT 1")).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(RecycleError::message("does not answer as it should")),
            Err(_) => {
                self.era.fetch_add(1, Ordering::Relaxed);
                Err(RecycleError::message("does not answer"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_keeps_one_permit_and_gets_the_others_back() {
        let (mut shrinkage, start) = (Shrinkage::default(), now());

        assert!(shrinkage.remove_one(3, start) && shrinkage.remove_one(3, start));
        assert!(!shrinkage.remove_one(3, start));
        assert_eq!(shrinkage.return_all(start + SMALLER_FOR / 2), 0);
        assert_eq!(shrinkage.return_all(start + SMALLER_FOR), 2);
        assert_eq!(shrinkage.return_all(start + 2 * SMALLER_FOR), 0);
        assert!(!shrinkage.remove_one(1, start));
    }
}
