mod erasure;

use std::net::Ipv4Addr;
use std::time::Duration;

use domain::ports::{
    AuditLog, AuditQuery, Change, ConfirmedChange, Insertion, ListedEvent, NewSession, NewUser, Opening,
    PortError, Reuse, Rotation, SessionRepo, Shown, UserRepo,
};
use domain::{
    Action, Attempt, AuditEntry, EndCause, Event, Generation, Link, Nonce, Origin, Outcome, PasswordHash,
    Renamed, SessionId, SessionRules, Subject, Tampering, User, UserAgent, UserId, Username, UsernameKey,
};
use futures_util::FutureExt;
use futures_util::future::join_all;
use jiff::Timestamp;

use crate::support::audit_fixtures::{audit_key, tried, tried_to};

#[tokio::test]
async fn changes_are_recorded_with_themselves_and_refusals_are_not() {
    let store = super::fresh();
    let to = |action| tried_to(action, Subject::Name(key("ann")), time(0));
    let ann = sign_up(&*store, "ann", to(Action::SignUp)).await;
    let about_ann = |action| tried_to(action, Subject::User(ann.id), time(0));

    store.insert(person("Ann"), to(Action::SignUp)).await.unwrap();
    store.set_password(key("ann"), hash("set"), to(Action::SetPassword)).await.unwrap();
    store.open(login(ann.id, 1, 0), about_ann(Action::LogIn)).await.unwrap();
    store.open(login(ann.id, 1, 1), about_ann(Action::LogIn)).await.unwrap();
    store.disable(key("ann"), to(Action::Disable)).await.unwrap();
    store.open(login(ann.id, 2, 1), about_ann(Action::LogIn)).await.unwrap();
    store.rename(ann.id, 1, name("mia"), about_ann(Action::Rename)).await.unwrap();
    store.enable(key("ann"), to(Action::Enable)).await.unwrap();
    store.disable(key("bob"), tried_to(Action::Disable, Subject::Name(key("bob")), time(0))).await.unwrap();
    store.rename(ann.id, 1, name("mia"), about_ann(Action::Rename)).await.unwrap();
    store
        .change_password(hash("changed"), login(ann.id, 3, 0), about_ann(Action::ChangePassword))
        .await
        .unwrap();
    store
        .change_password(hash("changed"), login(ann.id, 3, 1), about_ann(Action::ChangePassword))
        .await
        .unwrap();
    store.end(id(3), ann.id, EndCause::LoggedOut, about_ann(Action::LogOut)).await.unwrap();
    store.end(id(3), ann.id, EndCause::LoggedOut, about_ann(Action::LogOut)).await.unwrap();
    store.end_all(ann.id, None, EndCause::Revoked, about_ann(Action::EndSessions)).await.unwrap();
    store.open(login(ann.id, 4, 2), about_ann(Action::LogIn)).await.unwrap();
    store.end_all(ann.id, None, EndCause::Revoked, about_ann(Action::EndSessions)).await.unwrap();
    store.close_account(ann.id, 1, about_ann(Action::CloseAccount)).await.unwrap();
    store.close_account(ann.id, 2, about_ann(Action::CloseAccount)).await.unwrap();
    store.delete(key("mia"), tried_to(Action::Delete, Subject::Name(key("mia")), time(0))).await.unwrap();

    let expected = [
        ("sign_up", "success", None, true),
        ("set_password", "success", None, true),
        ("log_in", "success", None, true),
        ("disable", "success", None, true),
        ("enable", "success", None, true),
        ("disable", "refused", Some("unknown_user"), false),
        ("rename", "success", None, true),
        ("change_password", "success", None, true),
        ("log_out", "success", None, true),
        ("log_in", "success", None, true),
        ("end_sessions", "success", None, true),
        ("close_account", "success", None, true),
        ("delete", "refused", Some("unknown_user"), false),
    ];
    let kept = all(&*store).await;
    let told = |entry: &AuditEntry| {
        let reason = entry.reason.clone();
        // Whoever is known is told by number, and nobody by name.
        (entry.event.clone(), entry.outcome.clone(), reason, entry.user == Some(ann.id))
    };
    let expected = expected.map(|(event, outcome, reason, is_ann)| {
        (event.to_owned(), outcome.to_owned(), reason.map(str::to_owned), is_ann)
    });
    assert_eq!(kept.iter().map(told).collect::<Vec<_>>(), expected);
    assert!(kept.iter().all(|entry| entry.user.is_some() != entry.name_digest.is_some()));
    assert_eq!(store.head().await.unwrap().number, 13);
    assert_eq!(store.inspect(None).await.unwrap(), Ok(store.head().await.unwrap()));
}

#[tokio::test]
async fn a_refresh_is_kept_when_it_is_news() {
    let store = super::fresh();
    let ann = logged_in(&*store, "ann", 1).await;
    let show = async |number, second| {
        let attempt = tried_to(Action::Refresh, Subject::User(ann.id), time(second));
        store.rotate(shown(1, number, second), attempt).await.unwrap()
    };

    assert!(matches!(show(1, 0).await, Rotation::Rotated(_)));
    assert!(matches!(show(1, 1).await, Rotation::Again(_, Reuse::Concurrent)));
    assert_eq!(all(&*store).await.len(), 2);
    assert!(matches!(show(1, 3600).await, Rotation::Again(_, Reuse::Recovered)));
    assert!(matches!(show(2, 3601).await, Rotation::Rotated(_)));
    assert!(matches!(show(1, 7200).await, Rotation::Ended(_)));
    assert!(matches!(show(3, 7201).await, Rotation::Over));

    let kept: Vec<_> =
        all(&*store).await.split_off(2).into_iter().map(|entry| (entry.event, entry.outcome)).collect();
    let kept: Vec<_> = kept.iter().map(|(event, outcome)| (event.as_str(), outcome.as_str())).collect();
    assert_eq!(kept, [("recover_refresh", "success"), ("refresh", "refused")]);
}

#[tokio::test]
async fn an_event_is_listed_as_it_was_with_the_present_name_of_the_account() {
    let store = super::fresh();
    let ann = sign_up(&*store, "Ann", tried(time(0))).await;
    let origin = Origin::Request {
        address: "2001:db8::7".parse().unwrap(),
        request_id: "r-7".to_owned(),
        user_agent: UserAgent::from_header("Sokoł/1.0 (ÄÖÜ)"),
    };
    let attempt = Attempt { origin, ..tried_to(Action::ShowToken, Subject::User(ann.id), time(7)) };
    let event = Event { attempt, outcome: Outcome::Refused("expired"), count: 1000, renamed: None };
    store.append(vec![event.clone()]).await.unwrap();
    store.rename(ann.id, 0, name("Mia"), tried(time(8))).await.unwrap();

    let mut listed = store.list_events(AuditQuery::default(), 1, 1).await.unwrap();

    assert_eq!(listed.len(), 1);
    let listed = listed.remove(0);
    assert_eq!((listed.number, listed.username), (2, Some(name("Mia"))));
    assert_eq!(listed.entry, audit_key().entry(&event));
}

#[tokio::test]
async fn a_list_is_of_a_name_and_of_a_time_and_comes_in_pages() {
    let store = super::fresh();
    let ann = sign_up(&*store, "ann", tried(time(0))).await;
    let append = async |subject, second| {
        let event = tried_to(Action::LogIn, subject, time(second)).ended(Outcome::Refused("told"));
        store.append(vec![event]).await.unwrap();
    };
    append(Subject::User(ann.id), 1).await;
    append(Subject::Name(key("ann")), 2).await;
    append(Subject::Name(key("bob")), 3).await;
    append(Subject::User(UserId(ann.id.0 + 1)), 4).await;
    append(Subject::Unknown, 5).await;
    append(Subject::User(ann.id), 6).await;

    let numbers = async |name: Option<&str>, since: Option<i64>, after, limit| {
        let query = AuditQuery { name: name.map(key), since: since.map(time) };
        let listed = store.list_events(query, after, limit).await.unwrap();
        listed.into_iter().map(|listed| listed.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(None, None, 0, 100).await, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(numbers(None, None, 2, 3).await, [3, 4, 5]);
    assert_eq!(numbers(Some("ann"), None, 0, 100).await, [1, 2, 3, 7]);
    assert_eq!(numbers(Some("ann"), None, 1, 2).await, [2, 3]);
    assert_eq!(numbers(Some("bob"), None, 0, 100).await, [4]);
    assert_eq!(numbers(Some("eve"), None, 0, 100).await, [0; 0]);
    assert_eq!(numbers(None, Some(5), 0, 100).await, [6, 7]);
    assert_eq!(numbers(Some("ann"), Some(2), 0, 100).await, [3, 7]);
}

#[tokio::test]
async fn of_fifty_who_write_at_once_at_two_stores_each_has_a_link_of_one_chain() {
    let store = super::fresh();
    let other = store.another();

    join_all((0..50).map(async |n: i64| {
        let store = if n % 2 == 0 { &store } else { &other };
        let event = tried(time(n)).ended(Outcome::Abandoned);
        store.append(vec![event.clone(), event]).await.unwrap();
    }))
    .await;

    assert_eq!(store.head().await.unwrap().number, 100);
    assert_eq!(store.inspect(None).await.unwrap(), other.inspect(None).await.unwrap());
    assert!(store.inspect(None).await.unwrap().is_ok());
}

#[tokio::test]
async fn the_chain_goes_on_after_a_restart_and_when_callers_leave() {
    let store = super::fresh();
    for n in 0..20 {
        let _ = store.insert(person(&format!("user{n}")), tried(time(n))).now_or_never();
    }
    let store = store.reopened().await;
    let event = tried(time(0)).ended(Outcome::Abandoned);
    store.append(vec![event.clone()]).await.unwrap();
    let before = store.head().await.unwrap();
    let users = store.list(UserId(0), 100).await.unwrap().len();
    assert_eq!(usize::try_from(before.number), Ok(users + 1));

    let store = store.reopened().await;
    store.append(vec![event]).await.unwrap();

    let head = store.head().await.unwrap();
    assert_eq!(head.number, before.number + 1);
    assert_eq!(store.inspect(Some(before)).await.unwrap(), Ok(head));
}

#[tokio::test]
async fn whoever_writes_to_the_database_without_the_key_is_found() {
    let columns = "at, event, outcome, reason, count, user_id, name_digest, request_id, salt, address, user_agent, \
                   client_digest, seal";
    let insert =
        format!("INSERT INTO audit_events (number, {columns}) SELECT 8, {columns} FROM audit_events");
    let cases = [
        ("UPDATE audit_events SET outcome = 'success' WHERE number = 3", Tampering::Altered(3)),
        ("UPDATE audit_events SET address = '192.0.2.1' WHERE number = 3", Tampering::Altered(3)),
        ("UPDATE audit_events SET address = 'nowhere' WHERE number = 3", Tampering::Altered(3)),
        ("UPDATE audit_events SET salt = NULL, address = NULL WHERE number = 3", Tampering::Blanked(3)),
        (
            "DELETE FROM users; UPDATE audit_events SET salt = NULL, address = NULL WHERE number >= 3",
            Tampering::Blanked(3),
        ),
        ("UPDATE audit_events SET user_id = 99 WHERE number = 3", Tampering::Altered(3)),
        ("DELETE FROM audit_events WHERE number = 3", Tampering::Missing { first: 3, next: 4 }),
        ("DELETE FROM audit_events WHERE number <= 3", Tampering::Missing { first: 1, next: 4 }),
        ("DELETE FROM audit_events WHERE number >= 5", Tampering::CutOff { last: 4, head: 7 }),
        ("DELETE FROM audit_events", Tampering::CutOff { last: 0, head: 7 }),
        (
            "UPDATE audit_events SET number = 99 WHERE number = 3;
             UPDATE audit_events SET number = 3 WHERE number = 5;
             UPDATE audit_events SET number = 5 WHERE number = 99",
            Tampering::Altered(3),
        ),
        (&format!("{insert} WHERE number = 7"), Tampering::Altered(8)),
    ];
    for (tampering, found) in cases {
        let store = super::fresh();
        let ann = sign_up(&*store, "ann", tried(time(0))).await;
        for second in 1..7 {
            let event = tried_to(Action::LogIn, Subject::User(ann.id), time(second));
            store.append(vec![event.ended(Outcome::Refused("wrong_password"))]).await.unwrap();
        }
        let head = store.head().await.unwrap();
        assert_eq!(store.inspect(Some(head)).await.unwrap(), Ok(head));

        store.tamper(tampering);

        assert_eq!(store.inspect(Some(head)).await.unwrap(), Err(found), "{tampering}");
    }
}

#[tokio::test]
async fn old_events_go_and_what_is_left_is_proven() {
    let store = super::fresh();
    for second in 0..10 {
        store.append(vec![tried(time(second)).ended(Outcome::Failed)]).await.unwrap();
    }
    // Decided late, by a clock that was set back.
    store.append(vec![tried(time(3)).ended(Outcome::Failed)]).await.unwrap();
    let head = store.head().await.unwrap();

    assert_eq!(store.remove_before(time(0), 100).await.unwrap(), Ok(0));
    assert_eq!(store.remove_before(time(7), 4).await.unwrap(), Ok(4));
    assert_eq!(store.inspect(Some(head)).await.unwrap(), Ok(head));
    assert_eq!(store.remove_before(time(7), 100).await.unwrap(), Ok(3));
    assert_eq!(store.remove_before(time(7), 100).await.unwrap(), Ok(0));
    assert_eq!(all(&*store).await.len(), 4);
    assert_eq!(store.inspect(Some(head)).await.unwrap(), Ok(head));

    assert_eq!(store.remove_before(time(100), 100).await.unwrap(), Ok(4));
    assert_eq!(store.head().await.unwrap(), head);
    assert_eq!(store.inspect(Some(head)).await.unwrap(), Ok(head));
    store.append(vec![tried(time(11)).ended(Outcome::Failed)]).await.unwrap();
    let next = store.head().await.unwrap();
    assert_eq!(next.number, 12);
    assert_eq!(store.inspect(Some(head)).await.unwrap(), Ok(next));

    let old = Link { number: 3, ..head };
    assert_eq!(store.inspect(Some(old)).await.unwrap(), Err(Tampering::HeadTooOld(11)));
    store.tamper("UPDATE audit_anchor SET number = 12; DELETE FROM audit_events");
    assert_eq!(store.inspect(None).await.unwrap(), Err(Tampering::ForgedAnchor));
    assert_eq!(store.remove_before(time(100), 100).await.unwrap(), Err(Tampering::ForgedAnchor));
}

#[tokio::test]
async fn an_event_that_was_made_to_look_old_is_not_removed_for_it() {
    let store = super::fresh();
    for second in 5..10 {
        store.append(vec![tried(time(second)).ended(Outcome::Failed)]).await.unwrap();
    }
    // Sealed by now: the law is about the chain.
    assert_eq!(store.head().await.unwrap().number, 5);
    store.tamper("UPDATE audit_events SET at = (SELECT min(at) FROM audit_events) WHERE number <= 3");

    assert_eq!(store.remove_before(time(6), 100).await.unwrap(), Err(Tampering::Altered(2)));

    assert_eq!(all(&*store).await.len(), 5);
    assert_eq!(store.inspect(None).await.unwrap(), Err(Tampering::Altered(2)));
}

#[tokio::test]
async fn a_store_that_is_taken_away_keeps_nothing_and_says_so() {
    let store = super::fresh();
    let event = tried(time(0)).ended(Outcome::Failed);
    store.append(vec![event.clone()]).await.unwrap();

    store.take_away();
    let kept = store.append(vec![event.clone()]).await;
    let inserted = store.insert(person("ann"), tried(time(1))).await;
    store.bring_back();

    assert!(matches!(kept, Err(PortError::Unavailable(_))));
    assert!(matches!(inserted, Err(PortError::Unavailable(_))));
    assert_eq!(store.head().await.unwrap().number, 1);
    store.append(vec![event]).await.unwrap();
    assert!(store.inspect(None).await.unwrap().is_ok());
}

async fn all(store: &impl AuditLog) -> Vec<AuditEntry> {
    let listed = store.list_events(AuditQuery::default(), 0, u32::MAX).await.unwrap();
    listed.into_iter().map(|listed| listed.entry).collect()
}

async fn logged_in<S: UserRepo + SessionRepo>(store: &S, name: &str, number: i64) -> User {
    let user = sign_up(store, name, tried(time(0))).await;
    let opened = store.open(login(user.id, number, 0), tried(time(0))).await.unwrap();
    assert!(matches!(opened, Opening::Done(_)));
    user
}

async fn sign_up(store: &impl UserRepo, text: &str, attempt: Attempt) -> User {
    match store.insert(person(text), attempt).await.unwrap() {
        Insertion::Done(user) => user,
        Insertion::UsernameTaken => panic!("{text} is taken"),
    }
}

fn login(user: UserId, number: i64, credentials_epoch: i64) -> NewSession {
    let at = time(0);
    let ends_at = RULES.end(at);
    NewSession {
        id: id(number),
        user,
        credentials_epoch,
        nonce: Nonce([7; 16]),
        at,
        expires_at: RULES.expiry(at, ends_at),
        ends_at,
        address: Some(Ipv4Addr::LOCALHOST.into()),
        user_agent: None,
        compared: None,
    }
}

fn shown(session: i64, number: i64, second: i64) -> Shown {
    let generation = Generation::new(number).unwrap();
    Shown { session: id(session), generation, at: time(second), rules: RULES }
}

fn id(number: i64) -> SessionId {
    SessionId::from_bytes(i128::from(number).to_be_bytes())
}

fn person(text: &str) -> NewUser {
    NewUser { name: name(text), password_hash: hash("kept"), at: time(0) }
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

const RULES: SessionRules = SessionRules {
    idle_ttl: Duration::from_hours(14 * 24),
    absolute_ttl: Duration::from_hours(90 * 24),
    grace: Duration::from_secs(10),
};
