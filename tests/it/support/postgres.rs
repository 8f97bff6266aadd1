//! A throw-away PostgreSQL, and stores on databases of their own in it.

use std::any::Any;
use std::io::{BufRead as _, BufReader};
use std::ops::Deref;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, LazyLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, getuid, kill_process};
use store_postgres::{Access, PostgresStore, Settings, Url, migrations};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{NoTls, SimpleQueryMessage};
use tokio_util::task::TaskTracker;

use super::attempts::audit_key;
use super::clock::StillClock;
use super::foreign::skip;
use super::later;
use super::runtime::runtime;
use super::server::{Deployment, Elsewhere};

/// Makes a cluster in the folder `$1`, a standby of the one in `$4` if there is that, starts it, says so, and waits until whoever began this is gone, however they
/// went: then the pipe closes. What is stopped by then is woken, and takes everything with it.
const KEEPER: &str = r#"
    fail() { cat "$1/initdb.log" "$1/log" >&2 2> /dev/null; rm -rf "$1"; exit 1; }
    data="$1/data" programs="$2" options="$3"
    if [ "$4" ]; then
        "$programs/pg_basebackup" --pgdata="$data" --host="$4" --username=postgres --write-recovery-conf \
            --checkpoint=fast --no-sync
    else
        "$programs/initdb" --pgdata="$data" --username=postgres --auth-local=trust --auth-host=scram-sha-256 \
            --pwfile="$1/password" --encoding=UTF8 --no-sync
    fi > "$1/initdb.log" 2>&1 || fail "$1"
    "$programs/pg_ctl" --pgdata="$data" --log="$1/log" --options="$options" --wait start > /dev/null || fail "$1"
    echo started
    cat > /dev/null
    if read -r pid < "$data/postmaster.pid"; then kill -CONT "$pid"; kill -QUIT "$pid"; fi 2> /dev/null
    while [ -e "$data/postmaster.pid" ] && kill -0 "$pid" 2> /dev/null; do sleep 0.1; done
    rm -rf "$1"
"#;

/// Nothing has to outlive these servers, and they may do less for it. How commits are answered stays as it is.
const OPTIONS: &str = "-c fsync=off -c full_page_writes=off -c max_connections=300 -c shared_buffers=32MB";

/// Where PostgreSQL's programs are, if there are any; the build has looked.
const PROGRAMS: Option<&str> = option_env!("POSTGRES_PROGRAMS");

/// The password of the user `postgres`, for those who come over the network.
pub(super) const PASSWORD: &str = "wide green rivers hum";

/// A server of our own, which goes when this does, or when the process ends.
pub(crate) struct Cluster {
    folder: PathBuf,
    options: String,
    /// Its folder, which the keeper removes.
    _keeper: Keeper,
}

struct Keeper(Child);

/// Where databases can be made.
enum Server {
    /// One that was named.
    Given(String),
    /// One for all tests of this process.
    Own(Cluster),
}

/// A database of its own.
pub(crate) struct Database {
    name: String,
    server: &'static Server,
}

/// A store, and the database that goes with the last store on it.
pub(crate) struct Store {
    opened: PostgresStore,
    tasks: TaskTracker,
    clock: Arc<StillClock>,
    database: Arc<Database>,
    runtime: Option<Runtime>,
}

/// A store on a database of its own, where nobody is yet.
pub(crate) fn fresh() -> Store {
    open(Arc::new(Database::migrated()))
}

/// An empty folder, and a database of its own where no migration was applied.
pub(crate) fn unmigrated() -> Deployment {
    Deployment::new().on(Arc::new(Database::empty()))
}

/// An empty folder, and a database of its own.
pub(crate) fn deployment() -> Deployment {
    Deployment::new().on(Arc::new(Database::migrated()))
}

impl Store {
    /// Another store on the same database, as a second process would have it.
    pub(crate) fn another(&self) -> Store {
        open(self.database.clone())
    }

    /// The store as it is after a restart.
    pub(crate) async fn reopened(self) -> Store {
        let database = self.database.clone();
        self.tasks.close();
        self.tasks.wait().await;
        self.close().await;
        drop(self);
        open(database)
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    /// Has the store see what others did up to now.
    pub(crate) async fn look_around(&self) {
        self.look().await.unwrap();
    }

    /// Takes the database away from under the store.
    pub(crate) fn take_away(&self) {
        self.database.take_away();
    }

    pub(crate) fn bring_back(&self) {
        self.database.bring_back();
    }

    /// Does to the database what somebody can who may write to it.
    pub(crate) fn tamper(&self, sql: &str) {
        self.database.ask(sql);
    }
}

impl Deref for Store {
    type Target = PostgresStore;

    fn deref(&self) -> &PostgresStore {
        &self.opened
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn open(database: Arc<Database>) -> Store {
    let runtime = runtime();
    let clock = Arc::new(StillClock::default());
    let tasks = TaskTracker::new();
    let opened = open_on(&database.url(), &runtime, tasks.clone(), clock.clone()).unwrap();
    Store { opened, tasks, clock, database, runtime: Some(runtime) }
}

/// A store on a database that is current.
pub(crate) fn open_on(
    url: &str,
    runtime: &Runtime,
    tasks: TaskTracker,
    clock: Arc<StillClock>,
) -> Result<PostgresStore, store_postgres::OpenError> {
    let settings = Settings { url: Url::parse(url).unwrap(), access: Access::ReadWrite, migrate: false };
    PostgresStore::open(&settings, audit_key(), runtime.handle().clone(), tasks, clock)
}

impl Database {
    /// One without any table.
    pub(crate) fn empty() -> Self {
        Self::make("")
    }

    /// One with the schema as it is today.
    pub(crate) fn migrated() -> Self {
        // In a server of our own, migrations run once, and what they made is copied. In one that was given, the
        // original would be left behind.
        static ORIGINAL: LazyLock<Option<Database>> = LazyLock::new(|| {
            let Server::Own(_) = &*SERVER else { return None };
            let original = Database::empty();
            migrations::up(&Url::parse(&original.url()).unwrap()).unwrap();
            Some(original)
        });
        if let Some(original) = &*ORIGINAL {
            return Self::make(&format!("TEMPLATE {}", original.name));
        }
        let database = Self::empty();
        migrations::up(&Url::parse(&database.url()).unwrap()).unwrap();
        database
    }

    fn make(how: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("auth_api_test_{}_{number}", std::process::id());
        let database = Self { name, server: &SERVER };
        execute(&database.server.url("postgres"), &format!("CREATE DATABASE {} {how}", database.name));
        database
    }

    pub(crate) fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// Answers what a statement answers, in rows of text.
    pub(crate) fn ask(&self, statement: &str) -> Vec<Vec<String>> {
        execute(&self.url(), statement)
    }

    pub(crate) fn take_away(&self) {
        let admin = self.server.url("postgres");
        execute(&admin, &format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", self.name));
        // And waits until they have.
        self.disconnect("pg_terminate_backend(pid, 10000)");
    }

    pub(crate) fn bring_back(&self) {
        let admin = self.server.url("postgres");
        execute(&admin, &format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", self.name));
    }

    /// Tells every connection there is to it to end.
    pub(crate) fn disconnect_everybody(&self) {
        self.disconnect("pg_terminate_backend(pid)");
    }

    fn disconnect(&self, end: &str) {
        let everybody = format!("SELECT {end} FROM pg_stat_activity WHERE datname = '{}'", self.name);
        execute(&self.server.url("postgres"), &everybody);
    }
}

impl Elsewhere for Database {
    fn url(&self) -> String {
        self.url()
    }

    fn contents(&self) -> Vec<u8> {
        let tables = ["users", "sessions"];
        tables
            .map(|table| self.ask(&format!("SELECT {table}::text FROM {table}")))
            .concat()
            .concat()
            .concat()
            .into()
    }

    fn tamper(&self, sql: &str) {
        self.ask(sql);
    }

    fn lock(&self) -> Box<dyn Any> {
        Box::new(Lock::take(&self.url(), "LOCK TABLE users, sessions IN SHARE MODE"))
    }

    fn upgrade(&self, sql: &str) -> usize {
        let folder = later::migrations("postgres", sql);
        migrations::up_from(&Url::parse(&self.url()).unwrap(), folder.path()).unwrap().len()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A server of our own is going to take all of them along.
        if let Server::Given(_) = self.server {
            execute(
                &self.server.url("postgres"),
                &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name),
            );
        }
    }
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    #[expect(clippy::disallowed_methods, reason = "whoever runs the tests says where they run")]
    match std::env::var("TEST_POSTGRES_URL") {
        Ok(url) => Server::Given(url),
        Err(_) => Server::Own(Cluster::start("").expect("a build that found PostgreSQL")),
    }
});

impl Server {
    fn url(&self, database: &str) -> String {
        match self {
            Self::Given(url) => {
                let (base, options) = url.split_once('?').unwrap_or((url, ""));
                let (scheme, rest) = base.split_once("://").expect("a URL in TEST_POSTGRES_URL");
                let server = rest.split('/').next().unwrap();
                format!("{scheme}://{server}/{database}?{options}")
            }
            Self::Own(cluster) => cluster.url(database),
        }
    }
}

impl Cluster {
    /// Starts a server with more options, which listens on a socket. None, where its programs are not installed.
    pub(crate) fn start(more: &str) -> Option<Self> {
        Self::start_in(Self::folder(), more)
    }

    /// A server with the schema as it is today, in its database `postgres`. Without its programs `test` is skipped.
    pub(crate) fn migrated(test: &str) -> Option<Self> {
        let cluster = Self::start("");
        match &cluster {
            Some(cluster) => _ = migrations::up(&Url::parse(&cluster.url("postgres")).unwrap()).unwrap(),
            None => skip(test, "PostgreSQL's server of its own (apt install postgresql)"),
        }
        cluster
    }

    /// Starts a server that follows this one, and has this one wait for it at every commit.
    pub(crate) fn standby(&self) -> Self {
        let standby = Self::launch(Self::folder(), "", Some(&self.folder)).expect("the same programs");
        let alone = self.url("postgres");
        // Each by itself, since neither can be in a transaction with the other.
        execute(&alone, "ALTER SYSTEM SET synchronous_standby_names = '*'");
        execute(&alone, "SELECT pg_reload_conf()");
        standby
    }

    /// Makes a primary of a standby.
    pub(crate) fn promote(&self) {
        self.control(&["promote"]);
    }

    /// A folder that the server may read and write, for what is to be there before it starts.
    pub(crate) fn folder() -> PathBuf {
        let folder = TempDir::with_prefix("pg").unwrap().keep();
        std::fs::write(folder.join("password"), PASSWORD).unwrap();
        if let Some((user, group)) = *UNPRIVILEGED {
            chown(folder.join("password"), Some(user), Some(group)).unwrap();
            chown(&folder, Some(user), Some(group)).unwrap();
        }
        folder
    }

    pub(crate) fn start_in(folder: PathBuf, more: &str) -> Option<Self> {
        Self::launch(folder, more, None)
    }

    fn launch(folder: PathBuf, more: &str, primary: Option<&Path>) -> Option<Self> {
        let programs = PROGRAMS?;
        let options =
            format!("{OPTIONS} -c unix_socket_directories={} -c listen_addresses= {more}", folder.display());
        let mut keeper = unprivileged("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&folder)
            .args([programs, &options])
            .args(primary)
            .current_dir(&folder)
            // Whoever ends the tests with all of their group is to leave somebody who clears up.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let keeper = Keeper(keeper);
        assert_eq!(said, "started\n", "PostgreSQL does not start; see above");
        Some(Self { folder, options, _keeper: keeper })
    }

    /// A database in it, by way of its socket.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@/{database}?host={}", self.folder.display())
    }

    /// The socket that it listens on.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join(".s.PGSQL.5432")
    }

    /// What it has told of itself up to now.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap()
    }

    /// Stops it as a power cut would.
    pub(crate) fn crash(&self) {
        self.control(&["--mode=immediate", "stop"]);
    }

    /// Starts it again.
    pub(crate) fn restart(&self) {
        let log = format!("--log={}", self.folder.join("log").display());
        let options = format!("--options={}", self.options);
        self.control(&[&log, &options, "start"]);
    }

    /// Stops every process of it where it is.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn control(&self, arguments: &[&str]) {
        let program = Path::new(PROGRAMS.expect("those that started it")).join("pg_ctl");
        let data = format!("--pgdata={}", self.folder.join("data").display());
        let mut command = unprivileged(program.to_str().unwrap());
        command.args([&data, "--wait", "--silent"]).args(arguments).current_dir(&self.folder);
        assert!(command.stdout(Stdio::null()).status().unwrap().success(), "pg_ctl {arguments:?}");
    }

    fn signal(&self, signal: Signal) {
        let note = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap();
        let postmaster: i32 = note.lines().next().unwrap().parse().unwrap();
        // The one that starts others goes first.
        for pid in std::iter::once(postmaster).chain(children(postmaster)) {
            // One that has ended meanwhile is as still.
            _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        _ = self.0.wait();
    }
}

fn children(of: i32) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|process| process.file_name().to_str()?.parse::<i32>().ok());
    // After the name, which is in brackets: the state, and whose child it is.
    let parent = |pid: &i32| -> Option<i32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    pids.filter(|pid| parent(pid) == Some(of)).collect()
}

/// Who runs the server when root runs the tests, whom PostgreSQL does not serve.
static UNPRIVILEGED: LazyLock<Option<(u32, u32)>> = LazyLock::new(|| {
    let id = |option: &str, user: &str| -> Option<u32> {
        let output = Command::new("id").args([option, user]).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    getuid().is_root().then(|| {
        let both = |user: &str| Some((id("-u", user)?, id("-g", user)?));
        both("postgres").or_else(|| both("nobody")).expect("a user other than root")
    })
});

fn unprivileged(program: &str) -> Command {
    let mut command = Command::new(program);
    if let Some((user, group)) = *UNPRIVILEGED {
        command.uid(user).gid(group);
    }
    command
}

/// Somebody else's transaction, until it is dropped.
pub(crate) struct Lock {
    end: Option<Sender<()>>,
    holder: Option<JoinHandle<()>>,
}

impl Lock {
    /// One that has done this and not committed it.
    pub(crate) fn take(url: &str, statement: &str) -> Self {
        let (url, statement) = (url.to_owned(), format!("BEGIN; {statement}"));
        let ((end, ended), (took, taken)) = (mpsc::channel::<()>(), mpsc::channel());
        let holder = thread::spawn(move || {
            let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(async {
                let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
                tokio::spawn(connection);
                client.batch_execute(&statement).await.unwrap();
                took.send(()).unwrap();
                _ = ended.recv();
                client.batch_execute("ROLLBACK").await.unwrap();
            });
        });
        taken.recv().expect("a lock");
        Self { end: Some(end), holder: Some(holder) }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(self.end.take());
        _ = self.holder.take().map(JoinHandle::join);
    }
}

/// Runs statements on a connection of their own, wherever it is called from.
pub(crate) fn execute(url: &str, statements: &str) -> Vec<Vec<String>> {
    let work = async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        let answers = client.simple_query(statements).await;
        let answers = answers.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
        let row = |answer: SimpleQueryMessage| match answer {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).unwrap_or("NULL").to_owned()).collect())
            }
            _ => None,
        };
        answers.into_iter().filter_map(row).collect()
    };
    thread::scope(|scope| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        scope.spawn(move || runtime.block_on(work)).join().unwrap()
    })
}
