//! Attempts that are counted before they are kept: an event for each kind, network and account, however many come.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::{Action, ClientNetwork, Event, FREE_FAILURES, Origin, Outcome, Subject, UserId, UsernameKey};

/// How many kinds are told apart at most between two times of keeping. What comes beyond that is counted together,
/// as from [`MANY`]: an attacker has many networks.
const MOST_KINDS: usize = 256;

/// How many refusals of a kind are kept by themselves between two times of keeping: those that a person makes. More wrong
/// passwords than are free of delay come from a program.
const KEPT_OF_A_KIND: u32 = FREE_FAILURES;

/// The address that stands for those of many clients; no client has it (RFC 1122, section 3.2.1.3).
const MANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

#[derive(Clone, Default)]
pub(crate) struct AuditAggregator(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    counted: HashMap<Kind, Event>,
    /// How many events of which kind were kept by themselves since the last time of keeping.
    kept: HashMap<(Kind, Option<UsernameKey>), u32>,
    kept_of_all: usize,
}

/// What is counted as one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    action: Action,
    outcome: Outcome,
    network: Option<ClientNetwork>,
    account: Option<UserId>,
}

impl Kind {
    fn of(event: &Event) -> Self {
        Self {
            action: event.attempt.action,
            outcome: event.outcome,
            network: match &event.attempt.origin {
                Origin::Request { address, .. } => Some(ClientNetwork::of(*address)),
                Origin::CommandLine => None,
            },
            account: match event.attempt.subject {
                Subject::User(id) => Some(id),
                Subject::Name(_) | Subject::Text(_) | Subject::Unknown => None,
            },
        }
    }
}

impl AuditAggregator {
    /// Whether as many events like this as may be, or of all kinds together, were kept by themselves since the last time of
    /// keeping. If not, this one is taken for kept.
    pub(crate) fn is_repeat(&self, event: &Event) -> bool {
        let counts = &mut *self.0.lock();
        let name = match &event.attempt.subject {
            Subject::Name(name) => Some(name.clone()),
            Subject::User(_) | Subject::Text(_) | Subject::Unknown => None,
        };
        if counts.kept_of_all >= MOST_KINDS {
            return true;
        }
        let kept = counts.kept.entry((Kind::of(event), name)).or_default();
        if *kept >= KEPT_OF_A_KIND {
            return true;
        }
        *kept += 1;
        counts.kept_of_all += 1;
        false
    }

    pub(crate) fn count(&self, mut event: Event) {
        let kinds = &mut self.0.lock().counted;
        let mut kind = Kind::of(&event);
        // Accounts use up half of the kinds at most: the network of an attacker with many accounts is still told.
        if kinds.len() >= MOST_KINDS / 2 && !kinds.contains_key(&kind) {
            kind.account = None;
        }
        if kinds.len() >= MOST_KINDS && !kinds.contains_key(&kind) && kind.network.is_some() {
            kind.network = Some(ClientNetwork::of(MANY));
            let request_id = String::new();
            event.attempt.origin = Origin::Request { address: MANY, request_id, user_agent: None };
        }
        let Some(first) = kinds.get_mut(&kind) else {
            kinds.insert(kind, event);
            return;
        };
        first.count = first.count.saturating_add(event.count);
        if first.attempt.subject != event.attempt.subject {
            first.attempt.subject = Subject::Unknown;
        }
    }

    /// What was counted since the last time, the oldest first.
    pub(crate) fn take(&self) -> Vec<Event> {
        let counts = std::mem::take(&mut *self.0.lock());
        let mut events: Vec<_> = counts.counted.into_values().collect();
        events.sort_by_key(|event| event.attempt.at);
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UserId;
    use crate::testing::attempt;

    fn event(outcome: Outcome, subject: Subject, address: impl Into<IpAddr>) -> Event {
        let mut attempt = attempt();
        attempt.subject = subject;
        attempt.origin =
            Origin::Request { address: address.into(), request_id: "r-1".to_owned(), user_agent: None };
        attempt.ended(outcome)
    }

    #[test]
    fn attempts_of_one_kind_network_and_account_are_one_event() {
        let tally = AuditAggregator::default();
        let of = |user, outcome, address: &str| {
            event(outcome, Subject::User(UserId(user)), address.parse::<IpAddr>().unwrap())
        };

        tally.count(of(1, Outcome::Failed, "2001:db8::1"));
        tally.count(of(1, Outcome::Failed, "2001:db8::2"));
        tally.count(of(1, Outcome::Failed, "2001:db8:0:1::1"));
        tally.count(of(1, Outcome::Abandoned, "2001:db8::1"));
        tally.count(of(2, Outcome::Abandoned, "2001:db8::1"));
        tally.count(of(2, Outcome::Abandoned, "2001:db8::1"));
        for name in ["mia", "zoe"] {
            let subject = Subject::Name(crate::testing::username(name).key().clone());
            tally.count(event(Outcome::Abandoned, subject, [192, 0, 2, 1]));
        }

        let mut counted: Vec<_> = tally
            .take()
            .into_iter()
            .map(|event| (event.count, event.outcome, event.attempt.subject))
            .collect();
        counted.sort_by_key(|(count, outcome, subject)| (*count, format!("{subject:?} {outcome:?}")));
        let [ann, bob] = [1, 2].map(|number| Subject::User(UserId(number)));
        assert_eq!(
            counted,
            [
                (1, Outcome::Abandoned, ann.clone()),
                (1, Outcome::Failed, ann.clone()),
                (2, Outcome::Abandoned, Subject::Unknown),
                (2, Outcome::Failed, ann),
                (2, Outcome::Abandoned, bob)
            ]
        );
        assert_eq!(tally.take(), []);
    }

    #[test]
    fn repeated_refusal_is_one_of_its_account_network_and_name() {
        let tally = AuditAggregator::default();
        let refused = Outcome::Refused("wrong_password");
        let name = |text| Subject::Name(crate::testing::username(text).key().clone());
        let kinds = || {
            [
                event(refused, Subject::User(UserId(1)), [192, 0, 2, 1]),
                event(refused, Subject::User(UserId(2)), [192, 0, 2, 1]),
                event(refused, Subject::User(UserId(1)), [192, 0, 2, 2]),
                event(Outcome::Refused("disabled"), Subject::User(UserId(1)), [192, 0, 2, 1]),
                event(refused, name("mia"), [192, 0, 2, 1]),
                event(refused, name("zoe"), [192, 0, 2, 1]),
            ]
        };

        for _ in 0..KEPT_OF_A_KIND {
            assert!(kinds().iter().all(|event| !tally.is_repeat(event)));
        }
        assert!(kinds().iter().all(|event| tally.is_repeat(event)));
        tally.take();
        assert!(kinds().iter().all(|event| !tally.is_repeat(event)));
    }

    #[test]
    fn refusals_of_all_kinds_kept_by_themselves_are_bounded() {
        let tally = AuditAggregator::default();

        let kept = (1..=1000_i64)
            .map(|number| event(Outcome::Refused("told"), Subject::User(UserId(number)), [192, 0, 2, 1]))
            .filter(|event| !tally.is_repeat(event))
            .count();

        assert_eq!(kept, MOST_KINDS);
    }

    #[test]
    fn accounts_beyond_the_kinds_are_counted_with_their_network() {
        let tally = AuditAggregator::default();
        let of = |number| event(Outcome::Failed, Subject::User(UserId(number)), [192, 0, 2, 1]);

        (1..=1000).for_each(|number| tally.count(of(number)));

        let counted = tally.take();
        assert_eq!(counted.len(), MOST_KINDS / 2 + 1);
        assert_eq!(counted.iter().map(|event| event.count).sum::<u32>(), 1000);
        assert!(counted.iter().all(|event| event.attempt.origin.client().0 != Some(MANY)));
    }

    #[test]
    fn a_million_networks_are_few_events_and_none_is_lost() {
        let tally = AuditAggregator::default();

        for number in 1..=1_000_000 {
            tally.count(event(Outcome::Abandoned, Subject::Unknown, Ipv4Addr::from(number)));
        }

        let counted = tally.take();
        assert_eq!(counted.len(), MOST_KINDS + 1);
        let many = counted.iter().find(|event| event.count > 1).unwrap();
        assert_eq!(many.attempt.origin.client().0, Some(MANY));
        assert_eq!(counted.iter().map(|event| event.count).sum::<u32>(), 1_000_000);
    }
}
