use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use domain::ports::{AuditLog as _, NewSession, NewUser, PortError, SessionRepo as _, Shown, UserRepo as _};
use domain::{
    Action, Attempt, EndCause, Generation, Nonce, Outcome, PasswordHash, SessionId, SessionRules, Subject,
    UserId, Username, UsernameKey,
};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use jiff::Timestamp;
use store_postgres::PostgresStore;
use tokio_util::task::TaskTracker;

use crate::support::audit_fixtures::{tried, tried_to};
use crate::support::clock::StillClock;
use crate::support::postgres::{cluster, open_on};
use crate::support::runtime::runtime;

const ROUNDS: u64 = 12;
const PEOPLE: u64 = 3;
const SESSIONS: u64 = 4;

type Doing<'store> = Pin<Box<dyn Future<Output = Result<(), PortError>> + Send + 'store>>;

#[tokio::test]
async fn whatever_is_done_at_once_to_an_account_all_of_it_comes_to_an_end() {
    let Some(cluster) = cluster("whatever_is_done_at_once_to_an_account") else { return };
    let runtime = runtime();
    let stores = [(), ()].map(|()| {
        let clock = Arc::new(StillClock::default());
        open_on(&cluster.url("postgres"), &runtime, TaskTracker::new(), clock).unwrap()
    });
    let mut number = 0;

    for round in 0..ROUNDS {
        let mut doing: Vec<Doing<'_>> = Vec::new();
        for person in 0..PEOPLE {
            let name = format!("user{round}.{person}");
            stores[0].insert(new(&name), tried(time(0))).await.unwrap();
            let account = stores[0].find_by_name(key(&name)).await.unwrap().unwrap();
            let sessions: Vec<_> = (0..SESSIONS).map(|n| id(number + n)).collect();
            for session in &sessions {
                stores[1].open(login(account.user.id, *session), tried(time(0))).await.unwrap();
            }
            for store in &stores {
                doing.extend(everything(store, account.user.id, &name, &sessions, id(number + SESSIONS)));
                number += SESSIONS + 1;
            }
            // Half of them leave, in the middle of it.
            let (middle, at) = (doing.len() / 2, about(account.user.id));
            match person % 2 {
                0 => doing.insert(middle, stores[1].delete(key(&name), at).map(done).boxed()),
                _ => doing.push(stores[0].close_account(account.user.id, 0, at).map(done).boxed()),
            }
        }

        for outcome in join_all(doing).await {
            outcome.unwrap();
        }
    }

    // Everybody locks the account first and its sessions then, in one order. Even so PostgreSQL has somebody wait now and
    // then whom no lock keeps out: for whoever is changing the next version of a row, to see what it becomes. What three
    // of them can make of that is a deadlock, which it finds, and which is done anew.
    assert!(stores[0].inspect(None).await.unwrap().is_ok());
    runtime.shutdown_background();
}

/// What may be done to an account and its sessions, by everybody who can.
fn everything<'store>(
    store: &'store PostgresStore,
    user: UserId,
    name: &str,
    sessions: &[SessionId],
    another: SessionId,
) -> Vec<Doing<'store>> {
    let at = || about(user);
    let seen = Generation::new(1).unwrap();
    let event = at().ended(Outcome::Failed);
    let mut doing: Vec<Doing<'store>> = vec![
        store.open(login(user, another), at()).map(done).boxed(),
        store.disable(key(name), at()).map(done).boxed(),
        store.enable(key(name), at()).map(done).boxed(),
        store.rename(user, 0, Username::parse(&format!("{name}.lee")).unwrap(), at()).map(done).boxed(),
        store.set_password(key(name), hash("set"), at()).map(done).boxed(),
        store
            .change_password(hash("changed"), login(user, id(u64::MAX - user.0.unsigned_abs())), at())
            .map(done)
            .boxed(),
        store.rehash(user, hash("kept"), hash("again")).map(done).boxed(),
        store.end_all(user, Some(sessions[0]), EndCause::Revoked, at()).map(done).boxed(),
        store.append(vec![event]).map(done).boxed(),
        store.remove_over(time(1), 10).map(done).boxed(),
        store.head().map(done).boxed(),
    ];
    for session in sessions {
        let shown = Shown { session: *session, generation: seen, at: time(1), rules: RULES };
        doing.push(store.rotate(shown, at()).map(done).boxed());
        doing.push(store.mark_seen(*session, seen).map(done).boxed());
        doing.push(store.end(*session, user, EndCause::LoggedOut, at()).map(done).boxed());
    }
    doing
}

/// An attempt that is recorded of somebody, for which their account has to stay there for a moment.
fn about(user: UserId) -> Attempt {
    tried_to(Action::LogOut, Subject::User(user), time(1))
}

fn done<T>(outcome: Result<T, PortError>) -> Result<(), PortError> {
    outcome.map(|_| ())
}

const RULES: SessionRules = SessionRules {
    idle_ttl: Duration::from_secs(1000),
    absolute_ttl: Duration::from_secs(1000),
    grace: Duration::from_secs(10),
};

fn login(user: UserId, id: SessionId) -> NewSession {
    NewSession {
        id,
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

fn new(name: &str) -> NewUser {
    NewUser { name: Username::parse(name).unwrap(), password_hash: hash("kept"), at: time(0) }
}

fn key(name: &str) -> UsernameKey {
    Username::parse(name).unwrap().key().clone()
}

fn hash(text: &str) -> PasswordHash {
    PasswordHash::new(text.to_owned())
}

fn id(number: u64) -> SessionId {
    SessionId::from_bytes(u128::from(number).to_be_bytes())
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}
