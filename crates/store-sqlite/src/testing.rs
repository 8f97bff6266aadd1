//! What the tests share: a store on a file of its own, a clock that stands still, and a second process.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use diesel::prelude::*;
use domain::ports::{Clock, Insertion, NewSession, NewUser, PortError};
use domain::{
    Action, Attempt, AuditKey, Nonce, Origin, PasswordHash, SessionId, Subject, UserId, Username, UsernameKey,
};
use futures_util::poll;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio_util::task::TaskTracker;

use crate::calling_thread::Connection;
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
            SqliteStore::open(&settings, audit_key(), runtime.handle().clone(), tasks.clone(), clock.clone())
                .unwrap();
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
        let held = self.store.write(async move |_: &mut Connection| {
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
        use diesel_async::SimpleAsyncConnection as _;
        // A pragma is no part of a transaction: it stays, even when nothing can be committed any more.
        let _ = self
            .store
            .write(async move |connection: &mut Connection| Ok(connection.batch_execute(pragma).await?))
            .await;
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
    let handle = runtime.handle().clone();
    let store = SqliteStore::open(settings, audit_key(), handle, TaskTracker::new(), clock)?;
    runtime.block_on(store.close());
    Ok(())
}

pub(crate) fn audit_key() -> AuditKey {
    AuditKey::new(b"the audit key of the tests, which seals nothing else")
}

/// What is attempted matters here no more than who does.
pub(crate) fn attempt() -> Attempt {
    Attempt {
        action: Action::LogIn,
        subject: Subject::Unknown,
        origin: Origin::CommandLine,
        at: Timestamp::UNIX_EPOCH,
        salt: [0; 16],
    }
}

pub(crate) fn person(text: &str) -> NewUser {
    NewUser {
        name: name(text),
        password_hash: PasswordHash::new("hash".to_owned()),
        at: Timestamp::UNIX_EPOCH,
    }
}

/// A session that never ends, or as good as.
pub(crate) fn login(user: UserId) -> NewSession {
    let end = Timestamp::UNIX_EPOCH + Duration::from_hours(1_000_000);
    NewSession {
        id: SessionId::from_bytes([7; 16]),
        user,
        credentials_epoch: 0,
        nonce: Nonce([1; 16]),
        at: Timestamp::UNIX_EPOCH,
        expires_at: end,
        ends_at: end,
        address: Some([127, 0, 0, 1].into()),
        user_agent: None,
        compared: None,
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

/// Runs an ignored test of this program in a process of its own, begun by `wrapper`, and hands it the folder.
pub(crate) fn run_alone(wrapper: &[&str], test: &str, folder: impl AsRef<Path>) {
    let program = std::env::current_exe().unwrap();
    let arguments = [program.to_str().unwrap(), "--exact", test, "--ignored"];
    let all = [wrapper, &arguments].concat();
    let mut alone = Command::new(all[0])
        .args(&all[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    alone.stdin.take().unwrap().write_all(folder.as_ref().to_str().unwrap().as_bytes()).unwrap();
    let ended = alone.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.contains("1 passed"), "{said}");
}

/// What `run_alone` handed to this process, if it was that.
pub(crate) fn handed() -> Option<PathBuf> {
    let mut folder = String::new();
    std::io::stdin().read_to_string(&mut folder).unwrap();
    (!folder.is_empty()).then(|| folder.into())
}

/// The same, by somebody whom permissions bind: root without the power to pass them over, or whoever is not root.
/// Where that cannot be had, says so loudly, or fails if nothing may be skipped.
pub(crate) fn without_power(test: &str, folder: impl AsRef<Path>) {
    const POWERLESS: [&str; 2] = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"];
    let probe = folder.as_ref().with_extension("probe");
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(&probe).unwrap();
    let is_bound = std::fs::OpenOptions::new().append(true).open(&probe).is_err();
    std::fs::remove_file(probe).unwrap();
    if is_bound {
        return run_alone(&[], test, folder);
    }
    if Command::new(POWERLESS[0]).args([POWERLESS[1], "true"]).status().is_ok_and(|ended| ended.success()) {
        return run_alone(&POWERLESS, test, folder);
    }
    let what = format!("{test}: nothing is read-only for root; needs setpriv, of Debian's util-linux");
    #[expect(clippy::disallowed_methods, reason = "whoever runs the tests says whether skipping will do")]
    let forbidden = std::env::var_os("TESTS_MUST_NOT_SKIP").is_some();
    assert!(!forbidden, "{what}");
    // Written past the test harness, which keeps what a passing test prints to itself.
    _ = writeln!(std::io::stderr(), "\n!!! SKIPPED {what}\n");
}
