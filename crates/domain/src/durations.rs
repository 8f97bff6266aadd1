//! How long things took, counted where they happen and looked at from outside.

use std::iter;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often something took how long. Noting it waits for nobody and takes no memory.
#[derive(Debug)]
pub struct Durations {
    bounds: &'static [Duration],
    /// One for each bound, of what took no longer and longer than the bound before; the last of what took longer than all.
    counts: Box<[AtomicU64]>,
    microseconds: AtomicU64,
}

/// What [`Durations`] held at one moment, or nearly: whatever is noted meanwhile may be in a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// How many took up to each bound, those of the bounds before among them.
    pub up_to: Vec<(Duration, u64)>,
    /// How many there were.
    pub count: u64,
    /// How long they took together.
    pub sum: Duration,
}

impl Durations {
    /// Nothing yet, to be told apart by these bounds, the shortest first.
    pub fn new(bounds: &'static [Duration]) -> Self {
        let counts = iter::repeat_with(AtomicU64::default).take(bounds.len() + 1).collect();
        Self { bounds, counts, microseconds: AtomicU64::default() }
    }

    /// Notes that something took so long.
    pub fn note(&self, took: Duration) {
        let place = self.bounds.partition_point(|bound| *bound < took);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.microseconds.fetch_add(microseconds, Ordering::Relaxed);
    }

    /// What there is now.
    pub fn distribution(&self) -> Distribution {
        let mut count = 0;
        let mut up_to = Vec::with_capacity(self.bounds.len());
        let mut counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        for (bound, more) in self.bounds.iter().zip(&mut counts) {
            count += more;
            up_to.push((*bound, count));
        }
        count += counts.sum::<u64>();
        Distribution { up_to, count, sum: Duration::from_micros(self.microseconds.load(Ordering::Relaxed)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(100)];

    #[test]
    fn what_took_as_long_as_a_bound_is_counted_up_to_it() {
        let durations = Durations::new(&BOUNDS);

        for milliseconds in [0, 10, 11, 100, 101] {
            durations.note(Duration::from_millis(milliseconds));
        }

        let distribution = durations.distribution();
        assert_eq!(distribution.up_to, [(BOUNDS[0], 2), (BOUNDS[1], 4)]);
        assert_eq!((distribution.count, distribution.sum), (5, Duration::from_millis(222)));
    }

    #[test]
    fn nothing_is_lost_of_what_many_note_at_once() {
        let durations = Durations::new(&BOUNDS);

        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| durations.note(Duration::from_millis(1))));
            }
        });

        assert_eq!(durations.distribution().count, 4000);
        assert_eq!(durations.distribution().sum, Duration::from_secs(4));
    }
}
