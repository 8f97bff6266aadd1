//! How many requests somebody may send: so many a minute, as many of them at once.
//!
//! Whoever comes without a token is counted by network, and apart for what costs most: signing up, logging in and
//! refreshing. The IPv6 networks of one site are counted together too, and have four times as much. Whoever comes with
//! a token of ours that has not expired is counted by session, whether that still lives or not, so that a backend that
//! asks for many users is not taken for one of them. If the session lives and the request is to change something, the
//! account counts it as well: an account has a hundred sessions for the asking. Backends with a secret of their own are
//! not counted. The counting is `governor`'s; what is counted for whom is decided here, before anything is read or
//! hashed, and written into the answer by one function.

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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use jiff::Timestamp;

    use super::*;

    const FEW: Quotas = Quotas {
        sign_ups: NonZeroU32::new(2).unwrap(),
        log_ins: NonZeroU32::new(3).unwrap(),
        refreshes: NonZeroU32::new(6).unwrap(),
        anonymous: NonZeroU32::new(4).unwrap(),
        session: NonZeroU32::new(5).unwrap(),
        account: NonZeroU32::new(2).unwrap(),
        site_prefix: SitePrefix::new(48).unwrap(),
    };

    /// A clock that goes when it is told to.
    #[derive(Default)]
    struct Hand(Mutex<Duration>);

    impl Hand {
        fn pass(&self, time: Duration) {
            *self.0.lock().unwrap() += time;
        }
    }

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            unreachable!("the time of day can be set back")
        }

        fn monotonic(&self) -> Duration {
            *self.0.lock().unwrap()
        }
    }

    fn limits(quotas: Quotas) -> (Arc<Limits>, Arc<Hand>) {
        let hand = Arc::new(Hand::default());
        let clock: Arc<dyn Clock> = hand.clone();
        (Arc::new(Limits::new(quotas, &clock)), hand)
    }

    fn tab(limits: &Arc<Limits>, client: &str) -> Tab {
        Tab::open(Some(limits.clone()), client.parse().unwrap())
    }

    fn fields(tab: &Tab) -> [String; 2] {
        let mut headers = HeaderMap::new();
        tab.write_into(&mut headers);
        [RATE_LIMIT_POLICY, RATE_LIMIT].map(|name| headers.get(name).unwrap().to_str().unwrap().to_owned())
    }

    #[test]
    fn so_many_at_once_and_after_that_one_by_one() {
        let (limits, hand) = limits(FEW);
        let log_in = || tab(&limits, "192.0.2.7").charge_network(Kind::LogIn).is_ok();

        assert_eq!([log_in(), log_in(), log_in(), log_in()], [true, true, true, false]);
        hand.pass(Duration::from_millis(19_999));
        assert!(!log_in());
        hand.pass(Duration::from_millis(1));
        assert_eq!([log_in(), log_in()], [true, false]);
        hand.pass(MINUTE);
        assert_eq!([log_in(), log_in(), log_in(), log_in()], [true, true, true, false]);
    }

    #[test]
    fn an_answer_tells_how_much_is_left_and_a_refusal_how_long_to_wait() {
        let (limits, hand) = limits(FEW);
        let sign_up = || {
            let tab = tab(&limits, "192.0.2.7");
            _ = tab.charge_network(Kind::SignUp);
            fields(&tab)
        };

        assert_eq!(sign_up(), ["\"signup\";q=2;w=60", "\"signup\";r=1;t=30"]);
        assert_eq!(sign_up()[1], "\"signup\";r=0;t=30");
        hand.pass(Duration::from_millis(500));
        assert_eq!(sign_up()[1], "\"signup\";r=0;t=30");
        hand.pass(Duration::from_secs(29));
        assert_eq!(sign_up()[1], "\"signup\";r=0;t=1");
    }

    #[test]
    fn kinds_networks_and_sessions_are_counted_apart() {
        let (limits, _) = limits(FEW);
        let spend = |client, kind| while tab(&limits, client).charge_network(kind).is_ok() {};
        spend("192.0.2.7", Kind::LogIn);
        let session = SessionId::from_bytes([1; 16]);
        while tab(&limits, "192.0.2.7").charge_session(session).is_ok() {}

        assert!(tab(&limits, "192.0.2.7").charge_network(Kind::LogIn).is_err());
        assert!(tab(&limits, "::ffff:192.0.2.7").charge_network(Kind::LogIn).is_err());
        assert!(tab(&limits, "192.0.2.8").charge_network(Kind::LogIn).is_ok());
        for kind in [Kind::SignUp, Kind::Refresh, Kind::Anonymous] {
            assert!(tab(&limits, "192.0.2.7").charge_network(kind).is_ok(), "{kind:?}");
        }
        assert!(tab(&limits, "192.0.2.8").charge_session(session).is_err());
        assert!(tab(&limits, "192.0.2.7").charge_session(SessionId::from_bytes([2; 16])).is_ok());
    }

    #[test]
    fn sessions_of_one_account_share_its_quota_of_changes() {
        let (limits, _) = limits(FEW);
        let change = |session, account| {
            let tab = tab(&limits, "192.0.2.7");
            tab.charge_session(SessionId::from_bytes([session; 16])).unwrap();
            (tab.charge_account(UserId(account)).is_ok(), tab)
        };

        let (first, tab) = change(1, 7);
        assert!(first && tab.beyond().is_none());
        assert_eq!(
            fields(&tab),
            ["\"session\";q=5;w=60, \"account\";q=2;w=60", "\"session\";r=4;t=12, \"account\";r=1;t=30"]
        );
        assert!(change(2, 7).0);
        let (third, tab) = change(3, 7);
        assert!(!third);
        assert_eq!(tab.beyond(), Some(Kind::Account));
        assert_eq!(fields(&tab)[1], "\"session\";r=4;t=12, \"account\";r=0;t=30");
        assert!(change(3, 8).0);
    }

    /// How many requests each of these clients gets answered, one after the other.
    fn answered<const N: usize>(limits: &Arc<Limits>, clients: [&str; N]) -> [usize; N] {
        clients.map(|client| (0..100).filter(|_| tab(limits, client).charge_stranger().is_ok()).count())
    }

    #[test]
    fn ipv6_site_has_the_quota_of_four_networks() {
        let (limits, hand) = limits(FEW);

        // Addresses of one /64, six networks of one /48, and another /48.
        let networks = ["2001:db8:0:1::1", "2001:db8:0:1:f::1", "2001:db8:0:2::1", "2001:db8:0:3::1"];
        assert_eq!(answered(&limits, networks), [4, 0, 4, 4]);
        assert_eq!(answered(&limits, ["2001:db8:0:4::1", "2001:db8:0:ffff::1"]), [4, 0]);
        assert_eq!(answered(&limits, ["2001:db8:1::1", "192.0.2.1", "192.0.2.2"]), [4, 4, 4]);
        hand.pass(MINUTE);
        assert_eq!(answered(&limits, networks), [4, 0, 4, 4]);
    }

    #[test]
    fn ipv6_network_that_sends_too_much_uses_up_its_own_quota() {
        let (limits, _) = limits(FEW);

        assert_eq!(answered(&limits, ["2001:db8:0:1::1"]), [4]);
        assert_eq!(answered(&limits, ["2001:db8:0:1::1", "2001:db8:0:2::1"]), [0, 4]);
    }

    #[test]
    fn ipv6_site_is_as_large_as_the_operator_says() {
        let with = |bits| limits(Quotas { site_prefix: SitePrefix::new(bits).unwrap(), ..FEW }).0;
        let networks = ["2001:db8:1::1", "2001:db8:2::1", "2001:db8:3::1", "2001:db8:4::1", "2001:db8:5::1"];

        assert_eq!(answered(&with(32), networks), [4, 4, 4, 4, 0]);
        assert_eq!(answered(&with(48), networks), [4; 5]);
        let neighbours =
            ["2001:db8:0:1::1", "2001:db8:0:2::1", "2001:db8:0:3::1", "2001:db8:0:4::1", "2001:db8:0:5::1"];
        assert_eq!(answered(&with(64), neighbours), [4; 5]);
    }

    #[test]
    fn answer_tells_what_is_left_of_the_site() {
        let (limits, _) = limits(FEW);
        assert_eq!(answered(&limits, ["2001:db8:0:1::1", "2001:db8:0:2::1", "2001:db8:0:3::1"]), [4; 3]);
        let last = tab(&limits, "2001:db8:0:4::1");
        assert!(last.charge_stranger().is_ok());
        assert_eq!(answered(&limits, ["2001:db8:0:5::1"]), [3]);

        let refused = tab(&limits, "2001:db8:0:6::1");

        assert_eq!(fields(&last)[1], "\"anonymous\";r=3;t=15");
        assert!(refused.charge_stranger().is_err());
        // Of four times the quota, one more comes back four times as often.
        assert_eq!(fields(&refused), ["\"anonymous\";q=4;w=60", "\"anonymous\";r=0;t=4"]);
    }

    #[test]
    fn a_request_is_counted_once() {
        let (limits, _) = limits(FEW);
        for _ in 0..10 {
            let tab = tab(&limits, "192.0.2.7");
            tab.waive();
            assert!(tab.charge_stranger().is_ok());
        }
        let tab = tab(&limits, "192.0.2.7");
        for _ in 0..10 {
            assert!(tab.charge_stranger().is_ok());
        }

        assert_eq!(fields(&tab)[1], "\"anonymous\";r=3;t=15");
    }

    #[test]
    fn a_million_networks_are_not_all_remembered() {
        let clock: Arc<dyn Clock> = Arc::<Hand>::default();
        let counters = counters(FEW.log_ins, &clock);
        for number in 0..1_000_000_u32 {
            assert!(counters.check_key(&IpAddr::from(number.to_be_bytes())).is_ok());
        }

        let remembered = counters.into_state_store().0.len();
        assert!((10_000..=50_000).contains(&remembered), "{remembered}");
    }
}
