mod endings;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use domain::ports::{
    Ending, EndingAll, Insertion, NewSession, NewUser, Opening, PortError, Reuse, Rotation, SessionRepo,
    Shown, UserRepo,
};
use domain::{
    Action, ClientNetwork, EndCause, Generation, Lineage, MOST_KNOWN_NETWORKS, MOST_SESSIONS, Misuse, Nonce,
    PasswordHash, Session, SessionId, SessionRules, Subject, User, UserAgent, UserId, Username, UsernameKey,
};
use futures_util::future::join_all;
use jiff::Timestamp;

use crate::support::audit_fixtures::{tried, tried_to};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

const RULES: SessionRules = SessionRules {
    idle_ttl: Duration::from_hours(14 * 24),
    absolute_ttl: Duration::from_hours(90 * 24),
    grace: Duration::from_secs(10),
};

#[tokio::test]
async fn a_new_session_is_found_as_it_was_opened_with_its_account() {
    let store = super::fresh();
    let ann = sign_up(&*store, "ann").await;
    let new = NewSession {
        address: Some("2001:db8::7".parse().unwrap()),
        user_agent: UserAgent::from_header("Sokoł/1.0 (ÄÖÜ)"),
        ..login(ann.id, 1, 0)
    };

    assert_eq!(store.open(new.clone(), tried(time(0))).await.unwrap(), Opening::Done(ann.clone()));

    let expected = Session {
        id: new.id,
        user: ann.id,
        nonce: new.nonce,
        lineage: Lineage::new(),
        created_at: time(0),
        last_used_at: time(0),
        expires_at: time(14 * DAY),
        ends_at: time(90 * DAY),
        ended_at: None,
        address: new.address,
        user_agent: new.user_agent,
    };
    let (session, account) = store.look_up(new.id).await.unwrap().unwrap();
    assert_eq!((session, account.user), (expected.clone(), ann.clone()));
    assert_eq!(store.live_sessions(ann.id, time(0)).await.unwrap(), [expected]);
    assert_eq!(store.look_up(id(2)).await.unwrap(), None);
}

#[tokio::test]
async fn an_account_that_changed_since_its_password_was_checked_gets_no_session() {
    let store = super::fresh();
    let ann = sign_up(&*store, "ann").await;
    let bob = sign_up(&*store, "bob").await;
    let eve = sign_up(&*store, "eve").await;
    store.set_password(key("ann"), hash("changed"), tried(time(1))).await.unwrap();
    store.disable(key("bob"), tried(time(1))).await.unwrap();
    store.delete(key("eve"), tried(time(0))).await.unwrap();

    assert_eq!(store.open(login(ann.id, 1, 2), tried(time(0))).await.unwrap(), Opening::CredentialsChanged);
    assert_eq!(store.open(login(bob.id, 2, 2), tried(time(0))).await.unwrap(), Opening::Disabled);
    assert_eq!(store.open(login(eve.id, 3, 2), tried(time(0))).await.unwrap(), Opening::UnknownUser);

    for number in 1..=3 {
        assert_eq!(store.look_up(id(number)).await.unwrap(), None);
    }
    assert_eq!(store.known_networks(ann.id).await.unwrap(), []);
    let fresh = NewSession { credentials_epoch: 1, ..login(ann.id, 4, 2) };
    assert!(matches!(store.open(fresh, tried(time(0))).await.unwrap(), Opening::Done(_)));
}

#[tokio::test]
async fn the_newest_token_is_exchanged_and_the_session_lives_on() {
    let store = super::fresh();
    let ann = logged_in(&*store, "ann", 1).await;

    let Rotation::Rotated(session) = show(&*store, 1, 1, HOUR).await else { panic!("not rotated") };

    assert_eq!((session.lineage.generation, session.lineage.seen), (generation(2), false));
    assert_eq!((session.last_used_at, session.expires_at), (time(HOUR), time(14 * DAY + HOUR)));
    assert_eq!((session.created_at, session.ends_at), (time(0), time(90 * DAY)));
    assert_eq!(store.live_sessions(ann.id, time(HOUR)).await.unwrap(), [session]);
    assert!(matches!(show(&*store, 1, 2, HOUR).await, Rotation::Rotated(_)));
}

#[tokio::test]
async fn of_fifty_who_show_one_token_at_once_one_exchanges_it_a_hundred_times_over() {
    let store = super::fresh();
    let other = store.another();
    logged_in(&*store, "ann", 1).await;

    for round in 1..=100 {
        let answers = join_all((0..50).map(|n| {
            let store = if n % 2 == 0 { &store } else { &other };
            show(&**store, 1, round, 60 * round)
        }))
        .await;

        let (mut rotated, mut again) = (0, 0);
        for answer in answers {
            let session = match answer {
                Rotation::Rotated(session) => {
                    rotated += 1;
                    session
                }
                Rotation::Again(session, Reuse::Concurrent) => {
                    again += 1;
                    session
                }
                refused => panic!("{refused:?}"),
            };
            assert_eq!(session.lineage.generation, generation(round + 1));
        }
        assert_eq!((rotated, again), (1, 49));
    }
}

#[tokio::test]
async fn a_token_shown_again_within_the_grace_gets_the_newest_and_changes_nothing() {
    let store = super::fresh();
    logged_in(&*store, "ann", 1).await;
    show(&*store, 1, 1, 0).await;
    let Rotation::Rotated(newest) = show(&*store, 1, 2, 5).await else { panic!("not rotated") };

    for number in [1, 2] {
        assert_eq!(show(&*store, 1, number, 9).await, Rotation::Again(newest.clone(), Reuse::Concurrent));
    }

    assert_eq!(store.look_up(id(1)).await.unwrap().unwrap().0, newest);
}

#[tokio::test]
async fn a_lost_answer_is_given_again_three_times_a_day_and_the_idle_time_runs_on() {
    let store = super::fresh();
    logged_in(&*store, "ann", 1).await;
    show(&*store, 1, 1, 0).await;

    for hour in 1..=3 {
        let Rotation::Again(session, Reuse::Recovered) = show(&*store, 1, 1, hour * HOUR).await else {
            panic!("not recovered")
        };
        assert_eq!((session.lineage.generation, session.expires_at), (generation(2), time(14 * DAY)));
    }
    let used_up = show(&*store, 1, 1, 4 * HOUR).await;

    assert_eq!(used_up, Rotation::Ended(Misuse::RecoveriesUsedUp));
    assert_eq!(show(&*store, 1, 2, 4 * HOUR).await, Rotation::Over);
}

#[tokio::test]
async fn a_recovered_token_can_be_exchanged() {
    let store = super::fresh();
    logged_in(&*store, "ann", 1).await;
    show(&*store, 1, 1, 0).await;
    assert!(matches!(show(&*store, 1, 1, HOUR).await, Rotation::Again(_, Reuse::Recovered)));

    assert!(matches!(show(&*store, 1, 2, 2 * HOUR).await, Rotation::Rotated(_)));
}

#[tokio::test]
async fn what_is_seen_is_not_lost_and_only_the_newest_generation_is_marked() {
    let store = super::fresh();
    logged_in(&*store, "ann", 1).await;
    show(&*store, 1, 1, 0).await;

    store.mark_seen(id(1), generation(1)).await.unwrap();
    store.mark_seen(id(1), generation(3)).await.unwrap();
    store.mark_seen(id(2), generation(1)).await.unwrap();
    assert!(!store.look_up(id(1)).await.unwrap().unwrap().0.lineage.seen);

    store.mark_seen(id(1), generation(2)).await.unwrap();
    store.mark_seen(id(1), generation(2)).await.unwrap();
    assert_eq!(show(&*store, 1, 1, HOUR).await, Rotation::Ended(Misuse::SuccessorSeen));
}

#[tokio::test]
async fn a_replay_outside_the_rules_ends_the_session_for_good_also_elsewhere_and_with_the_clock_set_back() {
    // Exchanged five times within one second; what is replayed, when, and how that is called.
    for (number, second, misuse) in [
        (1, 11, Misuse::LongSuperseded),
        (4, 11, Misuse::LongSuperseded),
        (5, 11, Misuse::SuccessorSeen),
        (1, -HOUR, Misuse::LongSuperseded),
        (5, -HOUR, Misuse::SuccessorSeen),
        (7, 0, Misuse::NeverIssued),
    ] {
        for anew in [false, true] {
            let mut store = super::fresh();
            logged_in(&*store, "ann", 1).await;
            for number in 1..=5 {
                assert!(matches!(show(&*store, 1, number, 0).await, Rotation::Rotated(_)));
            }
            store.mark_seen(id(1), generation(6)).await.unwrap();
            if anew {
                store = store.reopened().await;
            }

            assert_eq!(
                show(&*store, 1, number, second).await,
                Rotation::Ended(misuse),
                "{number} at {second}"
            );

            store = store.reopened().await;
            let (session, _) = store.look_up(id(1)).await.unwrap().unwrap();
            assert_eq!(session.ended_at, Some(time(second)));
            assert_eq!(show(&*store, 1, 6, second).await, Rotation::Over);
            assert_eq!(show(&*store, 1, 6, -DAY).await, Rotation::Over);
        }
    }
}

#[tokio::test]
async fn a_misuse_ends_its_session_and_no_other() {
    let store = super::fresh();
    let ann = logged_in(&*store, "ann", 1).await;
    open(&*store, login(ann.id, 2, 0)).await;

    assert_eq!(show(&*store, 1, 9, 0).await, Rotation::Ended(Misuse::NeverIssued));

    assert!(matches!(show(&*store, 2, 1, 0).await, Rotation::Rotated(_)));
}

#[tokio::test]
async fn a_session_is_over_when_it_was_idle_too_long_and_at_its_end_however_much_it_is_used() {
    let store = super::fresh();
    let ann = logged_in(&*store, "ann", 1).await;
    open(&*store, login(ann.id, 2, 0)).await;

    assert_eq!(show(&*store, 1, 1, 14 * DAY).await, Rotation::Over);
    assert_eq!(store.live_sessions(ann.id, time(14 * DAY)).await.unwrap().len(), 0);
    for (number, day) in [13, 26, 39, 52, 65, 78, 89].into_iter().enumerate() {
        let number = i64::try_from(number).unwrap() + 1;
        assert!(matches!(show(&*store, 2, number, day * DAY).await, Rotation::Rotated(_)), "{day}");
    }
    assert_eq!(show(&*store, 2, 8, 90 * DAY).await, Rotation::Over);
    assert_eq!(end(&*store, 2, ann.id, 90 * DAY).await, Ending::Unknown);
}

#[tokio::test]
async fn the_networks_of_the_last_logins_are_known_and_no_more_than_there_may_be() {
    let store = super::fresh();
    let ann = sign_up(&*store, "ann").await;
    let bob = logged_in(&*store, "bob", 1000).await;
    let from = |number: u8, address: IpAddr, second| NewSession {
        address: Some(address),
        ..login(ann.id, number.into(), second)
    };
    for number in 0..20 {
        open(&*store, from(number, Ipv4Addr::new(192, 0, 2, number).into(), number.into())).await;
    }
    open(&*store, from(20, "192.0.2.15".parse().unwrap(), 20)).await;
    open(&*store, from(21, "2001:db8::1".parse().unwrap(), 21)).await;
    open(&*store, from(22, "2001:db8::2".parse().unwrap(), 22)).await;
    open(&*store, NewSession { address: None, ..login(ann.id, 23, 23) }).await;

    let known = store.known_networks(ann.id).await.unwrap();

    let expected: Vec<_> = [
        "2001:db8::",
        "192.0.2.15",
        "192.0.2.19",
        "192.0.2.18",
        "192.0.2.17",
        "192.0.2.16",
        "192.0.2.14",
        "192.0.2.13",
    ]
    .map(|address| ClientNetwork::of(address.parse().unwrap()))
    .into();
    assert_eq!(known.len(), MOST_KNOWN_NETWORKS as usize);
    assert_eq!(known.iter().map(|it| it.network).collect::<Vec<_>>(), expected);
    assert_eq!((known[0].last_login_at, known[1].last_login_at), (time(22), time(20)));
    assert_eq!(store.known_networks(bob.id).await.unwrap().len(), 1);
    store.delete(key("ann"), tried(time(0))).await.unwrap();
    assert_eq!(store.known_networks(ann.id).await.unwrap(), []);
}

#[tokio::test]
async fn what_is_over_is_removed_in_bounded_batches_and_what_lives_is_not() {
    let store = super::fresh();
    let ann = sign_up(&*store, "ann").await;
    for number in 1..=5 {
        open(&*store, login(ann.id, number, 0)).await;
    }
    for number in 6..=10 {
        open(&*store, login(ann.id, number, 0)).await;
        end(&*store, number, ann.id, 1).await;
    }
    open(&*store, login(ann.id, 11, DAY)).await;
    let remove = |day: i64| store.remove_over(time(day * DAY), 4);

    assert_eq!(remove(1).await.unwrap(), 4);
    assert_eq!(remove(1).await.unwrap(), 1);
    assert_eq!(remove(1).await.unwrap(), 0);
    assert_eq!(live(&*store, ann.id).await.len(), 6);
    assert_eq!(remove(14).await.unwrap(), 4);
    assert_eq!(remove(14).await.unwrap(), 1);
    assert_eq!(remove(14).await.unwrap(), 0);
    assert!(store.look_up(id(11)).await.unwrap().is_some());

    assert_eq!(store.known_networks(ann.id).await.unwrap().len(), 1);
    // The session, and the network that was used a day after the others.
    assert_eq!(remove(91).await.unwrap(), 2);
    assert_eq!(store.known_networks(ann.id).await.unwrap(), []);
}

#[tokio::test]
async fn of_all_sessions_those_are_counted_that_are_live() {
    let store = super::fresh();
    let (ann, bob) = (logged_in(&*store, "ann", 1001).await, logged_in(&*store, "bob", 1002).await);
    open(&*store, login(ann.id, 1003, DAY)).await;
    let count = async |day: i64| store.count_live(time(day * DAY)).await.unwrap();

    assert_eq!(count(1).await, 3);
    assert_eq!(count(14).await, 1, "the others were not used for so long");
    assert_eq!(count(15).await, 0);
    store.end_all(bob.id, None, EndCause::Revoked, tried(time(1))).await.unwrap();
    assert_eq!(count(1).await, 2);
}

#[tokio::test]
async fn a_list_has_the_live_ones_the_newest_first() {
    let store = super::fresh();
    let ann = sign_up(&*store, "ann").await;
    for (number, second) in [(1, 5), (2, 9), (3, 7), (4, 9)] {
        open(&*store, login(ann.id, number, second)).await;
    }
    end(&*store, 3, ann.id, 10).await;

    assert_eq!(live(&*store, ann.id).await, [id(4), id(2), id(1)]);
    assert_eq!(store.live_sessions(UserId(ann.id.0 + 1), time(10)).await.unwrap(), []);
}

#[tokio::test]
async fn a_store_that_is_taken_away_refreshes_nothing() {
    let store = super::fresh();
    logged_in(&*store, "ann", 1).await;

    store.take_away();
    let shown = store.rotate(shown(1, 1, 1), tried(time(0))).await;
    store.bring_back();

    assert!(matches!(shown, Err(PortError::Unavailable(_))));
    assert!(matches!(show(&*store, 1, 1, 1).await, Rotation::Rotated(_)));
}

async fn logged_in<S: UserRepo + SessionRepo>(store: &S, name: &str, number: u64) -> User {
    let user = sign_up(store, name).await;
    open(store, login(user.id, number, 0)).await;
    user
}

async fn sign_up(store: &impl UserRepo, name: &str) -> User {
    let new = NewUser { name: Username::parse(name).unwrap(), password_hash: hash("kept"), at: time(0) };
    match store.insert(new, tried(time(0))).await.unwrap() {
        Insertion::Done(user) => user,
        Insertion::UsernameTaken => panic!("{name} is taken"),
    }
}

async fn open(store: &impl SessionRepo, new: NewSession) {
    assert!(matches!(store.open(new, tried(time(0))).await.unwrap(), Opening::Done(_)));
}

async fn show(store: &impl SessionRepo, session: u64, number: i64, second: i64) -> Rotation {
    store.rotate(shown(session, number, second), tried(time(0))).await.unwrap()
}

async fn end(store: &impl SessionRepo, session: u64, owner: UserId, second: i64) -> Ending {
    store.end(id(session), owner, EndCause::LoggedOut, tried(time(second))).await.unwrap()
}

async fn live(store: &impl SessionRepo, owner: UserId) -> Vec<SessionId> {
    store.live_sessions(owner, time(10)).await.unwrap().into_iter().map(|session| session.id).collect()
}

fn login(user: UserId, number: u64, second: i64) -> NewSession {
    let at = time(second);
    let ends_at = RULES.end(at);
    NewSession {
        id: id(number),
        user,
        credentials_epoch: 0,
        nonce: Nonce([number.to_be_bytes()[7]; 16]),
        at,
        expires_at: RULES.expiry(at, ends_at),
        ends_at,
        address: Some(Ipv4Addr::LOCALHOST.into()),
        user_agent: None,
        compared: None,
    }
}

fn shown(session: u64, number: i64, second: i64) -> Shown {
    Shown { session: id(session), generation: generation(number), at: time(second), rules: RULES }
}

fn id(number: u64) -> SessionId {
    SessionId::from_bytes(u128::from(number).to_be_bytes())
}

fn generation(number: i64) -> Generation {
    Generation::new(number).unwrap()
}

fn key(name: &str) -> UsernameKey {
    Username::parse(name).unwrap().key().clone()
}

fn hash(text: &str) -> PasswordHash {
    PasswordHash::new(text.to_owned())
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}
