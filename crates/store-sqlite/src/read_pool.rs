//! The readers: a few connections that cannot write, and never wait for the writer.
//!
//! Each has a thread of its own. A query takes microseconds, and to wake a thread for it takes longer than to answer it: so
//! one reader answers one query after the other, and the others help when it falls behind.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::PATIENCE;
use crate::calling_thread::{Connection, complete, in_place};
use crate::connection::{self, Role};
use crate::database_file::OpenFile;
use crate::error::StoreError;

/// One may wait for the disk while the others answer from memory.
pub(crate) const READERS: usize = 4;

/// How many queries may wait before one more reader is woken for them.
const BEHIND: usize = 8;

/// How long a query may wait before one more reader is woken, since one that is at work may wait for the disk.
const HELD_UP: Duration = Duration::from_millis(5);

pub(crate) struct Readers {
    queue: Arc<Queue>,
    tasks: TaskTracker,
    threads: TaskTracker,
}

/// What waits for a reader. As much as there are callers, each of whom goes away after some time.
struct Queue {
    waiting: Mutex<Waiting>,
    arrival: Condvar,
}

struct Waiting {
    queries: VecDeque<Query>,
    /// How many readers are at work, or were called to it.
    awake: usize,
    is_open: bool,
}

type Query = Box<dyn FnOnce(&mut Reader) + Send>;

struct Reader {
    /// None before the first query, and after one that panicked.
    connection: Option<Connection>,
    file: Arc<OpenFile>,
    busy_timeout: Duration,
}

impl Readers {
    /// Starts the threads. `tasks` counts the queries.
    pub(crate) fn start(
        file: &Arc<OpenFile>,
        busy_timeout: Duration,
        tasks: TaskTracker,
    ) -> io::Result<Self> {
        let waiting = Mutex::new(Waiting { queries: VecDeque::new(), awake: READERS, is_open: true });
        let queue = Arc::new(Queue { waiting, arrival: Condvar::new() });
        let readers = Self { queue, tasks, threads: TaskTracker::new() };
        for number in 0..READERS {
            let queue = readers.queue.clone();
            let mut reader = Reader { connection: None, file: file.clone(), busy_timeout };
            let counted = readers.threads.token();
            thread::Builder::new().name(format!("reader-{number}")).spawn(move || {
                while let Some(query) = queue.next() {
                    // Its caller learns of a panic, for the answer is dropped.
                    let _ = catch_unwind(AssertUnwindSafe(|| query(&mut reader)));
                }
                drop((reader, counted));
            })?;
        }
        Ok(readers)
    }

    /// Has a query answered, on a thread that may wait for the disk.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        query: impl AsyncFnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, mut answered) = oneshot::channel();
        let counted = self.tasks.token();
        let query = move |reader: &mut Reader| {
            if !answer.is_closed() {
                // Nobody may be listening any more.
                let _ = answer.send(reader.read(query));
            }
            drop(counted);
        };
        self.queue.push(Box::new(query))?;
        let answered = if let Ok(soon) = timeout(HELD_UP, &mut answered).await {
            soon
        } else {
            self.queue.call_another();
            timeout(PATIENCE, answered).await.map_err(StoreError::unavailable)?
        };
        answered.unwrap_or_else(|_| Err(StoreError::failed("a query panicked")))
    }

    /// How many queries wait, and how many readers are at work or called to it.
    pub(crate) fn load(&self) -> (usize, usize) {
        let waiting = self.queue.waiting.lock();
        (waiting.queries.len(), waiting.awake)
    }

    /// Lets nobody read any more, and waits until what was asked is answered and the connections are closed.
    pub(crate) async fn close(&self) {
        self.queue.close();
        self.threads.close();
        self.threads.wait().await;
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Queue {
    fn push(&self, query: Query) -> Result<(), StoreError> {
        let mut waiting = self.waiting.lock();
        if !waiting.is_open {
            return Err(StoreError::unavailable("the store is closed"));
        }
        waiting.queries.push_back(query);
        if waiting.awake == 0 || waiting.queries.len() > BEHIND {
            self.call(waiting);
        }
        Ok(())
    }

    /// Wakes one more reader, if there is something for it to do.
    fn call_another(&self) {
        let waiting = self.waiting.lock();
        if !waiting.queries.is_empty() {
            self.call(waiting);
        }
    }

    fn call(&self, mut waiting: MutexGuard<'_, Waiting>) {
        if waiting.awake < READERS {
            waiting.awake += 1;
            self.arrival.notify_one();
        }
    }

    /// What has waited longest, as soon as there is something; nothing once the queue is closed and empty.
    fn next(&self) -> Option<Query> {
        let mut waiting = self.waiting.lock();
        while waiting.is_open && waiting.queries.is_empty() {
            // One that the system wakes for no reason was counted by nobody; then one more is called than need be.
            waiting.awake = waiting.awake.saturating_sub(1);
            self.arrival.wait(&mut waiting);
        }
        waiting.queries.pop_front()
    }

    fn close(&self) {
        self.waiting.lock().is_open = false;
        self.arrival.notify_all();
    }
}

impl Reader {
    fn read<T>(
        &mut self,
        query: impl AsyncFnOnce(&mut Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.file.still_there()?;
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let answer = complete(query(&mut connection));
        self.connection = Some(connection);
        answer
    }

    fn connect(&self) -> Result<Connection, StoreError> {
        let connection = connection::connect(self.file.url(), Role::Reader, self.busy_timeout);
        let connection = connection.map_err(StoreError::unavailable)?;
        // Replaced since the last look, and this connection would read somebody else's file for ever.
        self.file.still_there()?;
        Ok(in_place(connection))
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use diesel::QueryDsl as _;
    use diesel_async::RunQueryDsl as _;
    use domain::ports::UserRepo;
    use futures_util::future::join_all;

    use super::*;
    use crate::database_file::Location;
    use crate::schema::users;
    use crate::testing::{Fixture, attempt, key, person};

    #[tokio::test]
    async fn a_reader_that_cannot_be_had_is_said_why_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.db");
        std::fs::write(&path, "hello").unwrap();
        let location = Location::new(&path).unwrap();
        let file = OpenFile::without_log(location.clone(), location.identity().unwrap()).unwrap();

        let readers = Readers::start(&Arc::new(file), Duration::ZERO, TaskTracker::new()).unwrap();
        let refused = readers.read(async |_: &mut Connection| Ok(())).await.unwrap_err();

        let mut told = String::new();
        let mut error: Option<&dyn Error> = Some(&refused);
        while let Some(cause) = error {
            told += &cause.to_string();
            error = cause.source();
        }
        assert_eq!(told.matches("not a SQLite database").count(), 1, "{told}");
    }

    #[tokio::test]
    async fn a_query_that_panics_is_an_error_and_the_next_one_is_answered() {
        let fixture = Fixture::new();
        fixture.store.insert(person("ann"), attempt()).await.unwrap();

        for _ in 0..2 * READERS {
            assert!(
                fixture
                    .store
                    .read(async |_: &mut Connection| -> Result<(), _> { panic!("on purpose") })
                    .await
                    .is_err()
            );
        }

        assert!(fixture.store.find_by_name(key("ann")).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_reader_that_is_held_up_keeps_nobody_else_waiting() {
        let fixture = Fixture::new();
        let mut held = Vec::new();
        for _ in 1..READERS {
            let ((begun, begins), (release, released)) = (oneshot::channel(), oneshot::channel::<()>());
            let reading = fixture.store.read(async move |_: &mut Connection| {
                begun.send(()).unwrap();
                // As a statement that waits for the disk.
                let _ = released.blocking_recv();
                Ok(())
            });
            let mut reading = Box::pin(reading);
            tokio::select! {
                given_up = &mut reading => panic!("{given_up:?}"),
                begun = begins => begun.unwrap(),
            }
            held.push((reading, release));
        }

        assert_eq!(fixture.store.find_by_name(key("ann")).await.unwrap(), None);
        for (reading, release) in held {
            drop(release);
            reading.await.unwrap();
        }
    }

    #[tokio::test]
    async fn more_who_ask_at_once_than_there_are_readers_are_answered_too() {
        let fixture = Fixture::new();

        let count = || {
            fixture.store.read(async |reader: &mut Connection| {
                Ok(users::table.count().get_result::<i64>(reader).await?)
            })
        };
        let counts = join_all((0..8 * READERS).map(|_| count())).await;

        assert!(counts.iter().all(|count| matches!(count, Ok(0))));
    }
}
