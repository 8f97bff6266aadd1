//! Counters that tell whether a session may have changed since it was cached.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{SessionId, UserId};

/// How many epochs there are for sessions, and for users. Those that share one are looked up again together.
const EPOCHS: usize = 4096;

/// Counters of changes. None ever goes back, so the sum of some is the same only while each of them is.
pub(super) struct Epochs {
    all: AtomicU64,
    sessions: Box<[AtomicU64]>,
    users: Box<[AtomicU64]>,
}

impl Epochs {
    pub(super) fn new() -> Self {
        let counters = || (0..EPOCHS).map(|_| AtomicU64::new(0)).collect();
        Self { all: AtomicU64::new(0), sessions: counters(), users: counters() }
    }

    pub(super) fn current(&self, session: SessionId, user: UserId) -> u64 {
        let counters = [&self.all, self.of_session(session), self.of_user(user)];
        counters.iter().map(|counter| counter.load(Ordering::SeqCst)).sum()
    }

    pub(super) fn bump_session(&self, session: SessionId) {
        self.of_session(session).fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn bump_user(&self, user: UserId) {
        self.of_user(user).fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn bump_all(&self) {
        self.all.fetch_add(1, Ordering::SeqCst);
    }

    fn of_session(&self, session: SessionId) -> &AtomicU64 {
        // The end of an identifier is random; its beginning is a time (RFC 9562, section 5.7).
        let [.., a, b] = *session.as_bytes();
        &self.sessions[usize::from(u16::from_be_bytes([a, b])) % EPOCHS]
    }

    fn of_user(&self, user: UserId) -> &AtomicU64 {
        let [.., a, b] = user.0.to_be_bytes();
        &self.users[usize::from(u16::from_be_bytes([a, b])) % EPOCHS]
    }
}
