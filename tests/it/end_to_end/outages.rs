//! What people are told while the server's database comes and goes, and what of that is so.
//!
//! Clients sign up, log in, refresh, log out and more all the while, each with several accounts. Of an account whose
//! step was answered with 503 nobody knows whether it was taken: it is laid aside until the trouble is over. Then every
//! ledger is held to what is there.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use serde_json::Value;
use test_postgres::execute;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::support::blackhole_proxy::Way;
use crate::support::client::Client;
use crate::support::consistency_checker::{self, Account, Chance};
use crate::support::postgres::{Database, cluster};
use crate::support::server::{Deployment, Server};

const CLIENTS: usize = 8;

/// How many accounts each of them uses in turn.
const ACCOUNTS: usize = 3;

/// What any answer may take, and what a recovery.
const ANSWER: Duration = Duration::from_secs(10);
const RECOVERY: Duration = Duration::from_secs(5);

/// How long somebody waits before they ask once more whether the server is ready.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a test waits for what does not come.
const PATIENCE: Duration = Duration::from_mins(2);

#[tokio::test]
async fn connections_that_are_ended_all_the_while_lose_nothing_that_was_answered() {
    let database = Arc::new(Database::migrated());
    let mut scene = Scene::on(&database.url());

    let ended = database.clone();
    scene
        .endure(async |load| {
            for _ in 0..25 {
                let database = ended.clone();
                blocking(move || database.disconnect_everybody()).await;
                load.goes_on(5).await;
            }
            load.recovers().await;
        })
        .await;

    scene.settle_accounts().await;
}

#[tokio::test]
async fn a_database_that_crashes_again_and_again_loses_nothing_that_was_answered() {
    let Some(cluster) = cluster("a_database_that_crashes_again_and_again") else { return };
    let cluster = Arc::new(cluster);
    let mut scene = Scene::on(&cluster.url("postgres"));

    for _ in 0..3 {
        let cluster = cluster.clone();
        scene
            .endure(async |load| {
                load.goes_on(100).await;
                let (crashing, before) = (cluster.clone(), load.so_far());
                blocking(move || crashing.crash()).await;
                load.is_refused(before).await;
                blocking(move || cluster.restart()).await;
                load.recovers().await;
            })
            .await;
    }

    scene.settle_accounts().await;
}

#[tokio::test]
async fn a_database_that_is_paused_for_ten_seconds_loses_nothing_that_was_answered() {
    let Some(cluster) = cluster("a_database_that_is_paused_for_ten_seconds") else { return };
    let mut scene = Scene::on(&cluster.url("postgres"));

    scene
        .endure(async |load| {
            load.goes_on(100).await;
            let before = load.so_far();
            cluster.pause();
            join(sleep(Duration::from_secs(10)), load.is_refused(before)).await;
            cluster.resume();
            load.recovers().await;
        })
        .await;

    scene.settle_accounts().await;
}

#[tokio::test]
async fn a_way_to_the_database_that_falls_silent_loses_nothing_that_was_answered() {
    let Some(cluster) = cluster("a_way_to_the_database_that_falls_silent") else { return };
    let way = Way::to(&cluster.socket());
    let mut scene = Scene::by(&way.url(), &cluster.url("postgres"));

    for _ in 0..2 {
        scene
            .endure(async |load| {
                load.goes_on(100).await;
                let before = load.so_far();
                way.fall_silent();
                load.is_refused(before).await;
                way.speak();
                load.recovers().await;
            })
            .await;
    }

    scene.settle_accounts().await;
}

#[tokio::test]
async fn when_the_standby_becomes_the_primary_people_go_on_and_nothing_answered_is_lost() {
    let Some(primary) = cluster("when_the_standby_becomes_the_primary_people_go_on") else { return };
    let standby = primary.standby();
    let [first, second] = [&primary, &standby].map(|it| it.socket().parent().unwrap().display().to_string());
    let both = format!("postgres://postgres@/postgres?host={first},{second}&target_session_attrs=read-write");
    let mut scene = Scene::by(&both, &standby.url("postgres"));
    let (primary, standby) = (Arc::new(primary), Arc::new(standby));

    scene
        .endure(async |load| {
            load.goes_on(100).await;
            let (crashing, before) = (primary.clone(), load.so_far());
            blocking(move || crashing.crash()).await;
            load.is_refused(before).await;
            let promoted = standby.clone();
            blocking(move || promoted.promote()).await;
            load.recovers().await;
        })
        .await;

    scene.settle_accounts().await;
}

/// A server, and those who keep it busy.
struct Scene {
    server: Server,
    /// The way to its database that stays open.
    database: String,
    people: Vec<Person>,
}

/// One client, who uses an account at a time.
struct Person {
    number: usize,
    accounts: Vec<Account>,
    laid_aside: Vec<Account>,
    made: usize,
    chance: Chance,
}

/// What goes on meanwhile.
struct Load {
    client: Client,
    database: String,
    told: watch::Receiver<Told>,
}

/// How many answers there were, by what they told.
#[derive(Clone, Copy, Default)]
struct Told {
    done: usize,
    unavailable: usize,
}

impl Scene {
    fn on(database: &str) -> Self {
        Self::by(database, database)
    }

    /// With a server that comes to the database by another way.
    fn by(way: &str, database: &str) -> Self {
        let seed = consistency_checker::seed();
        // Shown when the test fails.
        eprintln!("TESTS_SEED={seed}");
        let mut chance = Chance(seed);
        // Without a grace each token that was exchanged is an old one at once, and nobody has to wait for it.
        let deployment = Deployment::new().set("AUTH_DATABASE__URL", way).set("AUTH_SESSION__GRACE", "0s");
        let people = (0..CLIENTS).map(|number| Person::new(number, chance.next())).collect();
        Self { server: deployment.serve(), database: database.to_owned(), people }
    }

    /// Has everybody go on until `trouble` is over, and holds the server to what it answered.
    async fn endure(&mut self, trouble: impl AsyncFnOnce(&mut Load)) {
        let client = Client::of(&self.server);
        let (tell, told) = watch::channel(Told::default());
        let mut load = Load { client: client.clone(), database: self.database.clone(), told };
        let is_over = AtomicBool::new(false);
        let everybody = join_all(self.people.iter_mut().map(|person| person.go_on(&client, &is_over, &tell)));
        let trouble = async {
            timeout(PATIENCE, trouble(&mut load)).await.expect("an end of the trouble");
            is_over.store(true, Ordering::SeqCst);
        };
        join(everybody, trouble).await;

        // What was given up may be done yet, by a server that was paused for one. Nothing may stay so.
        let asking = async { while !open_transactions(&self.database).await.is_empty() {} };
        if timeout(RECOVERY, asking).await.is_err() {
            let open = open_transactions(&self.database).await;
            assert!(open.is_empty(), "there is no end of {open:?}");
        }
        // From here on everything has to work.
        join_all(self.people.iter_mut().map(|person| person.check(&client))).await;
        let verified = self.server.deployment().run(&["audit", "verify"]);
        assert_eq!(verified.code, 0, "{verified:?}");
    }

    /// Holds the server once more to all ledgers, and to its own log.
    async fn settle_accounts(self) {
        let accounts: Vec<_> = self.people.into_iter().flat_map(|person| person.accounts).collect();
        consistency_checker::assert_nothing_came_back(&accounts, &Client::of(&self.server)).await;
        let acknowledged = consistency_checker::assert_on_record(&accounts, self.server.deployment());
        assert!(acknowledged.iter().sum::<usize>() > 50, "{acknowledged:?} is no load");
        // By its own clock, which what a busy machine keeps a client waiting for does not count on.
        let lines = self.server.log().lines();
        let requests = lines.iter().filter_map(|line| microseconds(line));
        let longest = Duration::from_micros(requests.max().unwrap());
        assert!(longest < ANSWER, "an answer took {longest:?}");
        eprintln!("the longest answer took {longest:?}");
        assert!(self.server.stop().success());
    }
}

impl Person {
    fn new(number: usize, seed: u64) -> Self {
        let (accounts, laid_aside) = (Vec::new(), Vec::new());
        let mut person = Self { number, accounts, laid_aside, made: 0, chance: Chance(seed) };
        for _ in 0..ACCOUNTS {
            person.take_another();
        }
        person
    }

    fn take_another(&mut self) {
        self.made += 1;
        let name = format!("user-{}-{}", self.number, self.made);
        self.accounts.push(Account::new(name, self.chance.next()));
    }

    /// Does one thing after the other until it is over.
    async fn go_on(&mut self, client: &Client, is_over: &AtomicBool, tell: &watch::Sender<Told>) {
        while !is_over.load(Ordering::SeqCst) {
            if self.accounts.is_empty() {
                while !is_ready(client).await {}
                self.take_another();
            }
            let any = usize::try_from(self.chance.next()).unwrap() % self.accounts.len();
            let mut account = self.accounts.swap_remove(any);
            let step = account.choose();
            let answer = timeout(2 * ANSWER, account.send(client, step)).await;
            let answer = answer.expect("an answer in time").expect("a whole answer");
            if answer.status != 503 {
                account.settle(&answer);
                self.accounts.push(account);
                tell.send_modify(|told| told.done += 1);
                continue;
            }
            assert!(!answer.header("Retry-After").is_empty());
            if answer.json()["code"] == "overloaded" {
                // On a very busy machine, and before anything was done.
                account.withdraw();
                self.accounts.push(account);
                continue;
            }
            answer.assert_problem(503, "unavailable");
            self.laid_aside.push(account);
            tell.send_modify(|told| told.unavailable += 1);
        }
    }

    /// Holds the server to the ledgers.
    async fn check(&mut self, client: &Client) {
        self.accounts.append(&mut mem::take(&mut self.laid_aside));
        for account in &mut self.accounts {
            account.check(client).await;
        }
    }
}

impl Load {
    fn so_far(&self) -> Told {
        *self.told.borrow()
    }

    /// Waits until so many more things are done.
    async fn goes_on(&mut self, more: usize) {
        let before = self.so_far().done;
        self.told.wait_for(|told| told.done >= before + more).await.unwrap();
    }

    /// Waits until the server says that it is not ready, and as many were told so since then as there are.
    async fn is_refused(&mut self, before: Told) {
        while is_ready(&self.client).await {}
        self.client.get("/health/ready").await.assert_problem(503, "unavailable");
        assert_eq!(self.client.get("/health/live").await.status, 200);
        self.told.wait_for(|told| told.unavailable >= before.unavailable + CLIENTS).await.unwrap();
    }

    /// Waits until the server is ready again, for which it has a few seconds from when its database answers others, and
    /// then until it does what it is asked to.
    async fn recovers(&mut self) {
        open_transactions(&self.database).await;
        let mut spent = Duration::ZERO;
        loop {
            let (took, is_ready) = timed(is_ready(&self.client)).await;
            // What an answer takes that asks nobody, a busy machine takes, and not the server.
            let (idle, _) = timed(async { self.client.get("/health/live").await }).await;
            spent += PAUSE + took.saturating_sub(PAUSE + idle);
            if is_ready {
                break;
            }
            assert!(spent < RECOVERY, "not ready after {spent:?}");
        }
        eprintln!("ready after {spent:?}");
        self.goes_on(5 * CLIENTS).await;
    }
}

/// Asks whether it is, as a load balancer does: again and again, with pauses.
async fn is_ready(client: &Client) -> bool {
    sleep(PAUSE).await;
    client.get("/health/ready").await.status == 200
}

/// The transactions that there are in the database, as soon as it answers.
async fn open_transactions(database: &str) -> Vec<Vec<String>> {
    let database = database.to_owned();
    let all = "SELECT state, wait_event, now() - state_change, query FROM pg_stat_activity
               WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
                 AND (state = 'active' OR state LIKE 'idle in transaction%')";
    blocking(move || execute(&database, all)).await
}

/// How long a request took, if the line is about one request and not a count of several.
fn microseconds(line: &str) -> Option<u64> {
    let line: Value = serde_json::from_str(line).ok()?;
    let is_of_one = line["target"] == "api::request" && line["count"].is_null();
    is_of_one.then(|| line["microseconds"].as_u64().unwrap())
}

async fn timed<T>(work: impl Future<Output = T>) -> (Duration, T) {
    #[expect(clippy::disallowed_methods, reason = "the server under test has the clock that is asked about")]
    let begun = Instant::now();
    let done = work.await;
    (begun.elapsed(), done)
}

/// Has work done that would hold up those who are on this thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(work).await.unwrap()
}
