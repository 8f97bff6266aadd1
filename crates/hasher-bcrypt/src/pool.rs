//! Threads that work off a bounded queue.
//!
//! Not tokio's blocking pool: that one has hundreds of threads, and hundreds of hashes at once would leave
//! no core to anybody else, nor finish any sooner.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{io, mem};

use domain::ports::Clock;
use tokio::sync::oneshot;

/// What a job is taken to cost before the first one has been measured.
const FIRST_GUESS: Duration = Duration::from_millis(250);

/// A fixed number of threads and the queue before them. Dropping it finishes what waits and joins them.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// Why work was not done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The queue is full, or the deadline passed.
    Overloaded {
        /// How long the queue will take at its present pace, at least a second.
        retry_after: Duration,
    },
    /// The work panicked.
    Broken,
}

struct Shared {
    capacity: usize,
    workers: usize,
    queue: Mutex<Queue>,
    arrival: Condvar,
    clock: Arc<dyn Clock>,
}

struct Queue {
    waiting: VecDeque<Box<dyn Job>>,
    /// What one job has lately taken, as a moving average.
    pace: Duration,
    open: bool,
}

trait Job: Send {
    fn is_abandoned(&self) -> bool;
    fn run(self: Box<Self>);
}

struct Task<T, F> {
    work: F,
    answer: oneshot::Sender<T>,
}

impl Pool {
    pub(crate) fn start(workers: usize, capacity: usize, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let queue = Queue { waiting: VecDeque::new(), pace: FIRST_GUESS, open: true };
        let shared = Shared { capacity, workers, queue: Mutex::new(queue), arrival: Condvar::new(), clock };
        let mut pool = Self { shared: Arc::new(shared), workers: Vec::with_capacity(workers) };
        for number in 0..workers {
            let shared = pool.shared.clone();
            let worker = thread::Builder::new().name(format!("hasher-{number}"));
            pool.workers.push(worker.spawn(move || shared.work_off())?);
        }
        Ok(pool)
    }

    /// Has `work` done by the next free thread. When this future is dropped before that, it is not begun.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        deadline: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refused> {
        let (answer, answered) = oneshot::channel();
        self.shared.admit(Box::new(Task { work, answer }))?;
        match tokio::time::timeout(deadline, answered).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) => Err(Refused::Broken),
            Err(_) => Err(self.shared.lock().overloaded(self.shared.workers)),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().open = false;
        self.shared.arrival.notify_all();
        for worker in mem::take(&mut self.workers) {
            // Work that panics is caught where it runs, so a thread ends in no other way than this one.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn admit(&self, job: Box<dyn Job>) -> Result<(), Refused> {
        let mut queue = self.lock();
        if queue.waiting.len() >= self.capacity {
            queue.waiting.retain(|job| !job.is_abandoned());
        }
        if queue.waiting.len() >= self.capacity {
            return Err(queue.overloaded(self.workers));
        }
        queue.waiting.push_back(job);
        drop(queue);
        self.arrival.notify_one();
        Ok(())
    }

    fn work_off(&self) {
        while let Some(job) = self.next() {
            if job.is_abandoned() {
                continue;
            }
            let begun = self.clock.monotonic();
            let ended = catch_unwind(AssertUnwindSafe(|| job.run()));
            if ended.is_ok() {
                let took = self.clock.monotonic().saturating_sub(begun);
                let mut queue = self.lock();
                queue.pace = (queue.pace * 7 + took) / 8;
            }
        }
    }

    /// The next job, when there is one; nothing once the pool is closed and all is worked off.
    fn next(&self) -> Option<Box<dyn Job>> {
        let queue = self.lock();
        let idle = |queue: &mut Queue| queue.open && queue.waiting.is_empty();
        let mut queue = self.arrival.wait_while(queue, idle).unwrap_or_else(PoisonError::into_inner);
        queue.waiting.pop_front()
    }

    /// Nothing that holds this lock can leave the queue half changed, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn overloaded(&self, workers: usize) -> Refused {
        let ahead = u32::try_from(self.waiting.len() / workers + 1).unwrap_or(u32::MAX);
        let seconds = self.pace.saturating_mul(ahead).as_millis().div_ceil(1000);
        let seconds = u64::try_from(seconds).unwrap_or(u64::MAX).max(1);
        Refused::Overloaded { retry_after: Duration::from_secs(seconds) }
    }
}

impl<T: Send, F: FnOnce() -> T + Send> Job for Task<T, F> {
    fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    fn run(self: Box<Self>) {
        let Self { work, answer } = *self;
        // Whoever asked may be gone by now; the answer goes with them.
        let _ = answer.send(work());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    /// Half a second passes between any two looks at it.
    struct SlowClock(AtomicU32);

    impl Clock for SlowClock {
        fn now(&self) -> jiff::Timestamp {
            jiff::Timestamp::UNIX_EPOCH
        }

        fn monotonic(&self) -> Duration {
            Duration::from_millis(500) * self.0.fetch_add(1, Ordering::Relaxed)
        }
    }

    fn pool(capacity: usize) -> Pool {
        Pool::start(1, capacity, Arc::new(SlowClock(AtomicU32::new(0)))).unwrap()
    }

    /// Occupies the pool's only thread until the sender that it answers is dropped.
    async fn occupy(pool: &Arc<Pool>) -> mpsc::Sender<()> {
        let (release, released) = mpsc::channel::<()>();
        let (begun, has_begun) = oneshot::channel();
        let busy = pool.clone();
        tokio::spawn(async move {
            let work = move || {
                begun.send(()).unwrap();
                let _ = released.recv();
            };
            busy.run(LONG, work).await
        });
        has_begun.await.unwrap();
        release
    }

    #[tokio::test]
    async fn work_is_done_on_a_thread_of_the_pool() {
        let name = pool(1).run(LONG, || thread::current().name().map(str::to_owned)).await;

        assert_eq!(name.unwrap().as_deref(), Some("hasher-0"));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_the_door_and_says_when_to_come_back() {
        let pool = Arc::new(pool(2));
        let release = occupy(&pool).await;
        let mut waiting = Vec::new();
        for _ in 0..2 {
            let mut work = Box::pin(pool.run(LONG, || ()));
            assert!(futures_poll(&mut work).is_none());
            waiting.push(work);
        }

        let refused = pool.run(LONG, || ()).await;

        // Two waiting and itself, at a quarter of a second each.
        assert_eq!(refused, Err(Refused::Overloaded { retry_after: Duration::from_secs(1) }));
        drop(release);
        for work in waiting {
            assert_eq!(work.await, Ok(()));
        }
    }

    #[tokio::test]
    async fn work_whose_caller_has_gone_is_not_begun_and_makes_room() {
        let pool = Arc::new(pool(1));
        let release = occupy(&pool).await;
        let begun = Arc::new(AtomicU32::new(0));
        let work = |begun: &Arc<AtomicU32>| {
            let begun = begun.clone();
            move || begun.fetch_add(1, Ordering::SeqCst)
        };

        let mut abandoned = Box::pin(pool.run(LONG, work(&begun)));
        assert!(futures_poll(&mut abandoned).is_none());
        drop(abandoned);
        let mut kept = Box::pin(pool.run(LONG, work(&begun)));
        assert!(futures_poll(&mut kept).is_none(), "the abandoned one still takes its place");
        drop(release);

        assert_eq!(kept.await, Ok(0));
        assert_eq!(begun.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn what_is_late_is_refused_at_its_deadline_and_not_begun() {
        let pool = Arc::new(pool(2));
        let release = occupy(&pool).await;
        // From here on the deadline passes as soon as everybody waits.
        tokio::time::pause();
        let begun = Arc::new(AtomicU32::new(0));
        let counted = begun.clone();

        let late = pool.run(Duration::from_secs(5), move || counted.fetch_add(1, Ordering::SeqCst)).await;

        assert!(matches!(late, Err(Refused::Overloaded { .. })));
        drop(release);
        drop(pool);
        assert_eq!(begun.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn the_wait_it_tells_follows_the_measured_pace() {
        let pool = pool(1);
        // Every job takes half a second of this clock; the average comes near it.
        for _ in 0..64 {
            pool.run(LONG, || ()).await.unwrap();
        }
        let queue = pool.shared.lock();

        assert!((450..=500).contains(&queue.pace.as_millis()), "{:?}", queue.pace);
    }

    #[tokio::test]
    async fn work_that_panics_is_an_answer_and_the_thread_goes_on() {
        let pool = pool(1);

        assert_eq!(pool.run(LONG, || panic!("told to")).await, Err::<(), _>(Refused::Broken));
        assert_eq!(pool.run(LONG, || 7).await, Ok(7));
    }

    fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(future).poll(&mut context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }
}
