//! Which edition of a session is the present one, told without asking the file.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domain::ports::{Clock, Edition};
use domain::{SessionId, UserId};

/// For how long a look at the file tells what others have not done since.
const HOLDS: Duration = Duration::from_secs(1);

/// How many counters sessions and users share. A change is taken for a change of all that share its counter, which
/// costs each of them one look-up.
const COUNTERS: u64 = 4096;

/// Counters of changes. None ever goes back, so that their sum is the same only while each of them is.
pub(crate) struct Editions {
    /// Of those that may concern anybody, every change by another process among them.
    of_all: AtomicU64,
    of_some: Box<[AtomicU64]>,
    /// When the file was last looked at, in microseconds of the clock.
    looked_at: AtomicU64,
    clock: Arc<dyn Clock>,
}

/// Whose sessions a write may change, or how an account looks to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Concerns {
    Nobody,
    Session(SessionId),
    User(UserId),
    Everybody,
}

impl Editions {
    /// The editions of a file that is looked at now.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let looked_at = AtomicU64::new(microseconds(clock.monotonic()));
        let of_some = (0..COUNTERS).map(|_| AtomicU64::new(0)).collect();
        Self { of_all: AtomicU64::new(0), of_some, looked_at, clock }
    }

    /// The present edition; none when nobody has looked lately at what others did.
    pub(crate) fn present(&self, session: SessionId, owner: UserId) -> Option<Edition> {
        // In this order: the changes that a look found are counted before the look is.
        let looked_at = self.looked_at.load(Ordering::SeqCst);
        let counters = [&self.of_all, self.of_session(session), self.of_user(owner)];
        let edition = counters.iter().map(|counter| counter.load(Ordering::SeqCst)).sum();
        let age = microseconds(self.clock.monotonic()).saturating_sub(looked_at);
        (u128::from(age) < HOLDS.as_micros()).then_some(Edition(edition))
    }

    /// Counts a change, once it can be seen and before it is answered.
    pub(crate) fn count(&self, concerns: Concerns) {
        let counter = match concerns {
            Concerns::Nobody => return,
            Concerns::Session(session) => self.of_session(session),
            Concerns::User(user) => self.of_user(user),
            Concerns::Everybody => &self.of_all,
        };
        counter.fetch_add(1, Ordering::SeqCst);
    }

    /// Has `look` tell whether others changed anything, and notes when, unless it could not.
    pub(crate) fn look<E>(&self, look: impl FnOnce() -> Result<bool, E>) {
        // Not when it ends: what happens while it looks it may have missed.
        let begun = microseconds(self.clock.monotonic());
        let Ok(changed) = look() else { return };
        if changed {
            self.count(Concerns::Everybody);
        }
        self.looked_at.store(begun, Ordering::SeqCst);
    }

    fn of_session(&self, session: SessionId) -> &AtomicU64 {
        // The end of an identifier is random, its beginning is a time.
        let [.., a, b] = *session.as_bytes();
        self.counter(u16::from_be_bytes([a, b]).into())
    }

    fn of_user(&self, user: UserId) -> &AtomicU64 {
        self.counter(user.0.unsigned_abs())
    }

    fn counter(&self, number: u64) -> &AtomicU64 {
        &self.of_some[(number % COUNTERS) as usize]
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::StillClock;

    const NOBODY_CHANGED: Result<bool, ()> = Ok(false);

    fn session(number: u8) -> SessionId {
        SessionId::from_bytes([number; 16])
    }

    #[test]
    fn a_change_makes_another_edition_of_whom_it_concerns_and_of_no_other() {
        let editions = Editions::new(Arc::new(StillClock::default()));
        let present = || {
            [(1, 1), (2, 1), (3, 2)]
                .map(|(number, user)| editions.present(session(number), UserId(user)).unwrap())
        };
        for (concerns, changed) in [
            (Concerns::Nobody, [false, false, false]),
            (Concerns::Session(session(1)), [true, false, false]),
            (Concerns::User(UserId(1)), [true, true, false]),
            (Concerns::Everybody, [true, true, true]),
        ] {
            let before = present();
            editions.count(concerns);
            let after = present();
            assert_eq!([0, 1, 2].map(|n| before[n] != after[n]), changed, "{concerns:?}");
        }
    }

    #[test]
    fn there_is_no_edition_a_second_after_the_last_look_that_saw_something() {
        let clock = Arc::new(StillClock::default());
        let editions = Editions::new(clock.clone());
        let present = || editions.present(session(1), UserId(1));
        let first = present();

        clock.advance(Duration::from_micros(999_999));
        assert_eq!(present(), first);
        editions.look(|| Err(()));
        clock.advance(Duration::from_micros(1));
        assert_eq!(present(), None);

        editions.look(|| NOBODY_CHANGED);
        assert_eq!(present(), first);
    }

    #[test]
    fn a_look_counts_from_its_beginning() {
        let clock = Arc::new(StillClock::default());
        let editions = Editions::new(clock.clone());

        editions.look(|| {
            clock.advance(HOLDS);
            NOBODY_CHANGED
        });

        assert_eq!(editions.present(session(1), UserId(1)), None);
    }
}
