//! Requests that share a line of the log: those that a client may send without end, because no quota bounds them or because
//! they are beyond one.
//!
//! The first of a client has its own line at once. The others are counted, and logged as one line when [`flush`] is
//! called, which is every few seconds and at the stop.
//!
//! [`flush`]: RepeatedRequests::flush

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use domain::ClientNetwork;
use parking_lot::Mutex;

/// The target of the line that a request has in the log.
pub const REQUEST_TARGET: &str = "api::request";

/// The most lines between two flushes. What comes beyond is counted together, as from [`MANY`]: an attacker has many
/// networks.
const MAX_KINDS: usize = 256;

/// The address that stands for those of many clients; no client has it (RFC 1122, section 3.2.1.3).
const MANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The counts since the last flush.
#[derive(Default)]
pub struct RepeatedRequests(Mutex<HashMap<Kind, u64>>);

/// The requests that are counted as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Kind {
    pub(crate) client: ClientNetwork,
    /// The quota that they are beyond.
    pub(crate) limit: Option<&'static str>,
    /// The path, where that is what no quota bounds.
    pub(crate) route: Option<&'static str>,
    pub(crate) status: u16,
    pub(crate) code: Option<&'static str>,
}

impl RepeatedRequests {
    /// Counts a request, unless it is the first of its kind since the last flush and has a line of its own.
    pub(crate) fn is_first(&self, kind: Kind) -> bool {
        let mut kinds = self.0.lock();
        if let Some(count) = kinds.get_mut(&kind) {
            *count += 1;
            return false;
        }
        if kinds.len() >= MAX_KINDS {
            *kinds.entry(Kind { client: ClientNetwork::of(MANY), ..kind }).or_default() += 1;
            return false;
        }
        kinds.insert(kind, 0);
        true
    }

    /// Logs what was counted since the last time.
    pub fn flush(&self) {
        for (Kind { client, limit, route, status, code }, count) in self.take() {
            let client = client.first_address();
            tracing::info!(target: REQUEST_TARGET, limit, route, status, code, %client, count, "more requests");
        }
    }

    /// The counts since the last time, without those of which there was but the first.
    fn take(&self) -> Vec<(Kind, u64)> {
        let kinds = std::mem::take(&mut *self.0.lock());
        let mut counts: Vec<_> = kinds.into_iter().filter(|(_, count)| *count > 0).collect();
        counts.sort_unstable();
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(client: impl Into<IpAddr>) -> Kind {
        let client = ClientNetwork::of(client.into());
        Kind { client, limit: Some("login"), route: None, status: 429, code: Some("too_many_requests") }
    }

    #[test]
    fn first_request_of_a_client_has_its_own_line() {
        let repeated = RepeatedRequests::default();
        let (one, other) = (refused([192, 0, 2, 1]), refused([192, 0, 2, 2]));

        let first = [one, one, other, one].map(|kind| repeated.is_first(kind));

        assert_eq!(first, [true, false, true, false]);
        assert_eq!(repeated.take(), [(one, 2)]);
        assert_eq!(repeated.take(), []);
        assert!(repeated.is_first(one));
    }

    #[test]
    fn clients_beyond_the_most_lines_are_counted_together() {
        let repeated = RepeatedRequests::default();

        let first = (0..1000_u16)
            .filter(|number| {
                let [high, low] = number.to_be_bytes();
                repeated.is_first(refused([198, 18, high, low]))
            })
            .count();

        assert_eq!(first, MAX_KINDS);
        assert_eq!(repeated.take(), [(refused(MANY), 1000 - MAX_KINDS as u64)]);
    }
}
