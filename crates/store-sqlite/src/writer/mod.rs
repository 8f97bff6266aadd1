//! The one writer of this process. Every change passes here.
//!
//! A write is a closure. All that wait when the writer turns to them share one transaction and one sync of the
//! disk, each in a savepoint, so that one that fails leaves its neighbours alone. Callers are answered after the
//! commit that holds their work, and whoever stops waiting for the answer changes nothing about it.

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use diesel::SqliteConnection;
use diesel_async::SimpleAsyncConnection as _;
use domain::ports::{Clock, Requester};
use domain::{Distribution, Durations};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::calling_thread::{Connection, complete, in_place};
use crate::connection::{self, Role};
use crate::database_file::OpenFile;
use crate::error::{OpenProblem, StoreError};
use crate::write_queue::{self, Receiver, Refused, Sender};

/// How many writes of clients may wait, and as many of the background. All fit in one batch, so that a locked file keeps
/// nobody waiting for longer than two busy timeouts: the batch under way, and their own.
const QUEUE: usize = 256;

/// How long a batch takes, told apart up to the two busy timeouts that it may last.
const BATCHES: [Duration; 10] = [
    Duration::from_micros(250),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_millis(2500),
    Duration::from_secs(10),
];

pub(crate) struct Writer {
    queue: Sender<Box<dyn Write>>,
    task: Mutex<Option<JoinHandle<()>>>,
    done: Arc<Done>,
}

/// What was done so far, whatever came of it.
struct Done {
    writes: AtomicU64,
    batches: Durations,
    clock: Arc<dyn Clock>,
}

/// What a caller wants done, and who waits for the answer.
trait Write: Send {
    /// Does it.
    fn run(&mut self, connection: &mut Connection) -> Ran;

    /// Answers, once it is known what became of the transaction.
    fn answer(self: Box<Self>, transaction: &Result<(), StoreError>);
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ran {
    /// What it did is kept, if the transaction is.
    Done,
    /// What it did is undone.
    Failed,
    /// What it did is undone, and its connection is not to be trusted any more.
    Panicked,
}

struct Waiting<Work, T> {
    work: Option<Work>,
    outcome: Result<T, StoreError>,
    caller: oneshot::Sender<Result<T, StoreError>>,
    _counted: TaskTrackerToken,
}

impl Writer {
    /// Starts the writer on `runtime`. As a reader it refuses whatever comes.
    pub(crate) fn start(
        connection: SqliteConnection,
        role: Role,
        file: Arc<OpenFile>,
        busy_timeout: Duration,
        clock: Arc<dyn Clock>,
        runtime: &Handle,
    ) -> Result<Self, OpenProblem> {
        let (queue, waiting) = write_queue::queue(QUEUE);
        let anchor = connection::anchor(file.url())?;
        let done = Arc::new(Done { writes: AtomicU64::default(), batches: Durations::new(&BATCHES), clock });
        let connection = Some(in_place(connection));
        let desk = Desk { connection, role, file, busy_timeout, done: done.clone() };
        let task = runtime.spawn(write_what_waits(desk, anchor, waiting));
        Ok(Self { queue, task: Mutex::new(Some(task)), done })
    }

    /// Has `work` done in a transaction for `requester`, and answers when it is on disk. `work` opens no transaction of its
    /// own.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        counted: TaskTrackerToken,
        requester: Requester,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (caller, answer) = oneshot::channel();
        let outcome = Err(not_run());
        let waiting = Waiting { work: Some(work), outcome, caller, _counted: counted };
        self.queue.push(requester, Box::new(waiting)).map_err(|refused| match refused {
            Refused::Full => StoreError::unavailable("too many writes are waiting"),
            Refused::Shut => StoreError::unavailable("the store is closed"),
            Refused::Abandoned => not_run(),
        })?;
        answer.await.unwrap_or_else(|_| Err(not_run()))
    }

    /// Lets nothing more in.
    pub(crate) fn shut(&self) {
        self.queue.shut();
    }

    /// Lets nothing more in, and waits until the rest is done and the connection closed.
    pub(crate) async fn close(&self) {
        self.shut();
        let task = self.task.lock().take();
        if let Some(task) = task {
            // It fails only when its runtime is gone, and then it is closed too.
            let _ = task.await;
        }
    }

    /// How many writes wait.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// How many writes were done, and how long their batches took.
    pub(crate) fn done(&self) -> (u64, Distribution) {
        (self.done.writes.load(Ordering::Relaxed), self.done.batches.distribution())
    }
}

/// What the writer works with. It goes to the blocking side with a batch, and comes back.
struct Desk {
    connection: Option<Connection>,
    role: Role,
    file: Arc<OpenFile>,
    busy_timeout: Duration,
    done: Arc<Done>,
}

async fn write_what_waits(mut desk: Desk, anchor: SqliteConnection, mut waiting: Receiver<Box<dyn Write>>) {
    while let Some(writes) = waiting.take_all().await {
        let (role, file, busy_timeout) = (desk.role, desk.file.clone(), desk.busy_timeout);
        let done = desk.done.clone();
        let worked = spawn_blocking(move || {
            desk.work(writes);
            desk
        });
        desk = worked.await.unwrap_or_else(|_| {
            // A connection that panicked is not to be trusted; the next batch opens another.
            Desk { connection: None, role, file, busy_timeout, done }
        });
    }
    let _ = spawn_blocking(move || {
        desk.close();
        drop(anchor);
    })
    .await;
}

impl Done {
    fn note(&self, batch: &[Box<dyn Write>], begun: Duration) {
        self.writes.fetch_add(batch.len() as u64, Ordering::Relaxed);
        self.batches.note(self.clock.monotonic().saturating_sub(begun));
    }
}

impl Desk {
    fn work(&mut self, mut batch: Vec<Box<dyn Write>>) {
        let begun = self.done.clock.monotonic();
        let transaction = self.transact(&mut batch).map_err(StoreError::into_unavailable);
        self.done.note(&batch, begun);
        for write in batch {
            write.answer(&transaction);
        }
    }

    fn transact(&mut self, batch: &mut [Box<dyn Write>]) -> Result<(), StoreError> {
        let mut connection = self.take_connection()?;
        if let Err(error) = execute(&mut connection, "BEGIN IMMEDIATE") {
            self.connection = Some(connection);
            return Err(error);
        }
        let mut has_panicked = false;
        let done = run_all(&mut connection, batch, &mut has_panicked)
            .and_then(|()| self.file.still_there())
            .and_then(|()| execute(&mut connection, "COMMIT"));
        // SQLite may have rolled back by itself, and says then that there is nothing to roll back. Whatever
        // else keeps a transaction open ends with the connection.
        let is_over = done.is_ok() || is_rolled_back(execute(&mut connection, "ROLLBACK"));
        if is_over && !has_panicked {
            self.connection = Some(connection);
        }
        done
    }

    fn take_connection(&mut self) -> Result<Connection, StoreError> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        self.reconnect()
    }

    fn reconnect(&self) -> Result<Connection, StoreError> {
        self.file.still_there()?;
        let connection = connection::connect(self.file.url(), self.role, self.busy_timeout)
            .map_err(StoreError::unavailable)?;
        self.file.still_there()?;
        Ok(in_place(connection))
    }

    fn close(self) {
        // Folding in takes the write lock, and a reader left nothing in the log.
        if let Some(mut connection) = self.connection
            && self.role == Role::Writer
        {
            // What cannot be folded in now stays in the log, as safe as it was.
            let _ = execute(&mut connection, "PRAGMA wal_checkpoint(TRUNCATE)");
        }
    }
}

fn run_all(
    connection: &mut Connection,
    batch: &mut [Box<dyn Write>],
    has_panicked: &mut bool,
) -> Result<(), StoreError> {
    for write in batch {
        execute(connection, "SAVEPOINT work")?;
        let ran = write.run(connection);
        *has_panicked |= ran == Ran::Panicked;
        if ran != Ran::Done {
            // On some failures, a full disk for one, SQLite rolls back the whole transaction. Then there is no
            // savepoint, this fails, and nothing of the batch is taken for saved.
            execute(connection, "ROLLBACK TO work")?;
        }
        execute(connection, "RELEASE work")?;
    }
    Ok(())
}

fn execute(connection: &mut Connection, statement: &str) -> Result<(), StoreError> {
    complete(connection.batch_execute(statement))
}

fn is_rolled_back(rollback: Result<(), StoreError>) -> bool {
    rollback.err().is_none_or(|error| error.to_string().contains("no transaction is active"))
}

impl<Work, T> Write for Waiting<Work, T>
where
    Work: AsyncFnOnce(&mut Connection) -> Result<T, StoreError> + Send,
    T: Send,
{
    fn run(&mut self, connection: &mut Connection) -> Ran {
        let Some(work) = self.work.take() else { return Ran::Failed };
        let Ok(outcome) = catch_unwind(AssertUnwindSafe(|| complete(work(connection)))) else {
            self.outcome = Err(StoreError::failed("a write panicked"));
            return Ran::Panicked;
        };
        self.outcome = outcome;
        if self.outcome.is_ok() { Ran::Done } else { Ran::Failed }
    }

    fn answer(self: Box<Self>, transaction: &Result<(), StoreError>) {
        // Nobody may be listening any more, and what is done is done.
        let _ = self.caller.send(transaction.clone().and(self.outcome));
    }
}

fn not_run() -> StoreError {
    StoreError::unavailable("the writer stopped before it came to this write")
}
