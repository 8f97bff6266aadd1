//! The connections: a bounded number, each looked at before it is used, and thrown away if what was done with it did not
//! come to an end.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool::Runtime;
use deadpool::managed::{self, Manager, Metrics, Object, RecycleError, RecycleResult};
use diesel_async::pooled_connection::PoolableConnection as _;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::Load;
use crate::connection::Servers;
use crate::error::{ConnectError, StoreError};

/// For how long a connection that was just used is taken for alive, unless something failed since. Whether it is
/// closed is mostly known without asking.
const FRESH: Duration = Duration::from_secs(1);

/// How long somebody may wait until a connection is free. The other half of a caller's patience is for the work.
const TURN: Duration = Duration::from_secs(2);

/// How long a server may take to answer that it is there.
const PATIENCE: Duration = Duration::from_secs(1);

/// The connections.
pub(crate) struct Pool {
    connections: managed::Pool<Maker>,
    runtime: Handle,
}

/// A connection, lent. Unless it is given back it is closed: what somebody gave up may have left a transaction open, and
/// a pool would look at it only when it is next taken out, with all locks held until then.
pub(crate) struct Loan {
    connection: Option<Object<Maker>>,
    runtime: Handle,
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
    pub(crate) fn new(servers: Arc<Servers>, most: usize, runtime: Handle) -> Self {
        let maker = Maker { servers, era: AtomicU64::new(0), doubted: Mutex::new(None) };
        let builder = managed::Pool::builder(maker).max_size(most);
        let builder = builder.runtime(Runtime::Tokio1).wait_timeout(Some(TURN));
        #[expect(clippy::expect_used, reason = "it fails only for timeouts without a runtime")]
        let connections = builder.build().expect("a runtime that can time");
        Self { connections, runtime }
    }

    /// A connection that works, as far as can be told.
    pub(crate) async fn lend(&self) -> Result<Loan, StoreError> {
        let connection = self.connections.get().await.map_err(StoreError::unavailable)?;
        Ok(Loan { connection: Some(connection), runtime: self.runtime.clone() })
    }

    /// Has every connection that was used before now asked before it is used again.
    pub(crate) fn doubt(&self) {
        #[expect(
            clippy::disallowed_methods,
            reason = "the pool tells by this clock when a connection was used"
        )]
        let now = Instant::now();
        *self.connections.manager().doubted.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// How busy they are.
    pub(crate) fn load(&self) -> Load {
        let status = self.connections.status();
        Load {
            connections: status.size,
            idle: status.available,
            waiting: status.waiting,
            most: status.max_size,
        }
    }

    /// Lends nothing any more, and closes what nobody has.
    pub(crate) fn close(&self) {
        self.connections.close();
    }
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
        let doubted = *self.doubted.lock().unwrap_or_else(PoisonError::into_inner);
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
