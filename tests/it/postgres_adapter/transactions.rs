use std::sync::Arc;

use domain::ports::{Insertion, NewUser, PortError, UserRepo as _};
use domain::{PasswordHash, Username};
use jiff::Timestamp;
use store_postgres::PostgresStore;
use tokio::runtime::Runtime;
use tokio_util::task::TaskTracker;

use crate::support::audit_fixtures::tried;
use crate::support::clock::StillClock;
use crate::support::postgres::{Database, open_on};
use crate::support::runtime::runtime;

/// A database where the first sign-ups fail in a way of our choice, and which counts them.
struct Failing {
    database: Database,
    store: PostgresStore,
    runtime: Option<Runtime>,
}

/// While a sign-up is made, or when it is committed.
const WHILE: &str = "CREATE TRIGGER failing BEFORE INSERT ON users";
const AT_THE_COMMIT: &str =
    "CREATE CONSTRAINT TRIGGER failing AFTER INSERT ON users DEFERRABLE INITIALLY DEFERRED";

#[tokio::test]
async fn what_fails_for_a_reason_of_the_moment_is_done_anew() {
    // A serialization failure, a deadlock, a lock that was not to be had, a statement that took too long.
    for code in ["40001", "40P01", "55P03", "57014"] {
        let failing = Failing::new(WHILE, code, 4);

        assert!(matches!(failing.sign_up().await, Ok(Insertion::Done(_))), "{code}");
        assert_eq!(failing.tries(), 5, "{code}");
    }
    let failing = Failing::new(AT_THE_COMMIT, "40001", 4);
    assert!(matches!(failing.sign_up().await, Ok(Insertion::Done(_))));
    assert_eq!(failing.tries(), 5);
}

#[tokio::test]
async fn what_always_fails_so_is_given_up_and_nothing_of_it_is_kept() {
    for (when, code) in [(WHILE, "40001"), (WHILE, "53100"), (AT_THE_COMMIT, "40001")] {
        let failing = Failing::new(when, code, 1000);

        assert!(matches!(failing.sign_up().await, Err(PortError::Unavailable(_))), "{code}");
        assert_eq!(failing.tries(), 5, "{code}");
        assert_eq!(failing.database.ask("SELECT count(*) FROM users"), [["0"]]);
    }
}

#[tokio::test]
async fn nobody_does_anew_what_may_have_been_committed() {
    let failing = Failing::new(AT_THE_COMMIT, "57014", 1000);

    assert!(matches!(failing.sign_up().await, Err(PortError::Unavailable(_))));
    assert_eq!(failing.tries(), 1);
}

#[tokio::test]
async fn what_a_table_refuses_is_broken_and_not_tried_again() {
    let failing = Failing::new(WHILE, "23514", 1000);

    assert!(matches!(failing.sign_up().await, Err(PortError::Failed(_))));
    assert_eq!(failing.tries(), 1);
}

#[tokio::test]
async fn no_failure_leaves_a_transaction_open() {
    let failing = Failing::new(WHILE, "57014", 3);
    failing.sign_up().await.unwrap();

    let open = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    assert_eq!(failing.database.ask(open), [["0"]]);
}

impl Failing {
    /// One where that many sign-ups fail with this code.
    fn new(when: &str, code: &str, times: u32) -> Self {
        let database = Database::migrated();
        database.ask(&format!(
            "CREATE SEQUENCE tries;
             CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 IF nextval('tries') <= {times} THEN
                     RAISE EXCEPTION 'on purpose' USING ERRCODE = '{code}';
                 END IF;
                 RETURN NEW;
             END $$;
             {when} FOR EACH ROW EXECUTE FUNCTION fail()"
        ));
        let runtime = runtime();
        let clock = Arc::new(StillClock::default());
        let store = open_on(&database.url(), &runtime, TaskTracker::new(), clock).unwrap();
        Self { database, store, runtime: Some(runtime) }
    }

    async fn sign_up(&self) -> Result<Insertion, PortError> {
        let person = NewUser {
            name: Username::parse("ann").unwrap(),
            password_hash: PasswordHash::new("hash".to_owned()),
            at: Timestamp::UNIX_EPOCH,
        };
        self.store.insert(person, tried(Timestamp::UNIX_EPOCH)).await
    }

    fn tries(&self) -> u32 {
        self.database.ask("SELECT last_value FROM tries")[0][0].parse().unwrap()
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
