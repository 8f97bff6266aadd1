//! The sessions that were looked up within the last second, so that not every request asks the store.
//!
//! A change that this process makes is seen at once: it bumps an epoch, and an entry holds only under the epoch that was
//! read before its session was. A change that another process makes is seen within a second, when the entry expires.

use std::collections::HashMap;
use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

use super::cache_epochs::Epochs;
use super::cache_invalidation::{InvalidatingSessions, InvalidatingUsers};
use crate::ports::{Clock, Ports};
use crate::{Account, Bearer, Lineage, Session, SessionId, User};

/// How long an entry holds: the time within which a change of another process must be seen.
const VALID_FOR: Duration = Duration::from_secs(1);

/// How many sessions are kept at most: a few megabytes.
const CAPACITY: usize = 10_000;

/// A live session and its user, as an access token is checked against them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LiveSession {
    pub(crate) user: User,
    /// Without its history, which no access token is checked against.
    lineage: Lineage,
    expires_at: Timestamp,
}

/// The cache. Clones share it.
#[derive(Clone)]
pub(crate) struct SessionCache {
    entries: Arc<Mutex<Entries>>,
    epochs: Arc<Epochs>,
    clock: Arc<dyn Clock>,
}

/// A look-up that has begun. Its answer holds from this moment on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lookup {
    session: SessionId,
    epoch: u64,
    begun: Duration,
}

/// Once the recent entries are half of the capacity, they become the older ones, and those before them are dropped. An
/// entry that is used moves to the recent ones. So what is dropped was not used for long, and nobody keeps the order of all.
#[derive(Default)]
struct Entries {
    recent: HashMap<SessionId, Entry>,
    older: HashMap<SessionId, Entry>,
}

struct Entry {
    epoch: u64,
    begun: Duration,
    session: Arc<LiveSession>,
}

impl LiveSession {
    /// `None` if the session has ended or its account is disabled.
    pub(crate) fn of(session: Session, account: Account) -> Option<Self> {
        let Session { user, lineage, expires_at, ended_at: None, .. } = session else { return None };
        if account.disabled_at.is_some() || account.user.id != user {
            return None;
        }
        let lineage = Lineage { superseded: Vec::new(), recoveries: Vec::new(), ..lineage };
        Some(Self { user: account.user, lineage, expires_at })
    }

    /// Whether a token with these claims is valid at this time.
    pub(crate) fn admits(&self, bearer: &Bearer, now: Timestamp) -> bool {
        self.user.id == bearer.user && now < self.expires_at && bearer.generation <= self.lineage.generation
    }

    /// Whether a token of the newest generation is shown for the first time.
    pub(crate) fn first_sees(&self, bearer: &Bearer) -> bool {
        bearer.generation == self.lineage.generation && !self.lineage.seen
    }
}

impl SessionCache {
    /// An empty cache. From now on every change through these ports invalidates what it concerns.
    pub(crate) fn in_front_of(ports: &mut Ports) -> Self {
        let epochs = Arc::new(Epochs::new());
        ports.sessions = Arc::new(InvalidatingSessions::new(ports.sessions.clone(), epochs.clone()));
        ports.users = Arc::new(InvalidatingUsers::new(ports.users.clone(), epochs.clone()));
        Self { entries: Arc::default(), epochs, clock: ports.clock.clone() }
    }

    /// To be called before the store is asked: a change that the answer does not hold yet bumps the epoch after this.
    pub(crate) fn begin(&self, bearer: &Bearer) -> Lookup {
        let epoch = self.epochs.current(bearer.session, bearer.user);
        Lookup { session: bearer.session, epoch, begun: self.clock.monotonic() }
    }

    /// Keeps what a look-up found.
    pub(crate) fn insert(&self, lookup: Lookup, session: Arc<LiveSession>) {
        let Lookup { session: id, epoch, begun } = lookup;
        self.entries.lock().insert(id, Entry { epoch, begun, session });
    }

    /// The session of a token, if it was looked up within the last second and has not changed in this process since.
    pub(crate) fn get(&self, bearer: &Bearer) -> Option<Arc<LiveSession>> {
        let Lookup { epoch, begun: now, .. } = self.begin(bearer);
        let mut entries = self.entries.lock();
        let entry = entries.get(bearer.session)?;
        let holds = entry.epoch == epoch && now.saturating_sub(entry.begun) < VALID_FOR;
        holds.then(|| entry.session.clone())
    }
}

impl Entries {
    fn insert(&mut self, id: SessionId, entry: Entry) {
        if self.recent.len() >= CAPACITY / 2 {
            self.older = take(&mut self.recent);
        }
        self.recent.insert(id, entry);
    }

    fn get(&mut self, id: SessionId) -> Option<&Entry> {
        if !self.recent.contains_key(&id) {
            let entry = self.older.remove(&id)?;
            self.insert(id, entry);
        }
        self.recent.get(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UserId;
    use crate::ports::MockClock;
    use crate::testing::{ann, ports, session};

    fn cache() -> SessionCache {
        SessionCache::in_front_of(&mut ports())
    }

    fn bearer(number: usize) -> Bearer {
        let session_id = SessionId::from_bytes((number as u128).to_be_bytes());
        Bearer { user: ann().user.id, session: session_id, generation: session().lineage.generation }
    }

    fn live() -> Arc<LiveSession> {
        Arc::new(LiveSession::of(session(), ann()).unwrap())
    }

    #[test]
    fn entry_holds_until_its_session_its_user_or_all_are_changed() {
        let changes: [fn(&Epochs); 5] = [
            |epochs| epochs.bump_session(bearer(1).session),
            |epochs| epochs.bump_session(bearer(2).session),
            |epochs| epochs.bump_user(ann().user.id),
            |epochs| epochs.bump_user(UserId(8)),
            Epochs::bump_all,
        ];
        let stays = [false, true, false, true, false];
        for (number, (change, stays)) in changes.into_iter().zip(stays).enumerate() {
            let cache = cache();
            cache.insert(cache.begin(&bearer(1)), live());
            assert_eq!(cache.get(&bearer(1)), Some(live()));
            assert_eq!(cache.get(&bearer(2)), None);

            change(&cache.epochs);

            assert_eq!(cache.get(&bearer(1)).is_some(), stays, "{number}");
        }
    }

    #[test]
    fn look_up_that_a_change_overtakes_is_never_used() {
        let cache = cache();

        let lookup = cache.begin(&bearer(1));
        cache.epochs.bump_session(bearer(1).session);
        cache.insert(lookup, live());

        assert_eq!(cache.get(&bearer(1)), None);
    }

    #[test]
    fn entry_expires_a_second_after_its_look_up_began() {
        let mut clock = MockClock::new();
        for microseconds in [0, 999_999, 1_000_000] {
            clock.expect_monotonic().once().returning(move || Duration::from_micros(microseconds));
        }
        let cache = SessionCache::in_front_of(&mut Ports { clock: Arc::new(clock), ..ports() });

        cache.insert(cache.begin(&bearer(1)), live());

        assert!(cache.get(&bearer(1)).is_some());
        assert!(cache.get(&bearer(1)).is_none());
    }

    #[test]
    fn capacity_is_bounded_and_what_is_used_stays() {
        let cache = cache();
        cache.insert(cache.begin(&bearer(0)), live());

        for number in 1..3 * CAPACITY {
            cache.insert(cache.begin(&bearer(number)), live());
            assert!(cache.get(&bearer(0)).is_some(), "{number}");
            let entries = cache.entries.lock();
            assert!(entries.recent.len() + entries.older.len() <= CAPACITY);
        }

        assert_eq!(cache.get(&bearer(1)), None);
        assert!(cache.get(&bearer(3 * CAPACITY - 1)).is_some());
    }
}
