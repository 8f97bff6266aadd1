//! Attempts that are counted before they are kept: an event for each kind and network, however many come.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Action, ClientNetwork, Event, Origin, Outcome, Subject};

/// How many kinds are told apart at most between two times of keeping. What comes beyond that is counted together,
/// as from [`MANY`]: an attacker has many networks.
const MOST_KINDS: usize = 256;

/// The address that stands for those of many clients; no client has it (RFC 1122, section 3.2.1.3).
const MANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

#[derive(Clone, Default)]
pub(super) struct Tally(Arc<Mutex<HashMap<Kind, Event>>>);

/// What is counted as one.
type Kind = (Action, Outcome, Option<ClientNetwork>);

impl Tally {
    pub(super) fn count(&self, mut event: Event) {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let network = match &event.attempt.origin {
            Origin::Request { address, .. } => Some(ClientNetwork::of(*address)),
            Origin::CommandLine => None,
        };
        let mut kind = (event.attempt.action, event.outcome, network);
        if kinds.len() >= MOST_KINDS && !kinds.contains_key(&kind) && network.is_some() {
            kind.2 = Some(ClientNetwork::of(MANY));
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
    pub(super) fn take(&self) -> Vec<Event> {
        let kinds = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut events: Vec<_> = kinds.into_values().collect();
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
    fn attempts_of_one_kind_from_one_network_are_one_event() {
        let tally = Tally::default();
        let of = |user, outcome, address: &str| {
            event(outcome, Subject::User(UserId(user)), address.parse::<IpAddr>().unwrap())
        };

        tally.count(of(1, Outcome::Failed, "2001:db8::1"));
        tally.count(of(1, Outcome::Failed, "2001:db8::2"));
        tally.count(of(1, Outcome::Failed, "2001:db8:0:1::1"));
        tally.count(of(1, Outcome::Abandoned, "2001:db8::1"));
        tally.count(of(2, Outcome::Abandoned, "2001:db8::1"));

        let mut counted: Vec<_> = tally
            .take()
            .into_iter()
            .map(|event| (event.count, event.outcome, event.attempt.subject))
            .collect();
        counted.sort_by_key(|(count, outcome, _)| (*count, *outcome == Outcome::Abandoned));
        let ann = Subject::User(UserId(1));
        assert_eq!(
            counted,
            [
                (1, Outcome::Failed, ann.clone()),
                (2, Outcome::Failed, ann),
                (2, Outcome::Abandoned, Subject::Unknown)
            ]
        );
        assert_eq!(tally.take(), []);
    }

    #[test]
    fn a_million_networks_are_few_events_and_none_is_lost() {
        let tally = Tally::default();

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
