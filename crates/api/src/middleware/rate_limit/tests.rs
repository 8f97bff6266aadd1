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
