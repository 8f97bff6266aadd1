//! How many wrong passwords may be tried, decided from what one counter holds alone.
//!
//! An attempt takes a place before its password is compared, and gives it back with what came of it. So no more are
//! compared at once than may fail, however many come at once; [`Tries::admit`] tells whether there is a place. It is
//! pure, so that every store decides the same, and so that all that can happen is tried out below.
//!
//! Times here are steady, as [`Auth`](crate::Auth) tells them: a clock that is set while a server runs changes none of
//! them, until it has stayed so for longer than any delay lasts. They can still lie ahead of `now`, where another
//! instance's clock is fast, or this one's was, and then a delay begins anew: it is never shorter for that, and nobody is
//! kept out for longer than it lasts. Clocks that differ make a delay shorter by as much, but never the number of failures
//! greater, for that is counted; unless they differ by as much as a place is kept, and one of them takes it for lost.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::{ClientNetwork, KNOWN_NETWORK_TTL, UserId};

/// How many wrong passwords in a row cost nothing.
pub const FREE_FAILURES: u32 = 5;

/// How long a place is kept for an attempt of which nothing is heard. An answer takes less than that, so whoever might
/// have learned something has given their place back.
pub const RESERVATION_TTL: Duration = Duration::from_secs(15);

/// The delay after the last free failure; each further one doubles it.
const FIRST_DELAY: Duration = Duration::from_secs(1);

/// The longest delay.
const LONGEST_DELAY: Duration = Duration::from_mins(5);

/// When it is worth asking again once a counter is full. No time opens it: only an operator, a new password, or a success
/// does, of which nobody knows when.
const FULL: Duration = Duration::from_hours(24);

/// The choices an operator makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThrottleRules {
    /// How many wrong passwords in a row are compared at most.
    pub most_failures: u32,
}

/// A name as it is counted by: a digest, for people type their password into the wrong field. All spellings of a name
/// have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CountedName(pub [u8; 16]);

/// From where attempts are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Whence {
    /// A network from which whoever has the name has logged in.
    Known(ClientNetwork),
    /// Anywhere else.
    Elsewhere,
}

/// What attempts are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Counter {
    /// The name that was tried.
    pub name: CountedName,
    /// From where.
    pub whence: Whence,
    /// Who had the name when that was looked up. They may have another by now, or be gone.
    pub owner: Option<UserId>,
}

/// What a counter holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tries {
    /// How many wrong passwords were compared in a row.
    pub failures: u32,
    /// When the last of them was; if there is none, when the first attempt took its place.
    pub failed_at: Timestamp,
    /// When each attempt took its place that is under way.
    pub undecided: Vec<Timestamp>,
}

/// Whether an attempt may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has a place.
    Go,
    /// It depends on what comes of those that have one.
    Wait,
    /// Too many have failed.
    Refuse {
        /// When there is a place, if nobody else takes it.
        retry_after: Duration,
    },
}

impl Tries {
    /// A counter that nobody has used, at this time.
    pub fn none(at: Timestamp) -> Self {
        Self { failures: 0, failed_at: at, undecided: Vec::new() }
    }

    /// Whether nothing would be lost by forgetting it.
    pub fn is_nothing(&self) -> bool {
        self.failures == 0 && self.undecided.is_empty()
    }

    /// Decides about an attempt, and tells what the counter holds after that.
    pub fn admit(&self, now: Timestamp, rules: ThrottleRules) -> (Self, Verdict) {
        let mut tries = self.as_seen(now);
        let verdict = tries.verdict(now, rules);
        if verdict == Verdict::Go {
            tries.undecided.push(now);
        }
        (tries, verdict)
    }

    /// After the attempt that took its place at `reserved` has failed. It counts though its place was lost.
    #[must_use]
    pub fn failed(&self, reserved: Timestamp, now: Timestamp) -> Self {
        let tries = self.given_back(reserved);
        Self { failures: tries.failures.saturating_add(1), failed_at: now, ..tries }
    }

    /// After it has succeeded.
    #[must_use]
    pub fn succeeded(&self, reserved: Timestamp) -> Self {
        Self { failures: 0, ..self.given_back(reserved) }
    }

    /// After it was given up, and nobody learned what would have come of it.
    #[must_use]
    pub fn given_back(&self, reserved: Timestamp) -> Self {
        let mut tries = self.clone();
        // Those of one time are alike.
        if let Some(place) = tries.undecided.iter().position(|then| *then == reserved) {
            tries.undecided.swap_remove(place);
        }
        tries
    }

    /// When it goes on under another name. Those that are under way end under the one they began with, so they count as
    /// failures here: or whoever changes their name again and again would never have failed.
    #[must_use]
    pub fn passed_on(&self) -> Self {
        let under_way = u32::try_from(self.undecided.len()).unwrap_or(u32::MAX);
        Self {
            failures: self.failures.saturating_add(under_way),
            failed_at: self
                .undecided
                .iter()
                .copied()
                .max()
                .map_or(self.failed_at, |at| at.max(self.failed_at)),
            undecided: Vec::new(),
        }
    }

    fn verdict(&self, now: Timestamp, rules: ThrottleRules) -> Verdict {
        if self.failures >= rules.most_failures {
            return Verdict::Refuse { retry_after: FULL };
        }
        let passed = Duration::try_from(now.duration_since(self.failed_at)).unwrap_or_default();
        if let Some(retry_after) = self.delay().checked_sub(passed).filter(|left| !left.is_zero()) {
            return Verdict::Refuse { retry_after };
        }
        // Each of those that are under way may be a failure. In a row of delays they come one by one, for each has to
        // wait for what the one before it costs.
        let places = FREE_FAILURES.saturating_sub(self.failures).max(1);
        if self.undecided.len() < places as usize { Verdict::Go } else { Verdict::Wait }
    }

    fn delay(&self) -> Duration {
        let Some(doublings) = self.failures.checked_sub(FREE_FAILURES) else { return Duration::ZERO };
        1_u32.checked_shl(doublings).map_or(LONGEST_DELAY, |times| (FIRST_DELAY * times).min(LONGEST_DELAY))
    }

    /// Without the places that were lost, and with a time that lies ahead brought to now.
    fn as_seen(&self, now: Timestamp) -> Self {
        const TTL: SignedDuration = SignedDuration::from_secs(RESERVATION_TTL.as_secs().cast_signed());
        let held = |then: &Timestamp| now.duration_since(*then) < TTL;
        // One of another instance, whose clock is a little fast, has to be found again when it is given back.
        let brought = |then: Timestamp| if then.duration_since(now) < TTL { then } else { now };
        Self {
            failures: self.failures,
            failed_at: self.failed_at.min(now),
            undecided: self.undecided.iter().copied().filter(held).map(brought).collect(),
        }
    }
}

impl Counter {
    /// For an attempt at `at` from this network, where whoever has the name, if anybody, last logged in from it then.
    pub fn of(
        name: CountedName,
        owner: Option<(UserId, Option<Timestamp>)>,
        network: Option<ClientNetwork>,
        at: Timestamp,
    ) -> Self {
        let stale = at.saturating_sub(KNOWN_NETWORK_TTL).unwrap_or(Timestamp::MIN);
        let is_known = owner.and_then(|(_, last_login_at)| last_login_at).is_some_and(|last| last > stale);
        let whence = network.filter(|_| is_known).map_or(Whence::Elsewhere, Whence::Known);
        Self { name, whence, owner: owner.map(|(owner, _)| owner) }
    }
}

impl Whence {
    /// As it is kept: nothing for elsewhere, the four bytes of an IPv4 address, or the first eight of an IPv6 one.
    pub fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Elsewhere => Vec::new(),
            Self::Known(network) => match network.first_address() {
                std::net::IpAddr::V4(address) => address.octets().to_vec(),
                std::net::IpAddr::V6(address) => address.octets()[..8].to_vec(),
            },
        }
    }

    /// What was kept, if it can have been.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::Elsewhere);
        }
        if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
            return Some(Self::Known(ClientNetwork::of(octets.into())));
        }
        let octets = <[u8; 8]>::try_from(bytes).ok()?;
        let network = u128::from(u64::from_be_bytes(octets)) << 64;
        Some(Self::Known(ClientNetwork::of(std::net::Ipv6Addr::from_bits(network).into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: ThrottleRules = ThrottleRules { most_failures: 100 };

    fn at(millisecond: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + millisecond).unwrap()
    }

    /// After so many failures, the last of them at this second.
    fn failed(failures: u32, second: i64) -> Tries {
        Tries { failures, ..Tries::none(at(second * 1000)) }
    }

    fn verdict(tries: &Tries, second: i64) -> Verdict {
        tries.admit(at(second * 1000), RULES).1
    }

    fn seconds(verdict: Verdict) -> Option<u64> {
        match verdict {
            Verdict::Refuse { retry_after } => Some(retry_after.as_secs()),
            Verdict::Go | Verdict::Wait => None,
        }
    }

    #[test]
    fn after_five_failures_each_further_one_doubles_the_delay_up_to_five_minutes() {
        let delays: Vec<_> =
            (0..=16).map(|failures| seconds(verdict(&failed(failures, 0), 0)).unwrap_or(0)).collect();

        assert_eq!(delays, [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(seconds(verdict(&failed(99, 0), 0)), Some(300));
    }

    #[test]
    fn a_delay_that_was_waited_out_is_over_to_the_microsecond_and_no_earlier() {
        for failures in [5, 6, 9, 40, 99] {
            let tries = failed(failures, 0);
            let Verdict::Refuse { retry_after } = verdict(&tries, 0) else { panic!("no delay") };
            let over = at(0) + retry_after;

            assert_eq!(tries.admit(over, RULES).1, Verdict::Go, "{failures}");
            let early = over - Duration::from_micros(1);
            assert!(matches!(tries.admit(early, RULES).1, Verdict::Refuse { .. }), "{failures}");
        }
    }

    #[test]
    fn a_full_counter_stays_full_whatever_time_passes() {
        let tries = failed(100, 0);

        for second in [-3600, 0, 3600, 400 * 86_400] {
            assert_eq!(seconds(verdict(&tries, second)), Some(86_400));
        }
        assert_eq!(verdict(&tries.succeeded(at(0)), 0), Verdict::Go);
    }

    #[test]
    fn no_more_are_under_way_than_may_fail_and_one_by_one_among_delays() {
        for (failures, places) in [(0, 5), (1, 4), (4, 1), (5, 1), (99, 1)] {
            let (mut tries, mut went) = (failed(failures, -300), 0);
            for _ in 0..20 {
                let (next, verdict) = tries.admit(at(0), RULES);
                assert_eq!(verdict, if went < places { Verdict::Go } else { Verdict::Wait }, "{failures}");
                went += u32::from(verdict == Verdict::Go);
                tries = next;
            }
            assert_eq!(went, places);
        }
    }

    #[test]
    fn a_place_of_which_nothing_is_heard_is_lost_after_fifteen_seconds() {
        let full = (0..5).fold(failed(0, 0), |tries, _| tries.admit(at(0), RULES).0);

        assert_eq!(full.admit(at(14_999), RULES).1, Verdict::Wait);
        let (after, verdict) = full.admit(at(15_000), RULES);
        assert_eq!((verdict, after.undecided), (Verdict::Go, vec![at(15_000)]));
        // What is heard late counts all the same.
        assert_eq!(full.admit(at(15_000), RULES).0.failed(at(0), at(16_000)).failures, 1);
    }

    #[test]
    fn a_clock_that_is_behind_frees_nothing_and_keeps_nobody_out_for_longer_than_a_delay() {
        // A restart after the clock was set back by an hour.
        let tries = failed(8, 3600);
        let (seen, verdict) = tries.admit(at(0), RULES);
        assert_eq!(seconds(verdict), Some(8));
        assert_eq!(seconds(seen.admit(at(7000), RULES).1), Some(1));
        assert_eq!(seen.admit(at(8000), RULES).1, Verdict::Go);

        let stuck = Tries { undecided: vec![at(3_600_000)], ..failed(8, -300) };
        let (seen, verdict) = stuck.admit(at(0), RULES);
        assert_eq!(verdict, Verdict::Wait);
        assert_eq!(seen.admit(at(15_000), RULES).1, Verdict::Go);
    }

    #[test]
    fn a_place_taken_by_a_clock_that_is_a_little_fast_is_found_when_it_is_given_back() {
        let tries = Tries { undecided: vec![at(2000)], ..failed(0, 0) };

        let (seen, _) = tries.admit(at(0), RULES);

        assert_eq!(seen.given_back(at(2000)).undecided, [at(0)]);
    }

    #[test]
    fn whatever_comes_in_whatever_order_no_row_of_failures_is_longer_than_the_limit() {
        const LIMIT: u32 = 10;
        let rules = ThrottleRules { most_failures: LIMIT };
        // A generator of Knuth's (MMIX); a test needs the same chance each time.
        let mut state: u64 = 42;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut fullest = 0;
        for _ in 0..300 {
            let (mut tries, mut now, mut under_way, mut row) = (Tries::none(at(0)), 0, Vec::new(), 0);
            for _ in 0..400 {
                match draw(10) {
                    0..=3 => {
                        let (next, verdict) = tries.admit(at(now), rules);
                        if verdict == Verdict::Go {
                            under_way.push(at(now));
                        }
                        tries = next;
                    }
                    4..=7 if !under_way.is_empty() => {
                        let place = usize::try_from(draw(under_way.len() as u64)).unwrap();
                        let reserved = under_way.swap_remove(place);
                        match draw(20) {
                            0 if row < LIMIT => (tries, row) = (tries.succeeded(reserved), 0),
                            1 => tries = tries.given_back(reserved),
                            _ => (tries, row) = (tries.failed(reserved, at(now)), row + 1),
                        }
                        assert_eq!(tries.failures, row);
                    }
                    // Less in all than a place is kept for, until everything is decided.
                    8 if under_way.is_empty() => now += 300_000,
                    _ => {}
                }
                assert_eq!(tries.undecided.len(), under_way.len());
                let possible = row + u32::try_from(under_way.len()).unwrap();
                assert!(possible <= LIMIT.max(FREE_FAILURES), "{row} failures and {under_way:?}");
                fullest = fullest.max(row);
            }
        }
        assert_eq!(fullest, LIMIT, "none came that far, so nothing was shown");
    }

    #[test]
    fn where_it_was_tried_from_is_read_as_it_was_written() {
        let known = |text: &str| Whence::Known(ClientNetwork::of(text.parse().unwrap()));
        for (whence, length) in [(Whence::Elsewhere, 0), (known("192.0.2.7"), 4), (known("2001:db8::1"), 8)] {
            assert_eq!(whence.to_bytes().len(), length);
            assert_eq!(Whence::from_bytes(&whence.to_bytes()), Some(whence));
        }
        assert_eq!(Whence::from_bytes(&[1, 2, 3]), None);
    }
}
