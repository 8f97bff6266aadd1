//! What the tests share: a store on a file of its own, a clock that stands still, and a second process.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use diesel::prelude::*;
use domain::ports::{Clock, Insertion, NewUser, PortError};
use domain::{PasswordHash, Username, UsernameKey};
use futures_util::poll;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio_util::task::TaskTracker;

use crate::connection::{self, Role};
use crate::schema::users;
use crate::{OpenError, Settings, SqliteStore};

pub(crate) struct Fixture {
    pub(crate) store: SqliteStore,
    pub(crate) clock: Arc<StillClock>,
    pub(crate) tasks: TaskTracker,
    pub(crate) folder: PathBuf,
    runtime: Option<Runtime>,
    kept: Option<TempDir>,
}

#[derive(Default)]
pub(crate) struct StillClock(AtomicU64);

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap())
    }

    /// A store on the file in `folder`, which goes with it. It waits for no lock.
    pub(crate) fn on(folder: TempDir) -> Self {
        let mut fixture = Self::at(folder.path());
        fixture.kept = Some(folder);
        fixture
    }

    /// A store on the file in a folder that stays.
    pub(crate) fn at(folder: &Path) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (clock, tasks) = (Arc::new(StillClock::default()), TaskTracker::new());
        let settings = settings(folder);
        let store =
            SqliteStore::open(&settings, runtime.handle().clone(), tasks.clone(), clock.clone()).unwrap();
        Self { store, clock, tasks, folder: folder.to_owned(), runtime: Some(runtime), kept: None }
    }

    pub(crate) fn path(&self) -> PathBuf {
        settings(&self.folder).path
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.path().with_extension("db-wal")
    }

    pub(crate) fn url(&self) -> String {
        format!("file:{}?mode=rw", self.path().display())
    }

    /// A connection like another process's.
    pub(crate) fn outsider(&self) -> SqliteConnection {
        connection::connect(&self.url(), Role::Writer, Duration::ZERO).unwrap()
    }

    /// The names that somebody else sees.
    pub(crate) fn names(&self) -> Vec<String> {
        let names = users::table.select(users::username).order(users::id);
        names.load(&mut self.outsider()).unwrap()
    }

    /// Pages are counted from one.
    pub(crate) fn first_page_of(&self, table: &str) -> usize {
        diesel::table! { sqlite_master (name) { name -> Text, rootpage -> Integer, } }
        let page = sqlite_master::table.find(table).select(sqlite_master::rootpage);
        page.get_result::<i32>(&mut self.outsider()).unwrap().try_into().unwrap()
    }

    /// Keeps the writer busy until the sender is used or dropped.
    pub(crate) async fn hold_the_writer(&self) -> mpsc::Sender<()> {
        let (release, released) = mpsc::channel();
        let (begun, begins) = tokio::sync::oneshot::channel();
        let held = self.store.write(move |_| {
            begun.send(()).unwrap();
            let _ = released.recv();
            Ok(())
        });
        let mut held = Box::pin(held);
        assert!(poll!(&mut held).is_pending());
        begins.await.unwrap();
        release
    }

    /// Has the writer do something to its own connection.
    pub(crate) async fn tamper(&self, pragma: &'static str) {
        use diesel::connection::SimpleConnection as _;
        // A pragma is no part of a transaction: it stays, even when nothing can be committed any more.
        let _ = self.store.write(move |connection| Ok(connection.batch_execute(pragma)?)).await;
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl StillClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_micros().try_into().unwrap(), Ordering::SeqCst);
    }
}

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::SeqCst))
    }
}

pub(crate) fn settings(folder: impl AsRef<Path>) -> Settings {
    Settings { busy_timeout: Duration::ZERO, ..Settings::new(folder.as_ref().join("auth.db")) }
}

/// Opens and lets go again.
pub(crate) fn open(settings: &Settings) -> Result<(), OpenError> {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let clock = Arc::new(StillClock::default());
    let store = SqliteStore::open(settings, runtime.handle().clone(), TaskTracker::new(), clock)?;
    runtime.block_on(store.close());
    Ok(())
}

pub(crate) fn person(text: &str) -> NewUser {
    NewUser {
        name: name(text),
        password_hash: PasswordHash::new("hash".to_owned()),
        at: Timestamp::UNIX_EPOCH,
    }
}

pub(crate) fn name(text: &str) -> Username {
    Username::parse(text).unwrap()
}

pub(crate) fn key(text: &str) -> UsernameKey {
    name(text).key().clone()
}

pub(crate) fn is_done(insertion: &Result<Insertion, PortError>) -> bool {
    matches!(insertion, Ok(Insertion::Done(_)))
}

pub(crate) fn is_unavailable<T>(answer: &Result<T, PortError>) -> bool {
    matches!(answer, Err(PortError::Unavailable(_)))
}
