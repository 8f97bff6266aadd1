//! Threads that work off the queue.
//!
//! Not tokio's blocking pool: that one has hundreds of threads, and hundreds of hashes at once would leave
//! no core to anybody else, nor finish any sooner.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{io, mem};

use domain::ports::{Clock, Requester};
use domain::{Durations, SitePrefix};
use parking_lot::{Condvar, Mutex};
use rustix::process::setpriority_process;
use tokio::sync::oneshot;

use crate::Load;
use crate::engine::Engine;
use crate::fair_queue::{Limits, NoRoom, Queue};
use crate::jobs::{Bcrypt, Computation, Digest, Progress};

/// The least time between two refusals at the door. Whoever is refused may try again at once, and thousands of
/// such answers a second would take the cores away from the passwords that were let in.
const BETWEEN_REFUSALS: Duration = Duration::from_millis(2);

/// The part of the deadline that a refusal is held back for that at most.
const LONGEST_HOLD: u32 = 5;

/// How long a password waits for its turn, told apart up to the longest deadline there can be.
const WAITS: [Duration; 10] = [
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// A fixed number of threads and the queue before them. Dropping it finishes what waits and joins them.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// Why work was not done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It could not be answered in time.
    Overloaded {
        /// How long the queue will take at its present pace, at least a second.
        retry_after: Duration,
    },
    /// The work panicked.
    Broken,
}

/// What the threads share.
pub(crate) struct Shared {
    state: Mutex<State>,
    arrival: Condvar,
    clock: Arc<dyn Clock>,
    deadline: Duration,
    /// How long jobs waited that were begun.
    waited: Durations,
    /// How many clients were sent away when they came, and how many when they had waited.
    turned_away: AtomicU64,
    given_up: AtomicU64,
}

struct State {
    queue: Queue,
    /// How many threads have nothing to do.
    idle: usize,
    /// When the next refusal may leave.
    next_refusal: Duration,
    open: bool,
}

/// A computation together with whoever waits for its answer.
pub(crate) trait Job: Send {
    fn is_abandoned(&self) -> bool;

    /// How much work it is: the sum of 2^cost over the bcrypts that it needs.
    fn turns(&self) -> u32;

    /// When it came.
    fn came(&self) -> Duration;

    /// Tells whoever waits that they need not.
    fn refuse(&mut self, why: NoRoom);

    /// The first bcrypt that it needs; nothing once it is answered.
    fn begin(&mut self) -> Option<Bcrypt>;

    /// The next bcrypt that it needs; nothing once it is answered.
    fn go_on(&mut self, digest: Digest) -> Option<Bcrypt>;
}

struct Asked<C: Computation> {
    computation: C,
    came: Duration,
    answer: Option<oneshot::Sender<Result<C::Answer, NoRoom>>>,
}

impl Pool {
    /// Starts the threads, which give way to others by `niceness`. `turn` is the pace to begin with.
    pub(crate) fn start(
        name: &str,
        engine: Engine,
        limits: Limits,
        turn: Duration,
        niceness: i32,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let queue = Queue::new(limits, turn);
        let state = Mutex::new(State { queue, idle: 0, next_refusal: Duration::ZERO, open: true });
        let shared = Arc::new(Shared {
            state,
            arrival: Condvar::new(),
            clock,
            deadline: limits.deadline,
            waited: Durations::new(&WAITS),
            turned_away: AtomicU64::default(),
            given_up: AtomicU64::default(),
        });
        let mut pool = Self { shared, workers: Vec::with_capacity(limits.workers) };
        for number in 0..limits.workers {
            let shared = pool.shared.clone();
            let worker = thread::Builder::new().name(format!("{name}-{number}"));
            pool.workers.push(worker.spawn(move || {
                // Where the system does not allow it, nobody is worse off than without.
                let _ = setpriority_process(Some(rustix::thread::gettid()), niceness);
                engine.work_off(&shared);
            })?);
        }
        Ok(pool)
    }

    /// When the deadline passes of whoever comes now.
    pub(crate) fn due(&self) -> Duration {
        self.shared.now().saturating_add(self.shared.deadline)
    }

    /// Has something computed as soon as there is a place. When this future is dropped before that, it is not
    /// begun. A client waits until `due` at most, bulk work until its turn has come. A refusal comes at once,
    /// unless there are very many of them.
    pub(crate) async fn run<C: Computation>(
        &self,
        requester: Requester,
        due: Duration,
        computation: C,
    ) -> Result<C::Answer, Refused> {
        let (answer, answered) = oneshot::channel();
        let now = self.shared.now();
        let job = Box::new(Asked { computation, came: now, answer: Some(answer) });
        if let Err(refused) = self.shared.admit(job, requester, now, due) {
            self.shared.turned_away.fetch_add(1, Ordering::Relaxed);
            let hold = self.shared.hold_back();
            if !hold.is_zero() {
                tokio::time::sleep(hold).await;
            }
            return Err(refused.into());
        }
        let answered = match requester {
            Requester::Client(_) => match tokio::time::timeout(due.saturating_sub(now), answered).await {
                Ok(answered) => answered,
                Err(_) => return Err(self.shared.give_up().into()),
            },
            Requester::Bulk => answered.await,
        };
        match answered.map_err(|_| Refused::Broken)? {
            Ok(answer) => Ok(answer),
            Err(refused) => {
                self.shared.given_up.fetch_add(1, Ordering::Relaxed);
                Err(refused.into())
            }
        }
    }

    /// Has other IPv6 networks take their turns together, for work that comes from now on.
    pub(crate) fn set_site_prefix(&self, site_prefix: SitePrefix) {
        self.shared.state.lock().queue.set_site_prefix(site_prefix);
    }

    /// What there is to do, and what was done.
    pub(crate) fn load(&self) -> Load {
        let shared = &self.shared;
        let (waiting, idle) = {
            let state = shared.state.lock();
            (state.queue.len(), state.idle)
        };
        Load {
            waiting,
            workers: self.workers.len(),
            idle,
            waited: shared.waited.distribution(),
            turned_away: shared.turned_away.load(Ordering::Relaxed),
            given_up: shared.given_up.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.state.lock().open = false;
        self.shared.arrival.notify_all();
        for worker in mem::take(&mut self.workers) {
            // Work that panics is caught where it runs, so a thread ends in no other way than this one.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn admit(
        &self,
        job: Box<dyn Job>,
        requester: Requester,
        now: Duration,
        due: Duration,
    ) -> Result<(), NoRoom> {
        self.state.lock().queue.admit(job, requester, now, due)?;
        self.arrival.notify_one();
        Ok(())
    }

    /// How long a refusal has to wait until it may leave.
    fn hold_back(&self) -> Duration {
        let now = self.now();
        let mut state = self.state.lock();
        let leaves = state.next_refusal.clamp(now, now.saturating_add(self.deadline / LONGEST_HOLD));
        state.next_refusal = leaves.saturating_add(BETWEEN_REFUSALS);
        leaves.saturating_sub(now)
    }

    /// The next job, waited for; nothing once the pool is closed and all is worked off.
    pub(crate) fn next(&self) -> Option<Box<dyn Job>> {
        let mut state = self.state.lock();
        state.idle += 1;
        let next = loop {
            let next = state.queue.pop(self.now());
            if next.is_some() || !state.open {
                break next;
            }
            self.arrival.wait(&mut state);
        };
        state.idle -= 1;
        drop(state);
        self.taken(next)
    }

    /// The next job for a thread that is busy with so many already, unless that leaves less than its part to the
    /// threads that are idle and about to wake.
    pub(crate) fn next_beside(&self, busy: usize) -> Option<Box<dyn Job>> {
        let mut state = self.state.lock();
        let is_ours = state.queue.len() > state.idle * (busy + 1);
        let next = if is_ours { state.queue.pop(self.now()) } else { None };
        drop(state);
        self.taken(next)
    }

    /// Takes note of how long a job has waited.
    fn taken(&self, job: Option<Box<dyn Job>>) -> Option<Box<dyn Job>> {
        job.inspect(|job| self.waited.note(self.now().saturating_sub(job.came())))
    }

    /// What a client is told who has waited for too long.
    fn give_up(&self) -> NoRoom {
        self.given_up.fetch_add(1, Ordering::Relaxed);
        self.state.lock().queue.no_room()
    }

    /// For how a job began, and how long it took.
    pub(crate) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Takes note of a job that took so long while its thread was busy with so many, itself included.
    pub(crate) fn measure(&self, turns: u32, took: Duration, beside: usize) {
        self.state.lock().queue.measure(turns, took, beside);
    }
}

impl From<NoRoom> for Refused {
    fn from(NoRoom(retry_after): NoRoom) -> Self {
        Self::Overloaded { retry_after }
    }
}

impl<C: Computation> Asked<C> {
    fn note(&mut self, progress: Progress<C::Answer>) -> Option<Bcrypt> {
        match progress {
            Progress::Needs(bcrypt) => Some(bcrypt),
            Progress::Done(value) => {
                self.reply(Ok(value));
                None
            }
        }
    }

    fn reply(&mut self, reply: Result<C::Answer, NoRoom>) {
        // Whoever asked may be gone by now; the answer goes with them.
        let _ = self.answer.take().map(|answer| answer.send(reply));
    }
}

impl<C: Computation> Job for Asked<C> {
    fn is_abandoned(&self) -> bool {
        self.answer.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    fn turns(&self) -> u32 {
        self.computation.turns()
    }

    fn came(&self) -> Duration {
        self.came
    }

    fn refuse(&mut self, why: NoRoom) {
        self.reply(Err(why));
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
