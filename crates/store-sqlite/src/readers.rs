//! The readers: a few connections that cannot write, and never wait for the writer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use diesel::SqliteConnection;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::PATIENCE;
use crate::connection::{self, Role};
use crate::error::StoreError;
use crate::file::OpenFile;

/// A look-up takes microseconds on one of these, so that a few serve many.
const READERS: usize = 4;

pub(crate) struct Readers {
    connections: Arc<Connections>,
    turns: Arc<Semaphore>,
    runtime: Handle,
    tasks: TaskTracker,
}

struct Connections {
    /// Those that are open and in nobody's hands; nothing once they are closed.
    idle: Mutex<Option<Vec<SqliteConnection>>>,
    file: Arc<OpenFile>,
    busy_timeout: Duration,
}

impl Readers {
    pub(crate) fn new(
        file: Arc<OpenFile>,
        busy_timeout: Duration,
        runtime: Handle,
        tasks: TaskTracker,
    ) -> Self {
        let idle = Mutex::new(Some(Vec::with_capacity(READERS)));
        let connections = Arc::new(Connections { idle, file, busy_timeout });
        Self { connections, turns: Arc::new(Semaphore::new(READERS)), runtime, tasks }
    }

    /// Has a query answered, on a thread that may wait for the disk.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&mut SqliteConnection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let turn = timeout(PATIENCE, self.turns.clone().acquire_owned()).await;
        let turn = turn.map_err(StoreError::unavailable)?.map_err(|_| closed())?;
        let connections = self.connections.clone();
        // Straight to the blocking side and back: by way of a task and an asynchronous connection there would be
        // three threads to wake for each query instead of one.
        let reading = move || {
            let answer = connections.read(query);
            drop(turn);
            answer
        };
        self.tasks.spawn_blocking_on(reading, &self.runtime).await.unwrap_or_else(|ended| {
            Err(if ended.is_panic() { StoreError::failed(ended) } else { StoreError::unavailable(ended) })
        })
    }

    /// Lets nobody read any more. A query that has begun is answered.
    pub(crate) fn close(&self) {
        self.turns.close();
        self.connections.idle().take();
    }
}

impl Connections {
    fn read<T>(
        &self,
        query: impl FnOnce(&mut SqliteConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.file.still_there()?;
        let idle = self.idle().as_mut().ok_or_else(closed)?.pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let answer = query(&mut connection);
        if let Some(idle) = &mut *self.idle() {
            idle.push(connection);
        }
        answer
    }

    fn connect(&self) -> Result<SqliteConnection, StoreError> {
        let connection = connection::connect(self.file.url(), Role::Reader, self.busy_timeout);
        let connection = connection.map_err(StoreError::unavailable)?;
        // Replaced since the last look, and this connection would read somebody else's file for ever.
        self.file.still_there()?;
        Ok(connection)
    }

    /// Nothing that holds this lock can leave the list half changed, so a poisoned one is as good.
    fn idle(&self) -> MutexGuard<'_, Option<Vec<SqliteConnection>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> StoreError {
    StoreError::unavailable("the store is closed")
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use diesel::prelude::*;
    use domain::ports::UserRepo;
    use futures_util::future::join_all;

    use super::*;
    use crate::file::Location;
    use crate::schema::users;
    use crate::testing::{Fixture, attempt, key, person};

    #[tokio::test]
    async fn a_reader_that_cannot_be_had_is_said_why_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.db");
        std::fs::write(&path, "hello").unwrap();
        let location = Location::new(&path).unwrap();
        let file = OpenFile::without_log(location.clone(), location.identity().unwrap()).unwrap();

        let readers = Readers::new(Arc::new(file), Duration::ZERO, Handle::current(), TaskTracker::new());
        let refused = readers.read(|_| Ok(())).await.unwrap_err();

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
            assert!(fixture.store.read(|_| -> Result<(), _> { panic!("on purpose") }).await.is_err());
        }

        assert!(fixture.store.find_by_name(key("ann")).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn more_who_ask_at_once_than_there_are_readers_are_answered_too() {
        let fixture = Fixture::new();

        let count = || fixture.store.read(|reader| Ok(users::table.count().get_result::<i64>(reader)?));
        let counts = join_all((0..8 * READERS).map(|_| count())).await;

        assert!(counts.iter().all(|count| matches!(count, Ok(0))));
    }
}
