use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use domain::ports::{
    AuditLog as _, Insertion, NewSession, NewUser, Opening, PortError, Readiness as _, SessionRepo as _,
    UserRepo,
};
use domain::{Nonce, PasswordHash, SessionId, UserId, Username};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use jiff::Timestamp;
use store_postgres::PostgresStore;
use test_postgres::{Cluster, Durability};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::support::audit_fixtures::tried;
use crate::support::blackhole_proxy::Way;
use crate::support::clock::StillClock;
use crate::support::postgres::{Database, Lock, cluster, open_on};
use crate::support::runtime::runtime;

/// What a handler has, and so the longest that any answer may take.
const HANDLER: Duration = Duration::from_secs(10);

#[tokio::test]
async fn what_was_answered_is_there_though_connections_are_ended_all_the_while() {
    let database = Arc::new(Database::migrated());
    let (runtime, store, _) = open(&database.url());
    // A round begins when those of the one before were all ended: whoever has few cores would otherwise see nothing but
    // connections that end.
    let (begin, rounds) = sync_channel(0);
    let killer = {
        let database = database.clone();
        thread::spawn(move || {
            for () in rounds {
                (0..3).for_each(|_| database.disconnect_everybody());
            }
        })
    };

    let mut ledger = Vec::new();
    for round in 0..40 {
        begin.send(()).unwrap();
        let names: Vec<String> = (0..20).map(|n| format!("user{round}.{n}")).collect();
        let answers =
            join_all(names.iter().map(|name| store.insert(person(name), tried(Timestamp::UNIX_EPOCH)))).await;
        for (name, answer) in names.into_iter().zip(answers) {
            match answer {
                Ok(Insertion::Done(user)) => ledger.push((name, user)),
                // Done at the first try, whose answer was lost.
                Ok(Insertion::UsernameTaken) => panic!("{name} was done twice"),
                Err(PortError::Unavailable(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    }
    drop(begin);
    killer.join().unwrap();

    assert!(ledger.len() > 20, "{}", ledger.len());
    for (name, user) in ledger {
        assert_eq!(store.find(user.id).await.unwrap().map(|it| it.user), Some(user), "{name}");
    }
    runtime.shutdown_background();
}

#[tokio::test]
async fn whoever_comes_when_all_connections_were_just_ended_is_answered() {
    let database = Database::migrated();
    let (runtime, store, _) = open(&database.url());
    let ann = sign_up(&store, "ann").await;

    for round in 0..20 {
        // Every connection that there can be.
        for found in join_all((0..64).map(|_| store.find(ann))).await {
            assert!(found.unwrap().is_some());
        }
        database.disconnect_everybody();
        assert!(store.find(ann).await.unwrap().is_some(), "{round}");
        database.disconnect_everybody();
        sign_up(&store, &format!("mia{round}")).await;
    }
    runtime.shutdown_background();
}

#[tokio::test]
async fn a_server_that_crashes_and_comes_back_is_found_again() {
    let Some(cluster) = cluster("a_server_that_crashes_and_comes_back_is_found_again") else {
        return;
    };
    let (runtime, store, clock) = open(&cluster.url("postgres"));
    let ann = sign_up(&store, "ann").await;

    for _ in 0..3 {
        cluster.crash();
        clock.advance(Duration::from_secs(1));
        assert!(is_unavailable(&in_time(store.insert(person("bob"), tried(Timestamp::UNIX_EPOCH))).await));
        assert!(is_unavailable(&in_time(store.find(ann)).await));
        assert!(is_unavailable(&in_time(store.check()).await));

        cluster.restart();
        clock.advance(Duration::from_secs(1));
        assert!(store.find(ann).await.unwrap().is_some());
        store.check().await.unwrap();
    }
    sign_up(&store, "bob").await;
    runtime.shutdown_background();
}

#[tokio::test]
async fn a_server_that_is_paused_is_unavailable_in_time_and_serves_when_it_goes_on() {
    let Some(cluster) = cluster("a_server_that_is_paused_is_unavailable_in_time") else { return };
    let (runtime, store, clock) = open(&cluster.url("postgres"));
    let ann = sign_up(&store, "ann").await;

    cluster.pause();
    clock.advance(Duration::from_secs(1));
    let (read, write, ready) = tokio::join!(
        in_time(store.find(ann)),
        in_time(store.insert(person("bob"), tried(Timestamp::UNIX_EPOCH))),
        in_time(store.check())
    );
    cluster.resume();

    assert!(is_unavailable(&read) && is_unavailable(&write) && is_unavailable(&ready));
    clock.advance(Duration::from_secs(1));
    in_time(store.check()).await.unwrap();
    assert!(in_time(store.find(ann)).await.unwrap().is_some());
    sign_up(&store, "mia").await;
    runtime.shutdown_background();
}

#[tokio::test]
async fn a_way_to_the_server_that_falls_silent_is_given_up_and_taken_anew() {
    let Some(cluster) = cluster("a_way_to_the_server_that_falls_silent_is_given_up") else {
        return;
    };
    let way = Way::to(&cluster.socket());
    let (runtime, store, _) = open(&way.url());
    let ann = sign_up(&store, "ann").await;
    // Several connections that are going to be of no use.
    join_all((0..8).map(|_| store.find(ann))).await;

    way.fall_silent();
    let answers = join_all((0..8).map(|_| in_time(store.find(ann)))).await;
    assert!(answers.iter().all(is_unavailable));
    assert!(is_unavailable(&in_time(store.insert(person("bob"), tried(Timestamp::UNIX_EPOCH))).await));

    // What was connected stays silent; only what connects now is heard.
    way.speak();
    assert!(in_time(store.find(ann)).await.unwrap().is_some());
    sign_up(&store, "mia").await;
    runtime.shutdown_background();
}

#[tokio::test]
async fn whoever_keeps_one_account_locked_keeps_nobody_from_the_others() {
    let database = Database::migrated();
    let (runtime, store, _) = open(&database.url());
    let (ann, bob) = (sign_up(&store, "ann").await, sign_up(&store, "bob").await);
    let lock = Lock::take(&database.url(), "SELECT 1 FROM users WHERE username_key = 'ann' FOR UPDATE");

    let (anns, bobs) = tokio::join!(
        in_time(join_all(
            (1..=12).map(|number| store.open(login(ann, number), tried(Timestamp::UNIX_EPOCH)))
        )),
        in_time(join_all(
            (13..=24).map(|number| store.open(login(bob, number), tried(Timestamp::UNIX_EPOCH)))
        ))
    );

    assert!(anns.iter().all(is_unavailable));
    assert!(bobs.iter().all(|opening| matches!(opening, Ok(Opening::Done(_)))));
    drop(lock);
    assert!(matches!(
        store.open(login(ann, 25), tried(Timestamp::UNIX_EPOCH)).await.unwrap(),
        Opening::Done(_)
    ));
    runtime.shutdown_background();
}

#[tokio::test]
async fn many_logins_of_many_people_at_once_all_succeed() {
    let database = Database::migrated();
    let (runtime, store, _) = open(&database.url());
    let (other_runtime, other, _) = open(&database.url());
    let mut people = Vec::new();
    for n in 0..10 {
        people.push(sign_up(&store, &format!("user{n}")).await);
    }

    // More than one may have, so that each ends others as well.
    for round in 0..8 {
        let openings = join_all((0..200).map(|n| {
            let store = if n % 2 == 0 { &store } else { &other };
            store.open(login(people[n % 10], (round * 200 + n) as u64), tried(Timestamp::UNIX_EPOCH))
        }))
        .await;
        let refused: Vec<_> =
            openings.iter().filter(|opening| !matches!(opening, Ok(Opening::Done(_)))).collect();
        assert!(refused.is_empty(), "{refused:?}");
    }

    let deadlocks = database.ask("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()");
    assert_eq!(deadlocks, [["0"]]);
    for id in people {
        assert_eq!(store.live_sessions(id, time(1)).await.unwrap().len(), 100);
    }
    runtime.shutdown_background();
    other_runtime.shutdown_background();
}

#[tokio::test]
async fn callers_who_leave_leave_no_transaction_open() {
    let database = Database::migrated();
    let (runtime, tasks) = (runtime(), TaskTracker::new());
    let clock = Arc::new(StillClock::default());
    let store = open_on(&database.url(), &runtime, tasks.clone(), clock).unwrap();
    sign_up(&store, "ann").await;

    for n in 0..500 {
        let _ = store.insert(person(&format!("user{n}")), tried(Timestamp::UNIX_EPOCH)).now_or_never();
        let _ = store.find(UserId(1)).now_or_never();
    }
    tasks.close();
    tasks.wait().await;
    // Nor is there anything left to seal, which would be done in one.
    store.head().await.unwrap();

    let open = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    // The store looks for events to seal from time to time, in a short transaction of its own.
    in_time(async {
        while database.ask(open) != [["0"]] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    runtime.shutdown_background();
}

#[tokio::test]
async fn of_several_servers_the_one_that_takes_changes_is_found() {
    let Some(cluster) = cluster("of_several_servers_the_one_that_takes_changes_is_found") else {
        return;
    };
    let reader = Cluster::start(Durability::None, "-c default_transaction_read_only=on").unwrap();
    let hosts = format!("{},{}", reader.url("postgres").split_once("host=").unwrap().1, {
        let url = cluster.url("postgres");
        url.split_once("host=").unwrap().1.to_owned()
    });
    let url = format!("postgres://postgres@/postgres?host=%2Fnowhere,{hosts}");

    let (runtime, store, _) = open(&url);
    let ann = sign_up(&store, "ann").await;
    cluster.crash();
    assert!(is_unavailable(&in_time(store.insert(person("bob"), tried(Timestamp::UNIX_EPOCH))).await));
    cluster.restart();

    assert!(store.find(ann).await.unwrap().is_some());
    sign_up(&store, "bob").await;
    runtime.shutdown_background();
}

#[tokio::test]
async fn when_the_standby_becomes_the_primary_logins_go_on_and_nothing_answered_is_lost() {
    let Some(primary) = cluster("when_the_standby_becomes_the_primary_logins_go_on") else {
        return;
    };
    let standby = primary.standby();
    let folder = |cluster: &Cluster| cluster.socket().parent().unwrap().display().to_string();
    let url = format!("postgres://postgres@/postgres?host={},{}", folder(&primary), folder(&standby));
    let (runtime, store, _) = open(&url);
    let (other_runtime, other, _) = open(&url);
    let ann = sign_up(&store, "ann").await;
    let mut opened = Vec::new();
    for number in 1..=20 {
        assert!(matches!(
            other.open(login(ann, number), tried(Timestamp::UNIX_EPOCH)).await.unwrap(),
            Opening::Done(_)
        ));
        opened.push(session(number));
    }

    primary.crash();
    assert!(is_unavailable(&in_time(store.open(login(ann, 21), tried(Timestamp::UNIX_EPOCH))).await));
    standby.promote();

    for (number, store) in [(22, &store), (23, &other), (24, &store)] {
        assert!(matches!(
            in_time(store.open(login(ann, number), tried(Timestamp::UNIX_EPOCH))).await.unwrap(),
            Opening::Done(_)
        ));
        opened.push(session(number));
    }
    let live = store.live_sessions(ann, time(1)).await.unwrap();
    assert!(opened.iter().all(|opened| live.iter().any(|session| session.id == *opened)), "{live:?}");
    runtime.shutdown_background();
    other_runtime.shutdown_background();
}

fn open(url: &str) -> (Runtime, PostgresStore, Arc<StillClock>) {
    let (runtime, clock) = (runtime(), Arc::new(StillClock::default()));
    let store = open_on(url, &runtime, TaskTracker::new(), clock.clone()).unwrap();
    (runtime, store, clock)
}

async fn in_time<T>(answer: impl Future<Output = T>) -> T {
    timeout(HANDLER, answer).await.expect("an answer while there is somebody to read it")
}

fn is_unavailable<T>(answer: &Result<T, PortError>) -> bool {
    matches!(answer, Err(PortError::Unavailable(_)))
}

async fn sign_up(store: &impl UserRepo, name: &str) -> UserId {
    match store.insert(person(name), tried(Timestamp::UNIX_EPOCH)).await.unwrap() {
        Insertion::Done(user) => user.id,
        Insertion::UsernameTaken => panic!("{name} is taken"),
    }
}

fn person(name: &str) -> NewUser {
    NewUser {
        name: Username::parse(name).unwrap(),
        password_hash: PasswordHash::new("hash".to_owned()),
        at: time(0),
    }
}

fn login(user: UserId, number: u64) -> NewSession {
    NewSession {
        id: session(number),
        user,
        credentials_epoch: 0,
        nonce: Nonce([1; 16]),
        at: time(0),
        expires_at: time(1000),
        ends_at: time(1000),
        address: Some([127, 0, 0, 1].into()),
        user_agent: None,
        compared: None,
    }
}

fn session(number: u64) -> SessionId {
    SessionId::from_bytes(u128::from(number).to_be_bytes())
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}
