//! How a thread computes: several bcrypts at once, or one after the other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bcrypt_lanes::{InvalidJob, Lanes};
use domain::ports::Clock;

use crate::jobs::{Bcrypt, Digest};
use crate::worker_pool::{Job, Shared};

/// The cost of the least bcrypt that there is, of a millisecond or two: a start waits for it.
const FIRST_PACE_COST: u32 = 4;

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
    /// How many jobs one thread takes at once.
    pub fn lanes(self) -> usize {
        match self {
            Self::Lanes(lanes) => lanes,
            Self::Reference => 1,
        }
    }

    /// This one, with at most so many.
    pub(crate) fn with_lanes(self, most: usize) -> Self {
        match self {
            Self::Lanes(lanes) => Self::Lanes(lanes.min(most)),
            Self::Reference => self,
        }
    }

    /// How long a thread takes for one turn of one job when it is busy with all that it takes at once, tried on
    /// the least work that shows it, the best of three.
    pub(crate) fn first_pace(self, clock: &dyn Clock) -> Duration {
        let bcrypt = || Bcrypt::new(FIRST_PACE_COST, [0; 16], b"password");
        let tried = (0..3).map(|_| {
            let begun = clock.monotonic();
            match self {
                Self::Reference => _ = reference(&bcrypt()),
                Self::Lanes(lanes) => {
                    let mut jobs = (0..lanes).filter_map(|_| Some(((), in_a_lane(&bcrypt()).ok()?)));
                    if let Ok(mut lanes) = Lanes::new(lanes) {
                        lanes.run(|| jobs.next(), |(), _| {});
                    }
                }
            }
            clock.monotonic().saturating_sub(begun)
        });
        let turns = (1 << FIRST_PACE_COST) * u32::try_from(self.lanes()).unwrap_or(1);
        tried.min().unwrap_or_default() / turns
    }

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
        begun.measure(queue, 1);
    }
}

fn side_by_side(mut lanes: Lanes<Begun>, queue: &Shared) {
    // Jobs that need a further bcrypt, which go before those that only begin.
    let mut going_on: Vec<(Begun, bcrypt_lanes::Job)> = Vec::new();
    let mut finished: Vec<(Begun, [u8; 24])> = Vec::new();
    // How many were worked on in the last step, and since when it has been as many.
    let (mut crowd, mut since) = (0, Duration::ZERO);
    loop {
        let mut first = None;
        if lanes.busy() == 0 && going_on.is_empty() {
            let Some(job) = queue.next() else { return };
            first = Some(job);
        }
        let (mut busy, now) = (lanes.busy(), queue.now());
        let next = || {
            let ready = going_on.pop().or_else(|| begin_next(first.take(), busy, queue));
            busy += usize::from(ready.is_some());
            ready
        };
        lanes.step(next, |begun, digest| finished.push((begun, digest)));
        if busy != crowd {
            (crowd, since) = (busy, now);
        }
        for (mut begun, [digest @ .., _]) in finished.drain(..) {
            match begun.go_on(digest).and_then(|bcrypt| in_a_lane(&bcrypt).ok()) {
                Some(bcrypt) => going_on.push((begun, bcrypt)),
                None if begun.at >= since => begun.measure(queue, crowd),
                // It was worked on in more than one company, and tells nothing of any.
                None => {}
            }
        }
    }
}

/// The next job for a thread that is busy with so many. One that is answered as it begins needs no lane, so
/// the one after it is asked for.
fn begin_next(
    mut first: Option<Box<dyn Job>>,
    busy: usize,
    queue: &Shared,
) -> Option<(Begun, bcrypt_lanes::Job)> {
    while let Some(job) = first.take().or_else(|| queue.next_beside(busy)) {
        let mut begun = Begun { job, at: queue.now() };
        if let Some(bcrypt) = begun.begin().and_then(|bcrypt| in_a_lane(&bcrypt).ok()) {
            return Some((begun, bcrypt));
        }
    }
    None
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

    /// Tells the queue what this took while so many were worked on, itself included.
    fn measure(&self, queue: &Shared, crowd: usize) {
        queue.measure(self.job.turns(), queue.now().saturating_sub(self.at), crowd);
    }

    /// A job that panics needs nothing more. It is dropped without an answer, and the thread goes on.
    fn guarded(&mut self, work: impl FnOnce(&mut dyn Job) -> Option<Bcrypt>) -> Option<Bcrypt> {
        catch_unwind(AssertUnwindSafe(|| work(&mut *self.job))).unwrap_or(None)
    }
}
