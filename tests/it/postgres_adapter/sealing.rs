use std::sync::Arc;

use domain::ports::{AuditLog as _, AuditQuery, Contents as _, PortError};
use domain::{Link, Outcome, Tampering};
use jiff::Timestamp;
use store_postgres::PostgresStore;
use tokio_util::task::TaskTracker;

use crate::support::audit_fixtures::tried;
use crate::support::clock::StillClock;
use crate::support::postgres::{Database, Store, fresh, open_on};
use crate::support::runtime::runtime;

/// What somebody does who may write to the database and has no key, and what is found.
const FORGERIES: [(&str, Tampering); 4] = [
    // A row that waits for its place, as the store itself leaves it.
    (
        "INSERT INTO audit_events (at, event, outcome, count, mark) \
         VALUES (now(), 'log_in', 'success', 1, decode(repeat('00', 32), 'hex'))",
        Tampering::Altered(4),
    ),
    (
        "INSERT INTO audit_events (at, event, outcome, count) VALUES (now(), 'log_in', 'success', 1)",
        Tampering::Altered(4),
    ),
    // One that has its place is made to wait for another.
    ("UPDATE audit_events SET number = NULL, seal = NULL, count = 2 WHERE number = 3", Tampering::Altered(3)),
    ("UPDATE audit_events SET number = NULL, seal = NULL WHERE number = 3", Tampering::Altered(3)),
];

#[tokio::test]
async fn nobody_has_the_store_seal_what_it_did_not_write() {
    for (forgery, found) in FORGERIES {
        let database = Database::migrated();
        let runtime = runtime();
        let store = open_on(&database.url(), &runtime, TaskTracker::new(), Arc::new(StillClock::default()));
        let store: PostgresStore = store.unwrap();
        for _ in 0..3 {
            store.append(vec![tried(Timestamp::UNIX_EPOCH).ended(Outcome::Failed)]).await.unwrap();
        }
        let head = store.head().await.unwrap();
        assert_eq!(store.inspect(None).await.unwrap(), Ok(head));

        database.ask(forgery);

        assert_eq!(store.inspect(None).await.unwrap(), Err(found), "{forgery}");
        runtime.shutdown_background();
    }
}

/// Has nothing get its place.
const HINDER: &str = "CREATE FUNCTION hinder() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; \
     CREATE TRIGGER hindering BEFORE UPDATE ON audit_events FOR EACH ROW EXECUTE FUNCTION hinder()";

const WAITING: &str = "SELECT count(*)::text FROM audit_events WHERE number IS NULL AND mark IS NOT NULL";

#[tokio::test]
async fn a_store_with_another_key_seals_nothing_and_the_right_one_does_afterwards() {
    for (sealed, removed) in [(0, 0), (2, 0), (2, 2)] {
        let ours = fresh();
        append(&ours, sealed).await;
        ours.head().await.unwrap();
        assert_eq!(
            ours.remove_before(Timestamp::MAX, removed).await.unwrap(),
            Ok(usize::try_from(removed).unwrap())
        );
        ours.tamper(HINDER);
        append(&ours, 3).await;
        ours.close().await;
        ours.tamper("DROP TRIGGER hindering ON audit_events");

        let theirs = ours.with_another_key();
        let viewed = theirs.snapshot().await;
        let inspected = theirs.inspect(None).await;
        let swept = theirs.remove_before(Timestamp::MAX, 9).await.unwrap();
        let listed = theirs.list_events(AuditQuery { name: None, since: None }, 0, 9).await;
        theirs.close().await;

        let refusals = [viewed.map(|_| ()), refusal_of(&inspected), listed.map(|_| ())];
        for (which, refused) in refusals.into_iter().enumerate() {
            let told = match refused {
                Err(PortError::Failed(why)) => why.to_string(),
                other => format!("{other:?}"),
            };
            assert!(told.contains("AUTH_AUDIT__KEY"), "{which} of {sealed}: {told}");
        }
        assert!(!matches!(swept, Ok(1..)), "{swept:?}");
        assert_eq!(ours.ask(WAITING), [["3"]]);
        let ours = ours.another();
        assert_eq!(ours.inspect(None).await.unwrap().unwrap().number, i64::from(sealed) + 3);
        assert!(ours.snapshot().await.is_ok());
        assert_eq!(ours.ask(WAITING), [["0"]]);
    }
}

#[tokio::test]
async fn whoever_changes_the_last_event_is_found_and_does_not_end_the_sealing() {
    for change in [
        "UPDATE audit_events SET count = 2 WHERE number = 3",
        "UPDATE audit_events SET seal = decode(repeat('11', 32), 'hex') WHERE number = 3",
    ] {
        let store = fresh();
        append(&store, 3).await;
        store.head().await.unwrap();

        store.tamper(change);
        append(&store, 1).await;

        assert_eq!(store.head().await.unwrap().number, 4, "{change}");
        assert_eq!(store.inspect(None).await.unwrap(), Err(Tampering::Altered(3)), "{change}");
    }
}

/// What an inspection with another key says: of a log that was sealed, that it is not what was sealed.
fn refusal_of(inspected: &Result<Result<Link, Tampering>, PortError>) -> Result<(), PortError> {
    match inspected {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(tampering)) => Err(PortError::Failed(tampering.to_string().into())),
        Err(error) => Err(PortError::Failed(std::error::Error::source(error).unwrap().to_string().into())),
    }
}

async fn append(store: &Store, events: u32) {
    for _ in 0..events {
        store.append(vec![tried(Timestamp::UNIX_EPOCH).ended(Outcome::Failed)]).await.unwrap();
    }
}
