//! How many connections there are and requests were answered, with what and how fast.
//!
//! Counted in atomics that each worker finds without asking the others: nothing here waits, and after the first request
//! to a path nothing takes memory. What tells the counts apart is ours, templates of paths and known methods, and never
//! what a client sent, so there is an end to it.

use std::array;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use domain::{Distribution, Durations};
use parking_lot::Mutex;

use crate::middleware::rate_limit::Kind;
use crate::problem::Lack;

/// The methods that are told apart; the last stands for all others.
pub(crate) const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "OTHER"];

/// The statuses that are told apart. 499 stands for a client that went away before it was answered.
const STATUSES: [u16; 30] = [
    200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 406, 408, 409, 411, 413,
    414, 415, 417, 422, 429, 431, 499, 500, 503,
];

/// What a request takes: a look at a token tens of microseconds, a password a quarter of a second, more in a storm.
const TIMES: [Duration; 14] = [
    Duration::from_micros(100),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(10),
];

/// The connections and the requests to one server.
pub struct Traffic {
    connections: AtomicUsize,
    cut: Tally<Cut, { Cut::ALL.len() }>,
    in_flight: AtomicUsize,
    routes: Mutex<BTreeMap<String, Arc<Route>>>,
    beyond_quota: Tally<Kind, { Kind::ALL.len() }>,
    unavailable: Tally<Lack, { Lack::ALL.len() }>,
}

/// Why a connection was closed from our side, without there being a request that the log could tell of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// There were as many as there may be, and none of them could be asked to go.
    NoRoom,
    /// It was only waiting, or slow, and others came.
    ToMakeRoom,
    /// Nothing came by it, or with TLS nothing but a handshake or a part of one.
    Silent,
    /// The head of a request did not come in time.
    SlowHead,
    /// The head of a request was larger than any that is allowed.
    LargeHead,
    /// The client did not take its answer in time.
    UntakenAnswer,
}

/// What was answered to requests of one method to one path.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The template of the path; nothing for paths that nobody serves.
    pub route: Option<String>,
    /// The method, `OTHER` for those that nobody knows.
    pub method: &'static str,
    /// How many were answered with which status. Those of no known status have none.
    pub statuses: Vec<(Option<u16>, u64)>,
    /// How long they took.
    pub took: Distribution,
}

/// The counts of one path.
struct Route([Answers; METHODS.len()]);

struct Answers {
    /// One for each of [`STATUSES`], and the last for all others.
    statuses: [AtomicU64; STATUSES.len() + 1],
    took: Durations,
}

/// How often each of a few things happened.
struct Tally<T, const N: usize>([(T, AtomicU64); N]);

/// What one worker knows of the counts.
pub(crate) struct Counters {
    traffic: Arc<Traffic>,
    known: RefCell<HashMap<String, Arc<Route>>>,
}

/// A request that is under way, until this is dropped.
pub(crate) struct InFlight {
    traffic: Arc<Traffic>,
    route: Arc<Route>,
}

impl Cut {
    const ALL: [Self; 6] =
        [Self::NoRoom, Self::ToMakeRoom, Self::Silent, Self::SlowHead, Self::LargeHead, Self::UntakenAnswer];

    fn as_str(self) -> &'static str {
        match self {
            Self::NoRoom => "no_room",
            Self::ToMakeRoom => "to_make_room",
            Self::Silent => "silent",
            Self::SlowHead => "slow_head",
            Self::LargeHead => "large_head",
            Self::UntakenAnswer => "untaken_answer",
        }
    }
}

impl Traffic {
    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// How many connections were closed from our side where no request tells why, by the reason. A client that had
    /// its answer and came with no other request in time is none of them.
    pub fn cut(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.cut.counts().map(|(reason, count)| (reason.as_str(), count))
    }

    pub(crate) fn note_opened(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn note_closed(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn note_cut(&self, reason: Cut) {
        self.cut.note(reason);
    }

    /// How many requests are under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// What was answered so far, by path and method.
    pub fn answered(&self) -> Vec<Answered> {
        let routes = self.routes.lock();
        let each = routes.iter().flat_map(|(template, route)| {
            METHODS.into_iter().zip(&route.0).map(move |(method, answers)| (template, method, answers))
        });
        each.filter_map(|(template, method, answers)| {
            let known = STATUSES.into_iter().map(Some).chain([None]);
            let counts = answers.statuses.iter().map(|count| count.load(Ordering::Relaxed));
            let statuses: Vec<_> = known.zip(counts).filter(|(_, count)| *count > 0).collect();
            let route = (!template.is_empty()).then(|| template.clone());
            let took = answers.took.distribution();
            (!statuses.is_empty()).then_some(Answered { route, method, statuses, took })
        })
        .collect()
    }

    /// How many were refused because too many had come before, by what the quota is of.
    pub fn beyond_quota(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.beyond_quota.counts().map(|(kind, count)| (kind.as_str(), count))
    }

    /// How many were answered 503, by what was lacking.
    pub fn unavailable(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.unavailable.counts().map(|(lack, count)| (lack.as_str(), count))
    }
}

impl Counters {
    /// Those of one more worker.
    pub(crate) fn of(traffic: Arc<Traffic>) -> Self {
        Self { traffic, known: RefCell::default() }
    }

    /// A request to the path of this template begins.
    pub(crate) fn begin(&self, template: Option<&str>) -> InFlight {
        // No path has the empty template.
        let template = template.unwrap_or_default();
        let known = self.known.borrow().get(template).cloned();
        let route = known.unwrap_or_else(|| {
            let route = self.traffic.routes.lock().entry(template.to_owned()).or_default().clone();
            self.known.borrow_mut().insert(template.to_owned(), route.clone());
            route
        });
        self.traffic.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { traffic: self.traffic.clone(), route }
    }
}

impl InFlight {
    /// It was answered.
    pub(crate) fn answered(&self, method: &str, status: u16, took: Duration) {
        let others = METHODS.len() - 1;
        let method = METHODS.iter().position(|known| *known == method).unwrap_or(others);
        let status = STATUSES.binary_search(&status).unwrap_or(STATUSES.len());
        let answers = &self.route.0[method];
        answers.statuses[status].fetch_add(1, Ordering::Relaxed);
        answers.took.note(took);
    }

    /// It was refused because too many had come before.
    pub(crate) fn beyond_quota(&self, of: Kind) {
        self.traffic.beyond_quota.note(of);
    }

    /// It was answered 503.
    pub(crate) fn unavailable(&self, for_lack_of: Lack) {
        self.traffic.unavailable.note(for_lack_of);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.traffic.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T: Copy + PartialEq, const N: usize> Tally<T, N> {
    fn of(things: [T; N]) -> Self {
        Self(things.map(|thing| (thing, AtomicU64::default())))
    }

    fn note(&self, happened: T) {
        for (_, count) in self.0.iter().filter(|(thing, _)| *thing == happened) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counts(&self) -> impl Iterator<Item = (T, u64)> {
        self.0.iter().map(|(thing, count)| (*thing, count.load(Ordering::Relaxed)))
    }
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            connections: AtomicUsize::default(),
            cut: Tally::of(Cut::ALL),
            in_flight: AtomicUsize::default(),
            routes: Mutex::default(),
            beyond_quota: Tally::of(Kind::ALL),
            unavailable: Tally::of(Lack::ALL),
        }
    }
}

impl Default for Route {
    fn default() -> Self {
        let answers =
            || Answers { statuses: array::from_fn(|_| AtomicU64::default()), took: Durations::new(&TIMES) };
        Self(array::from_fn(|_| answers()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_all_workers_are_one() {
        let traffic = Arc::new(Traffic::default());
        let workers = [Counters::of(traffic.clone()), Counters::of(traffic.clone())];

        for worker in &workers {
            for _ in 0..2 {
                worker.begin(Some("/api/me")).answered("GET", 200, Duration::from_millis(1));
            }
        }

        let answered = traffic.answered();
        assert_eq!(answered.len(), 1, "{answered:?}");
        assert_eq!(
            (answered[0].route.as_deref(), answered[0].method, answered[0].took.count),
            (Some("/api/me"), "GET", 4)
        );
        assert_eq!(answered[0].statuses, [(Some(200), 4)]);
    }

    #[test]
    fn a_request_is_under_way_until_it_is_dropped() {
        let traffic = Arc::new(Traffic::default());
        let worker = Counters::of(traffic.clone());

        let (one, other) = (worker.begin(Some("/api/me")), worker.begin(None));
        one.answered("GET", 200, Duration::ZERO);
        assert_eq!(traffic.in_flight(), 2);
        drop((one, other));

        assert_eq!(traffic.in_flight(), 0);
    }

    #[test]
    fn what_nobody_knows_is_counted_together() {
        let traffic = Arc::new(Traffic::default());
        let worker = Counters::of(traffic.clone());

        for (method, status) in [("BREW", 418), ("WHEN", 999), ("OTHER", 418)] {
            worker.begin(None).answered(method, status, Duration::ZERO);
        }

        let answered = traffic.answered();
        assert_eq!((answered.len(), answered[0].route.as_ref(), answered[0].method), (1, None, "OTHER"));
        assert_eq!(answered[0].statuses, [(None, 3)]);
    }

    #[test]
    fn statuses_are_in_the_order_in_which_they_are_sought() {
        assert!(STATUSES.is_sorted());
    }
}
