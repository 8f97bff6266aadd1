use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;

use domain::ClientNetwork;
use futures_util::future::join_all;

use super::*;

const LONG: Duration = Duration::from_mins(1);
const ENGINES: [Engine; 3] = [Engine::Lanes(1), Engine::Lanes(3), Engine::Reference];

/// Goes when it is told to.
#[derive(Default)]
struct ManualClock(AtomicU32);

impl ManualClock {
    fn advance(&self, milliseconds: u32) {
        self.0.fetch_add(milliseconds, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst).into())
    }
}

fn pool_at(clock: Arc<ManualClock>, engine: Engine, capacity: usize, deadline: Duration) -> Pool {
    let site_prefix = SitePrefix::default();
    let limits = Limits { capacity, workers: 1, lanes: engine.lanes(), deadline, site_prefix };
    Pool::start("hasher", engine, limits, Duration::ZERO, 0, clock).unwrap()
}

fn pool(engine: Engine, capacity: usize) -> Pool {
    pool_at(Arc::default(), engine, capacity, LONG)
}

/// A client asks now.
async fn ask<C: Computation>(pool: &Pool, computation: C) -> Result<C::Answer, Refused> {
    let client = Requester::Client(ClientNetwork::LOCALHOST);
    pool.run(client, pool.due(), computation).await
}

/// Does something, and then the least that a bcrypt can be.
struct Work<F, T>(Option<F>, Option<T>);

fn work<T, F: FnOnce() -> T>(work: F) -> Work<F, T> {
    Work(Some(work), None)
}

impl<T: Send + 'static, F: FnOnce() -> T + Send + 'static> Computation for Work<F, T> {
    type Answer = T;

    fn turns(&self) -> u32 {
        1 << 4
    }

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
        ask(&busy, work(hold)).await
    });
    has_begun.await.unwrap();
    release
}

#[tokio::test]
async fn work_is_done_on_a_thread_of_the_pool() {
    for engine in ENGINES {
        let name = ask(&pool(engine, 1), work(|| thread::current().name().map(str::to_owned))).await;

        assert_eq!(name.unwrap().as_deref(), Some("hasher-0"));
    }
}

#[tokio::test]
async fn a_full_queue_refuses_at_the_door_and_says_when_to_come_back() {
    for engine in ENGINES {
        let pool = Arc::new(pool(engine, 2));
        let release = occupy(&pool).await;
        let mut waiting = Box::pin(ask(&pool, work(|| ())));
        assert!(futures_poll(&mut waiting).is_none());

        let refused = futures_poll(&mut Box::pin(ask(&pool, work(|| ()))));

        assert_eq!(refused, Some(Err(Refused::Overloaded { retry_after: Duration::from_secs(1) })));
        drop(release);
        assert_eq!(waiting.await, Ok(()));
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

        let mut abandoned = Box::pin(ask(&pool, count(&begun)));
        assert!(futures_poll(&mut abandoned).is_none());
        drop(abandoned);
        let mut kept = Box::pin(ask(&pool, count(&begun)));
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

        let late = ask(&pool, work(move || counted.fetch_add(1, Ordering::SeqCst))).await;

        assert!(matches!(late, Err(Refused::Overloaded { .. })));
        drop(release);
        drop(pool);
        assert_eq!(begun.load(Ordering::SeqCst), 0);
        tokio::time::resume();
    }
}

#[tokio::test]
async fn the_door_closes_as_the_measured_pace_falls() {
    for engine in ENGINES {
        let clock = Arc::new(ManualClock::default());
        let pool = Arc::new(pool_at(clock.clone(), engine, 100, Duration::from_secs(10)));
        // While one holds the thread up a full set gathers, and each takes a second of this clock.
        for _ in 0..64 {
            let release = occupy(&pool).await;
            let second = || {
                let clock = clock.clone();
                Box::pin(ask(&pool, work(move || clock.advance(1000))))
            };
            let mut full_set: Vec<_> = (0..engine.lanes()).map(|_| second()).collect();
            assert!(full_set.iter_mut().all(|work| futures_poll(work).is_none()));
            drop(release);
            join_all(full_set).await;
        }
        let release = occupy(&pool).await;

        let mut waiting: Vec<_> = (0..40).map(|_| Box::pin(ask(&pool, work(|| ())))).collect();
        let refused = waiting.iter_mut().filter_map(futures_poll).count();

        // Whoever holds the thread up takes no time, so that a job is taken to need half a second or more.
        assert!(refused > 0, "{engine:?}");
        drop(release);
    }
}

#[tokio::test]
async fn a_thread_that_is_not_full_teaches_no_pace() {
    let clock = Arc::new(ManualClock::default());
    let pool = Arc::new(pool_at(clock.clone(), Engine::Lanes(3), 100, Duration::from_secs(10)));
    for _ in 0..64 {
        let clock = clock.clone();
        ask(&pool, work(move || clock.advance(1000))).await.unwrap();
    }
    let release = occupy(&pool).await;

    let mut waiting: Vec<_> = (0..40).map(|_| Box::pin(ask(&pool, work(|| ())))).collect();

    assert!(waiting.iter_mut().all(|work| futures_poll(work).is_none()));
    drop(release);
}

#[tokio::test]
async fn busy_threads_leave_idle_ones_their_part() {
    let pool = Arc::new(pool(Engine::Reference, 9));
    let release = occupy(&pool).await;
    let mut waiting: Vec<_> = (0..5).map(|_| Box::pin(ask(&pool, work(|| ())))).collect();
    assert!(waiting.iter_mut().all(|work| futures_poll(work).is_none()));

    // Another thread with two jobs, beside one that is idle and about to wake.
    pool.shared.state.lock().idle = 1;
    let mut taken = 2;
    while pool.shared.next_beside(taken).is_some() {
        taken += 1;
    }
    assert_eq!((taken, pool.shared.state.lock().queue.len()), (3, 4));

    pool.shared.state.lock().idle = 0;
    assert!((0..4).all(|_| pool.shared.next_beside(taken).is_some()));
    drop(release);
}

#[tokio::test]
async fn refusals_leave_one_after_the_other_and_none_is_held_for_long() {
    let clock = Arc::new(ManualClock::default());
    let pool = pool_at(clock.clone(), Engine::Reference, 1, Duration::from_secs(5));

    let held: Vec<_> = (0..1000).map(|_| pool.shared.hold_back().as_millis()).collect();
    clock.advance(10_000);

    assert_eq!(held[..3], [0, 2, 4]);
    assert_eq!((held[500], held[999]), (1000, 1000));
    assert_eq!(pool.shared.hold_back(), Duration::ZERO);
}

#[tokio::test]
async fn work_that_panics_is_an_answer_and_the_thread_goes_on() {
    for engine in ENGINES {
        let pool = pool(engine, 1);

        assert_eq!(ask(&pool, work(|| panic!("told to"))).await, Err::<(), _>(Refused::Broken));
        assert_eq!(ask(&pool, work(|| 7)).await, Ok(7));
    }
}

fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(future).poll(&mut context) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}
