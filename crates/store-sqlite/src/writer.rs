//! The one writer of this process. Every change passes here.
//!
//! A write is a closure. All that wait when the writer turns to them share one transaction and one sync of the
//! disk, each in a savepoint, so that one that fails leaves its neighbours alone. Callers are answered after the
//! commit that holds their work, and whoever stops waiting for the answer changes nothing about it.

use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use diesel::SqliteConnection;
use diesel::connection::SimpleConnection;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::connection::{self, Role};
use crate::error::StoreError;
use crate::file::OpenFile;

/// How many writes may wait. As many fit in one batch, so that a locked file keeps nobody waiting for longer
/// than two busy timeouts: the batch under way, and their own.
const QUEUE: usize = 256;

pub(crate) struct Writer {
    queue: Mutex<Option<mpsc::Sender<Box<dyn Write>>>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What a caller wants done, and who waits for the answer.
trait Write: Send {
    /// Does it, and tells whether to keep what was done.
    fn run(&mut self, connection: &mut SqliteConnection) -> bool;

    /// Answers, once it is known what became of the transaction.
    fn answer(self: Box<Self>, transaction: &Result<(), StoreError>);
}

struct Waiting<Work, T> {
    work: Option<Work>,
    outcome: Result<T, StoreError>,
    caller: oneshot::Sender<Result<T, StoreError>>,
    _counted: TaskTrackerToken,
}

impl Writer {
    /// Starts the writer on `runtime`.
    pub(crate) fn start(
        connection: SqliteConnection,
        file: Arc<OpenFile>,
        busy_timeout: Duration,
        runtime: &Handle,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let desk = Desk { connection: Some(connection), file, busy_timeout };
        let task = runtime.spawn(write_what_waits(desk, waiting));
        Self { queue: Mutex::new(Some(queue)), task: Mutex::new(Some(task)) }
    }

    /// Has `work` done in a transaction, and answers when it is on disk. `work` opens no transaction of its own.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        counted: TaskTrackerToken,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (caller, answer) = oneshot::channel();
        let waiting = Waiting { work: Some(work), outcome: Err(not_run()), caller, _counted: counted };
        self.enqueue(Box::new(waiting))?;
        answer.await.unwrap_or_else(|_| Err(not_run()))
    }

    /// Lets nothing more in, and waits until the rest is done and the connection closed.
    pub(crate) async fn close(&self) {
        drop(lock(&self.queue).take());
        let task = lock(&self.task).take();
        if let Some(task) = task {
            // It fails only when its runtime is gone, and then it is closed too.
            let _ = task.await;
        }
    }

    fn enqueue(&self, write: Box<dyn Write>) -> Result<(), StoreError> {
        let queue = lock(&self.queue);
        let queue = queue.as_ref().ok_or_else(|| StoreError::unavailable("the store is closed"))?;
        queue.try_send(write).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => StoreError::unavailable("too many writes are waiting"),
            mpsc::error::TrySendError::Closed(_) => not_run(),
        })
    }
}

/// What the writer works with. It goes to the blocking side with a batch, and comes back.
struct Desk {
    connection: Option<SqliteConnection>,
    file: Arc<OpenFile>,
    busy_timeout: Duration,
}

async fn write_what_waits(mut desk: Desk, mut waiting: mpsc::Receiver<Box<dyn Write>>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, QUEUE).await > 0 {
        let writes = take(&mut batch);
        let (file, busy_timeout) = (desk.file.clone(), desk.busy_timeout);
        desk = spawn_blocking(move || {
            desk.write(writes);
            desk
        })
        .await
        // A connection that panicked is not to be trusted; the next batch opens another.
        .unwrap_or(Desk { connection: None, file, busy_timeout });
    }
    let _ = spawn_blocking(move || desk.close()).await;
}

impl Desk {
    fn write(&mut self, mut batch: Vec<Box<dyn Write>>) {
        let transaction = self.transact(&mut batch).map_err(StoreError::into_unavailable);
        for write in batch {
            write.answer(&transaction);
        }
    }

    fn transact(&mut self, batch: &mut [Box<dyn Write>]) -> Result<(), StoreError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.reconnect()?,
        };
        if let Err(error) = connection.batch_execute("BEGIN IMMEDIATE") {
            self.connection = Some(connection);
            return Err(error.into());
        }
        let done = run_all(&mut connection, batch)
            .and_then(|()| self.file.still_there())
            .and_then(|()| Ok(connection.batch_execute("COMMIT")?));
        // SQLite may have rolled back by itself, and says then that there is nothing to roll back. Whatever
        // else keeps a transaction open ends with the connection.
        if done.is_ok() || is_rolled_back(connection.batch_execute("ROLLBACK")) {
            self.connection = Some(connection);
        }
        done
    }

    fn reconnect(&self) -> Result<SqliteConnection, StoreError> {
        self.file.still_there()?;
        let connection = connection::connect(self.file.url(), Role::Writer, self.busy_timeout)
            .map_err(StoreError::unavailable)?;
        self.file.still_there()?;
        Ok(connection)
    }

    fn close(self) {
        if let Some(mut connection) = self.connection {
            // What cannot be folded in now stays in the log, as safe as it was.
            let _ = connection.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)");
        }
    }
}

fn run_all(connection: &mut SqliteConnection, batch: &mut [Box<dyn Write>]) -> Result<(), StoreError> {
    for write in batch {
        connection.batch_execute("SAVEPOINT work")?;
        if !write.run(connection) {
            // On some failures, a full disk for one, SQLite rolls back the whole transaction. Then there is no
            // savepoint, this fails, and nothing of the batch is taken for saved.
            connection.batch_execute("ROLLBACK TO work")?;
        }
        connection.batch_execute("RELEASE work")?;
    }
    Ok(())
}

fn is_rolled_back(rollback: diesel::QueryResult<()>) -> bool {
    rollback.err().is_none_or(|error| error.to_string().contains("no transaction is active"))
}

impl<Work, T> Write for Waiting<Work, T>
where
    Work: FnOnce(&mut SqliteConnection) -> Result<T, StoreError> + Send,
    T: Send,
{
    fn run(&mut self, connection: &mut SqliteConnection) -> bool {
        if let Some(work) = self.work.take() {
            self.outcome = catch_unwind(AssertUnwindSafe(|| work(connection)))
                .unwrap_or_else(|_| Err(StoreError::failed("a write panicked")));
        }
        self.outcome.is_ok()
    }

    fn answer(self: Box<Self>, transaction: &Result<(), StoreError>) {
        // Nobody may be listening any more, and what is done is done.
        let _ = self.caller.send(transaction.clone().and(self.outcome));
    }
}

fn not_run() -> StoreError {
    StoreError::unavailable("the writer stopped before it came to this write")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
