//! diesel-async on SQLite, without its change of threads.
//!
//! SQLite blocks, so diesel-async would send each statement to a thread of tokio. The threads of this crate own their
//! connections and may block, so here a statement runs on the thread that polls it.

#![expect(clippy::disallowed_types, reason = "this is where the wrapper is told which thread to use")]

use std::error::Error;
use std::future::ready;

use diesel::SqliteConnection;
use diesel_async::sync_connection_wrapper::{SpawnBlocking, SyncConnectionWrapper};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::error::StoreError;

/// A connection whose statements run in place.
pub(crate) type Connection = SyncConnectionWrapper<SqliteConnection, CallingThread>;

/// Runs each task on the thread that asks for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallingThread;

impl SpawnBlocking for CallingThread {
    fn spawn_blocking<'a, R: Send + 'static>(
        &mut self,
        task: impl FnOnce() -> R + Send + 'static,
    ) -> BoxFuture<'a, Result<R, Box<dyn Error + Send + Sync>>> {
        ready(Ok(task())).boxed()
    }

    fn get_runtime() -> Self {
        Self
    }
}

/// A connection on which statements run in place.
pub(crate) fn in_place(connection: SqliteConnection) -> Connection {
    SyncConnectionWrapper::with_runtime(connection, CallingThread)
}

/// Runs work whose only waits are for statements. They run in place, so it is complete at its first poll. Work that waits for
/// anything else is a bug: it is given up, and would have blocked the thread for ever.
pub(crate) fn complete<T, E: Into<StoreError>>(
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, StoreError> {
    let incomplete = || Err(StoreError::failed("work on a connection was not complete at its first poll"));
    work.now_or_never().map_or_else(incomplete, |done| done.map_err(Into::into))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    #[test]
    fn work_that_waits_for_anything_but_statements_is_an_error() {
        let waiting = complete(std::future::pending::<Result<(), StoreError>>());

        assert!(waiting.unwrap_err().to_string().contains("not complete at its first poll"));
    }

    #[test]
    fn statement_runs_on_the_thread_that_polls_it() {
        let fixture = Fixture::new();
        let mut connection = in_place(fixture.outsider());

        let thread = complete(connection.spawn_blocking(|_| Ok(std::thread::current().id())));

        assert_eq!(thread.unwrap(), std::thread::current().id());
    }
}
