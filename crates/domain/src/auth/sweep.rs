//! Removing what nobody needs any more.

use jiff::Timestamp;

use super::Auth;
use crate::ports::PortError;

/// What is removed in one transaction: little enough that nobody who writes meanwhile has to wait for it.
const BATCH: u32 = 500;

impl Auth {
    /// Removes the sessions that are over, the networks that are forgotten and the attempts that are old, a batch
    /// at a time, and tells how many of all there were.
    pub async fn sweep(&self) -> Result<usize, PortError> {
        let now = self.ports.clock.now();
        let over = in_batches(|| self.ports.sessions.remove_over(now, BATCH)).await?;
        let old = now.saturating_sub(self.rules.audit_keep).unwrap_or(Timestamp::MIN);
        Ok(over + in_batches(|| self.ports.audit_log.remove_before(old, BATCH)).await?)
    }
}

async fn in_batches<Removal>(remove: impl Fn() -> Removal) -> Result<usize, PortError>
where
    Removal: Future<Output = Result<usize, PortError>>,
{
    let mut all = 0;
    loop {
        let removed = remove().await?;
        all += removed;
        if removed < BATCH as usize {
            return Ok(all);
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
            .returning(move |_, limit| old(limit));
        let auth = auth(Ports { sessions: Arc::new(sessions), audit_log: Arc::new(audit_log), ..ports() });

        assert_eq!(auth.sweep().await.unwrap(), 1900);
        assert_eq!(auth.sweep().await.unwrap(), 0);
    }
}
