use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::support::client::{Client, PASSWORD};
use crate::support::postgres::Database;
use crate::support::server::Deployment;

/// What the recovery may take, and what any answer may.
const RECOVERY: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_server_whose_database_is_away_says_so_in_time_and_serves_again_by_itself() {
    let database = Arc::new(Database::migrated());
    let server = Deployment::new().on(database.clone()).serve();
    let client = Client::of(&server);
    let token = client.token_of_new("ann").await;

    for _ in 0..2 {
        database.take_away();
        // An answer about readiness holds for a second.
        let asking = async { while client.get("/health/ready").await.status == 200 {} };
        timeout(ANSWER, asking).await.expect("it is not ready any more");
        let log_in = timeout(ANSWER, client.log_in("ann", PASSWORD)).await.expect("an answer");
        log_in.assert_problem(503, "unavailable");
        assert!(!log_in.header("Retry-After").is_empty());
        timeout(ANSWER, client.sign_up("bob", PASSWORD))
            .await
            .expect("an answer")
            .assert_problem(503, "unavailable");
        timeout(ANSWER, client.me(&token)).await.expect("an answer").assert_problem(503, "unavailable");
        assert_eq!(client.get("/health/live").await.status, 200);

        database.bring_back();
        let asking = async { while client.get("/health/ready").await.status != 200 {} };
        timeout(RECOVERY, asking).await.expect("it is ready again");
        assert_eq!(client.log_in("ann", PASSWORD).await.status, 200);
        assert_eq!(client.me(&token).await.status, 200);
    }

    assert!(!server.deployment().all_that_is_kept().windows(3).any(|bytes| bytes == b"bob"));
    assert!(server.stop().success());
}
