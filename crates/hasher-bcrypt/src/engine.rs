//! How a thread computes: several bcrypts at once, or one after the other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bcrypt_lanes::{InvalidJob, Lanes};

use crate::computation::{Bcrypt, Digest};
use crate::pool::{Job, Shared};

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Up to this many at once, interleaved on one core, 1 to [`MAX_LANES`](bcrypt_lanes::MAX_LANES).
    Lanes(usize),
    /// The `bcrypt` crate, one after the other.
    Reference,
}

/// A job that was begun, and when.
struct Begun {
    job: Box<dyn Job>,
    at: Duration,
}

impl Engine {
    /// Works the queue off until it is closed and empty.
    pub(crate) fn work_off(self, queue: &Shared) {
        match self {
            Self::Reference => one_after_the_other(queue),
            Self::Lanes(lanes) => {
                // The number was checked where hashing starts.
                if let Ok(lanes) = Lanes::new(lanes) {
                    side_by_side(lanes, queue);
                }
            }
        }
    }
}

/// One bcrypt by the `bcrypt` crate.
pub(crate) fn reference(needed: &Bcrypt) -> Digest {
    let [digest @ .., _] = bcrypt::bcrypt(needed.cost, needed.salt, &needed.key);
    digest
}

fn one_after_the_other(queue: &Shared) {
    while let Some(job) = queue.next() {
        let mut begun = Begun { job, at: queue.now() };
        let mut needed = begun.begin();
        while let Some(bcrypt) = needed {
            needed = begun.go_on(reference(&bcrypt));
        }
        queue.measure(begun.at, 1);
    }
}

fn side_by_side(mut lanes: Lanes<Begun>, queue: &Shared) {
    // Jobs that need a further bcrypt, which go before those that only begin.
    let mut going_on: Vec<(Begun, bcrypt_lanes::Job)> = Vec::new();
    let mut finished: Vec<(Begun, [u8; 24])> = Vec::new();
    loop {
        let mut first = None;
        if lanes.busy() == 0 && going_on.is_empty() {
            let Some(job) = queue.next() else { return };
            first = Some(job);
        }
        let next = || {
            if let Some(ready) = going_on.pop() {
                return Some(ready);
            }
            // A job that is answered as it begins needs no lane, so the one after it is asked for.
            while let Some(job) = first.take().or_else(|| queue.next_if_nobody_is_idle()) {
                let mut begun = Begun { job, at: queue.now() };
                if let Some(bcrypt) = begun.begin().and_then(|bcrypt| in_a_lane(&bcrypt).ok()) {
                    return Some((begun, bcrypt));
                }
            }
            None
        };
        lanes.step(next, |begun, digest| finished.push((begun, digest)));
        let beside = lanes.busy() + finished.len();
        for (mut begun, [digest @ .., _]) in finished.drain(..) {
            match begun.go_on(digest).and_then(|bcrypt| in_a_lane(&bcrypt).ok()) {
                Some(bcrypt) => going_on.push((begun, bcrypt)),
                None => queue.measure(begun.at, beside),
            }
        }
    }
}

fn in_a_lane(needed: &Bcrypt) -> Result<bcrypt_lanes::Job, InvalidJob> {
    bcrypt_lanes::Job::new(needed.cost, needed.salt, &needed.key)
}

impl Begun {
    fn begin(&mut self) -> Option<Bcrypt> {
        self.guarded(|job| job.begin())
    }

    fn go_on(&mut self, digest: Digest) -> Option<Bcrypt> {
        self.guarded(|job| job.go_on(digest))
    }

    /// A job that panics needs nothing more. It is dropped without an answer, and the thread goes on.
    fn guarded(&mut self, work: impl FnOnce(&mut dyn Job) -> Option<Bcrypt>) -> Option<Bcrypt> {
        catch_unwind(AssertUnwindSafe(|| work(&mut *self.job))).unwrap_or(None)
    }
}
