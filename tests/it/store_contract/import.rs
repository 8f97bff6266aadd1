use std::collections::BTreeSet;
use std::time::Duration;

use domain::ports::{AuditLog, AuditQuery, Change, Insertion, NewUser, PortError, UserRepo};
use domain::{
    Account, Action, Conflict, Importation, ImportedUser, PasswordHash, Subject, User, UserId, Username,
    UsernameKey,
};
use futures_util::future::{join, join_all};
use jiff::Timestamp;

use crate::support::audit_fixtures::{tried, tried_to};

#[tokio::test]
async fn who_is_imported_is_here_as_they_were_elsewhere() {
    let store = super::fresh();
    let disabled = ImportedUser { disabled_at: Some(time(3)), ..coming("Zoé") };

    let outcomes = import(&*store, vec![coming("Ann"), disabled.clone()]).await;

    let [Importation::Done(ann), Importation::Done(zoe)] = outcomes[..] else { panic!("{outcomes:?}") };
    assert!(ann.0 > 0 && zoe > ann);
    for (id, user) in [(ann, coming("Ann")), (zoe, disabled)] {
        let ImportedUser { name, password_hash, created_at, updated_at, disabled_at, .. } = user;
        let user = User { id, name: name.clone(), created_at, updated_at };
        let expected = Account { user, password_hash, credentials_epoch: 0, disabled_at };
        assert_eq!(store.find(id).await.unwrap().as_ref(), Some(&expected));
        assert_eq!(store.find_by_name(name.key().clone()).await.unwrap(), Some(expected));
    }
}

#[tokio::test]
async fn an_import_of_nobody_changes_nothing() {
    let store = super::fresh();

    assert_eq!(import(&*store, Vec::new()).await, []);

    assert_eq!(store.last_number().await.unwrap(), UserId(0));
    assert_eq!(events(&*store).await, []);
}

#[tokio::test]
async fn who_is_there_already_stays_as_they_are() {
    let store = super::fresh();
    import(&*store, vec![coming("Ann")]).await;
    let set = store.set_password(key("ann"), hash("their new one"), tried(time(9))).await.unwrap();
    let Change::Done(ann) = set else { panic!("{set:?}") };

    let outcomes = import(&*store, vec![coming("bob"), coming("ANN"), coming("cleo")]).await;

    assert!(matches!(outcomes[..], [Importation::Done(_), Importation::AlreadyThere, Importation::Done(_)]));
    assert_eq!(store.find_by_name(key("ann")).await.unwrap(), Some(ann));
}

#[tokio::test]
async fn somebody_elses_name_is_refused_and_the_others_come_in() {
    let store = super::fresh();
    let ann = sign_up(&*store, "ann").await;

    let outcomes = import(&*store, vec![coming("bob"), coming("ANN"), coming("cleo")]).await;

    let taken = Importation::Refused(Conflict::UsernameTaken);
    assert!(
        matches!(outcomes[..], [Importation::Done(_), refused, Importation::Done(_)] if refused == taken)
    );
    assert_eq!(store.find_by_name(key("ann")).await.unwrap().unwrap().user, ann);
}

#[tokio::test]
async fn the_second_of_one_name_is_not_taken_for_the_first() {
    let store = super::fresh();
    let other = ImportedUser { created_at: time(8), ..coming("ann") };

    let outcomes = import(&*store, vec![coming("ann"), coming("ANN"), other]).await;

    let taken = Importation::Refused(Conflict::UsernameTaken);
    assert!(matches!(outcomes[..], [Importation::Done(_), Importation::AlreadyThere, last] if last == taken));
}

#[tokio::test]
async fn numbers_are_kept_and_later_ones_are_greater() {
    let store = super::fresh();
    sign_up(&*store, "first").await;
    let last = store.last_number().await.unwrap().0;

    let both = vec![numbered("ann", last + 1), numbered("bob", last + 1000), coming("cleo")];
    let outcomes = import(&*store, both).await;

    let kept = [last + 1, last + 1000].map(|id| Importation::Done(UserId(id)));
    let [ann, bob, Importation::Done(cleo)] = outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!([ann, bob], kept);
    assert!(cleo > UserId(last + 1000));
    assert_eq!(store.last_number().await.unwrap(), cleo);
    assert_eq!(
        import(&*store, vec![numbered("dan", cleo.0 + 5)]).await,
        [Importation::Done(UserId(cleo.0 + 5))]
    );
    assert_eq!(store.last_number().await.unwrap(), UserId(cleo.0 + 5));
    assert!(sign_up(&*store, "eve").await.id > UserId(cleo.0 + 5));
}

#[tokio::test]
async fn a_number_that_was_given_is_not_given_again_although_nobody_has_it() {
    let store = super::fresh();
    sign_up(&*store, "ann").await;
    let bob = sign_up(&*store, "bob").await.id;
    store.delete(key("bob"), tried(time(0))).await.unwrap();
    assert_eq!(store.last_number().await.unwrap(), bob);

    let outcomes =
        import(&*store, vec![numbered("cleo", bob.0 - 1), numbered("dan", bob.0), coming("eve")]).await;

    let given = Importation::Refused(Conflict::NumberGiven);
    assert!(
        matches!(outcomes[..], [one, other, Importation::Done(eve)] if one == given && other == given && eve > bob)
    );
    let number_of_eve = store.last_number().await.unwrap();
    assert_eq!(import(&*store, vec![numbered("cleo", number_of_eve.0)]).await, [given]);
}

#[tokio::test]
async fn who_is_there_already_has_the_number_that_was_kept_or_is_refused() {
    let store = super::fresh();
    import(&*store, vec![numbered("ann", 7)]).await;

    assert_eq!(import(&*store, vec![numbered("ann", 7)]).await, [Importation::AlreadyThere]);
    let outcomes = import(&*store, vec![numbered("ann", 8), numbered("bob", 9)]).await;

    assert_eq!(outcomes, [Importation::Refused(Conflict::OtherNumber), Importation::Done(UserId(9))]);
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_imported_and_gives_no_number_away() {
    let store = super::fresh();
    store.tamper("ALTER TABLE audit_events RENAME TO elsewhere");

    let failed = try_import(&*store, vec![numbered("ann", 7), numbered("bob", 9)]).await;

    assert!(failed.is_err());
    store.tamper("ALTER TABLE elsewhere RENAME TO audit_events");
    assert_eq!(store.last_number().await.unwrap(), UserId(0));
    assert_eq!(store.list(UserId(0), 9).await.unwrap(), []);
    assert_eq!(import(&*store, vec![numbered("ann", 7)]).await, [Importation::Done(UserId(7))]);
}

#[tokio::test]
async fn each_who_came_or_was_refused_is_an_event_and_who_was_there_is_none() {
    let store = super::fresh();
    sign_up(&*store, "taken").await;
    import(&*store, vec![coming("there")]).await;
    let before = events(&*store).await.len();

    let outcomes =
        import(&*store, vec![coming("ann"), coming("taken"), coming("there"), coming("bob")]).await;

    let number = |index: usize| match outcomes[index] {
        Importation::Done(id) => Some(id.0),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        events(&*store).await[before..],
        [
            ("import".to_owned(), "success".to_owned(), None, number(0)),
            ("import".to_owned(), "refused".to_owned(), Some("username_taken".to_owned()), None),
            ("import".to_owned(), "success".to_owned(), None, number(3)),
        ]
    );
    assert!(store.inspect(None).await.unwrap().is_ok());
}

#[tokio::test]
async fn of_two_imports_at_once_each_user_comes_by_one() {
    let store = super::fresh();
    let other = store.another();
    let all = |from: usize| (from..from + 300).map(|n| coming(&format!("user{n}"))).collect::<Vec<_>>();

    let (one, other) = join(import(&*store, all(0)), import(&*other, all(100))).await;

    let done = |outcome: &&Importation| matches!(outcome, Importation::Done(_));
    assert_eq!(one.iter().chain(&other).filter(done).count(), 400);
    assert!(one.iter().chain(&other).filter(|it| !done(it)).all(|it| *it == Importation::AlreadyThere));
}

#[tokio::test]
async fn sign_ups_while_numbers_are_kept_get_numbers_of_their_own() {
    let store = super::fresh();
    let other = store.another();
    let names: Vec<_> = (0..100).map(|n| format!("new{n}")).collect();
    let old = |from: i64| (from..from + 50).map(|id| numbered(&format!("old{id}"), id)).collect::<Vec<_>>();

    let imports = async { [import(&*store, old(20)).await, import(&*store, old(1000)).await].concat() };
    let (imported, signed_up) =
        join(imports, join_all(names.iter().map(|name| sign_up(&*other, name)))).await;

    let mut numbers: BTreeSet<_> = signed_up.iter().map(|user| user.id).collect();
    let kept: Vec<_> = imported
        .iter()
        .filter_map(|outcome| match outcome {
            Importation::Done(id) => Some(*id),
            Importation::Refused(Conflict::NumberGiven) => None,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kept.last(), Some(&UserId(1049)));
    let count = numbers.len() + kept.len();
    numbers.extend(&kept);
    assert_eq!((signed_up.len(), numbers.len()), (100, count));
    assert!(sign_up(&*store, "last").await.id > *numbers.last().unwrap());
}

#[tokio::test]
async fn accounts_are_found_by_many_names_at_once() {
    let store = super::fresh();
    let (ann, bob) = (sign_up(&*store, "ann").await, sign_up(&*store, "bob").await);

    let mut found = store.find_by_names(vec![key("bob"), key("nobody"), key("ann")]).await.unwrap();

    found.sort_by_key(|account| account.user.id);
    assert_eq!(found.into_iter().map(|account| account.user).collect::<Vec<_>>(), [ann, bob]);
    assert_eq!(store.find_by_names(Vec::new()).await.unwrap(), []);
    let many = (0..1000).map(|n| key(&format!("user{n}"))).collect();
    assert_eq!(store.find_by_names(many).await.unwrap(), []);
}

/// Somebody who comes without a number.
fn coming(text: &str) -> ImportedUser {
    ImportedUser {
        id: None,
        name: name(text),
        password_hash: hash(text),
        created_at: time(1),
        updated_at: time(2),
        disabled_at: None,
    }
}

fn numbered(text: &str, id: i64) -> ImportedUser {
    ImportedUser { id: Some(UserId(id)), ..coming(text) }
}

async fn try_import(store: &impl UserRepo, users: Vec<ImportedUser>) -> Result<Vec<Importation>, PortError> {
    store.import(users, tried_to(Action::Import, Subject::Unknown, time(5))).await
}

async fn import(store: &impl UserRepo, users: Vec<ImportedUser>) -> Vec<Importation> {
    try_import(store, users).await.unwrap()
}

async fn sign_up(store: &impl UserRepo, text: &str) -> User {
    let new = NewUser { name: name(text), password_hash: hash("other"), at: time(0) };
    match store.insert(new, tried(time(0))).await.unwrap() {
        Insertion::Done(user) => user,
        Insertion::UsernameTaken => panic!("{text} is taken"),
    }
}

/// Each event's kind, outcome, reason and user.
async fn events(store: &impl AuditLog) -> Vec<(String, String, Option<String>, Option<i64>)> {
    let listed = store.list_events(AuditQuery::default(), 0, 1000).await.unwrap();
    let entries = listed.into_iter().map(|event| event.entry);
    entries.map(|it| (it.event, it.outcome, it.reason, it.user.map(|id| id.0))).collect()
}

fn name(text: &str) -> Username {
    Username::parse(text).unwrap()
}

fn key(text: &str) -> UsernameKey {
    name(text).key().clone()
}

fn hash(text: &str) -> PasswordHash {
    PasswordHash::new(format!("{text}'s"))
}

/// A time with microseconds, so many hours after another.
fn time(hours: u64) -> Timestamp {
    "2026-11-22T12:00:00.123456Z".parse::<Timestamp>().unwrap() + Duration::from_hours(hours)
}
