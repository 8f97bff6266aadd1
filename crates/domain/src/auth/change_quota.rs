//! How often an account may change something: so many times within an hour, as many of them at once.
//!
//! Kept in memory, by each server for itself: a restart forgets it, and two servers allow twice as much. It keeps a
//! client from writing without bound and from asking which names are taken; for both, the order of magnitude counts.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::UserId;
use crate::ports::Clock;

const HOUR: Duration = Duration::from_hours(1);

/// How many accounts are remembered before those are dropped whose quota is whole again. Each of them had a password
/// checked within the hour, so the speed of hashing bounds their number.
const PRUNE_AT: usize = 1024;

/// A quota per account, without one if nothing is limited. Refilled evenly (GCRA).
#[derive(Clone)]
pub(super) struct ChangeQuota {
    per_hour: Option<NonZeroU32>,
    clock: Arc<dyn Clock>,
    accounts: Arc<Mutex<Accounts>>,
}

/// When the quota of each account is whole again.
#[derive(Default)]
struct Accounts {
    whole_at: HashMap<UserId, Duration>,
    after_prune: usize,
}

impl ChangeQuota {
    pub(super) fn new(per_hour: Option<NonZeroU32>, clock: Arc<dyn Clock>) -> Self {
        Self { per_hour, clock, accounts: Arc::default() }
    }

    /// Whether the account has a change left; if not, how long until it has.
    pub(super) fn check(&self, account: UserId) -> Result<(), Duration> {
        self.next(account).map(drop)
    }

    /// Takes one change of the account, if it has one left; if not, tells how long until it has.
    pub(super) fn charge(&self, account: UserId) -> Result<(), Duration> {
        let mut accounts = self.accounts.lock();
        let Some(whole_at) = self.whole_after(&accounts, account)? else { return Ok(()) };
        accounts.whole_at.insert(account, whole_at);
        if accounts.whole_at.len() >= PRUNE_AT.max(2 * accounts.after_prune) {
            let now = self.clock.monotonic();
            accounts.whole_at.retain(|_, whole_at| *whole_at > now);
            accounts.after_prune = accounts.whole_at.len();
        }
        Ok(())
    }

    fn next(&self, account: UserId) -> Result<Option<Duration>, Duration> {
        self.whole_after(&self.accounts.lock(), account)
    }

    /// When the quota would be whole again after one change more; nothing where there is no quota.
    fn whole_after(&self, accounts: &Accounts, account: UserId) -> Result<Option<Duration>, Duration> {
        let Some(per_hour) = self.per_hour else { return Ok(None) };
        let now = self.clock.monotonic();
        let whole_at = accounts.whole_at.get(&account).map_or(now, |whole_at| now.max(*whole_at));
        let whole_after = whole_at + HOUR / per_hour.get();
        match whole_after.checked_sub(now + HOUR) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => Ok(Some(whole_after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use jiff::Timestamp;

    use super::*;

    #[derive(Default)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            unreachable!("the time of day can be set back")
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }

    fn quota(per_hour: u32) -> (ChangeQuota, Arc<Hand>) {
        let clock = Arc::new(Hand::default());
        (ChangeQuota::new(NonZeroU32::new(per_hour), clock.clone()), clock)
    }

    #[test]
    fn quota_refills_evenly_and_apart_for_each_account() {
        let (quota, clock) = quota(10);
        let (ann, bob) = (UserId(1), UserId(2));

        for _ in 0..10 {
            assert_eq!(quota.check(ann), Ok(()));
            assert_eq!(quota.charge(ann), Ok(()));
        }
        assert_eq!(quota.charge(ann), Err(Duration::from_mins(6)));
        assert_eq!(quota.charge(bob), Ok(()));
        clock.0.store(359, Ordering::Relaxed);
        assert_eq!(quota.check(ann), Err(Duration::from_secs(1)));
        clock.0.store(360, Ordering::Relaxed);
        assert_eq!([quota.charge(ann), quota.charge(ann)], [Ok(()), Err(Duration::from_mins(6))]);
    }

    #[test]
    fn without_a_quota_nothing_is_limited_or_remembered() {
        let (quota, _) = quota(0);

        for _ in 0..1000 {
            assert_eq!(quota.charge(UserId(1)), Ok(()));
        }
        assert!(quota.accounts.lock().whole_at.is_empty());
    }

    #[test]
    fn accounts_whose_quota_is_whole_are_forgotten() {
        let (quota, clock) = quota(1);
        for hour in 0..10 {
            clock.0.store(hour * 3600, Ordering::Relaxed);
            for number in 0..1000 {
                assert_eq!(quota.charge(UserId(i64::from(number) + 1000 * hour.cast_signed())), Ok(()));
            }
        }

        assert!(quota.accounts.lock().whole_at.len() <= 2048, "{}", quota.accounts.lock().whole_at.len());
        assert_eq!(quota.check(UserId(9000)), Err(HOUR));
    }
}
