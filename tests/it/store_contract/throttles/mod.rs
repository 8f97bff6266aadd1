mod ownership;

use std::net::Ipv4Addr;
use std::time::Duration;

use domain::ports::{
    Admittance, Change, Compared, Insertion, NewSession, NewUser, Opening, Place, Renaming, Requester,
    SessionRepo, Throttle, UserRepo,
};
use domain::{
    Action, ClientNetwork, Counter, LoginName, Nonce, PasswordHash, RESERVATION_TTL, Refusal, SessionId,
    Subject, ThrottleRules, User, UserId, Username, UsernameKey, Whence,
};
use futures_util::future::{join, join_all};
use jiff::Timestamp;

use crate::support::audit_fixtures::{tried, tried_to};

const RULES: ThrottleRules = ThrottleRules { most_failures: 10 };
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

#[tokio::test]
async fn all_spellings_of_a_name_are_counted_together_and_other_names_apart() {
    let store = super::fresh();
    let ann = sign_up(&*store, "ann").await;

    for (one, other, together) in [
        ("Ann", "ＡＮＮ", true),
        ("zoe\u{301}", "zo\u{e9}", true),
        ("ann", "anna", false),
        ("a name with blanks", "a name with blanks", true),
        ("a name with blanks", "A name with blanks", false),
    ] {
        let [one_counter, other_counter] = [elsewhere(&*store, one).await, elsewhere(&*store, other).await];
        assert_eq!(one_counter.name == other_counter.name, together, "{one} and {other}");
    }
    assert_eq!(elsewhere(&*store, "ann").await.owner, Some(ann.id));
    assert_eq!(elsewhere(&*store, "eve").await.owner, None);
}

#[tokio::test]
async fn of_three_hundred_who_guess_at_once_over_two_stores_five_are_admitted() {
    let store = super::fresh();
    let other = store.another();
    sign_up(&*store, "ann").await;

    for name in ["ann", "nobody"] {
        let counter = elsewhere(&*store, name).await;
        let mut admitted = Vec::new();
        // As many as a line lets through, for the queue before a disk is bounded.
        for _ in 0..10 {
            let asked = join_all((0..30).map(|n| {
                let store = if n % 2 == 0 { &store } else { &other };
                store.admit(counter, Requester::Bulk, time(0), RULES)
            }));
            for answer in asked.await {
                match answer.unwrap() {
                    Admittance::Admitted(place) => admitted.push(place),
                    Admittance::Undecided => {}
                    other @ (Admittance::Refused { .. } | Admittance::Moved) => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(admitted.len(), 5, "{name}");

        join_all(admitted.iter().map(|place| fail(&*other, *place, 0))).await;

        assert_eq!(ask(&*store, counter, 0).await, refused(1));
        let again = join_all((0..30).map(|_| store.admit(counter, Requester::Bulk, time(1), RULES))).await;
        let admitted = again.into_iter().filter(|answer| matches!(answer, Ok(Admittance::Admitted(_))));
        assert_eq!(admitted.count(), 1, "{name}");
    }
}

#[tokio::test]
async fn no_more_failures_than_the_limit_are_admitted_in_a_row_whoever_has_the_name_and_after_a_restart() {
    let store = super::fresh();
    sign_up(&*store, "ann").await;
    for name in ["ann", "nobody"] {
        let counter = elsewhere(&*store, name).await;
        let mut second = 0;
        for _ in 0..10 {
            fail(&*store, admitted(&*store, counter, second).await, second).await;
            second += 300;
        }
    }

    let store = store.reopened().await;

    for name in ["ann", "nobody"] {
        let counter = elsewhere(&*store, name).await;
        for second in [0, 300 * 10, 300 * DAY] {
            assert_eq!(ask(&*store, counter, second).await, refused(86_400), "{name}");
        }
    }
}

#[tokio::test]
async fn a_success_forgets_what_failed_from_there_and_a_refusal_at_the_door_counts_as_a_failure() {
    let store = super::fresh();
    let ann = sign_up(&*store, "ann").await;
    let counter = elsewhere(&*store, "ann").await;
    for _ in 0..4 {
        fail(&*store, admitted(&*store, counter, 0).await, 0).await;
    }

    let place = admitted(&*store, counter, 0).await;
    let opened = open(&*store, NewSession { credentials_epoch: 9, ..login(&ann, 1, place, 0) }).await;

    assert_eq!(opened, Opening::CredentialsChanged);
    assert_eq!(ask(&*store, counter, 0).await, refused(1));
    let place = admitted(&*store, counter, 1).await;
    assert_eq!(open(&*store, login(&ann, 1, place, 1)).await, Opening::Done(ann));
    assert_eq!(store.tries(key("ann")).await.unwrap(), []);
}

#[tokio::test]
async fn what_is_given_back_or_never_heard_of_again_makes_room() {
    let store = super::fresh();
    sign_up(&*store, "ann").await;
    let counter = elsewhere(&*store, "ann").await;
    let mut places = Vec::new();
    for _ in 0..5 {
        places.push(admitted(&*store, counter, 0).await);
    }
    assert_eq!(ask(&*store, counter, 0).await, Admittance::Undecided);

    store.give_back(places[0]).await.unwrap();

    admitted(&*store, counter, 0).await;
    assert_eq!(ask(&*store, counter, 14).await, Admittance::Undecided);
    let expired = RESERVATION_TTL.as_secs().cast_signed();
    admitted(&*store, counter, expired).await;
    assert_eq!(store.tries(key("ann")).await.unwrap()[0].1.undecided.len(), 1);
    // It counts though it comes late.
    fail(&*store, places[1], expired).await;
    assert_eq!(store.tries(key("ann")).await.unwrap()[0].1.failures, 1);
}

#[tokio::test]
async fn a_counter_whose_times_lie_ahead_keeps_nobody_out_for_longer_than_its_delay() {
    const YEAR: i64 = 365 * DAY;
    let store = super::fresh();
    let [failed, under_way] = [elsewhere(&*store, "ann").await, elsewhere(&*store, "eve").await];
    for _ in 0..5 {
        fail(&*store, admitted(&*store, failed, YEAR).await, YEAR).await;
        admitted(&*store, under_way, YEAR).await;
    }

    // By a clock that is right.
    assert_eq!(ask(&*store, failed, 0).await, refused(1));
    assert_eq!(ask(&*store, under_way, 0).await, Admittance::Undecided);

    admitted(&*store, failed, 1).await;
    assert_eq!(ask(&*store, under_way, 14).await, Admittance::Undecided);
    admitted(&*store, under_way, 15).await;
}

#[tokio::test]
async fn nothing_is_kept_of_an_attempt_that_was_given_back() {
    let store = super::fresh();
    let counter = elsewhere(&*store, "nobody").await;

    let place = admitted(&*store, counter, 0).await;
    assert_eq!(store.tries(key("nobody")).await.unwrap().len(), 1);
    store.give_back(place).await.unwrap();

    assert_eq!(store.tries(key("nobody")).await.unwrap(), []);
}

#[tokio::test]
async fn a_known_network_is_counted_apart_for_ninety_days_and_cannot_be_locked_out_from_elsewhere() {
    let store = super::fresh();
    let ann = sign_up(&*store, "ann").await;
    sign_up(&*store, "bob").await;
    let place = admitted(&*store, elsewhere(&*store, "ann").await, 0).await;
    assert!(matches!(open(&*store, login(&ann, 1, place, 0)).await, Opening::Done(_)));
    lock(&*store, elsewhere(&*store, "ann").await).await;

    let home = ClientNetwork::LOCALHOST;
    let from_home = counter(&*store, "ＡＮＮ", Some(home), HOUR).await;

    assert_eq!(from_home.whence, Whence::Known(home));
    fail(&*store, admitted(&*store, from_home, HOUR).await, HOUR).await;
    let counted = store.tries(key("ann")).await.unwrap();
    let counted: Vec<_> = counted.iter().map(|(whence, tries)| (*whence, tries.failures)).collect();
    assert_eq!(counted, [(Whence::Elsewhere, 10), (Whence::Known(home), 1)]);
    // And the other way round.
    let place = admitted(&*store, from_home, HOUR).await;
    open(&*store, login(&ann, 2, place, 0)).await;
    assert_eq!(ask(&*store, elsewhere(&*store, "ann").await, HOUR).await, refused(86_400));

    for (name, network, second) in [
        ("ann", ClientNetwork::of(Ipv4Addr::new(127, 0, 0, 2).into()), HOUR),
        ("ann", home, 90 * DAY),
        ("bob", home, HOUR),
        ("nobody", home, HOUR),
        ("no name", home, HOUR),
    ] {
        assert_eq!(counter(&*store, name, Some(network), second).await.whence, Whence::Elsewhere, "{name}");
    }
    assert_eq!(counter(&*store, "ann", Some(home), 90 * DAY - 1).await.whence, Whence::Known(home));
}

#[tokio::test]
async fn a_failure_is_on_record_by_the_commit_that_counts_it() {
    use domain::ports::{AuditLog, AuditQuery};
    let store = super::fresh();
    sign_up(&*store, "ann").await;
    let place = admitted(&*store, elsewhere(&*store, "ann").await, 0).await;
    let attempt = tried_to(Action::LogIn, Subject::Name(key("ann")), time(7));
    let compared = Compared { place, at: time(0) };

    let refusal = store.fail(compared, Refusal::WrongPassword, Some(attempt)).await.unwrap();

    assert_eq!(refusal, Refusal::WrongPassword);
    let query = AuditQuery { since: Some(time(7)), ..AuditQuery::default() };
    let kept = store.list_events(query, 0, 9).await.unwrap();
    let kept: Vec<_> = kept.iter().map(|it| (it.entry.at, it.entry.reason.as_deref())).collect();
    assert_eq!(kept, [(time(7), Some("wrong_password"))]);
}

#[tokio::test]
async fn a_store_that_is_gone_admits_nobody() {
    let store = super::fresh();
    let counter = elsewhere(&*store, "ann").await;
    store.take_away();

    assert!(store.admit(counter, Requester::Bulk, time(0), RULES).await.is_err());

    store.bring_back();
}

async fn sign_up(store: &impl UserRepo, text: &str) -> User {
    let user = NewUser { name: name(text), password_hash: hash("kept"), at: time(0) };
    match store.insert(user, tried(time(0))).await.unwrap() {
        Insertion::Done(user) => user,
        Insertion::UsernameTaken => panic!("{text} is taken"),
    }
}

async fn elsewhere(store: &impl Throttle, name: &str) -> Counter {
    counter(store, name, None, 0).await
}

async fn counter(store: &impl Throttle, name: &str, network: Option<ClientNetwork>, second: i64) -> Counter {
    store.counter(LoginName::from_typed(name), network, time(second)).await.unwrap()
}

async fn ask(store: &impl Throttle, counter: Counter, second: i64) -> Admittance {
    store.admit(counter, Requester::Bulk, time(second), RULES).await.unwrap()
}

async fn admitted(store: &impl Throttle, counter: Counter, second: i64) -> Place {
    match ask(store, counter, second).await {
        Admittance::Admitted(place) => place,
        other => panic!("{other:?} at {second}"),
    }
}

async fn place_of(store: &impl Throttle, name: &str) -> Place {
    Place { counter: elsewhere(store, name).await, taken_at: time(0) }
}

async fn fail(store: &impl Throttle, place: Place, second: i64) {
    let compared = Compared { place, at: time(second) };
    store.fail(compared, Refusal::WrongPassword, Some(tried(time(second)))).await.unwrap();
}

/// Fills a counter, some time before.
async fn lock(store: &impl Throttle, counter: Counter) {
    for second in (-3600..-600).step_by(300) {
        fail(store, admitted(store, counter, second).await, second).await;
    }
}

async fn open(store: &impl SessionRepo, new: NewSession) -> Opening {
    store.open(new, tried(time(0))).await.unwrap()
}

fn refused(seconds: u64) -> Admittance {
    Admittance::Refused { retry_after: Duration::from_secs(seconds) }
}

/// A login from this machine.
fn login(user: &User, number: u8, place: Place, second: i64) -> NewSession {
    NewSession {
        id: SessionId::from_bytes([number; 16]),
        user: UserId(user.id.0),
        credentials_epoch: 0,
        nonce: Nonce([7; 16]),
        at: time(second),
        expires_at: time(100 * DAY),
        ends_at: time(100 * DAY),
        address: Some(Ipv4Addr::LOCALHOST.into()),
        user_agent: None,
        compared: Some(Compared { place, at: time(second) }),
    }
}

fn name(text: &str) -> Username {
    Username::parse(text).unwrap()
}

fn key(text: &str) -> UsernameKey {
    name(text).key().clone()
}

fn hash(text: &str) -> PasswordHash {
    PasswordHash::new(text.to_owned())
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}
