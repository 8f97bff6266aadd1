//! Fewer connections than the pool may have, and poolers in between.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use domain::ports::{Insertion, NewUser, UserRepo as _};
use domain::{PasswordHash, Username};
use futures_util::future::join_all;
use jiff::Timestamp;
use store_postgres::{OpenError, OpenProblem, PostgresStore, Url, migrations};
use test_postgres::{Cluster, Durability};
use tokio::runtime::Runtime;
use tokio_util::task::TaskTracker;

use crate::support::audit_fixtures::tried;
use crate::support::clock::StillClock;
use crate::support::external_tools::skip;
use crate::support::postgres::{Database, open_on, or_skip};
use crate::support::runtime::runtime;

#[tokio::test]
async fn requests_share_connections_where_a_role_is_limited() {
    for limit in [1, 2, 3, 10] {
        let database = Database::migrated();
        let (runtime, store) = open(&database.limited(limit)).unwrap();

        let outcomes = join_all((0..40).map(|number| insert(&store, number))).await;

        assert!(outcomes.iter().all(|done| *done), "{limit}: {outcomes:?}");
        assert_eq!(database.ask("SELECT count(*) FROM users"), [["40"]]);
        runtime.shutdown_background();
    }
}

#[tokio::test]
async fn requests_share_connections_where_a_database_is_limited() {
    let database = Database::migrated();
    let url = database.limited(100);
    let name = &database.ask("SELECT current_database()")[0][0];
    database.ask(&format!("ALTER DATABASE {name} CONNECTION LIMIT 4"));
    let (runtime, store) = open(&url).unwrap();

    let outcomes = join_all((0..40).map(|number| insert(&store, number))).await;

    assert!(outcomes.iter().all(|done| *done), "{outcomes:?}");
    runtime.shutdown_background();
}

#[tokio::test]
async fn requests_share_connections_where_the_server_is_full() {
    let test = "requests_share_connections_where_the_server_is_full";
    let options = "-c max_connections=8 -c superuser_reserved_connections=0";
    let Some(cluster) = or_skip(test, Cluster::start(Durability::None, options)) else { return };
    migrations::up(&Url::parse(&cluster.url("postgres")).unwrap()).unwrap();
    let (runtime, store) = open(&cluster.url("postgres")).unwrap();

    let outcomes = join_all((0..40).map(|number| insert(&store, number))).await;

    assert!(outcomes.iter().all(|done| *done), "{outcomes:?}");
    runtime.shutdown_background();
}

#[test]
fn pooler_without_prepared_statements_is_refused_with_the_reason() {
    let test = "pooler_without_prepared_statements_is_refused_with_the_reason";
    for (mode, round_robin) in [("transaction", "0"), ("transaction", "1"), ("statement", "0")] {
        let Some(pooler) = Pooler::start(test, mode, round_robin, 20) else { return };
        let opened = open(&pooler.url()).err().expect("a refusal");
        let migrated = migrations::up(&Url::parse(&pooler.url()).unwrap()).unwrap_err();

        for refused in [opened, migrated] {
            assert!(matches!(refused.problem, OpenProblem::Pooler), "{refused:?}");
            assert!(refused.to_string().contains("PgBouncer 1.21"), "{refused}");
        }
    }
}

#[tokio::test]
async fn pooler_in_session_mode_serves() {
    for connections in [1, 2, 3, 20] {
        let test = "pooler_in_session_mode_serves";
        let Some(pooler) = Pooler::start(test, "session", "0", connections) else { return };
        let (runtime, store) = open(&pooler.url()).unwrap();

        let outcomes = join_all((0..40).map(|number| insert(&store, number))).await;

        assert!(outcomes.iter().all(|done| *done), "{connections}: {outcomes:?}");
        runtime.shutdown_background();
    }
}

/// PgBouncer before a server of its own.
struct Pooler {
    process: Child,
    folder: PathBuf,
    _cluster: Cluster,
}

impl Pooler {
    fn start(test: &str, mode: &str, round_robin: &str, connections: u32) -> Option<Self> {
        let Ok(version) = Command::new("pgbouncer").arg("--version").output() else {
            skip(test, "PgBouncer (apt install pgbouncer)");
            return None;
        };
        assert!(version.status.success());
        let cluster = or_skip(test, Cluster::start(Durability::None, ""))?;
        migrations::up(&Url::parse(&cluster.url("postgres")).unwrap()).unwrap();
        // Its sockets are the server's neighbours, whose folder is the server's own.
        let server = cluster.socket().parent().unwrap().to_owned();
        let folder = Cluster::folder();
        let configuration = folder.join("pgbouncer.ini");
        let no_prepared_statements =
            if Self::knows_prepared_statements() { "max_prepared_statements = 0" } else { "" };
        fs::write(
            &configuration,
            format!(
                "[databases]
                 postgres = host={server} user=postgres
                 [pgbouncer]
                 auth_type = any
                 listen_addr =
                 listen_port = 6432
                 unix_socket_dir = {folder}
                 pool_mode = {mode}
                 server_round_robin = {round_robin}
                 default_pool_size = {connections}
                 ignore_startup_parameters = extra_float_digits,options
                 {no_prepared_statements}",
                server = server.display(),
                folder = folder.display(),
            ),
        )
        .unwrap();
        let mut command = Command::new("pgbouncer");
        if rustix::process::getuid().is_root() {
            command.args(["--user", "postgres"]);
        }
        command.arg(&configuration).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let pooler = Self { process: command.spawn().unwrap(), folder, _cluster: cluster };
        while std::os::unix::net::UnixStream::connect(pooler.folder.join(".s.PGSQL.6432")).is_err() {
            std::thread::yield_now();
        }
        Some(pooler)
    }

    fn url(&self) -> String {
        format!("postgres://postgres@/postgres?host={}&port=6432", self.folder.display())
    }

    /// Whether this version can keep prepared statements, which it then has to be told not to.
    fn knows_prepared_statements() -> bool {
        let version = Command::new("pgbouncer").arg("--version").output().unwrap();
        let version = String::from_utf8(version.stdout).unwrap();
        let numbers: Vec<u32> =
            version.split([' ', '.', '\n']).filter_map(|number| number.parse().ok()).take(2).collect();
        numbers.as_slice() >= [1, 21].as_slice()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
        _ = fs::remove_dir_all(&self.folder);
    }
}

async fn insert(store: &PostgresStore, number: u32) -> bool {
    let new = NewUser {
        name: Username::parse(&format!("user{number}")).unwrap(),
        password_hash: PasswordHash::new("hash".to_owned()),
        at: Timestamp::UNIX_EPOCH,
    };
    matches!(store.insert(new, tried(Timestamp::UNIX_EPOCH)).await, Ok(Insertion::Done(_)))
}

fn open(url: &str) -> Result<(Runtime, PostgresStore), OpenError> {
    let runtime = runtime();
    match open_on(url, &runtime, TaskTracker::new(), Arc::new(StillClock::default())) {
        Ok(store) => Ok((runtime, store)),
        Err(error) => {
            runtime.shutdown_background();
            Err(error)
        }
    }
}
