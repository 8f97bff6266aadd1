use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use store_postgres::{Url, migrations};
use tokio::task::spawn_blocking;

use crate::support::client::{Client, PASSWORD};
use crate::support::future_migration;
use crate::support::postgres::{Database, Lock};
use crate::support::server::Deployment;

/// Migrations that take away what the release before the last one needed, which nobody runs any more.
const CONTRACTIONS: [&str; 0] = [];

#[tokio::test]
async fn a_migration_that_waits_for_a_table_keeps_nobody_waiting_with_it() {
    let database = Arc::new(Database::migrated());
    let server = Deployment::new().on(database.clone()).serve();
    let client = Client::of(&server);
    client.token_of_new("ann").await;
    // Somebody who reads for long, as a dump does.
    let reader = Lock::take(&database.url(), "SELECT count(*) FROM users, sessions, audit_events");

    let url = Url::parse(&database.url()).unwrap();
    let migrating = spawn_blocking(move || {
        let later =
            "ALTER TABLE audit_events ADD COLUMN device text; ALTER TABLE users ADD COLUMN locale text";
        let folder = future_migration::migrations("postgres", later);
        migrations::up_from(&url, folder.path())
    });
    for _ in 0..3 {
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'";
        while database.ask(waiting) == [["0"]] {
            assert!(!migrating.is_finished());
        }
        // A login writes to the very table, and does not fail for it.
        let logged_in = client.log_in("ann", PASSWORD).await;
        assert_eq!(logged_in.status, 200);
        assert_eq!(client.me(&logged_in.token()).await.status, 200);
        assert_eq!(client.get("/health/ready").await.status, 200);
    }
    drop(reader);

    assert_eq!(migrating.await.unwrap().unwrap().len(), 1);
    assert_eq!(client.log_in("ann", PASSWORD).await.status, 200);
}

#[test]
fn a_migration_that_fails_for_another_reason_says_so_at_once_and_leaves_nothing() {
    let database = Database::migrated();
    let url = Url::parse(&database.url()).unwrap();
    let folder = future_migration::migrations("postgres", "CREATE TABLE half (done text); SELECT 1 / 0");

    let failed = migrations::up_from(&url, folder.path()).unwrap_err();

    assert!(format!("{failed:?}").contains("division by zero"), "{failed:?}");
    assert_eq!(database.ask("SELECT count(*) FROM pg_tables WHERE tablename = 'half'"), [["0"]]);
    assert_eq!(migrations::up(&url).unwrap(), []);
}

#[test]
fn each_migration_leaves_what_the_release_before_it_needs() {
    let database = Database::migrated();
    let url = Url::parse(&database.url()).unwrap();
    let steps = migrations::status(&url).unwrap();
    let mut after = (columns(&database), rules(&database));

    for step in steps.into_iter().rev().map(|status| status.migration) {
        assert_eq!(migrations::down(&url, None).unwrap(), Some(step.clone()));
        let before = (columns(&database), rules(&database));
        if !CONTRACTIONS.contains(&&*step.to_string()) {
            for (column, shape) in &before.0 {
                assert_eq!(after.0.get(column), Some(shape), "{step} changes {column:?}");
            }
            let is_old = |table: &str| before.0.keys().any(|(old, _)| old == table);
            for ((table, column), (_, may_be_left_out)) in &after.0 {
                let is_new = !before.0.contains_key(&(table.clone(), column.clone()));
                assert!(
                    !is_new || !is_old(table) || *may_be_left_out,
                    "{step}: {table}.{column} is asked of releases that do not know it"
                );
            }
            for (rule, table) in &after.1 {
                let is_new = !before.1.contains_key(rule);
                assert!(!is_new || !is_old(table), "{step} asks more of {table}: {rule}");
            }
        }
        after = before;
    }
}

/// Each column by its table and name: its type, and whether a row may be added that says nothing of it.
fn columns(database: &Database) -> BTreeMap<(String, String), (String, bool)> {
    let rows = database.ask(
        "SELECT table_name, column_name, udt_name || ' ' || is_nullable,
             is_nullable = 'YES' OR column_default IS NOT NULL OR is_identity = 'YES'
         FROM information_schema.columns WHERE table_schema = 'public' AND table_name NOT LIKE '\\_\\_%'",
    );
    let column = |row: Vec<String>| match <[String; 4]>::try_from(row) {
        Ok([table, name, shape, may_be_left_out]) => ((table, name), (shape, may_be_left_out == "t")),
        Err(row) => panic!("{row:?}"),
    };
    rows.into_iter().map(column).collect()
}

/// What the tables refuse, each with its table: constraints, and indices that are unique.
fn rules(database: &Database) -> BTreeMap<String, String> {
    let rows = database.ask(
        "SELECT conname || ' ' || pg_get_constraintdef(oid), conrelid::regclass::text FROM pg_constraint
             WHERE connamespace = 'public'::regnamespace AND conrelid <> 0
         UNION ALL SELECT indexdef, tablename FROM pg_indexes
             WHERE schemaname = 'public' AND indexdef LIKE 'CREATE UNIQUE%'",
    );
    rows.into_iter().map(|row| (row[0].clone(), row[1].clone())).collect()
}

const LOCK_SCHEMA: &str = "LOCK TABLE __diesel_schema_migrations IN ACCESS EXCLUSIVE MODE";

#[test]
fn start_and_commands_end_while_the_schema_is_locked() {
    let database = Arc::new(Database::migrated());
    let deployment = Deployment::new().on(database.clone());
    let _other = Lock::take(&database.url(), LOCK_SCHEMA);

    thread::scope(|scope| {
        for arguments in [
            &["serve"][..],
            &["migrate", "up"],
            &["migrate", "status"],
            &["migrate", "down", "--yes"],
            &["migrate", "redo", "--yes"],
            &["users", "list"],
        ] {
            let deployment = &deployment;
            scope.spawn(move || {
                let ended = deployment.run(arguments);

                assert_eq!(ended.code, 1, "{arguments:?} {ended:?}");
                assert!(ended.stderr.contains("another session kept a table locked"), "{ended:?}");
            });
        }
    });
}

/// A server that cannot start before `database` is unlocked, by this command.
fn starting(database: &Database, mut command: Command) -> Child {
    let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = \
                   (SELECT oid FROM pg_database WHERE datname = current_database())";
    while database.ask(waiting) == [["0"]] {
        thread::yield_now();
    }
    process
}

#[test]
fn signal_during_the_start_ends_the_process() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        // Another database each time: the server goes on waiting for a lock when its client has ended.
        let database = Arc::new(Database::migrated());
        let deployment = Deployment::new().on(database.clone());
        let _other = Lock::take(&database.url(), LOCK_SCHEMA);

        let mut process = starting(&database, deployment.command(&["serve"]));
        kill_process(Pid::from_child(&process), signal).unwrap();

        assert_eq!(process.wait().unwrap().code(), Some(code));
    }
}

/// Process 1 of a container has no default action for a signal: what has no handler is ignored.
#[test]
fn start_has_handlers_for_the_signals_that_end_it() {
    let database = Arc::new(Database::migrated());
    let deployment = Deployment::new().on(database.clone());
    let _other = Lock::take(&database.url(), LOCK_SCHEMA);

    let mut process = starting(&database, deployment.command(&["serve"]));
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    process.kill().unwrap();
    process.wait().unwrap();

    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        assert_ne!(caught & 1 << (signal.as_raw() - 1), 0, "{signal:?} {caught:x}");
    }
}
