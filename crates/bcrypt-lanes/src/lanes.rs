//! Lanes that take the next job as soon as they are free.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use crate::Job;
use crate::schedule::{Schedule, turn};

/// The most lanes that are compiled: so many fill the 32 KiB of a common level-1 cache.
pub const MAX_LANES: usize = 8;

/// The number of lanes that measured best, see the [figures](crate#figures).
pub const DEFAULT_LANES: usize = 6;

/// Turns between two questions for work. A turn takes 0.05 ms in a lane alone and 0.1 ms in a full set
/// (Zen 4), so that work waits less than a millisecond for a lane that is free, and asking costs nothing.
const TURNS_PER_STEP: u32 = 8;

/// Several bcrypt computations in one thread, each at its own cost and its own point, all in step.
///
/// A tag of type `T` goes with each job and comes back with its digest. A worker thread waits until there is
/// something in its queue, calls [`run`](Self::run), which takes from the queue what comes meanwhile, and waits
/// again. One that may be told to stop in the middle calls [`step`](Self::step) instead. A job that nobody
/// wants any more is simply never handed over; one that has begun is finished.
pub struct Lanes<T> {
    /// The busy lanes come first, in the order of `busy`, so that they are one array for the inner loop.
    schedules: Zeroizing<Box<[Schedule]>>,
    busy: Vec<Busy<T>>,
}

/// Why there is no such set of lanes: there are 1 to [`MAX_LANES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidLanes(pub usize);

struct Busy<T> {
    tag: T,
    turns_left: u32,
}

impl<T> Lanes<T> {
    /// At most `lanes` computations at once, from 1 to [`MAX_LANES`].
    pub fn new(lanes: usize) -> Result<Self, InvalidLanes> {
        if lanes == 0 || lanes > MAX_LANES {
            return Err(InvalidLanes(lanes));
        }
        let schedules = Zeroizing::new(vec![Schedule::BLANK; lanes].into_boxed_slice());
        Ok(Self { schedules, busy: Vec::with_capacity(lanes) })
    }

    /// Works until every lane is free and `next` has nothing more.
    ///
    /// About every millisecond, and as soon as a lane falls free, `next` is asked until it has nothing or
    /// every lane is busy. `done` is told in the order in which jobs end, not in which they came. Both hold up
    /// all lanes while they run, so they should be brief.
    pub fn run(&mut self, mut next: impl FnMut() -> Option<(T, Job)>, mut done: impl FnMut(T, [u8; 24])) {
        while self.step(&mut next, &mut done) {}
    }

    /// Fills the free lanes from `next`, works for about a millisecond, and hands what is finished to `done`.
    ///
    /// False when there was nothing to do. After a panic in `next` or `done` the next step takes up where this
    /// one was left; only the digest that was being handed over is lost.
    pub fn step(&mut self, next: impl FnMut() -> Option<(T, Job)>, done: impl FnMut(T, [u8; 24])) -> bool {
        self.fill(next);
        if self.busy.is_empty() {
            return false;
        }
        self.advance();
        self.hand_over(done);
        true
    }

    /// How many lanes are working.
    pub fn busy(&self) -> usize {
        self.busy.len()
    }

    fn fill(&mut self, mut next: impl FnMut() -> Option<(T, Job)>) {
        while let Some(free) = self.schedules.get_mut(self.busy.len()) {
            let Some((tag, job)) = next() else { return };
            free.begin(&job);
            self.busy.push(Busy { tag, turns_left: 1 << job.cost });
        }
    }

    // To the end of the job that is nearest to it, and no further: until then nothing comes or goes, and the
    // inner loop need not look.
    fn advance(&mut self) {
        let nearest = self.busy.iter().map(|lane| lane.turns_left).min().unwrap_or(0);
        let turns = nearest.min(TURNS_PER_STEP);
        turn(&mut self.schedules[..self.busy.len()], turns);
        for lane in &mut self.busy {
            lane.turns_left -= turns;
        }
    }

    fn hand_over(&mut self, mut done: impl FnMut(T, [u8; 24])) {
        // From the last, because each lane that goes is replaced by the last one, which has been looked at.
        for at in (0..self.busy.len()).rev() {
            if self.busy[at].turns_left == 0 {
                let digest = self.schedules[at].digest();
                let tag = self.free(at);
                done(tag, digest);
            }
        }
    }

    fn free(&mut self, at: usize) -> T {
        let last = self.busy.len() - 1;
        // Copied in place, not swapped: a swap goes through the stack and leaves a schedule there.
        self.schedules.copy_within(last..=last, at);
        self.schedules[last].zeroize();
        self.busy.swap_remove(at).tag
    }
}

impl<T> fmt::Debug for Lanes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes")
            .field("lanes", &self.schedules.len())
            .field("busy", &self.busy.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for InvalidLanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there are 1 to {MAX_LANES} lanes, not {}", self.0)
    }
}

impl std::error::Error for InvalidLanes {}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(cost: u32) -> Job {
        Job::new(cost, [1; 16], b"password\0").unwrap()
    }

    #[test]
    fn a_lane_that_finishes_takes_the_next_job_while_its_neighbour_goes_on() {
        let mut lanes = Lanes::new(2).unwrap();
        let costs = [8, 4, 4, 4, 4, 4, 4, 4, 4];
        let mut waiting = costs.into_iter().enumerate();
        let mut finished = Vec::new();

        lanes.run(|| waiting.next().map(|(tag, cost)| (tag, job(cost))), |tag, _| finished.push(tag));

        assert_eq!(finished, [1, 2, 3, 4, 5, 6, 7, 8, 0]);
    }

    #[test]
    fn work_is_asked_for_every_few_turns_while_a_lane_is_free() {
        let mut lanes = Lanes::new(2).unwrap();
        let mut only = Some(((), job(8)));
        let mut asked = 0;

        let next = || {
            asked += 1;
            only.take()
        };
        lanes.run(next, |(), _| {});

        assert!(asked >= 256 / TURNS_PER_STEP, "{asked}");
    }

    #[test]
    fn nobody_is_asked_for_more_than_there_are_free_lanes() {
        let mut lanes = Lanes::new(3).unwrap();
        let mut asked = 0;

        for _ in 0..2 {
            lanes.step(
                || {
                    asked += 1;
                    Some(((), job(12)))
                },
                |(), _| {},
            );
        }

        assert_eq!((asked, lanes.busy()), (3, 3));
    }

    #[test]
    fn without_work_a_step_says_so() {
        let mut lanes = Lanes::<()>::new(1).unwrap();

        assert!(!lanes.step(|| None, |(), _| {}));
    }

    #[test]
    fn a_lane_that_is_freed_is_wiped_at_once() {
        let mut lanes = Lanes::new(4).unwrap();
        let mut waiting = [4, 5, 4, 6].into_iter();

        while lanes.step(|| waiting.next().map(|cost| ((), job(cost))), |(), _| {}) {
            let (busy, free) = lanes.schedules.split_at(lanes.busy());
            assert!(busy.iter().all(|schedule| !schedule.is_blank()));
            assert!(free.iter().all(Schedule::is_blank));
        }
    }

    #[test]
    fn the_other_lanes_outlive_a_panic_in_the_callers_code() {
        let mut lanes = Lanes::new(3).unwrap();
        let mut waiting = [5, 4, 5].into_iter().enumerate();
        let mut next = || waiting.next().map(|(tag, cost)| (tag, job(cost)));
        let mut finished = Vec::new();

        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            lanes.run(&mut next, |_, _| panic!("told to"));
        }));
        lanes.run(&mut next, |tag, digest| finished.push((tag, digest)));

        assert!(panicked.is_err());
        finished.sort_unstable();
        let expected = crate::bcrypt(5, [1; 16], b"password\0").unwrap();
        assert_eq!(finished, [(0, expected), (2, expected)]);
    }

    #[test]
    fn there_are_one_to_eight_lanes() {
        for lanes in [0, 9, usize::MAX] {
            assert_eq!(Lanes::<()>::new(lanes).err(), Some(InvalidLanes(lanes)));
        }
        for lanes in [1, DEFAULT_LANES, 8] {
            assert!(Lanes::<()>::new(lanes).is_ok());
        }
    }
}
