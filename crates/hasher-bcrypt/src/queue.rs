//! The passwords that wait, and which may join them. Nobody is let in who could not be answered in time.
//!
//! No thread and no clock is in here: whoever calls says what time it is.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use domain::ClientNetwork;
use domain::ports::Requester;

use crate::pool::Job;

/// What an operator allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How many clients' passwords may wait, and as much bulk work beside them.
    pub(crate) capacity: usize,
    pub(crate) workers: usize,
    /// How many passwords a worker takes at once.
    pub(crate) lanes: usize,
    /// From a client's arrival to the answer.
    pub(crate) deadline: Duration,
}

/// Two lines, of which the clients' goes first, and what has been learned of the pace at which they move.
pub(crate) struct Queue {
    limits: Limits,
    clients: VecDeque<Waiting>,
    bulk: VecDeque<Waiting>,
    /// How long a worker takes for one turn of one job, when all that it may take at once are busy and each
    /// counts for its share: a moving average.
    turn: Duration,
}

struct Waiting {
    job: Box<dyn Job>,
    requester: Requester,
    /// When the deadline of a client passes.
    due: Duration,
}

/// There is no room. It will take this long until those are done who wait now, in whole seconds, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRoom(pub(crate) Duration);

impl Queue {
    /// An empty one. `turn` is the pace to begin with.
    pub(crate) fn new(limits: Limits, turn: Duration) -> Self {
        let (clients, bulk) = (VecDeque::new(), VecDeque::new());
        Self { limits, clients, bulk, turn: turn.max(Duration::from_nanos(1)) }
    }

    /// Lets a job in, or drops it.
    pub(crate) fn admit(
        &mut self,
        job: Box<dyn Job>,
        requester: Requester,
        now: Duration,
    ) -> Result<(), NoRoom> {
        if !self.has_room(requester, job.turns()) {
            self.clients.retain(Waiting::is_wanted);
            self.bulk.retain(Waiting::is_wanted);
            if !self.has_room(requester, job.turns()) {
                return Err(self.no_room());
            }
        }
        let line = match requester {
            Requester::Client(_) => &mut self.clients,
            Requester::Bulk => &mut self.bulk,
        };
        line.push_back(Waiting { job, requester, due: now.saturating_add(self.limits.deadline) });
        Ok(())
    }

    /// The job whose turn it is. Those whose callers have gone are dropped on the way, and those that could
    /// not be answered in time any more are told so: begun, they would only make the next ones late.
    pub(crate) fn pop(&mut self, now: Duration) -> Option<Box<dyn Job>> {
        while let Some(mut waiting) = self.clients.pop_front() {
            // A job that takes more than the deadline by itself is begun nevertheless: the pace is that of a
            // crowd, and it may be alone.
            let takes = self.side_by_side(waiting.job.turns()).min(self.limits.deadline / 2);
            if !waiting.is_wanted() {
                continue;
            }
            if now.saturating_add(takes) <= waiting.due {
                return Some(waiting.job);
            }
            waiting.job.refuse(self.no_room());
        }
        self.bulk.retain(Waiting::is_wanted);
        self.bulk.pop_front().map(|waiting| waiting.job)
    }

    /// The same for a worker that is busy with `beside` others already, unless one more would make all of them
    /// late.
    pub(crate) fn pop_beside(&mut self, beside: usize, now: Duration) -> Option<Box<dyn Job>> {
        let next = self.clients.front().or_else(|| self.bulk.front())?;
        if beside < self.lanes_for(next.job.turns()) { self.pop(now) } else { None }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.clients.len() + self.bulk.len()
    }

    /// Takes note of a job that took so long while `beside` were worked on at once. It counts only when that
    /// was a full house, since a queue moves at no other pace.
    pub(crate) fn measure(&mut self, turns: u32, took: Duration, beside: usize) {
        if beside >= self.lanes_for(turns) {
            let turn = took / turns.max(1) / u32::try_from(beside.max(1)).unwrap_or(u32::MAX);
            self.turn = ((self.turn * 7 + turn) / 8).max(Duration::from_nanos(1));
        }
    }

    fn has_room(&self, requester: Requester, turns: u32) -> bool {
        let Requester::Client(network) = requester else { return self.bulk.len() < self.limits.capacity };
        let places = self.places(turns);
        let taken = self.clients.len().max((self.turns_ahead() / turns.max(1)) as usize);
        match taken {
            // Who finds nobody waiting is never sent away, however long the work.
            0 => true,
            _ if taken >= places => false,
            _ if taken < places.div_ceil(2) => true,
            _ => self.has_share(network, places),
        }
    }

    /// Whether this network holds fewer places than its equal share of three quarters. The last quarter is kept
    /// for whoever comes next, or a flood from one network would leave no place for the first of another.
    fn has_share(&self, network: ClientNetwork, places: usize) -> bool {
        let mut waiting = HashMap::from([(network, 0_usize)]);
        for other in &self.clients {
            if let Requester::Client(other) = other.requester {
                *waiting.entry(other).or_default() += 1;
            }
        }
        waiting[&network] < (places * 3 / 4 / waiting.len()).max(1)
    }

    /// How many jobs of so many turns may wait so that the last of them is answered in time.
    fn places(&self, turns: u32) -> usize {
        let spare = self.limit().saturating_sub(self.side_by_side(turns));
        let in_time = spare.as_nanos() * self.limits.workers as u128 / self.alone(turns).as_nanos();
        usize::try_from(in_time).unwrap_or(usize::MAX).min(self.limits.capacity)
    }

    /// What a job takes while all that a worker may take beside it are busy.
    fn side_by_side(&self, turns: u32) -> Duration {
        self.alone(turns).saturating_mul(u32::try_from(self.lanes_for(turns)).unwrap_or(u32::MAX))
    }

    /// How many jobs of so many turns a worker may take at once, so that none of them is late.
    fn lanes_for(&self, turns: u32) -> usize {
        let in_time = self.limit().as_nanos() / self.alone(turns).as_nanos();
        usize::try_from(in_time).unwrap_or(usize::MAX).clamp(1, self.limits.lanes)
    }

    /// A job's share of a worker's time.
    fn alone(&self, turns: u32) -> Duration {
        self.turn.saturating_mul(turns.max(1))
    }

    /// What may be promised: a tenth of the deadline is kept for a pace that falls meanwhile.
    fn limit(&self) -> Duration {
        self.limits.deadline * 9 / 10
    }

    fn turns_ahead(&self) -> u32 {
        self.clients.iter().fold(0, |sum, waiting| sum.saturating_add(waiting.job.turns()))
    }

    /// What whoever is refused now is told.
    pub(crate) fn no_room(&self) -> NoRoom {
        let workers = u32::try_from(self.limits.workers).unwrap_or(u32::MAX).max(1);
        let until_done = self.turn.saturating_mul(self.turns_ahead()) / workers;
        let seconds = until_done.as_secs() + u64::from(until_done.subsec_nanos() > 0);
        NoRoom(Duration::from_secs(seconds.max(1)))
    }
}

impl Waiting {
    fn is_wanted(&self) -> bool {
        !self.job.is_abandoned()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    use super::*;
    use crate::computation::{Bcrypt, Digest};

    /// As many turns as a job has in these tests, unless it says otherwise.
    const TURNS: u32 = 4096;

    /// With this pace a worker does ten such jobs a second.
    const TURN: Duration = Duration::from_nanos(100_000_000 / 4096);

    struct Fake {
        name: usize,
        turns: u32,
        abandoned: Arc<AtomicBool>,
        refusals: mpsc::Sender<usize>,
    }

    impl Job for Fake {
        fn is_abandoned(&self) -> bool {
            self.abandoned.load(Ordering::Relaxed)
        }

        fn turns(&self) -> u32 {
            self.turns
        }

        fn refuse(&mut self, _: NoRoom) {
            self.refusals.send(self.name).unwrap();
        }

        fn begin(&mut self) -> Option<Bcrypt> {
            // What a test looks at is which job came out.
            self.refusals.send(1000 + self.name).unwrap();
            None
        }

        fn go_on(&mut self, _: Digest) -> Option<Bcrypt> {
            None
        }
    }

    /// A queue, and the order in which jobs came out of it or were refused.
    struct Line {
        queue: Queue,
        next: usize,
        abandoned: Arc<AtomicBool>,
        told: (mpsc::Sender<usize>, mpsc::Receiver<usize>),
    }

    /// One worker that takes one job at a time, and five seconds: 44 can wait, and one more is being done.
    fn line(capacity: usize) -> Line {
        let limits = Limits { capacity, workers: 1, lanes: 1, deadline: Duration::from_secs(5) };
        let queue = Queue::new(limits, TURN);
        Line { queue, next: 0, abandoned: Arc::default(), told: mpsc::channel() }
    }

    impl Line {
        fn job(&mut self, turns: u32) -> Fake {
            self.next += 1;
            let (abandoned, refusals) = (self.abandoned.clone(), self.told.0.clone());
            Fake { name: self.next, turns, abandoned, refusals }
        }

        fn admit(&mut self, requester: Requester) -> Result<(), NoRoom> {
            let job = self.job(TURNS);
            self.queue.admit(Box::new(job), requester, Duration::ZERO)
        }

        /// How many of a hundred that come at once are let in.
        fn crowd(&mut self, requester: Requester) -> usize {
            (0..100).filter(|_| self.admit(requester).is_ok()).count()
        }

        /// The number of the job that comes out.
        fn pop(&mut self, now: Duration) -> Option<usize> {
            let mut job = self.queue.pop(now)?;
            job.begin();
            self.told.1.try_iter().find_map(|name| name.checked_sub(1000))
        }
    }

    fn network(number: u8) -> Requester {
        Requester::Client(ClientNetwork::of([192, 0, 2, number].into()))
    }

    #[test]
    fn as_many_are_let_in_as_can_be_answered_in_nine_tenths_of_the_deadline() {
        let mut line = line(1000);

        let admitted = (0..100).filter(|n| line.admit(network(*n)).is_ok()).count();

        // 4.5 s at 0.1 s each, the last one's own included.
        assert_eq!(admitted, 44);
    }

    #[test]
    fn no_more_are_let_in_than_the_operator_allows() {
        let mut line = line(8);

        assert_eq!((0..100).filter(|n| line.admit(network(*n)).is_ok()).count(), 8);
    }

    #[test]
    fn whoever_is_refused_is_told_when_those_are_done_who_wait() {
        let mut line = line(1000);
        while line.queue.len() < 35 {
            assert_eq!(line.admit(network(u8::try_from(line.queue.len()).unwrap())), Ok(()));
        }

        let expensive = line.job(16 * TURNS);
        let refused = line.queue.admit(Box::new(expensive), network(200), Duration::ZERO);

        assert_eq!(refused, Err(NoRoom(Duration::from_secs(4))));
    }

    #[test]
    fn a_slower_pace_lets_fewer_in() {
        let mut line = line(1000);
        for _ in 0..64 {
            line.queue.measure(TURNS, Duration::from_millis(400), 1);
        }

        let admitted = (0..100).filter(|n| line.admit(network(*n)).is_ok()).count();

        assert_eq!(admitted, 10);
    }

    #[test]
    fn a_pace_that_was_not_a_crowds_is_not_taken_for_one() {
        let limits = Limits { capacity: 100, workers: 1, lanes: 6, deadline: Duration::from_secs(5) };
        let mut queue = Queue::new(limits, TURN);

        queue.measure(TURNS, Duration::from_secs(4), 5);

        assert_eq!(queue.turn, TURN);
    }

    #[test]
    fn whoever_finds_nobody_waiting_is_let_in_however_long_it_takes() {
        let mut line = line(1000);

        let expensive = line.job(100 * TURNS);

        assert_eq!(line.queue.admit(Box::new(expensive), network(1), Duration::ZERO), Ok(()));
        assert!(line.queue.pop(Duration::ZERO).is_some());
    }

    #[test]
    fn a_network_by_itself_gets_three_quarters_and_the_next_one_finds_a_place() {
        let mut line = line(40);

        assert_eq!(line.crowd(network(1)), 30);
        assert_eq!(line.crowd(network(2)), 10);
        assert_eq!((line.crowd(network(1)), line.crowd(network(3))), (0, 0));
    }

    #[test]
    fn up_to_half_the_places_go_to_whoever_comes_first() {
        let mut line = line(40);
        line.admit(network(2)).unwrap();

        assert_eq!(line.crowd(network(1)), 19);
        assert_eq!(line.crowd(network(2)), 14, "three eighths, of which it had one");
    }

    #[test]
    fn places_that_fall_free_go_to_the_networks_that_hold_few() {
        let mut line = line(40);
        line.crowd(network(1));
        line.crowd(network(2));

        for _ in 0..12 {
            line.pop(Duration::ZERO).unwrap();
        }

        // Of the first network 18 are left and of the second 10; three networks get 10 each.
        assert_eq!((line.crowd(network(1)), line.crowd(network(3))), (0, 10));
        assert_eq!(line.crowd(network(4)), 2);
    }

    #[test]
    fn those_who_have_gone_make_room_and_are_not_begun() {
        let mut line = line(1000);
        line.crowd(network(1));
        line.abandoned.store(true, Ordering::Relaxed);
        line.abandoned = Arc::default();

        assert_eq!(line.crowd(network(1)), 33);
        assert_eq!((line.queue.len(), line.pop(Duration::ZERO)), (33, Some(101)));
    }

    #[test]
    fn bulk_work_waits_for_every_client_and_takes_no_clients_place() {
        let mut line = line(8);

        assert_eq!((line.crowd(Requester::Bulk), line.crowd(network(1))), (8, 6));
        let order: Vec<_> = std::iter::from_fn(|| line.pop(Duration::ZERO)).collect();

        assert_eq!(order, [101, 102, 103, 104, 105, 106, 1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn what_would_be_late_is_refused_and_not_begun() {
        let mut line = line(8);
        line.admit(network(1)).unwrap();
        line.admit(network(1)).unwrap();
        let late = line.job(TURNS);
        line.queue.admit(Box::new(late), network(1), Duration::from_secs(1)).unwrap();

        let begun = line.pop(Duration::from_millis(4901));

        assert_eq!(begun, Some(3));
        assert_eq!(line.queue.len(), 0);
    }

    #[test]
    fn a_worker_takes_no_more_at_once_than_it_can_answer_in_time() {
        let limits = Limits { capacity: 100, workers: 1, lanes: 6, deadline: Duration::from_secs(5) };
        let mut line = Line { queue: Queue::new(limits, TURN), ..line(0) };
        // A second each, when all lanes are busy.
        for _ in 0..6 {
            let job = line.job(10 * TURNS);
            line.queue.admit(Box::new(job), Requester::Bulk, Duration::ZERO).unwrap();
        }

        let mut taken = 0;
        while line.queue.pop_beside(taken, Duration::ZERO).is_some() {
            taken += 1;
        }

        assert_eq!(taken, 4);
    }
}
