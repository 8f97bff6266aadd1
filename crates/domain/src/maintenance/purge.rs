//! Removing what is over, in batches.

use std::time::Duration;

use jiff::Timestamp;

use super::Maintenance;
use crate::Tampering;
use crate::ports::{AuditLog, PortError};
use crate::steady::Steady;

/// What is removed in one transaction: little enough that nobody who writes meanwhile has to wait for it.
const BATCH: u32 = 500;

/// How many names are remembered that nobody has and somebody tried, in less than 50 MB of either database. There are more
/// for an hour, as many as can be hashed meanwhile: a name is counted only when a password is compared for it.
const MOST_STRAYS: u32 = 150_000;

/// For how long one is.
const STRAY_TTL: Duration = Duration::from_hours(90 * 24);

impl Maintenance {
    /// Removes the sessions that are over, the networks that are forgotten and what nobody's names were tried with, a
    /// batch at a time, and tells how many of all there were.
    pub async fn purge(&self) -> Result<usize, PortError> {
        let mut all = 0;
        loop {
            let removed = self.sessions.remove_over(self.clock.now(), BATCH).await?;
            all += removed;
            if removed < BATCH as usize {
                break;
            }
        }
        // By the clock that their times are of.
        let now = self.throttle_clock.as_ref().map_or_else(|| self.clock.now(), Steady::now);
        let old = now.saturating_sub(STRAY_TTL).unwrap_or(Timestamp::MIN);
        // Once: it takes a look at all of them.
        let too_many = self.throttle.newest_strays_end(MOST_STRAYS).await?.unwrap_or(Timestamp::MIN);
        loop {
            let removed = self.throttle.remove_strays(old.max(too_many), BATCH).await?;
            all += removed;
            if removed < BATCH as usize {
                return Ok(all);
            }
        }
    }

    /// Blanks what could point to a person in the events of accounts that were deleted, a batch at a time.
    pub async fn blank_deleted(&self) -> Result<(), PortError> {
        blank_deleted(&*self.audit_log).await
    }

    /// Removes the attempts that are old, a batch at a time, and tells how many there were; or what is wrong with
    /// them, because of which they stay.
    pub async fn purge_audit_log(&self) -> Result<Result<usize, Tampering>, PortError> {
        let now = self.clock.now();
        let old = now.saturating_sub(self.audit_keep).unwrap_or(Timestamp::MIN);
        let mut all = 0;
        loop {
            let removed = match self.audit_log.remove_before(old, BATCH).await? {
                Ok(removed) => removed,
                Err(tampering) => return Ok(Err(tampering)),
            };
            all += removed;
            if removed < BATCH as usize {
                return Ok(Ok(all));
            }
        }
    }
}

/// Blanks what could point to a person in the events of accounts that were deleted.
pub(crate) async fn blank_deleted(audit_log: &dyn AuditLog) -> Result<(), PortError> {
    while audit_log.blank_deleted(BATCH).await? {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::STRAY_TTL;
    use crate::ports::{MockAuditLog, MockSessionRepo, MockThrottle, PortError, Ports};
    use crate::testing::{AUDIT_KEEP, auth, noon, ports};

    fn rows(number: usize) -> impl Fn(u32) -> Result<usize, PortError> {
        let left = AtomicUsize::new(number);
        move |limit| {
            let removed = left.load(Ordering::SeqCst).min(limit as usize);
            left.fetch_sub(removed, Ordering::SeqCst);
            Ok(removed)
        }
    }

    #[tokio::test]
    async fn blanking_goes_on_until_nothing_is_left() {
        let left = AtomicUsize::new(3);
        let mut audit_log = MockAuditLog::new();
        audit_log.expect_blank_deleted().withf(|limit| *limit == 500).times(4).returning(move |_| {
            Ok(left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok())
        });
        let maintenance = auth(Ports { audit_log: Arc::new(audit_log), ..ports() }).maintenance();

        maintenance.blank_deleted().await.unwrap();
    }

    #[tokio::test]
    async fn a_sweep_goes_on_until_a_batch_is_not_full() {
        let (over, old, strays) = (rows(1200), rows(700), rows(1300));
        let mut sessions = MockSessionRepo::new();
        sessions.expect_remove_over().withf(|at, _| *at == noon()).returning(move |_, limit| over(limit));
        let mut throttle = MockThrottle::new();
        throttle
            .expect_newest_strays_end()
            .withf(|most| *most == 150_000)
            .once()
            .returning(|_| Ok(Some(noon() - Duration::from_secs(9))));
        throttle.expect_newest_strays_end().returning(|_| Ok(None));
        throttle
            .expect_remove_strays()
            .withf(|at, _| *at == noon() - Duration::from_secs(9))
            .times(3)
            .returning(move |_, limit| strays(limit));
        throttle.expect_remove_strays().withf(|at, _| *at == noon() - STRAY_TTL).returning(|_, _| Ok(0));
        let mut audit_log = MockAuditLog::new();
        audit_log
            .expect_remove_before()
            .withf(|at, _| *at == noon() - AUDIT_KEEP)
            .returning(move |_, limit| old(limit).map(Ok));
        let (sessions, throttle, audit_log) = (Arc::new(sessions), Arc::new(throttle), Arc::new(audit_log));
        let maintenance = auth(Ports { sessions, throttle, audit_log, ..ports() }).maintenance();

        assert_eq!(maintenance.purge().await.unwrap(), 2500);
        assert_eq!(maintenance.purge().await.unwrap(), 0);
        assert_eq!(maintenance.purge_audit_log().await.unwrap(), Ok(700));
        assert_eq!(maintenance.purge_audit_log().await.unwrap(), Ok(0));
    }
}
