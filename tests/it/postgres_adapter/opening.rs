use std::collections::BTreeSet;
use std::error::Error as _;
use std::sync::{Arc, Barrier};
use std::thread;

use domain::ports::{
    AuditLog as _, Insertion, NewSession, NewUser, PortError, Requester, SessionRepo as _, Throttle as _,
    UserRepo as _,
};
use domain::{Link, LoginName, Nonce, PasswordHash, SessionId, ThrottleRules, UserId, Username};
use jiff::Timestamp;
use store_postgres::{Access, OpenError, OpenProblem, PostgresStore, Settings, Url, migrations};
use tokio::runtime::Runtime;
use tokio_util::task::TaskTracker;

use crate::support::audit_fixtures::{audit_key, tried};
use crate::support::clock::StillClock;
use crate::support::postgres::{Database, POOL_SIZE, fresh};
use crate::support::runtime::runtime;

#[test]
fn every_migration_goes_down_and_up_again() {
    let database = Database::empty();
    let url = Url::parse(&database.url()).unwrap();
    let all = migrations::up(&url).unwrap();
    let whole = schema(&database);
    assert!(!all.is_empty() && whole.iter().any(|it| it.contains("users.username_key")));

    for (kept, newest) in all.iter().enumerate().rev() {
        let before = schema(&database);
        assert_eq!(migrations::down(&url, None).unwrap().as_ref(), Some(newest));
        let after = schema(&database);
        assert_ne!(after, before);
        assert_eq!(migrations::up(&url).unwrap(), all[kept..]);
        assert_eq!(schema(&database), whole);
        for reverted in all[kept..].iter().rev() {
            assert_eq!(migrations::down(&url, None).unwrap().as_ref(), Some(reverted));
        }
        assert_eq!(schema(&database), after);
    }

    assert_eq!(schema(&database), BTreeSet::new());
    assert_eq!(migrations::down(&url, None).unwrap(), None);
    assert_eq!(migrations::up(&url).unwrap(), all);
    assert_eq!(schema(&database), whole);
    assert_eq!(migrations::up(&url).unwrap(), []);
}

#[test]
fn the_status_tells_what_is_applied_and_changes_nothing() {
    let database = Database::empty();
    let url = Url::parse(&database.url()).unwrap();
    let applied = || migrations::status(&url).unwrap().iter().map(|it| it.applied).collect::<Vec<_>>();

    assert!(applied().iter().all(|applied| !applied));
    assert_eq!((migrations::down(&url, None).unwrap(), migrations::redo(&url, None).unwrap()), (None, None));
    assert_eq!(tables(&database), BTreeSet::new());
    let all = migrations::up(&url).unwrap();
    assert!(applied().iter().all(|applied| *applied));
    migrations::down(&url, None).unwrap();
    assert_eq!(applied().iter().filter(|applied| **applied).count(), all.len() - 1);
    assert_eq!(migrations::status(&url).unwrap()[0].migration.to_string(), "0001_users");
}

#[tokio::test]
async fn a_redo_leaves_the_schema_and_empties_what_the_newest_migration_made() {
    let database = Database::migrated();
    let (runtime, store) = open(&database.url(), false).unwrap();
    sign_up(&store).await;
    store.open(login(), tried(Timestamp::UNIX_EPOCH)).await.unwrap();
    let ann = LoginName::from_typed("ann");
    let counter = store.counter(ann, None, Timestamp::UNIX_EPOCH).await.unwrap();
    let rules = ThrottleRules { most_failures: 100 };
    store.admit(counter, Requester::Bulk, Timestamp::UNIX_EPOCH, rules).await.unwrap();
    let before = schema(&database);

    let redone = migrations::redo(&Url::parse(&database.url()).unwrap(), None).unwrap();

    assert_eq!(redone.unwrap().to_string(), "0004_throttles");
    assert_eq!(schema(&database), before);
    assert!(store.find(UserId(1)).await.unwrap().is_some());
    assert!(store.look_up(login().id).await.unwrap().is_some());
    let key = Username::parse("ann").unwrap().key().clone();
    assert_eq!(store.tries(key).await.unwrap(), []);
    assert_ne!(store.head().await.unwrap(), Link::NONE);
    runtime.shutdown_background();
}

#[test]
fn of_eight_who_start_on_one_empty_database_one_migrates_and_all_serve() {
    for _ in 0..3 {
        let database = Database::empty();
        let barrier = Barrier::new(8);

        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    barrier.wait();
                    let (runtime, store) = open(&database.url(), true).unwrap();
                    runtime.block_on(store.find(UserId(1))).unwrap();
                    runtime.shutdown_background();
                });
            }
        });

        let applied = database.ask("SELECT version FROM __diesel_schema_migrations ORDER BY version");
        assert_eq!(applied, [["0001"], ["0002"], ["0003"], ["0004"]]);
    }
}

#[test]
fn pending_migrations_stop_a_start_that_may_not_run_them() {
    let database = Database::empty();
    let url = Url::parse(&database.url()).unwrap();

    let told = refusal(&database.url(), false).to_string();
    let pending = "0001_users, 0002_sessions, 0003_audit_events, 0004_throttles";
    assert!(told.ends_with(&format!("migrations are pending ({pending}); run `auth-api migrate up`")));
    assert_eq!(tables(&database), BTreeSet::new());

    migrations::up(&url).unwrap();
    migrations::down(&url, None).unwrap();
    assert!(refusal(&database.url(), false).to_string().contains("(0004_throttles)"));
}

#[test]
fn a_database_of_another_application_is_left_alone() {
    for theirs in [
        "CREATE TABLE users (id integer)",
        "CREATE TABLE __diesel_schema_migrations (version varchar(50) PRIMARY KEY, run_on timestamp);
         INSERT INTO __diesel_schema_migrations VALUES ('0001', now())",
    ] {
        let database = Database::empty();
        database.ask(theirs);
        let before = schema(&database);
        let url = Url::parse(&database.url()).unwrap();

        for refused in [
            refusal(&database.url(), true),
            refusal(&database.url(), false),
            migrations::up(&url).unwrap_err(),
            migrations::down(&url, None).unwrap_err(),
            migrations::redo(&url, None).unwrap_err(),
            migrations::status(&url).unwrap_err(),
        ] {
            assert!(matches!(refused.problem, OpenProblem::Foreign), "{refused:?}");
        }

        assert_eq!(schema(&database), before);
    }
}

#[test]
fn another_schema_of_such_a_database_is_as_good_as_a_database() {
    let database = Database::empty();
    database.ask("CREATE TABLE users (id integer); CREATE SCHEMA auth");
    let url = format!("{}&options=-c%20search_path%3Dauth", database.url());

    let (runtime, store) = open(&url, true).unwrap();

    runtime.block_on(sign_up(&store));
    assert_eq!(database.ask("SELECT username FROM auth.users"), [["ann"]]);
    runtime.shutdown_background();
}

#[test]
fn a_schema_of_a_newer_release_is_refused() {
    let database = Database::migrated();
    database.ask("INSERT INTO __diesel_schema_migrations (version) VALUES ('9999')");

    let refused = refusal(&database.url(), true);

    assert!(refused.to_string().contains("made by a newer release (it has 9999)"), "{refused}");
}

#[test]
fn a_server_that_answers_before_it_has_written_is_refused() {
    let database = Database::migrated();
    let name = &database.ask("SELECT current_database()")[0][0];
    database.ask(&format!("ALTER DATABASE {name} SET synchronous_commit = off"));

    let refused = refusal(&database.url(), false);

    assert!(matches!(refused.problem, OpenProblem::AsynchronousCommit), "{refused:?}");
}

#[test]
fn database_that_is_not_utf8_is_refused_and_left_alone() {
    for encoding in ["LATIN1", "SQL_ASCII", "WIN1251", "EUC_JP"] {
        let database = Database::encoded(encoding);
        let url = Url::parse(&database.url()).unwrap();

        for refused in [
            refusal(&database.url(), true),
            refusal(&database.url(), false),
            migrations::up(&url).unwrap_err(),
        ] {
            let told = refused.to_string();
            assert!(matches!(refused.problem, OpenProblem::Encoding { .. }), "{refused:?}");
            assert!(told.contains(&format!("the server's encoding is {encoding}")), "{told}");
            assert!(told.contains("createdb --encoding=UTF8"), "{told}");
        }

        assert_eq!(tables(&database), BTreeSet::new());
    }
}

#[test]
fn role_with_the_rights_to_serve_and_no_others_serves() {
    let database = Database::migrated();
    let url = database.limited(10);
    let name = &database.ask("SELECT current_database()")[0][0];
    database.ask(&format!(
        "REVOKE INSERT, UPDATE, DELETE ON __diesel_schema_migrations FROM {name}_limited;
         CREATE TABLE of_another_application (id integer)"
    ));

    let (runtime, store) = open(&url, false).unwrap();
    drop(store);
    runtime.shutdown_background();

    database.ask(&format!("REVOKE DELETE ON sessions FROM {name}_limited"));
    let refused = refusal(&url, false);
    assert!(refused.to_string().contains("may not read and write the table sessions"), "{refused}");
}

#[test]
fn database_that_takes_no_more_connections_is_named_as_the_cause() {
    let database = Database::migrated();
    let url = database.limited(0);

    let refused = refusal(&url, false);

    assert!(matches!(refused.problem, OpenProblem::Busy(_)), "{refused:?}");
    assert!(refused.to_string().contains("AUTH_DATABASE__POOL_SIZE"), "{refused}");
}

#[test]
fn database_that_accepts_no_changes_is_named_as_the_cause() {
    let database = Database::migrated();
    let name = &database.ask("SELECT current_database()")[0][0];
    database.ask(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));

    let refused = refusal(&database.url(), false);

    assert!(refused.to_string().contains("accepts no changes"), "{refused}");
}

#[test]
fn a_database_that_is_not_there_is_told_by_its_name_and_by_nothing_secret() {
    let url = Database::empty().url().replace("postgres@", "postgres:xcanaryx@").replace("_test_", "_no_");

    let refused = refusal(&url, true);

    assert!(matches!(refused.problem, OpenProblem::NoDatabase(_)), "{refused:?}");
    assert!(refused.to_string().contains("/auth_api_no_"), "{refused}");
    assert!(!format!("{refused:?} {refused}").contains("xcanaryx"));
}

#[tokio::test]
async fn a_row_that_no_code_of_ours_wrote_is_named_by_table_column_and_id() {
    for (table, column, value, found) in [
        ("users", "credentials_epoch", "-5", "-5"),
        ("users", "disabled_at", "'infinity'", "infinity"),
        ("users", "created_at", "'-infinity'", "-infinity"),
        ("users", "updated_at", "'290000-01-01Z'", "9088402176000000000 microseconds from the year 2000"),
        ("sessions", "generation", "0", "0"),
        ("sessions", "superseded", "'{infinity}'", "infinity"),
        ("sessions", "nonce", "'\\x00'", "of another length"),
        ("sessions", "ends_at", "'infinity'", "infinity"),
    ] {
        let database = Database::migrated();
        let (runtime, store) = open(&database.url(), false).unwrap();
        sign_up(&store).await;
        store.open(login(), tried(Timestamp::UNIX_EPOCH)).await.unwrap();
        for constraint in database.ask(&format!(
            "SELECT conname FROM pg_constraint WHERE contype = 'c' AND conrelid = '{table}'::regclass"
        )) {
            database.ask(&format!("ALTER TABLE {table} DROP CONSTRAINT {}", constraint[0]));
        }
        database.ask(&format!("UPDATE {table} SET {column} = {value}"));

        let Err(PortError::Failed(error)) = store.look_up(login().id).await else { panic!("{column}") };

        let id = if table == "users" { "1".to_owned() } else { login().id.to_string() };
        let expected = format!("the row of {table} with id {id} has a {column} that cannot be: {found}");
        assert_eq!(error.to_string(), expected);
        runtime.shutdown_background();
    }
}

#[tokio::test]
async fn the_tables_themselves_refuse_what_cannot_be() {
    let database = Database::migrated();
    let (runtime, store) = open(&database.url(), false).unwrap();
    sign_up(&store).await;
    store.open(login(), tried(Timestamp::UNIX_EPOCH)).await.unwrap();

    for (table, change) in [
        ("users", "credentials_epoch = -1"),
        ("users", "username_key = NULL"),
        ("users", "id = 7"),
        ("sessions", "nonce = ''"),
        ("sessions", "generation = 0"),
        ("sessions", "ends_at = expires_at - interval '1 second'"),
        ("sessions", "ended_at = now()"),
        ("sessions", "end_cause = 'logged_out'"),
        ("sessions", "user_id = 99"),
        ("auth_api", "mark = false"),
        ("audit_events", "number = 0, seal = NULL"),
        ("audit_events", "number = NULL, seal = sha256('')"),
        ("audit_events", "address = NULL"),
        ("audit_events", "mark = ''"),
        ("audit_anchor", "number = 1"),
    ] {
        // Refused, and not merely without effect.
        let refused = database.ask(&format!(
            "CREATE FUNCTION pg_temp.refused() RETURNS text LANGUAGE plpgsql AS $$
             BEGIN UPDATE {table} SET {change}; RETURN 'done'; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $$;
             SELECT pg_temp.refused()"
        ));
        assert!(refused[0][0].starts_with("23") || refused[0][0] == "428C9", "{change}: {refused:?}");
    }
    runtime.shutdown_background();
}

#[tokio::test]
async fn a_store_that_is_only_to_be_looked_at_changes_nothing() {
    let database = Database::migrated();
    let runtime = runtime();
    let url = Url::parse(&database.url()).unwrap();
    let settings =
        Settings { url, access: Access::ReadOnly, pool_size: POOL_SIZE, migrate: true, seal: true };
    let (tasks, clock) = (TaskTracker::new(), Arc::new(StillClock::default()));
    let store = PostgresStore::open(&settings, audit_key(), runtime.handle().clone(), tasks, clock).unwrap();

    assert!(matches!(
        store.insert(person(), tried(Timestamp::UNIX_EPOCH)).await,
        Err(PortError::Unavailable(_))
    ));
    assert_eq!(store.find(UserId(1)).await.unwrap(), None);
    runtime.shutdown_background();
}

#[tokio::test]
async fn a_closed_store_is_unavailable() {
    let store = fresh();
    sign_up(&store).await;

    store.close().await;

    for answer in
        [store.find(UserId(1)).await.err(), store.insert(person(), tried(Timestamp::UNIX_EPOCH)).await.err()]
    {
        assert!(matches!(answer, Some(PortError::Unavailable(_))), "{answer:?}");
    }
}

fn refusal(url: &str, migrate: bool) -> OpenError {
    let refused = open(url, migrate).err().expect("a refusal");
    assert!(refused.source().is_none_or(|source| source.to_string() != refused.problem.to_string()));
    refused
}

fn open(url: &str, migrate: bool) -> Result<(Runtime, PostgresStore), OpenError> {
    let runtime = runtime();
    let url = Url::parse(url).unwrap();
    let settings = Settings { url, access: Access::ReadWrite, pool_size: POOL_SIZE, migrate, seal: true };
    let (tasks, clock) = (TaskTracker::new(), Arc::new(StillClock::default()));
    let opened = PostgresStore::open(&settings, audit_key(), runtime.handle().clone(), tasks, clock);
    match opened {
        Ok(store) => Ok((runtime, store)),
        Err(error) => {
            runtime.shutdown_background();
            Err(error)
        }
    }
}

/// Every column, index and constraint there is, but for diesel's own.
fn schema(database: &Database) -> BTreeSet<String> {
    let rows = database.ask(
        "SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable
             FROM information_schema.columns WHERE table_schema = 'public' AND table_name NOT LIKE '\\_\\_%'
         UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename NOT LIKE '\\_\\_%'
         UNION ALL SELECT conrelid::regclass::text || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
             WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text NOT LIKE '\\_\\_%'",
    );
    rows.into_iter().flatten().collect()
}

fn tables(database: &Database) -> BTreeSet<String> {
    database
        .ask("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        .into_iter()
        .flatten()
        .collect()
}

async fn sign_up(store: &PostgresStore) {
    assert!(matches!(
        store.insert(person(), tried(Timestamp::UNIX_EPOCH)).await.unwrap(),
        Insertion::Done(_)
    ));
}

fn person() -> NewUser {
    NewUser {
        name: Username::parse("ann").unwrap(),
        password_hash: PasswordHash::new("hash".to_owned()),
        at: Timestamp::UNIX_EPOCH,
    }
}

fn login() -> NewSession {
    let end = Timestamp::from_second(4_000_000_000).unwrap();
    NewSession {
        id: SessionId::from_bytes([7; 16]),
        user: UserId(1),
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
