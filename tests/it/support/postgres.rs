//! Stores on databases of their own in a throw-away PostgreSQL.

use std::any::Any;
use std::num::NonZero;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, LazyLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use domain::AuditKey;
use store_postgres::{Access, PostgresStore, Settings, Url, migrations};
use test_postgres::{Cluster, Durability, NotStarted, execute};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::NoTls;
use tokio_util::task::TaskTracker;

use super::audit_fixtures::audit_key;
use super::clock::StillClock;
use super::external_tools::skip;
use super::future_migration;
use super::runtime::runtime;
use super::server::{Deployment, Elsewhere};

/// The pooled connections of a store.
pub(crate) const POOL_SIZE: NonZero<usize> = NonZero::new(16).unwrap();

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

/// A server with the schema as it is today, in its database `postgres`. Without its programs `test` is skipped.
pub(crate) fn cluster(test: &str) -> Option<Cluster> {
    let cluster = or_skip(test, Cluster::start(Durability::None, ""))?;
    migrations::up(&Url::parse(&cluster.url("postgres")).unwrap()).unwrap();
    Some(cluster)
}

/// A server that was started. Without its programs `test` is skipped.
pub(crate) fn or_skip(test: &str, started: Result<Cluster, NotStarted>) -> Option<Cluster> {
    if let Err(NotStarted::Missing) = started {
        skip(test, "PostgreSQL's server of its own (apt install postgresql)");
        return None;
    }
    Some(started.unwrap())
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

    /// Another store on the same database, by somebody who has another key for the audit log.
    pub(crate) fn with_another_key(&self) -> Store {
        open_under(AuditKey::new(b"another audit key, which is not the log's own"), self.database.clone())
    }

    /// Answers what a statement answers, in rows of text.
    pub(crate) fn ask(&self, statement: &str) -> Vec<Vec<String>> {
        self.database.ask(statement)
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
    open_under(audit_key(), database)
}

fn open_under(key: AuditKey, database: Arc<Database>) -> Store {
    let runtime = runtime();
    let clock = Arc::new(StillClock::default());
    let tasks = TaskTracker::new();
    let opened = open_with(key, &database.url(), &runtime, tasks.clone(), clock.clone()).unwrap();
    Store { opened, tasks, clock, database, runtime: Some(runtime) }
}

/// A store on a database that is current.
pub(crate) fn open_on(
    url: &str,
    runtime: &Runtime,
    tasks: TaskTracker,
    clock: Arc<StillClock>,
) -> Result<PostgresStore, store_postgres::OpenError> {
    open_with(audit_key(), url, runtime, tasks, clock)
}

fn open_with(
    key: AuditKey,
    url: &str,
    runtime: &Runtime,
    tasks: TaskTracker,
    clock: Arc<StillClock>,
) -> Result<PostgresStore, store_postgres::OpenError> {
    let url = Url::parse(url).unwrap();
    let settings =
        Settings { url, access: Access::ReadWrite, pool_size: POOL_SIZE, migrate: false, seal: true };
    PostgresStore::open(&settings, key, runtime.handle().clone(), tasks, clock)
}

impl Database {
    /// One without any table.
    pub(crate) fn empty() -> Self {
        Self::make("")
    }

    /// One without any table, whose texts are encoded so.
    pub(crate) fn encoded(encoding: &str) -> Self {
        Self::make(&format!("ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"))
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

    /// Its URL for a role that owns nothing, may change every row, and has so many connections at most.
    pub(crate) fn limited(&self, connections: usize) -> String {
        let role = format!("{}_limited", self.name);
        self.ask(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'limited' CONNECTION LIMIT {connections};
             GRANT ALL ON ALL TABLES IN SCHEMA public TO {role};
             GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}"
        ));
        let url = self.url();
        let (scheme, rest) = url.split_once("://").unwrap();
        format!("{scheme}://{role}:limited@{}", rest.split_once('@').map_or(rest, |(_, server)| server))
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
        let folder = future_migration::migrations("postgres", sql);
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
            execute(&self.server.url("postgres"), &format!("DROP ROLE IF EXISTS {}_limited", self.name));
        }
    }
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    #[expect(clippy::disallowed_methods, reason = "whoever runs the tests says where they run")]
    match std::env::var("TEST_POSTGRES_URL") {
        Ok(url) => Server::Given(url),
        Err(_) => Server::Own(Cluster::start(Durability::None, "").expect("a build that found PostgreSQL")),
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
