//! How many requests somebody may send: so many a minute, as many of them at once.
//!
//! Whoever comes without a token is counted by network, and apart for what costs most: signing up, logging in and
//! refreshing. The IPv6 networks of one site are counted together too, and have four times as much. Whoever comes with
//! a token of ours that has not expired is counted by session, whether that still lives or not, so that a backend that
//! asks for many users is not taken for one of them. If the session lives and the request is to change something, the
//! account counts it as well: an account has a hundred sessions for the asking. Backends with a secret of their own are
//! not counted. The counting is `governor`'s; what is counted for whom is decided here, before anything is read or
//! hashed, and written into the answer by one function.

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::convert::Infallible;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServiceRequest;
use actix_web::http::Method;
use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpMessage, HttpRequest};
use domain::ports::Clock;
use domain::{ClientNetwork, ClientSite, NETWORKS_PER_SITE, SessionId, SitePrefix, UserId};
use governor::clock::Clock as GovernorClock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use quick_cache::UnitWeighter;
use quick_cache::sync::Cache;

use crate::problem::{Problem, whole_seconds};

/// How many networks are counted at once for each kind of request, and how many sessions, in some hundred bytes each.
/// When there are more, those that were not seen for longest start anew: whoever has that many networks has their
/// quotas too.
const MOST_COUNTED: u64 = 50_000;

/// The paths whose requests count for nobody: a flood from a supervisor's network must not have it end the server.
pub(crate) const UNLIMITED: [&str; 2] = ["/health/live", "/health/ready"];

const MINUTE: Duration = Duration::from_mins(1);

/// The fields of draft-ietf-httpapi-ratelimit-headers-10.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// How many requests of each kind somebody may send within a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Sign-ups, by network.
    pub sign_ups: NonZeroU32,
    /// Logins, by network.
    pub log_ins: NonZeroU32,
    /// Refreshes, by network.
    pub refreshes: NonZeroU32,
    /// All else without a token of ours that has not expired, by network.
    pub anonymous: NonZeroU32,
    /// Requests with such a token, by session.
    pub session: NonZeroU32,
    /// Those of them that are to change something, by account.
    pub account: NonZeroU32,
    /// Which IPv6 networks are counted together.
    pub site_prefix: SitePrefix,
}

/// What is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    SignUp,
    LogIn,
    Refresh,
    Anonymous,
    Session,
    Account,
}

/// The counters of all who are counted.
pub(crate) struct Limits {
    quotas: Quotas,
    sign_ups: ByNetwork,
    log_ins: ByNetwork,
    refreshes: ByNetwork,
    anonymous: ByNetwork,
    sessions: Counters<SessionId>,
    accounts: Counters<UserId>,
}

/// The counters of networks for one kind of request, and of the sites that networks belong to.
struct ByNetwork {
    quota: NonZeroU32,
    networks: Counters<ClientNetwork>,
    sites: Counters<ClientSite>,
}

type Counters<Key> = RateLimiter<Key, Bounded<Key>, PortClock, StateInformationMiddleware>;

/// The states of the keys that were seen last.
struct Bounded<Key>(Cache<Key, Arc<InMemoryState>, UnitWeighter>);

/// The clock port, as `governor` asks it.
#[derive(Clone)]
struct PortClock(Arc<dyn Clock>);

/// What one request is counted for.
pub(crate) struct Tab {
    limits: Option<Arc<Limits>>,
    network: ClientNetwork,
    standing: Cell<Standing>,
    /// With the account, which counts beside the session.
    account: Cell<Standing>,
}

/// How much is left of a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    /// Nobody has been counted yet.
    #[default]
    Undecided,
    NotCounted,
    /// So many more at once, and another one after a while.
    Within {
        kind: Kind,
        quota: NonZeroU32,
        remaining: u32,
        next: Duration,
    },
    /// Nothing before a while is over.
    Beyond {
        kind: Kind,
        quota: NonZeroU32,
        wait: Duration,
    },
}

impl Kind {
    pub(crate) const ALL: [Self; 6] =
        [Self::SignUp, Self::LogIn, Self::Refresh, Self::Anonymous, Self::Session, Self::Account];

    /// What those are counted for by network who come without a token that might hold.
    fn of(method: &Method, route: Option<&str>) -> Self {
        match route {
            Some("/api/signup") if method == Method::POST => Self::SignUp,
            Some("/api/login") if method == Method::POST => Self::LogIn,
            Some("/api/refresh") if method == Method::POST => Self::Refresh,
            _ => Self::Anonymous,
        }
    }

    /// Its name in the fields of an answer, and where refusals are counted.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::SignUp => "signup",
            Self::LogIn => "login",
            Self::Refresh => "refresh",
            Self::Anonymous => "anonymous",
            Self::Session => "session",
            Self::Account => "account",
        }
    }
}

impl Limits {
    pub(crate) fn new(quotas: Quotas, clock: &Arc<dyn Clock>) -> Self {
        Self {
            quotas,
            sign_ups: ByNetwork::new(quotas.sign_ups, clock),
            log_ins: ByNetwork::new(quotas.log_ins, clock),
            refreshes: ByNetwork::new(quotas.refreshes, clock),
            anonymous: ByNetwork::new(quotas.anonymous, clock),
            sessions: counters(quotas.session, clock),
            accounts: counters(quotas.account, clock),
        }
    }

    pub(crate) fn quotas(&self) -> Quotas {
        self.quotas
    }

    fn count_network(&self, kind: Kind, network: ClientNetwork) -> Standing {
        let counters = match kind {
            Kind::SignUp => &self.sign_ups,
            Kind::LogIn => &self.log_ins,
            Kind::Refresh => &self.refreshes,
            Kind::Anonymous | Kind::Session | Kind::Account => &self.anonymous,
        };
        counters.count(kind, network, network.site(self.quotas.site_prefix))
    }

    fn count_session(&self, session: SessionId) -> Standing {
        count(&self.sessions, &session, Kind::Session, self.quotas.session)
    }

    fn count_account(&self, account: UserId) -> Standing {
        count(&self.accounts, &account, Kind::Account, self.quotas.account)
    }
}

impl ByNetwork {
    fn new(quota: NonZeroU32, clock: &Arc<dyn Clock>) -> Self {
        let of_site = quota.saturating_mul(NonZeroU32::new(NETWORKS_PER_SITE).unwrap_or(NonZeroU32::MIN));
        Self { quota, networks: counters(quota, clock), sites: counters(of_site, clock) }
    }

    /// Counts a request for its site only where its network has room: a network that sends too much uses up nothing of
    /// its neighbours'.
    fn count(&self, kind: Kind, network: ClientNetwork, site: Option<ClientSite>) -> Standing {
        let of_network = count(&self.networks, &network, kind, self.quota);
        let (Standing::Within { remaining, next, .. }, Some(site)) = (of_network, site) else {
            return of_network;
        };
        match count(&self.sites, &site, kind, self.quota) {
            Standing::Within { remaining: of_site, .. } => {
                Standing::Within { kind, quota: self.quota, remaining: remaining.min(of_site), next }
            }
            beyond => beyond,
        }
    }
}

impl Tab {
    /// Opens one for a request, which has not been counted yet.
    pub(crate) fn open(limits: Option<Arc<Limits>>, client: IpAddr) -> Self {
        Self {
            limits,
            network: ClientNetwork::of(client),
            standing: Cell::default(),
            account: Cell::default(),
        }
    }

    /// The one of this request, unless it did not come in through the edge.
    pub(crate) fn of(request: &HttpRequest) -> Option<Rc<Self>> {
        request.extensions().get::<Rc<Self>>().cloned()
    }

    /// Counts a request that comes in, unless a token or a secret that came with it may still show for whom. Whoever
    /// asks whether the server is well is not counted: a flood from their network must not have a supervisor end it.
    pub(crate) fn enter(&self, request: &ServiceRequest, route: Option<&str>) -> Result<(), Problem> {
        if route.is_some_and(|route| UNLIMITED.contains(&route)) {
            self.waive();
        }
        let kind = Kind::of(request.method(), route);
        if kind == Kind::Anonymous && request.headers().contains_key(AUTHORIZATION) {
            return Ok(());
        }
        self.charge_network(kind)
    }

    /// Counts a request for the session whose token came with it.
    pub(crate) fn charge_session(&self, session: SessionId) -> Result<(), Problem> {
        self.charge(|limits| limits.count_session(session))
    }

    /// Counts a request that is to change something for the account whose session it came in.
    pub(crate) fn charge_account(&self, account: UserId) -> Result<(), Problem> {
        self.charge_to(&self.account, |limits| limits.count_account(account))
    }

    /// Counts a request for the network that it came from, unless it has been counted.
    pub(crate) fn charge_stranger(&self) -> Result<(), Problem> {
        self.charge_network(Kind::Anonymous)
    }

    /// Counts a request for nobody.
    pub(crate) fn waive(&self) {
        self.standing.set(Standing::NotCounted);
    }

    fn charge_network(&self, kind: Kind) -> Result<(), Problem> {
        self.charge(|limits| limits.count_network(kind, self.network))
    }

    fn charge(&self, count: impl FnOnce(&Limits) -> Standing) -> Result<(), Problem> {
        self.charge_to(&self.standing, count)
    }

    /// Each request is counted once, and once for an account.
    fn charge_to(
        &self,
        standing: &Cell<Standing>,
        count: impl FnOnce(&Limits) -> Standing,
    ) -> Result<(), Problem> {
        let (Some(limits), Standing::Undecided) = (&self.limits, standing.get()) else { return Ok(()) };
        standing.set(count(limits));
        match standing.get() {
            Standing::Beyond { wait, .. } => Err(Problem::too_many_requests(wait)),
            Standing::Within { .. } | Standing::NotCounted | Standing::Undecided => Ok(()),
        }
    }

    /// What the request is beyond the quota of, if it is.
    pub(crate) fn beyond(&self) -> Option<Kind> {
        [&self.standing, &self.account].into_iter().find_map(|standing| match standing.get() {
            Standing::Beyond { kind, .. } => Some(kind),
            Standing::Within { .. } | Standing::NotCounted | Standing::Undecided => None,
        })
    }

    /// Tells in the headers of an answer how much is left: of the session, and of the account if it counted the request.
    pub(crate) fn write_into(&self, headers: &mut HeaderMap) {
        let (mut policies, mut limits) = (Vec::new(), Vec::new());
        for standing in [&self.standing, &self.account] {
            let (kind, quota, remaining, wait) = match standing.get() {
                Standing::Within { kind, quota, remaining, next } => (kind, quota, remaining, next),
                Standing::Beyond { kind, quota, wait } => (kind, quota, 0, wait),
                Standing::NotCounted | Standing::Undecided => continue,
            };
            let name = kind.as_str();
            policies.push(format!("\"{name}\";q={quota};w={}", MINUTE.as_secs()));
            limits.push(format!("\"{name}\";r={remaining};t={}", whole_seconds(wait)));
        }
        for (field, values) in [(RATE_LIMIT_POLICY, policies), (RATE_LIMIT, limits)] {
            if !values.is_empty()
                && let Ok(value) = HeaderValue::from_str(&values.join(", "))
            {
                headers.insert(field, value);
            }
        }
    }
}

impl<Key: Copy + Eq + Hash> StateStore for Bounded<Key> {
    type Key = Key;

    fn measure_and_replace<T, F, E>(&self, key: &Key, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let made = self.0.get_or_insert_with(key, || Ok::<_, Infallible>(Arc::default()));
        let Ok(state) = made;
        state.measure_and_replace(&NotKeyed::NonKey, measure)
    }
}

impl GovernorClock for PortClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.monotonic()
    }
}

fn counters<Key: Copy + Eq + Hash>(quota: NonZeroU32, clock: &Arc<dyn Clock>) -> Counters<Key> {
    // It takes memory as it fills.
    let states = Bounded(Cache::with_weighter(0, MOST_COUNTED, UnitWeighter));
    RateLimiter::new(Quota::per_minute(quota), states, PortClock(clock.clone()))
}

/// Counts one more for `key`, if there is room for it.
fn count<Key: Copy + Eq + Hash>(
    counters: &Counters<Key>,
    key: &Key,
    kind: Kind,
    quota: NonZeroU32,
) -> Standing {
    match counters.check_key(key) {
        Ok(state) => {
            let remaining = state.remaining_burst_capacity();
            Standing::Within { kind, quota, remaining, next: MINUTE / quota.get() }
        }
        Err(until) => Standing::Beyond { kind, quota, wait: until.wait_time_from(counters.clock().now()) },
    }
}
