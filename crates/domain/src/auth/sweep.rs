//! Removing what nobody needs any more.

use super::Auth;
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
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crate::ports::{MockSessionRepo, Ports};
    use crate::testing::{auth, noon, ports};

    #[tokio::test]
    async fn a_sweep_goes_on_until_a_batch_is_not_full() {
        let left = AtomicUsize::new(1200);
        let mut sessions = MockSessionRepo::new();
        sessions.expect_remove_over().withf(|at, _| *at == noon()).returning(move |_, limit| {
            let removed = left.load(Ordering::SeqCst).min(limit as usize);
            left.fetch_sub(removed, Ordering::SeqCst);
            Ok(removed)
        });
        let auth = auth(Ports { sessions: Arc::new(sessions), ..ports() });

        assert_eq!(auth.sweep().await.unwrap(), 1200);
        assert_eq!(auth.sweep().await.unwrap(), 0);
    }
}
