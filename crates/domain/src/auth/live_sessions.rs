//! The live sessions that were asked about lately, so that not every request asks the store.
//!
//! What is kept here is never trusted by itself: it holds for the [`Edition`] it was looked up under, and the store
//! tells whether that is the present one.

use std::collections::HashMap;
use std::mem::take;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::ports::Edition;
use crate::{Account, Bearer, Lineage, Session, SessionId, User};

/// How many are kept at most: a few megabytes of them.
const MOST: usize = 10_000;

/// What a token is held against.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LiveSession {
    pub(super) user: User,
    /// Without its past, which no access token is held against.
    lineage: Lineage,
    expires_at: Timestamp,
}

/// The sessions that are kept.
#[derive(Clone, Default)]
pub(super) struct LiveSessions(Arc<Mutex<Shelves>>);

/// When the first shelf is half of what may be kept, it becomes the second, and what was there is forgotten. What
/// is still asked for moves to the first again: so those that are forgotten have not been asked for in a while,
/// and nobody keeps the order of all.
#[derive(Default)]
struct Shelves {
    lately: HashMap<SessionId, Kept>,
    before: HashMap<SessionId, Kept>,
}

type Kept = (Edition, Arc<LiveSession>);

impl LiveSession {
    /// What is to be known of a session, unless it has ended or its account is disabled.
    pub(super) fn of(session: Session, account: Account) -> Option<Self> {
        let Session { user, lineage, expires_at, ended_at: None, .. } = session else { return None };
        if account.disabled_at.is_some() || account.user.id != user {
            return None;
        }
        let lineage = Lineage { superseded: Vec::new(), recoveries: Vec::new(), ..lineage };
        Some(Self { user: account.user, lineage, expires_at })
    }

    /// Whether a token that says this holds now.
    pub(super) fn admits(&self, bearer: &Bearer, now: Timestamp) -> bool {
        self.user.id == bearer.user && now < self.expires_at && bearer.generation <= self.lineage.generation
    }

    /// Whether this is the first that is heard of a token of the newest generation.
    pub(super) fn first_sees(&self, bearer: &Bearer) -> bool {
        bearer.generation == self.lineage.generation && !self.lineage.seen
    }
}

impl LiveSessions {
    /// What was looked up under this very edition.
    pub(super) fn recall(&self, id: SessionId, edition: Edition) -> Option<Arc<LiveSession>> {
        let mut shelves = self.0.lock();
        if !shelves.lately.contains_key(&id) {
            let kept = shelves.before.remove(&id)?;
            shelves.put(id, kept);
        }
        let (kept_under, session) = shelves.lately.get(&id)?;
        (*kept_under == edition).then(|| session.clone())
    }

    /// Keeps what was looked up after `edition` was taken.
    pub(super) fn keep(&self, id: SessionId, edition: Edition, session: Arc<LiveSession>) {
        self.0.lock().put(id, (edition, session));
    }
}

impl Shelves {
    fn put(&mut self, id: SessionId, kept: Kept) {
        if self.lately.len() >= MOST / 2 {
            self.before = take(&mut self.lately);
        }
        self.lately.insert(id, kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ann, session};

    const EDITION: Edition = Edition(4);

    fn id(number: usize) -> SessionId {
        SessionId::from_bytes((number as u128).to_be_bytes())
    }

    fn live() -> Arc<LiveSession> {
        Arc::new(LiveSession::of(session(), ann()).unwrap())
    }

    #[test]
    fn what_was_kept_is_recalled_under_its_own_edition_only() {
        let sessions = LiveSessions::default();
        sessions.keep(id(1), EDITION, live());

        assert_eq!(sessions.recall(id(1), EDITION), Some(live()));
        assert_eq!(sessions.recall(id(1), Edition(3)), None);
        assert_eq!(sessions.recall(id(1), Edition(5)), None);
        assert_eq!(sessions.recall(id(2), EDITION), None);
    }

    #[test]
    fn no_more_are_kept_than_may_be_and_those_that_are_asked_for_stay() {
        let sessions = LiveSessions::default();
        sessions.keep(id(0), EDITION, live());

        for number in 1..3 * MOST {
            sessions.keep(id(number), EDITION, live());
            assert!(sessions.recall(id(0), EDITION).is_some(), "{number}");
            let shelves = sessions.0.lock();
            assert!(shelves.lately.len() + shelves.before.len() <= MOST);
        }

        assert_eq!(sessions.recall(id(1), EDITION), None);
        assert!(sessions.recall(id(3 * MOST - 1), EDITION).is_some());
    }
}
