mod changes;
mod self_service;

use std::net::Ipv4Addr;

use domain::ports::{
    Change, ConfirmedChange, Insertion, NewSession, NewUser, Opening, PortError, Renaming, SessionRepo,
    UserRepo,
};
use domain::{Account, Nonce, PasswordHash, Session, SessionId, User, UserId, Username, UsernameKey};
use futures_util::FutureExt;
use futures_util::future::join_all;
use jiff::Timestamp;

use crate::support::audit_fixtures::tried;

#[tokio::test]
async fn a_new_user_is_found_by_number_and_by_name() {
    let store = super::fresh();

    let user = insert(&*store, "Ann").await;

    let account =
        Account { user: user.clone(), password_hash: hash("Ann's"), credentials_epoch: 0, disabled_at: None };
    assert_eq!(user.name, name("Ann"));
    assert_eq!((user.created_at, user.updated_at), (time(0), time(0)));
    assert_eq!(store.find(user.id).await.unwrap().as_ref(), Some(&account));
    assert_eq!(store.find_by_name(key("ann")).await.unwrap(), Some(account));
}

#[tokio::test]
async fn nobody_is_found_where_nobody_is() {
    let store = super::fresh();
    let ann = insert(&*store, "ann").await;

    for id in [i64::MIN, -1, 0, ann.id.0 + 1, i64::MAX] {
        assert_eq!(store.find(UserId(id)).await.unwrap(), None, "{id}");
    }
    for other in ["an_", "ann2", "bob"] {
        assert_eq!(store.find_by_name(key(other)).await.unwrap(), None, "{other}");
    }
}

#[tokio::test]
async fn a_taken_name_is_taken_in_every_spelling() {
    let store = super::fresh();
    let zoe = insert(&*store, "Zo\u{e9}").await;

    for spelling in ["Zo\u{e9}", "zo\u{e9}", "ZOE\u{301}", "Ｚｏ\u{e9}"] {
        assert_eq!(
            store.insert(person(spelling), tried(time(0))).await.unwrap(),
            Insertion::UsernameTaken,
            "{spelling}"
        );
    }

    assert_eq!(account(&*store, "zo\u{e9}").await.user, zoe);
}

#[tokio::test]
async fn names_that_differ_are_different_however_alike() {
    let store = super::fresh();

    for one in ["a_b", "axb", "a-b", "a.b", "a+b", "aab", "zoe", "zo\u{e9}", "stra\u{df}e", "strasse"] {
        assert!(
            matches!(store.insert(person(one), tried(time(0))).await.unwrap(), Insertion::Done(_)),
            "{one}"
        );
    }
}

#[tokio::test]
async fn of_ten_people_racing_for_one_name_one_gets_in() {
    let store = super::fresh();

    let answers = join_all((0..10).map(|_| store.insert(person("ann"), tried(time(0))))).await;

    assert_eq!(one_got_in(answers), account(&*store, "ann").await.user);
}

#[tokio::test]
async fn of_fifty_people_racing_for_one_name_at_two_stores_one_gets_in() {
    let store = super::fresh();
    let other = store.another();

    let spellings = ["ann", "Ann", "ANN", "aNN", "ａｎｎ"];
    let answers = join_all((0..50).map(|n| {
        let store = if n % 2 == 0 { &store } else { &other };
        store.insert(person(spellings[n % spellings.len()]), tried(time(0)))
    }))
    .await;

    assert_eq!(one_got_in(answers), account(&*store, "ann").await.user);
}

#[tokio::test]
async fn everybody_with_a_name_of_their_own_gets_in_at_once() {
    let store = super::fresh();
    let other = store.another();
    let names: Vec<String> = (0..100).map(|n| format!("user{n}")).collect();

    let answers = join_all(names.iter().enumerate().map(|(n, name)| {
        let store = if n % 2 == 0 { &store } else { &other };
        store.insert(person(name), tried(time(0)))
    }))
    .await;

    assert!(answers.iter().all(|answer| matches!(answer, Ok(Insertion::Done(_)))));
    let mut listed: Vec<String> =
        all(&*store).await.iter().map(|it| it.user.name.as_typed().to_owned()).collect();
    listed.sort();
    let mut names = names;
    names.sort();
    assert_eq!(listed, names);
}

#[tokio::test]
async fn what_one_store_answered_another_sees_at_once() {
    let store = super::fresh();
    let other = store.another();

    for n in 0..20 {
        let user = insert(&*store, &format!("user{n}")).await;
        assert_eq!(other.find(user.id).await.unwrap().map(|it| it.user), Some(user));
    }
}

#[tokio::test]
async fn text_comes_back_letter_for_letter() {
    let store = super::fresh();

    for (n, text) in ["'; DROP TABLE users; --", "%", "_", "\\", "\"", "\u{1f600}", "a\u{301}", " x ", "?1"]
        .into_iter()
        .enumerate()
    {
        let name = Username::from_stored(text.to_owned(), format!("{n}{text}"));
        let new = NewUser { name: name.clone(), password_hash: hash(text), at: time(0) };
        assert!(matches!(store.insert(new, tried(time(0))).await.unwrap(), Insertion::Done(_)), "{text:?}");

        let kept = store.find_by_name(name.key().clone()).await.unwrap().unwrap();
        assert_eq!((kept.user.name, kept.password_hash), (name, hash(text)));
    }
}

#[tokio::test]
async fn times_come_back_to_the_microsecond() {
    let store = super::fresh();

    for (n, text) in
        ["1969-12-31T23:59:59.999999Z", "2026-11-22T12:00:00.000001Z", "9999-12-29T23:59:59.123456Z"]
            .into_iter()
            .enumerate()
    {
        let at: Timestamp = text.parse().unwrap();
        let new = NewUser { at, ..person(&format!("user{n}")) };
        let Insertion::Done(user) = store.insert(new, tried(time(0))).await.unwrap() else { panic!("taken") };
        assert_eq!((user.created_at, user.updated_at), (at, at));
        assert_eq!(store.find(user.id).await.unwrap().unwrap().user, user);
    }
}

#[tokio::test]
async fn a_list_goes_by_number_and_page() {
    let store = super::fresh();
    for one in ["mia", "zoe", "ann", "bob", "eve"] {
        insert(&*store, one).await;
    }
    store.disable(key("ann"), tried(time(1))).await.unwrap();

    let first = store.list(UserId(0), 2).await.unwrap();
    let second = store.list(first[1].user.id, 2).await.unwrap();
    let third = store.list(second[1].user.id, 2).await.unwrap();
    let fourth = store.list(third[0].user.id, 2).await.unwrap();

    let names =
        |page: &[Account]| page.iter().map(|it| it.user.name.as_typed().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&first), ["mia", "zoe"]);
    assert_eq!(names(&second), ["ann", "bob"]);
    assert_eq!(names(&third), ["eve"]);
    assert_eq!(fourth, []);
    assert_eq!(second[0], account(&*store, "ann").await);
}

#[tokio::test]
async fn a_list_has_no_more_than_its_limit_and_all_within_it() {
    let store = super::fresh();
    for one in ["ann", "bob"] {
        insert(&*store, one).await;
    }

    assert_eq!(store.list(UserId(0), 0).await.unwrap(), []);
    assert_eq!(store.list(UserId(i64::MIN), u32::MAX).await.unwrap().len(), 2);
    assert_eq!(store.list(UserId(i64::MAX), u32::MAX).await.unwrap(), []);
}

#[tokio::test]
async fn a_rehash_changes_the_hash_and_nothing_else() {
    let store = super::fresh();
    let user = insert(&*store, "ann").await;
    insert(&*store, "bob").await;
    let (ann, bob) = (account(&*store, "ann").await, account(&*store, "bob").await);

    store.rehash(user.id, hash("ann's"), hash("stronger")).await.unwrap();

    assert_eq!(account(&*store, "ann").await, Account { password_hash: hash("stronger"), ..ann });
    assert_eq!(account(&*store, "bob").await, bob);
}

#[tokio::test]
async fn a_rehash_of_a_hash_that_is_gone_does_nothing() {
    let store = super::fresh();
    let user = insert(&*store, "ann").await;
    store.set_password(key("ann"), hash("changed"), tried(time(1))).await.unwrap();
    let before = account(&*store, "ann").await;

    store.rehash(user.id, hash("ann's"), hash("stronger")).await.unwrap();
    store.rehash(UserId(user.id.0 + 1), hash("changed"), hash("stronger")).await.unwrap();

    assert_eq!(all(&*store).await, [before]);
}

#[tokio::test]
async fn of_two_rehashes_and_a_change_of_password_the_change_remains() {
    let store = super::fresh();
    let other = store.another();

    for n in 0..20 {
        let name = format!("user{n}");
        let id = insert(&*store, &name).await.id;
        let old = hash(&format!("{name}'s"));
        let (first, change, second) = tokio::join!(
            store.rehash(id, old.clone(), hash("stronger")),
            other.set_password(key(&name), hash("changed"), tried(time(1))),
            other.rehash(id, old, hash("strongest")),
        );
        first.and(second).unwrap();
        change.unwrap();
        assert_eq!(account(&*store, &name).await.password_hash, hash("changed"));
    }
}

#[tokio::test]
async fn callers_who_leave_hold_nothing_up() {
    let store = super::fresh();
    let other = store.another();
    insert(&*store, "ann").await;

    for round in 0..10 {
        for n in 0..50 {
            // Each is polled once, and dropped without its answer.
            let name = format!("user{round}.{n}");
            let _ = store.insert(person(&name), tried(time(0))).now_or_never();
            let _ = store.find_by_name(key("ann")).now_or_never();
            let _ = store.set_password(key("ann"), hash(&name), tried(time(n))).now_or_never();
            let _ = store.list(UserId(0), 10).now_or_never();
        }
        let stayed = insert(&*store, &format!("stayed{round}")).await;
        assert_eq!(other.find(stayed.id).await.unwrap().map(|it| it.user), Some(stayed));
    }
}

#[tokio::test]
async fn a_store_that_is_taken_away_is_unavailable_and_has_lost_nothing_when_it_is_back() {
    let store = super::fresh();
    insert(&*store, "ann").await;
    let before = all(&*store).await;

    store.take_away();
    let write = store.insert(person("bob"), tried(time(0))).await;
    let read = store.find_by_name(key("ann")).await;
    store.bring_back();

    assert!(matches!(write, Err(PortError::Unavailable(_))));
    assert!(matches!(read, Err(PortError::Unavailable(_))));
    assert_eq!(all(&*store).await, before);
    insert(&*store, "bob").await;
}

fn one_got_in(answers: Vec<Result<Insertion, PortError>>) -> User {
    let mut got_in = Vec::new();
    for answer in answers {
        if let Insertion::Done(user) = answer.unwrap() {
            got_in.push(user);
        }
    }
    assert_eq!(got_in.len(), 1);
    got_in.remove(0)
}

fn done(change: Change) -> Account {
    match change {
        Change::Done(account) => account,
        Change::UnknownUser => panic!("nobody has that name"),
    }
}

async fn insert(store: &impl UserRepo, text: &str) -> User {
    match store.insert(person(text), tried(time(0))).await.unwrap() {
        Insertion::Done(user) => user,
        Insertion::UsernameTaken => panic!("{text} is taken"),
    }
}

async fn account(store: &impl UserRepo, text: &str) -> Account {
    store.find_by_name(key(text)).await.unwrap().unwrap()
}

async fn all(store: &impl UserRepo) -> Vec<Account> {
    store.list(UserId(0), u32::MAX).await.unwrap()
}

async fn open(store: &impl SessionRepo, new: NewSession) {
    assert!(matches!(store.open(new, tried(time(0))).await.unwrap(), Opening::Done(_)));
}

async fn live(store: &impl SessionRepo, owner: UserId) -> Vec<SessionId> {
    let sessions = store.live_sessions(owner, time(10)).await.unwrap();
    sessions.into_iter().map(|Session { id, .. }| id).collect()
}

fn login(user: UserId, number: u64, second: i64) -> NewSession {
    NewSession {
        id: id(number),
        user,
        credentials_epoch: 0,
        nonce: Nonce([7; 16]),
        at: time(second),
        expires_at: time(1000),
        ends_at: time(1000),
        address: Some(Ipv4Addr::LOCALHOST.into()),
        user_agent: None,
        compared: None,
    }
}

fn id(number: u64) -> SessionId {
    SessionId::from_bytes(u128::from(number).to_be_bytes())
}

fn person(text: &str) -> NewUser {
    NewUser { name: name(text), password_hash: hash(&format!("{text}'s")), at: time(0) }
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
