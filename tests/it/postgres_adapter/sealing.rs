use std::sync::Arc;

use domain::ports::AuditLog as _;
use domain::{Outcome, Tampering};
use jiff::Timestamp;
use store_postgres::PostgresStore;
use tokio_util::task::TaskTracker;

use crate::support::attempts::tried;
use crate::support::clock::StillClock;
use crate::support::postgres::{Database, open_on};
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
