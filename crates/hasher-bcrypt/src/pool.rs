//! Threads that work off a bounded queue.
//!
//! Not tokio's blocking pool: that one has hundreds of threads, and hundreds of hashes at once would leave
//! no core to anybody else, nor finish any sooner.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{io, mem};

use domain::ports::Clock;
use rustix::process::setpriority_process;
use tokio::sync::oneshot;

use crate::computation::{Bcrypt, Computation, Digest, Progress};
use crate::engine::Engine;

/// How much the hashing threads give way to those that answer requests, from 0 to 19.
const NICENESS: i32 = 10;

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

/// What the threads share: the queue, and what they have learned of its pace.
pub(crate) struct Shared {
    capacity: usize,
    workers: usize,
    queue: Mutex<Queue>,
    arrival: Condvar,
    clock: Arc<dyn Clock>,
}

struct Queue {
    waiting: VecDeque<Box<dyn Job>>,
    /// How many threads have nothing to do.
    idle: usize,
    /// How long a thread has lately taken for one job, as a moving average. Of those that it works on side by
    /// side each counts for its share.
    pace: Duration,
    open: bool,
}

/// A computation together with whoever waits for its answer.
pub(crate) trait Job: Send {
    fn is_abandoned(&self) -> bool;

    /// The first bcrypt that it needs; nothing once it is answered.
    fn begin(&mut self) -> Option<Bcrypt>;

    /// The next bcrypt that it needs; nothing once it is answered.
    fn go_on(&mut self, digest: Digest) -> Option<Bcrypt>;
}

struct Waiting<C: Computation> {
    computation: C,
    answer: Option<oneshot::Sender<C::Answer>>,
}

impl Pool {
    pub(crate) fn start(
        engine: Engine,
        workers: usize,
        capacity: usize,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let queue = Queue { waiting: VecDeque::new(), idle: 0, pace: FIRST_GUESS, open: true };
        let shared = Shared { capacity, workers, queue: Mutex::new(queue), arrival: Condvar::new(), clock };
        let mut pool = Self { shared: Arc::new(shared), workers: Vec::with_capacity(workers) };
        for number in 0..workers {
            let shared = pool.shared.clone();
            let worker = thread::Builder::new().name(format!("hasher-{number}"));
            pool.workers.push(worker.spawn(move || {
                give_way();
                engine.work_off(&shared);
            })?);
        }
        Ok(pool)
    }

    /// Has something computed as soon as there is a place. When this future is dropped before that, it is not
    /// begun.
    pub(crate) async fn run<C: Computation>(
        &self,
        deadline: Duration,
        computation: C,
    ) -> Result<C::Answer, Refused> {
        let (answer, answered) = oneshot::channel();
        self.shared.admit(Box::new(Waiting { computation, answer: Some(answer) }))?;
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

    /// The next job, waited for; nothing once the pool is closed and all is worked off.
    pub(crate) fn next(&self) -> Option<Box<dyn Job>> {
        let mut queue = self.lock();
        queue.idle += 1;
        let nothing = |queue: &mut Queue| !queue.drop_abandoned() && queue.open;
        queue = self.arrival.wait_while(queue, nothing).unwrap_or_else(PoisonError::into_inner);
        queue.idle -= 1;
        queue.waiting.pop_front()
    }

    /// The next job for a thread that has one already. A thread that has none gets it sooner done.
    pub(crate) fn next_if_nobody_is_idle(&self) -> Option<Box<dyn Job>> {
        let mut queue = self.lock();
        queue.drop_abandoned();
        if queue.waiting.len() > queue.idle { queue.waiting.pop_front() } else { None }
    }

    /// For how a job began, and how long it took.
    pub(crate) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Takes note of a job that ends now, after it shared its thread with others.
    pub(crate) fn measure(&self, begun: Duration, side_by_side: usize) {
        let took = self.now().saturating_sub(begun) / u32::try_from(side_by_side.max(1)).unwrap_or(1);
        let mut queue = self.lock();
        queue.pace = (queue.pace * 7 + took) / 8;
    }

    /// Nothing that holds this lock can leave the queue half changed, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Whether there is a job at the head of the queue whose caller is still there. Drops those before it.
    fn drop_abandoned(&mut self) -> bool {
        while self.waiting.front().is_some_and(|job| job.is_abandoned()) {
            self.waiting.pop_front();
        }
        !self.waiting.is_empty()
    }

    fn overloaded(&self, workers: usize) -> Refused {
        let ahead = u32::try_from(self.waiting.len() / workers + 1).unwrap_or(u32::MAX);
        let seconds = self.pace.saturating_mul(ahead).as_millis().div_ceil(1000);
        let seconds = u64::try_from(seconds).unwrap_or(u64::MAX).max(1);
        Refused::Overloaded { retry_after: Duration::from_secs(seconds) }
    }
}

impl<C: Computation> Waiting<C> {
    fn note(&mut self, progress: Progress<C::Answer>) -> Option<Bcrypt> {
        match progress {
            Progress::Needs(bcrypt) => Some(bcrypt),
            Progress::Done(value) => {
                // Whoever asked may be gone by now; the answer goes with them.
                let _ = self.answer.take().map(|answer| answer.send(value));
                None
            }
        }
    }
}

impl<C: Computation> Job for Waiting<C> {
    fn is_abandoned(&self) -> bool {
        self.answer.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    fn begin(&mut self) -> Option<Bcrypt> {
        let progress = self.computation.begin();
        self.note(progress)
    }

    fn go_on(&mut self, digest: Digest) -> Option<Bcrypt> {
        let progress = self.computation.go_on(digest);
        self.note(progress)
    }
}

/// Lets the threads that answer requests go first. Where the system does not allow it, nobody is worse off
/// than without.
fn give_way() {
    let _ = setpriority_process(Some(rustix::thread::gettid()), NICENESS);
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

    const ENGINES: [Engine; 2] = [Engine::Lanes(1), Engine::Reference];

    fn pool(engine: Engine, capacity: usize) -> Pool {
        Pool::start(engine, 1, capacity, Arc::new(SlowClock(AtomicU32::new(0)))).unwrap()
    }

    /// Does something, and then the least that a bcrypt can be.
    struct Work<F, T>(Option<F>, Option<T>);

    fn work<T, F: FnOnce() -> T>(work: F) -> Work<F, T> {
        Work(Some(work), None)
    }

    impl<T: Send + 'static, F: FnOnce() -> T + Send + 'static> Computation for Work<F, T> {
        type Answer = T;

        fn begin(&mut self) -> Progress<T> {
            self.1 = self.0.take().map(|work| work());
            Progress::Needs(Bcrypt::new(4, [0; 16], b"password"))
        }

        fn go_on(&mut self, _: Digest) -> Progress<T> {
            Progress::Done(self.1.take().unwrap())
        }
    }

    /// Occupies the pool's only thread until the sender that it answers is dropped.
    async fn occupy(pool: &Arc<Pool>) -> mpsc::Sender<()> {
        let (release, released) = mpsc::channel::<()>();
        let (begun, has_begun) = oneshot::channel();
        let busy = pool.clone();
        tokio::spawn(async move {
            let hold = move || {
                begun.send(()).unwrap();
                let _ = released.recv();
            };
            busy.run(LONG, work(hold)).await
        });
        has_begun.await.unwrap();
        release
    }

    #[tokio::test]
    async fn work_is_done_on_a_thread_of_the_pool() {
        for engine in ENGINES {
            let name = pool(engine, 1).run(LONG, work(|| thread::current().name().map(str::to_owned))).await;

            assert_eq!(name.unwrap().as_deref(), Some("hasher-0"));
        }
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_the_door_and_says_when_to_come_back() {
        for engine in ENGINES {
            let pool = Arc::new(pool(engine, 2));
            let release = occupy(&pool).await;
            let mut waiting = Vec::new();
            for _ in 0..2 {
                let mut work = Box::pin(pool.run(LONG, work(|| ())));
                assert!(futures_poll(&mut work).is_none());
                waiting.push(work);
            }

            let refused = pool.run(LONG, work(|| ())).await;

            // Two waiting and itself, at a quarter of a second each.
            assert_eq!(refused, Err(Refused::Overloaded { retry_after: Duration::from_secs(1) }));
            drop(release);
            for work in waiting {
                assert_eq!(work.await, Ok(()));
            }
        }
    }

    #[tokio::test]
    async fn work_whose_caller_has_gone_is_not_begun_and_makes_room() {
        for engine in ENGINES {
            let pool = Arc::new(pool(engine, 1));
            let release = occupy(&pool).await;
            let begun = Arc::new(AtomicU32::new(0));
            let count = |begun: &Arc<AtomicU32>| {
                let begun = begun.clone();
                work(move || begun.fetch_add(1, Ordering::SeqCst))
            };

            let mut abandoned = Box::pin(pool.run(LONG, count(&begun)));
            assert!(futures_poll(&mut abandoned).is_none());
            drop(abandoned);
            let mut kept = Box::pin(pool.run(LONG, count(&begun)));
            assert!(futures_poll(&mut kept).is_none(), "the abandoned one still takes its place");
            drop(release);

            assert_eq!(kept.await, Ok(0));
            assert_eq!(begun.load(Ordering::SeqCst), 1);
        }
    }

    #[tokio::test]
    async fn what_is_late_is_refused_at_its_deadline_and_not_begun() {
        for engine in ENGINES {
            let pool = Arc::new(pool(engine, 2));
            let release = occupy(&pool).await;
            // From here on the deadline passes as soon as everybody waits.
            tokio::time::pause();
            let begun = Arc::new(AtomicU32::new(0));
            let counted = begun.clone();

            let late =
                pool.run(Duration::from_secs(5), work(move || counted.fetch_add(1, Ordering::SeqCst))).await;

            assert!(matches!(late, Err(Refused::Overloaded { .. })));
            drop(release);
            drop(pool);
            assert_eq!(begun.load(Ordering::SeqCst), 0);
            tokio::time::resume();
        }
    }

    #[tokio::test]
    async fn the_wait_it_tells_follows_the_measured_pace() {
        for engine in ENGINES {
            let pool = pool(engine, 1);
            // Every job takes half a second of this clock; the average comes near it.
            for _ in 0..64 {
                pool.run(LONG, work(|| ())).await.unwrap();
            }
            let queue = pool.shared.lock();

            assert!((450..=500).contains(&queue.pace.as_millis()), "{:?}", queue.pace);
        }
    }

    #[tokio::test]
    async fn work_that_panics_is_an_answer_and_the_thread_goes_on() {
        for engine in ENGINES {
            let pool = pool(engine, 1);

            assert_eq!(pool.run(LONG, work(|| panic!("told to"))).await, Err::<(), _>(Refused::Broken));
            assert_eq!(pool.run(LONG, work(|| 7)).await, Ok(7));
        }
    }

    fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(future).poll(&mut context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }
}
