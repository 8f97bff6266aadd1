//! Which edition of a session is the present one, told without asking the database.
//!
//! Every change is counted twice: here, and in a row of the table `editions`, in the transaction that makes it. A
//! server reads the whole table twice a second, and what has another number than it knows of was changed elsewhere.
//!
//! Not by `LISTEN`, which is lost behind PgBouncer and unknown to CockroachDB. Not by one counter, for which all
//! writers would queue, and not by a list of changes: those with lower numbers may be committed later, and a reader
//! who remembers how far it came misses them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use diesel::{ExpressionMethods as _, QueryDsl as _};
use diesel_async::AsyncPgConnection;
use domain::ports::{Clock, Edition};
use domain::{SessionId, UserId};
use parking_lot::Mutex;

use crate::error::StoreError;
use crate::schema::editions;

/// For how long a look at the table tells what others have not done since: the second that is promised.
const HOLDS: Duration = Duration::from_secs(1);

/// How many counters sessions and users share; the table has as many rows. A change is taken for a change of all that
/// share its counter, which costs each of them one look-up.
const SLOTS: u64 = 1024;

/// Later than any look, so that none is recent.
const NEVER: u64 = u64::MAX;

/// Counters of changes. None ever goes back, so that their sum is the same only while each of them is.
pub(crate) struct Editions {
    /// Of those that may concern anybody.
    of_all: AtomicU64,
    of_some: Box<[AtomicU64]>,
    /// The numbers in the table up to which everything is counted.
    known: Mutex<Box<[i64]>>,
    /// When the table was last looked at, in microseconds of the clock.
    looked_at: AtomicU64,
    clock: Arc<dyn Clock>,
}

/// Whose sessions a change may concern, or how an account looks to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Concerns {
    Nobody,
    Session(SessionId),
    User(UserId),
    /// All that are over: who remembers one as live knows from its own row that it is not.
    WhatIsOver,
}

/// The number that a change was given in the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number {
    slot: usize,
    number: i64,
}

impl Concerns {
    fn slot(self) -> Option<usize> {
        let number = match self {
            Self::Nobody | Self::WhatIsOver => return None,
            // The end of an identifier is random, its beginning is a time.
            Self::Session(session) => {
                let [.., a, b] = *session.as_bytes();
                u64::from(u16::from_be_bytes([a, b]))
            }
            Self::User(user) => user.0.unsigned_abs(),
        };
        Some((number % SLOTS) as usize)
    }
}

/// Gives a change its number. The last statement of its transaction: whoever changes something of the same slot waits
/// from here on, for the commit alone.
pub(crate) async fn number(
    connection: &mut AsyncPgConnection,
    concerns: Concerns,
) -> Result<Option<Number>, StoreError> {
    use diesel_async::RunQueryDsl as _;

    let Some(slot) = concerns.slot() else { return Ok(None) };
    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "there are 1024")]
    let number = diesel::update(editions::table.find(slot as i32))
        .set(editions::number.eq(editions::number + 1))
        .returning(editions::number)
        .get_result(connection)
        .await?;
    Ok(Some(Number { slot, number }))
}

/// The number of every slot.
async fn numbers(connection: &mut AsyncPgConnection) -> Result<Vec<(i32, i64)>, StoreError> {
    // In here, because every atomic would have another `load` by it.
    use diesel_async::RunQueryDsl as _;

    Ok(editions::table.select((editions::slot, editions::number)).load(connection).await?)
}

impl Editions {
    /// The editions of a database that nobody has looked at yet.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let of_some = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        let known = Mutex::new((0..SLOTS).map(|_| 0).collect());
        let looked_at = AtomicU64::new(NEVER);
        Self { of_all: AtomicU64::new(0), of_some, known, looked_at, clock }
    }

    /// The present edition; none when nobody has looked lately at what others did.
    pub(crate) fn present(&self, session: SessionId, owner: UserId) -> Option<Edition> {
        // In this order: the changes that a look found are counted before the look is.
        let looked_at = self.looked_at.load(Ordering::SeqCst);
        let counters =
            [Some(&self.of_all), self.of(Concerns::Session(session)), self.of(Concerns::User(owner))];
        let edition = counters.iter().flatten().map(|counter| counter.load(Ordering::SeqCst)).sum();
        let age = microseconds(self.clock.monotonic()).checked_sub(looked_at)?;
        (u128::from(age) < HOLDS.as_micros()).then_some(Edition(edition))
    }

    /// Counts a change, once it can be seen and before it is answered. What has a lower number in its slot was
    /// committed before it, and is counted with it; without a number, it is counted once more when it is seen.
    pub(crate) fn count(&self, concerns: Concerns, number: Option<Number>) {
        let mut known = self.known.lock();
        match concerns {
            Concerns::Nobody => {}
            Concerns::WhatIsOver => _ = self.of_all.fetch_add(1, Ordering::SeqCst),
            Concerns::Session(_) | Concerns::User(_) => {
                if let Some(counter) = self.of(concerns) {
                    counter.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
        if let Some(Number { slot, number }) = number {
            known[slot] = known[slot].max(number);
        }
    }

    /// Counts a change of which nobody knows whether it was made, nor whom it concerns.
    pub(crate) fn count_whatever(&self) {
        self.of_all.fetch_add(1, Ordering::SeqCst);
    }

    /// Looks what others changed, and notes when, unless it could not.
    pub(crate) async fn look(&self, connection: &mut AsyncPgConnection) -> Result<(), StoreError> {
        // Not when it ends: what happens while it looks it may have missed.
        let begun = microseconds(self.clock.monotonic());
        let before = self.known.lock().clone();
        let rows = numbers(connection).await?;
        if rows.len() as u64 != SLOTS {
            return Err(StoreError::unavailable("the table editions has other slots than it was made with"));
        }
        let mut known = self.known.lock();
        for (slot, number) in rows {
            let slot = usize::try_from(slot).ok().filter(|slot| *slot < known.len());
            let slot =
                slot.ok_or_else(|| StoreError::unavailable("the table editions has a foreign slot"))?;
            // Lower than what this store knew before it looked: commits were lost, with the server that had them.
            if number > known[slot] || number < before[slot] {
                self.of_some[slot].fetch_add(1, Ordering::SeqCst);
                known[slot] = number;
            }
        }
        // Another look may have begun later and ended before this one.
        let last = self.looked_at.load(Ordering::SeqCst);
        if last == NEVER || last < begun {
            self.looked_at.store(begun, Ordering::SeqCst);
        }
        Ok(())
    }

    fn of(&self, concerns: Concerns) -> Option<&AtomicU64> {
        concerns.slot().map(|slot| &self.of_some[slot])
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
