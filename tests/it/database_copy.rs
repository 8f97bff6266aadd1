//! What holds for a copy of everything, whatever it is made from and into: a `source()` and a `target()`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use domain::ports::{
    AuditLog, AuditQuery, Change, ConfirmedChange, Contents, Ending, Insertion, KnownNetwork, NewSession,
    NewUser, Opening, PortError, Renaming, Rotation, SessionRepo, Shown, UserRepo,
};
use domain::{
    Account, Action, Attempt, ClientNetwork, EndCause, Generation, KeptSession, Kind, Lineage, Link, Nonce,
    Origin, Outcome, PasswordHash, Record, SealedEntry, Session, SessionId, SessionRules, Subject, User,
    UserAgent, UserId, Username, UsernameKey, carry_over,
};
use jiff::Timestamp;

use super::{source, target};
use crate::support::audit_fixtures::{audit_key, tried};

#[tokio::test]
async fn everything_is_the_same_after_a_copy_and_goes_on_from_there() {
    let (source, target) = (source(), target());
    let (ann, bob) = lived_in(&*source).await;
    let head = source.head().await.unwrap();

    copy(&*source, &*target).await;

    let there = kept(&*target).await;
    assert_eq!(there, kept(&*source).await);
    assert!(Kind::ALL.iter().all(|kind| there.keys().any(|key| key.0 == kind.to_string())), "{there:?}");
    assert_eq!(target.inspect(Some(head)).await.unwrap(), Ok(head));
    assert_eq!(target.find(bob.id).await.unwrap(), source.find(bob.id).await.unwrap());
    let shown = Shown { session: id(1), generation: Generation::FIRST.next(), at: time(60), rules: RULES };
    assert!(matches!(target.rotate(shown, attempt(ann.id, 60)).await.unwrap(), Rotation::Rotated(_)));
    let newcomer = sign_up(&*target, "newcomer").await;
    assert_eq!(newcomer.id, UserId(bob.id.0 + 2), "the number of whoever was deleted is not given again");
    let longer = target.inspect(Some(head)).await.unwrap().unwrap();
    assert!(longer.number > head.number);
}

#[tokio::test]
async fn more_than_fits_on_a_page_arrives_whole() {
    let (source, target) = (source(), target());
    fill(&*source, crowd(2500)).await;

    copy(&*source, &*target).await;

    let there = kept(&*target).await;
    assert_eq!(there.len(), crowd(2500).len());
    assert_eq!(there, kept(&*source).await);
}

#[tokio::test]
async fn an_empty_store_is_copied_too() {
    let (source, target) = (source(), target());

    copy(&*source, &*target).await;

    assert!(kept(&*target).await.is_empty());
    assert_eq!(sign_up(&*target, "ann").await.id, UserId(1));
}

#[tokio::test]
async fn a_store_that_keeps_anything_takes_nothing_in() {
    let with_a_user = target();
    sign_up(&*with_a_user, "ann").await;
    let with_an_event = target();
    with_an_event.append(vec![attempt(UserId(1), 0).ended(Outcome::Success)]).await.unwrap();
    let with_the_event_of_a_deletion = target();
    sign_up(&*with_the_event_of_a_deletion, "ann").await;
    with_the_event_of_a_deletion.delete(key("ann"), tried(time(1))).await.unwrap();
    with_the_event_of_a_deletion.head().await.unwrap();
    with_the_event_of_a_deletion.remove_before(time(9), 99).await.unwrap().unwrap();

    for store in [with_a_user, with_an_event, with_the_event_of_a_deletion] {
        assert!(store.intake().await.unwrap().is_none());
        // And lets go of whatever it had to lock.
        sign_up(&*store, "bob").await;
    }
}

#[tokio::test]
async fn what_is_not_committed_leaves_nothing() {
    let target = target();

    let mut intake = target.intake().await.unwrap().unwrap();
    intake.write(crowd(2)).await.unwrap();
    assert_eq!(intake.count(Kind::Users).await.unwrap(), 2);
    drop(intake);

    assert!(kept(&*target).await.is_empty());
    fill(&*target, crowd(3)).await;
    assert_eq!(sign_up(&*target, "newcomer").await.id, UserId(5));
}

#[tokio::test]
async fn what_cannot_be_written_undoes_what_was() {
    let target = target();
    let mut intake = target.intake().await.unwrap().unwrap();
    intake.write(crowd(2)).await.unwrap();

    let stranger = KeptSession { session: session(99, 1), end_cause: None };
    assert!(intake.write(vec![Record::Session(stranger)]).await.is_err());
    assert!(matches!(intake.write(crowd(2)).await, Err(PortError::Unavailable(_))));
    assert!(intake.commit().await.is_err());

    assert!(target.intake().await.unwrap().is_some());
}

#[tokio::test]
async fn copy_made_while_events_are_blanked_blanks_the_rest() {
    let (source, target) = (source(), target());
    let ann = sign_up(&*source, "ann").await;
    let refused = || attempt(ann.id, 1).ended(Outcome::Refused("told"));
    source.append((0..700).map(|_| refused()).collect()).await.unwrap();
    let deletion = Attempt { action: Action::Delete, ..attempt(ann.id, 2) };
    assert!(matches!(source.delete(key("ann"), deletion).await.unwrap(), Change::Done(_)));

    source.head().await.unwrap();
    copy(&*source, &*target).await;

    let left = async || {
        let listed = target.list_events(AuditQuery::default(), 0, u32::MAX).await.unwrap();
        listed.iter().filter(|it| it.entry.user == Some(ann.id) && it.entry.client.is_some()).count()
    };
    assert!(left().await > 0);
    while target.blank_deleted(100).await.unwrap() {}
    assert_eq!(left().await, 0);
    assert!(target.inspect(None).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_view_shows_what_was_answered_before_and_nothing_later_and_tells_that_there_was_something() {
    let source = source();
    sign_up(&*source, "ann").await;
    let elsewhere = source.another();

    let mut view = source.snapshot().await.unwrap();
    sign_up(&*elsewhere, "bob").await;
    assert_eq!(view.count(Kind::Users).await.unwrap(), 1);
    assert_eq!(view.page(Kind::Users, None).await.unwrap().len(), 1);
    assert_eq!(view.count(Kind::AuditEvents).await.unwrap(), 1);
    assert!(view.end().await.unwrap());

    let mut view = source.snapshot().await.unwrap();
    assert_eq!(view.count(Kind::Users).await.unwrap(), 2);
    assert!(!view.end().await.unwrap());
}

/// A store where much has happened: ann has four sessions, one of them refreshed and one ended, bob has another name and
/// another password and is shut out, eve is gone, and so are the oldest events.
async fn lived_in<S: UserRepo + SessionRepo + AuditLog>(store: &S) -> (User, User) {
    let ann = sign_up(store, "Ann").await;
    for (session, address) in [(1, "192.0.2.7"), (2, "2001:db8::7"), (3, "192.0.2.10"), (4, "::1")] {
        open(store, NewSession { address: Some(address.parse().unwrap()), ..login(ann.id, session) }).await;
    }
    let shown = Shown { session: id(1), generation: Generation::FIRST, at: time(30), rules: RULES };
    assert!(matches!(store.rotate(shown, attempt(ann.id, 30)).await.unwrap(), Rotation::Rotated(_)));
    let ended = store.end(id(2), ann.id, EndCause::LoggedOut, attempt(ann.id, 31)).await.unwrap();
    assert_eq!(ended, Ending::Done);
    let bob = sign_up(store, "bob").await;
    let renamed = store.rename(bob.id, 0, name("Zo\u{e9}.Bob"), attempt(bob.id, 32)).await.unwrap();
    assert!(matches!(renamed, Renaming::Done { .. }));
    let login = NewSession { address: None, user_agent: None, ..login(bob.id, 5) };
    let changed = store.change_password(hash("changed"), login, attempt(bob.id, 33)).await.unwrap();
    assert!(matches!(changed, ConfirmedChange::Done(_)));
    let eve = sign_up(store, "eve").await;
    let gone = store.delete(key("eve"), attempt(eve.id, 35)).await.unwrap();
    assert!(matches!(gone, Change::Done(_)));
    let disabled = store.disable(key("Zo\u{e9}.Bob"), attempt(bob.id, 36)).await.unwrap();
    assert!(matches!(disabled, Change::Done(_)));
    store.head().await.unwrap();
    assert!(store.remove_before(time(30), 2).await.unwrap().unwrap() > 0);
    (ann, bob)
}

/// So many users, each with a session, two networks and an event.
fn crowd(size: i64) -> Vec<Record> {
    let mut last = Link::NONE;
    let mut event = |number: i64| {
        let entry = audit_key().entry(&attempt(UserId(number), number).ended(Outcome::Success));
        last = audit_key().seal(&entry, last);
        Record::AuditEvent(SealedEntry { entry, link: last })
    };
    let mut records: Vec<Record> = (1..=size).map(|number| Record::User(account(number))).collect();
    records
        .extend((1..=size).map(|number| {
            Record::Session(KeptSession { session: session(number, number), end_cause: None })
        }));
    records.extend((1..=size).flat_map(|number| {
        ["192.0.2.7", "2001:db8::"]
            .map(|address| Record::KnownNetwork(UserId(number), network(address, number)))
    }));
    records.extend((1..=size).map(&mut event));
    records.push(Record::LastNumber(UserId(size + 1)));
    records
}

fn account(number: i64) -> Account {
    Account {
        user: User {
            id: UserId(number),
            name: name(&format!("somebody-{number}")),
            created_at: time(number),
            updated_at: time(number),
        },
        password_hash: hash("kept"),
        credentials_epoch: number,
        disabled_at: (number % 2 == 0).then(|| time(number)),
    }
}

fn session(owner: i64, number: i64) -> Session {
    let NewSession { id, user, nonce, at, expires_at, ends_at, address, user_agent, .. } =
        login(UserId(owner), number);
    let lineage = Lineage { superseded: vec![time(1), time(2)], ..Lineage::new() };
    Session {
        id,
        user,
        nonce,
        lineage,
        created_at: at,
        last_used_at: at,
        expires_at,
        ends_at,
        ended_at: None,
        address,
        user_agent,
    }
}

fn network(address: &str, second: i64) -> KnownNetwork {
    let address: IpAddr = address.parse().unwrap();
    KnownNetwork { network: ClientNetwork::of(address), last_login_at: time(second) }
}

async fn copy(source: &impl Contents, target: &impl Contents) {
    let mut view = source.snapshot().await.unwrap();
    let intake = target.intake().await.unwrap().unwrap();
    carry_over(&mut *view, intake, &mut |_| ()).await.unwrap();
    assert!(!view.end().await.unwrap());
}

async fn fill(store: &impl Contents, records: Vec<Record>) {
    let mut intake = store.intake().await.unwrap().unwrap();
    for some in records.chunk_by(|one, next| std::mem::discriminant(one) == std::mem::discriminant(next)) {
        for page in some.chunks(1000) {
            intake.write(page.to_vec()).await.unwrap();
        }
    }
    intake.commit().await.unwrap();
}

/// All records, by their kinds and by what tells them apart within these.
async fn kept(store: &impl Contents) -> BTreeMap<(String, String), Record> {
    let mut view = store.snapshot().await.unwrap();
    let mut all = BTreeMap::new();
    for kind in Kind::ALL {
        let (mut last, mut count) = (None, 0);
        loop {
            let page = view.page(kind, last).await.unwrap();
            last = page.last().cloned();
            if page.is_empty() {
                break;
            }
            for record in page {
                count += 1;
                let again = all.insert((kind.to_string(), key_of(&record)), record);
                assert_eq!(again, None, "a record comes once");
            }
        }
        assert_eq!(view.count(kind).await.unwrap(), count);
    }
    all
}

fn key_of(record: &Record) -> String {
    match record {
        Record::User(account) => account.user.id.to_string(),
        Record::Session(kept) => kept.session.id.to_string(),
        Record::KnownNetwork(owner, known) => format!("{owner} {}", known.network.first_address()),
        Record::AuditEvent(sealed) => sealed.link.number.to_string(),
        Record::AuditAnchor(_) | Record::LastNumber(_) => String::new(),
    }
}

async fn sign_up(store: &impl UserRepo, text: &str) -> User {
    let new = NewUser { name: name(text), password_hash: hash("kept"), at: time(0) };
    match store.insert(new, tried(time(0))).await.unwrap() {
        Insertion::Done(user) => user,
        Insertion::UsernameTaken => panic!("{text} is taken"),
    }
}

async fn open(store: &impl SessionRepo, new: NewSession) {
    let opened = store.open(new.clone(), attempt(new.user, 1)).await.unwrap();
    assert!(matches!(opened, Opening::Done(_)));
}

fn login(user: UserId, number: i64) -> NewSession {
    let at = time(1);
    let ends_at = RULES.end(at);
    NewSession {
        id: id(number),
        user,
        credentials_epoch: 0,
        nonce: Nonce([7; 16]),
        at,
        expires_at: RULES.expiry(at, ends_at),
        ends_at,
        address: Some([192, 0, 2, 1].into()),
        user_agent: UserAgent::from_header("Mozilla/5.0 (\u{1f600})"),
        compared: None,
    }
}

/// An attempt from somewhere, with something.
fn attempt(user: UserId, second: i64) -> Attempt {
    let origin = Origin::Request {
        address: "2001:db8::1:0:0:1".parse().unwrap(),
        request_id: format!("r-{second}"),
        user_agent: UserAgent::from_header("curl/8"),
    };
    Attempt { action: Action::LogIn, subject: Subject::User(user), origin, at: time(second), salt: [9; 16] }
}

fn id(number: i64) -> SessionId {
    // The last byte first, so that the order of identifiers is not that of numbers.
    SessionId::from_bytes(i128::from(number).to_le_bytes())
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

/// With microseconds, and one of them odd.
fn time(second: i64) -> Timestamp {
    Timestamp::from_microsecond((1_800_000_000 + second) * 1_000_000 + 123_457).unwrap()
}

const RULES: SessionRules = SessionRules {
    idle_ttl: Duration::from_hours(14 * 24),
    absolute_ttl: Duration::from_hours(90 * 24),
    grace: Duration::from_secs(10),
};
