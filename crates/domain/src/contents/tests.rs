use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::*;
use crate::ports::Records;
use crate::testing::{ann, attempt, noon, session};
use crate::{AuditKey, ClientNetwork, Link, Outcome, Seal};

/// A store in memory, whose pages have two records.
#[derive(Clone, Default)]
struct Shelf {
    records: Vec<Record>,
    /// What becomes of a record that is written.
    spoil: Option<fn(Record) -> Option<Record>>,
    kept: Arc<Mutex<Option<Vec<Record>>>>,
}

impl Shelf {
    fn of(&self, kind: Kind) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(move |record| kind_of(record) == kind)
    }
}

#[async_trait]
impl Records for Shelf {
    async fn count(&mut self, kind: Kind) -> Result<u64, PortError> {
        Ok(self.of(kind).count() as u64)
    }

    async fn page(&mut self, kind: Kind, after: Option<Record>) -> Result<Vec<Record>, PortError> {
        let begin = match after {
            Some(after) => self.of(kind).position(|record| *record == after).unwrap() + 1,
            None => 0,
        };
        Ok(self.of(kind).skip(begin).take(2).cloned().collect())
    }
}

#[async_trait]
impl Snapshot for Shelf {
    async fn end(self: Box<Self>) -> Result<bool, PortError> {
        Ok(true)
    }
}

#[async_trait]
impl Intake for Shelf {
    async fn write(&mut self, records: Vec<Record>) -> Result<(), PortError> {
        let spoil = self.spoil.unwrap_or(Some);
        // Another database sorts otherwise.
        records.into_iter().filter_map(spoil).for_each(|record| self.records.insert(0, record));
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<(), PortError> {
        *self.kept.lock().unwrap() = Some(self.records);
        Ok(())
    }
}

fn kind_of(record: &Record) -> Kind {
    match record {
        Record::User(_) => Kind::Users,
        Record::Session(_) => Kind::Sessions,
        Record::KnownNetwork(..) => Kind::KnownNetworks,
        Record::AuditEvent(_) => Kind::AuditEvents,
        Record::AuditAnchor(_) => Kind::AuditAnchor,
        Record::LastNumber(_) => Kind::LastNumber,
    }
}

fn user(number: i64) -> Record {
    let mut account = ann();
    account.user.id = UserId(number);
    Record::User(account)
}

fn event() -> SealedEntry {
    let entry = AuditKey::new(b"a secret of the tests").entry(&attempt().ended(Outcome::Success));
    SealedEntry { entry, link: Link { number: 1, seal: Seal([1; 32]) } }
}

fn network() -> KnownNetwork {
    KnownNetwork { network: ClientNetwork::LOCALHOST, last_login_at: noon() }
}

/// One of each kind, and five users.
fn everything() -> Vec<Record> {
    let anchor = Anchor { link: Link { number: 1, seal: Seal([1; 32]) }, proof: Seal([2; 32]) };
    let mut records: Vec<Record> = (1..=5).map(user).collect();
    records.extend([
        Record::Session(KeptSession { session: session(), end_cause: None }),
        Record::KnownNetwork(UserId(1), network()),
        Record::AuditEvent(event()),
        Record::AuditAnchor(anchor),
        Record::LastNumber(UserId(9)),
    ]);
    records
}

fn checksum_of(records: &[Record]) -> Checksum {
    let mut checksum = Checksum::default();
    checksum.add(records);
    checksum
}

#[tokio::test]
async fn everything_arrives_and_is_told_by_kind() {
    let mut source = Shelf { records: everything(), ..Shelf::default() };
    let target = Shelf::default();
    let kept = target.kept.clone();
    let mut seen = Vec::new();

    let told = carry_over(&mut source, Box::new(target), &mut |progress| seen.push(progress)).await.unwrap();

    let mut arrived = kept.lock().unwrap().take().unwrap();
    arrived.reverse();
    assert_eq!(arrived, everything());
    let counts: Vec<_> = told.iter().map(|(kind, checksum)| (*kind, checksum.records)).collect();
    let expected = Kind::ALL.map(|kind| (kind, if kind == Kind::Users { 5 } else { 1 }));
    assert_eq!(counts, expected);
    assert_eq!(seen.last(), Some(&Progress { done: 20, of: 20 }));
    assert!(seen.is_sorted_by_key(|progress| progress.done));
}

#[tokio::test]
async fn nothing_is_kept_of_a_copy_that_lost_something_or_has_something_else() {
    let lose: fn(Record) -> Option<Record> = |record| (record != user(3)).then_some(record);
    let change: fn(Record) -> Option<Record> =
        |record| Some(if record == user(3) { user(6) } else { record });
    for (spoil, there) in [(lose, 4), (change, 5)] {
        let mut source = Shelf { records: everything(), ..Shelf::default() };
        let target = Shelf { spoil: Some(spoil), ..Shelf::default() };
        let kept = target.kept.clone();

        let refused = carry_over(&mut source, Box::new(target), &mut |_| ()).await.unwrap_err();

        let CarryOverError::Differs { kind: Kind::Users, read, written } = refused else {
            panic!("{refused:?}")
        };
        assert_eq!((read.records, written.records), (5, there));
        assert_eq!(*kept.lock().unwrap(), None);
    }
}

#[test]
fn a_checksum_takes_records_in_any_order_and_each_for_itself() {
    let records = everything();
    let mut reversed = records.clone();
    reversed.reverse();

    assert_eq!(checksum_of(&records), checksum_of(&reversed));
    for left_out in 0..records.len() {
        let mut others = records.clone();
        others[left_out] = user(99);
        assert_ne!(checksum_of(&others), checksum_of(&records));
        others[left_out] = records[(left_out + 1) % records.len()].clone();
        assert_ne!(checksum_of(&others), checksum_of(&records));
    }
}

#[test]
fn a_checksum_is_another_one_whatever_changes_in_a_record() {
    let later = noon() + std::time::Duration::from_micros(1);
    let of_session = |change: &dyn Fn(&mut KeptSession)| {
        let mut kept = KeptSession { session: session(), end_cause: None };
        change(&mut kept);
        Record::Session(kept)
    };
    let of_user = |change: &dyn Fn(&mut Account)| {
        let mut account = ann();
        change(&mut account);
        Record::User(account)
    };
    let of_event = |change: &dyn Fn(&mut SealedEntry)| {
        let mut event = event();
        change(&mut event);
        Record::AuditEvent(event)
    };
    let of_client = |change: &dyn Fn(&mut crate::AuditedClient)| {
        of_event(&|it| change(it.entry.client.as_mut().unwrap()))
    };
    let agent = || UserAgent::from_header("curl/8");

    let all = [
        of_user(&|_| ()),
        of_user(&|it| it.user.id = UserId(8)),
        of_user(&|it| it.user.name = crate::testing::username("ANN")),
        of_user(&|it| it.password_hash = crate::testing::hash("other")),
        of_user(&|it| it.credentials_epoch = 4),
        of_user(&|it| it.disabled_at = Some(noon())),
        of_user(&|it| it.user.created_at = later),
        of_user(&|it| it.user.updated_at = later),
        of_session(&|_| ()),
        of_session(&|it| it.session.id = crate::SessionId::from_bytes([1; 16])),
        of_session(&|it| it.session.user = UserId(99)),
        of_session(&|it| it.session.nonce = crate::Nonce([99; 16])),
        of_session(&|it| it.session.lineage.generation = crate::Generation::new(99).unwrap()),
        of_session(&|it| it.session.lineage.superseded.push(noon())),
        of_session(&|it| it.session.lineage.seen ^= true),
        of_session(&|it| it.session.lineage.recoveries.push(noon())),
        of_session(&|it| it.session.created_at = later),
        of_session(&|it| it.session.last_used_at = later),
        of_session(&|it| it.session.expires_at = later),
        of_session(&|it| it.session.ends_at = later),
        of_session(&|it| it.session.ended_at = Some(later)),
        of_session(&|it| it.session.address = Some([192, 0, 2, 1].into())),
        of_session(&|it| it.session.user_agent = agent()),
        of_session(&|it| it.end_cause = Some("logged_out".to_owned())),
        Record::KnownNetwork(UserId(1), network()),
        Record::KnownNetwork(UserId(2), network()),
        Record::KnownNetwork(UserId(1), KnownNetwork { last_login_at: later, ..network() }),
        of_event(&|_| ()),
        of_event(&|it| it.link.number = 2),
        of_event(&|it| it.link.seal = Seal([2; 32])),
        of_event(&|it| it.entry.count = 2),
        of_event(&|it| it.entry.client = None),
        of_client(&|it| it.salt = [9; 16]),
        of_client(&|it| it.address = [192, 0, 2, 1].into()),
        of_client(&|it| it.user_agent = agent()),
        Record::LastNumber(UserId(1)),
        Record::LastNumber(UserId(2)),
    ];

    let sums: std::collections::BTreeSet<String> =
        all.iter().map(|record| checksum_of(std::slice::from_ref(record)).sum().to_string()).collect();
    assert_eq!(sums.len(), all.len());
}
