//! What is left of what people were told is done, when the server is killed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use diesel::sql_types::Text;
use diesel::{Connection, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};
use futures_util::future::{join, join_all};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{sleep, timeout};

use crate::support::client::Client;
use crate::support::consistency_checker::{self, Account, Chance, Step};
use crate::support::server::{Deployment, Server};

const ROUNDS: usize = 20;
const CLIENTS: usize = 10;

/// What is to be under way when the server is killed, besides what the other clients do, and within how many
/// microseconds after it was sent. What has no password to hash is done so soon that chance would seldom hit it.
const AIMS: [Aim; 5] = [
    (|step| matches!(step, Step::Refresh(_)), 5_000),
    (|step| matches!(step, Step::LogOut(_)), 5_000),
    (|step| matches!(step, Step::LogIn | Step::SignUp), 300_000),
    (|step| matches!(step, Step::Refresh(_)), 5_000),
    (|step| matches!(step, Step::ChangePassword(..) | Step::Close(_)), 300_000),
];

type Aim = (fn(&Step) -> bool, u64);

/// From the start of the process until it says that it is ready.
const START: Duration = Duration::from_secs(2);

#[tokio::test]
async fn of_twenty_kills_under_load_none_loses_what_was_answered_or_brings_back_what_was_over() {
    let seed = consistency_checker::seed();
    // Shown when the test fails. What the clients do comes back with it; when the server is hit does not.
    println!("TESTS_SEED={seed}");
    let mut chance = Chance(seed);
    // Without a grace each token that was exchanged is an old one at once, and nobody has to wait for it.
    let deployment = Deployment::new().set("AUTH_SESSION__GRACE", "0s").set("AUTH_HASHING__DEADLINE", "9s");
    let mut accounts: Vec<_> =
        (0..CLIENTS).map(|n| Account::new(format!("user{n}"), chance.next())).collect();
    let mut server = deployment.serve();

    for round in 0..ROUNDS {
        let client = Client::of(&server);
        let (sent, mut steps) = unbounded_channel();
        let is_killed = AtomicBool::new(false);
        let load =
            join_all(accounts.iter_mut().map(|account| go_on(account, &client, &is_killed, sent.clone())));
        let (is_hit, span) = AIMS[round % AIMS.len()];
        let kill = async {
            for _ in 0..chance.below(350) {
                steps.recv().await;
            }
            while !is_hit(&steps.recv().await.unwrap()) {}
            sleep(Duration::from_micros(chance.below(span))).await;
            is_killed.store(true, Ordering::SeqCst);
            server.kill();
        };
        join(load, kill).await;

        server = timeout(START, start(&deployment)).await.expect("a start of less than two seconds");

        let client = Client::of(&server);
        join_all(accounts.iter_mut().map(|account| account.check(&client))).await;
        assert_eq!(complaints(&deployment), ["ok"], "round {round}");
        let verified = deployment.run(&["audit", "verify"]);
        assert_eq!(verified.code, 0, "round {round}: {verified:?}");
    }

    consistency_checker::assert_nothing_came_back(&accounts, &Client::of(&server)).await;
    let acknowledged = consistency_checker::assert_on_record(&accounts, &deployment);
    assert!(acknowledged.iter().all(|count| *count > 0), "{acknowledged:?}");
    let over: usize = accounts.iter().map(Account::sessions_over).sum();
    let rotated = accounts.iter().any(Account::has_rotated);
    assert!(over > 5 * ROUNDS && rotated, "{over} sessions are no load");
}

/// Does one thing after the other and writes it down, until the server is killed.
async fn go_on(account: &mut Account, client: &Client, is_killed: &AtomicBool, sent: UnboundedSender<Step>) {
    loop {
        let step = account.choose();
        _ = sent.send(step.clone());
        let Ok(answer) = account.send(client, step.clone()).await else {
            assert!(is_killed.load(Ordering::SeqCst), "{step:?} was not answered");
            return;
        };
        account.settle(&answer);
    }
}

/// Starts a server on what the last one left, and returns when it is ready.
async fn start(deployment: &Deployment) -> Server {
    let deployment = deployment.clone();
    let server = tokio::task::spawn_blocking(move || deployment.serve()).await.unwrap();
    assert_eq!(Client::of(&server).get("/health/ready").await.status, 200);
    server
}

#[derive(QueryableByName)]
struct Complaint {
    #[diesel(sql_type = Text)]
    integrity_check: String,
}

/// What SQLite finds wrong with the file. Asked while the server has it open: whoever closes it last tidies up.
fn complaints(deployment: &Deployment) -> Vec<String> {
    let path = deployment.folder().join("data/auth.db");
    let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the DSL knows no such pragma")]
    let complaints = sql_query("PRAGMA integrity_check").load::<Complaint>(&mut connection);
    complaints.unwrap().into_iter().map(|complaint| complaint.integrity_check).collect()
}
