//! Removing what nobody needs any more.

use jiff::Timestamp;

use super::Auth;
use crate::Tampering;
use crate::ports::PortError;

/// What is removed in one transaction: little enough that nobody who writes meanwhile has to wait for it.
const BATCH: u32 = 500;

impl Auth {
    /// Removes the sessions that are over and the networks that are forgotten, a batch at a time, and tells how
    /// many of both there were.
    pub async fn sweep(&self) -> Result<usize, PortError> {
        let mut all = 0;
        loop {
            let removed = self.ports.sessions.remove_over(self.ports.clock.now(), BATCH).await?;
            all += removed;
            if removed < BATCH as usize {
                return Ok(all);
            }
        }
    }

    /// Removes the attempts that are old, a batch at a time, and tells how many there were; or what is wrong with
    /// them, because of which they stay.
    pub async fn sweep_audit_log(&self) -> Result<Result<usize, Tampering>, PortError> {
        let now = self.ports.clock.now();
        let old = now.saturating_sub(self.rules.audit_keep).unwrap_or(Timestamp::MIN);
        let mut all = 0;
        loop {
            let removed = match self.ports.audit_log.remove_before(old, BATCH).await? {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crate::ports::{MockAuditLog, MockSessionRepo, PortError, Ports};
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
    async fn a_sweep_goes_on_until_a_batch_is_not_full() {
        let (over, old) = (rows(1200), rows(700));
        let mut sessions = MockSessionRepo::new();
        sessions.expect_remove_over().withf(|at, _| *at == noon()).returning(move |_, limit| over(limit));
        let mut audit_log = MockAuditLog::new();
        audit_log
            .expect_remove_before()
            .withf(|at, _| *at == noon() - AUDIT_KEEP)
            .returning(move |_, limit| old(limit).map(Ok));
        let auth = auth(Ports { sessions: Arc::new(sessions), audit_log: Arc::new(audit_log), ..ports() });

        assert_eq!(auth.sweep().await.unwrap(), 1200);
        assert_eq!(auth.sweep().await.unwrap(), 0);
        assert_eq!(auth.sweep_audit_log().await.unwrap(), Ok(700));
        assert_eq!(auth.sweep_audit_log().await.unwrap(), Ok(0));
    }
}
