//! The jobs that wait, and which may join them. Nobody is let in who could not be answered in time.
//!
//! No thread and no clock is in here: whoever calls says what time it is.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use domain::ports::Requester;
use domain::{ClientNetwork, ClientSite, NETWORKS_PER_SITE, SitePrefix};

use crate::pool::Job;

/// What an operator allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How many clients' jobs may wait, and as much bulk work beside them.
    pub(crate) capacity: usize,
    pub(crate) workers: usize,
    /// How many jobs a worker takes at once.
    pub(crate) lanes: usize,
    /// From a client's arrival to the answer.
    pub(crate) deadline: Duration,
    /// Which IPv6 networks take their turns together.
    pub(crate) site_prefix: SitePrefix,
}

/// The clients' jobs, the bulk work that goes after them, and what has been learned of the pace at which they go.
pub(crate) struct Queue {
    limits: Limits,
    clients: Rotation,
    bulk: VecDeque<Box<dyn Job>>,
    /// What one turn of one job takes of a worker's time while all of its lanes are busy, as a moving average: a
    /// full set of 6 jobs of 4096 turns each that takes 390 ms makes it 390 ms / 6 / 4096 = 16 µs.
    turn: Duration,
}

/// A line for each network, served in turn: many jobs from one network make each other wait, and nobody else. The IPv6
/// networks of one site have up to [`NETWORKS_PER_SITE`] turns between them, however many they are.
#[derive(Default)]
struct Rotation {
    /// The turns of one round, the next one first.
    order: VecDeque<Party>,
    parties: HashMap<Party, Lines>,
    len: usize,
}

/// Who has turns: a site of IPv6 networks, or a network that belongs to none.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Party {
    Network(ClientNetwork),
    Site(ClientSite),
}

/// The lines of the networks that have jobs here, the next one first. None is empty.
#[derive(Default)]
struct Lines {
    lines: VecDeque<(ClientNetwork, VecDeque<Waiting>)>,
    /// How many turns they have between them in each round.
    turns: usize,
}

struct Waiting {
    job: Box<dyn Job>,
    /// When the deadline passes.
    due: Duration,
}

/// There is no room. It will take this long until those are done who wait now, in whole seconds, at least one and
/// no longer than anybody waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRoom(pub(crate) Duration);

impl Queue {
    /// An empty one. `turn` is the pace to begin with.
    pub(crate) fn new(limits: Limits, turn: Duration) -> Self {
        let (clients, bulk) = (Rotation::default(), VecDeque::new());
        Self { limits, clients, bulk, turn: turn.max(Duration::from_nanos(1)) }
    }

    /// Lets a job in that a client wants answered by `due`, or drops it.
    pub(crate) fn admit(
        &mut self,
        job: Box<dyn Job>,
        requester: Requester,
        now: Duration,
        due: Duration,
    ) -> Result<(), NoRoom> {
        let patience = due.saturating_sub(now);
        if !self.has_room(requester, job.turns(), patience) {
            self.clients.retain(Waiting::is_wanted);
            self.bulk.retain(|job| !job.is_abandoned());
            if !self.has_room(requester, job.turns(), patience) {
                return Err(self.no_room());
            }
        }
        match requester {
            Requester::Client(network) => {
                self.clients.push(self.party_of(network), network, Waiting { job, due });
            }
            Requester::Bulk => self.bulk.push_back(job),
        }
        Ok(())
    }

    /// The job whose turn it is. Those whose callers have gone are dropped on the way, and those that could
    /// not be answered in time any more are told so: begun, they would only make the next ones late.
    pub(crate) fn pop(&mut self, now: Duration) -> Option<Box<dyn Job>> {
        while let Some(mut waiting) = self.clients.pop() {
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
        self.bulk.retain(|job| !job.is_abandoned());
        self.bulk.pop_front()
    }

    pub(crate) fn set_site_prefix(&mut self, site_prefix: SitePrefix) {
        self.limits.site_prefix = site_prefix;
    }

    fn party_of(&self, network: ClientNetwork) -> Party {
        network.site(self.limits.site_prefix).map_or(Party::Network(network), Party::Site)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.clients.len + self.bulk.len()
    }

    /// Takes note of a job that took so long while `beside` were worked on at once. It counts only when that
    /// was a full house, since a queue moves at no other pace.
    pub(crate) fn measure(&mut self, turns: u32, took: Duration, beside: usize) {
        if beside == self.limits.lanes {
            let turn = took / turns.max(1) / u32::try_from(beside).unwrap_or(u32::MAX);
            self.turn = ((self.turn * 7 + turn) / 8).max(Duration::from_nanos(1));
        }
    }

    /// What whoever is refused now is told.
    pub(crate) fn no_room(&self) -> NoRoom {
        let until_done = self.work_off(self.clients.turns()).min(self.limits.deadline);
        let seconds = until_done.as_secs() + u64::from(until_done.subsec_nanos() > 0);
        NoRoom(Duration::from_secs(seconds.max(1)))
    }

    fn has_room(&self, requester: Requester, turns: u32, patience: Duration) -> bool {
        let capacity = self.limits.capacity;
        let Requester::Client(network) = requester else { return self.bulk.len() < capacity };
        if self.clients.len >= capacity || !self.has_share(network) {
            return false;
        }
        let ahead = self.clients.turns_before(self.party_of(network), network);
        // The worst that can be: it waits for the lanes as they were just filled, for those ahead, and then a full
        // set for itself. A tenth is kept for a pace that falls meanwhile. Who finds nobody ahead is never sent
        // away, however long the work.
        let takes = self.work_off(ahead).saturating_add(self.side_by_side(turns).saturating_mul(2));
        ahead == 0 || takes <= patience * 9 / 10
    }

    /// From half full on, each turn stands for an equal share of three quarters. A network may hold one share, and those of
    /// a site together as many as they have turns. The last quarter is kept for whoever comes next, or a flood from one
    /// network would leave no place for the first of another.
    fn has_share(&self, network: ClientNetwork) -> bool {
        let party = self.party_of(network);
        let (held, held_by_party) = (self.clients.held(party, network), self.clients.held_by(party));
        let turns = self.clients.turns_with(party, network);
        let others = self.clients.order.len() - self.clients.turns_of(party);
        let share = (self.limits.capacity * 3 / 4 / (others + turns)).max(1);
        self.clients.len < self.limits.capacity.div_ceil(2) || held < share && held_by_party < share * turns
    }

    /// What a job takes in a full set of lanes.
    fn side_by_side(&self, turns: u32) -> Duration {
        let lanes = u32::try_from(self.limits.lanes).unwrap_or(u32::MAX);
        self.turn.saturating_mul(turns).saturating_mul(lanes)
    }

    /// What all workers together take for so many turns.
    fn work_off(&self, turns: u32) -> Duration {
        self.turn.saturating_mul(turns) / u32::try_from(self.limits.workers).unwrap_or(u32::MAX).max(1)
    }
}

impl Rotation {
    fn push(&mut self, party: Party, network: ClientNetwork, waiting: Waiting) {
        let lines = self.parties.entry(party).or_default();
        match lines.lines.iter_mut().find(|(other, _)| *other == network) {
            Some((_, line)) => line.push_back(waiting),
            None => lines.lines.push_back((network, VecDeque::from([waiting]))),
        }
        if lines.turns < turns_of(lines.lines.len()) {
            lines.turns += 1;
            self.order.push_back(party);
        }
        self.len += 1;
    }

    fn pop(&mut self) -> Option<Waiting> {
        let party = self.order.pop_front()?;
        let lines = self.parties.get_mut(&party)?;
        let (network, mut line) = lines.lines.pop_front()?;
        let waiting = line.pop_front()?;
        if !line.is_empty() {
            lines.lines.push_back((network, line));
        }
        if lines.turns > turns_of(lines.lines.len()) {
            lines.turns -= 1;
        } else {
            self.order.push_back(party);
        }
        if lines.lines.is_empty() {
            self.parties.remove(&party);
        }
        self.len -= 1;
        Some(waiting)
    }

    fn retain(&mut self, is_wanted: impl Fn(&Waiting) -> bool) {
        self.parties.retain(|_, Lines { lines, turns }| {
            for (_, line) in &mut *lines {
                line.retain(&is_wanted);
            }
            lines.retain(|(_, line)| !line.is_empty());
            *turns = turns_of(lines.len());
            !lines.is_empty()
        });
        let mut left: HashMap<Party, usize> =
            self.parties.iter().map(|(party, lines)| (*party, lines.turns)).collect();
        self.order.retain(|party| match left.get_mut(party) {
            Some(turns) if *turns > 0 => {
                *turns -= 1;
                true
            }
            _ => false,
        });
        self.len = self.waiting().count();
    }

    /// How many jobs of this network wait.
    fn held(&self, party: Party, network: ClientNetwork) -> usize {
        let lines = self.parties.get(&party);
        let line = lines.and_then(|lines| lines.lines.iter().find(|(other, _)| *other == network));
        line.map_or(0, |(_, line)| line.len())
    }

    /// How many jobs of a network and all others of its site wait.
    fn held_by(&self, party: Party) -> usize {
        self.parties.get(&party).map_or(0, |lines| lines.lines.iter().map(|(_, line)| line.len()).sum())
    }

    fn turns_of(&self, party: Party) -> usize {
        self.parties.get(&party).map_or(0, |lines| lines.turns)
    }

    /// How many networks of a party have jobs here once this one has, too.
    fn networks_with(&self, party: Party, network: ClientNetwork) -> usize {
        let others = self.parties.get(&party).map_or(0, |lines| lines.lines.len());
        others + usize::from(self.held(party, network) == 0)
    }

    /// How many turns the party has once this network has a job here, too.
    fn turns_with(&self, party: Party, network: ClientNetwork) -> usize {
        turns_of(self.networks_with(party, network))
    }

    /// How much work would go before the next job of this network: all that it has here, of the networks that share its
    /// turns as many jobs and one more, and of the others as many as they have turns for meanwhile.
    fn turns_before(&self, party: Party, network: ClientNetwork) -> u32 {
        let jobs = self.held(party, network) + 1;
        let networks = self.networks_with(party, network);
        let rounds = (jobs * networks).div_ceil(turns_of(networks));
        self.parties.iter().fold(0, |before, (other, lines)| {
            let theirs = if *other == party {
                sum(lines.lines.iter().flat_map(|(_, line)| line.iter().take(jobs)))
            } else {
                sum(lines.in_turn().take(rounds * lines.turns))
            };
            before.saturating_add(theirs)
        })
    }

    fn turns(&self) -> u32 {
        sum(self.waiting())
    }

    fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.parties.values().flat_map(|lines| &lines.lines).flat_map(|(_, line)| line)
    }
}

impl Lines {
    /// Their jobs in the order in which they are begun.
    fn in_turn(&self) -> impl Iterator<Item = &Waiting> {
        let longest = self.lines.iter().map(|(_, line)| line.len()).max().unwrap_or(0);
        (0..longest).flat_map(|place| self.lines.iter().filter_map(move |(_, line)| line.get(place)))
    }
}

/// How many turns so many networks of one party have in each round.
fn turns_of(networks: usize) -> usize {
    networks.min(NETWORKS_PER_SITE as usize)
}

impl Waiting {
    fn is_wanted(&self) -> bool {
        !self.job.is_abandoned()
    }
}

fn sum<'a>(jobs: impl Iterator<Item = &'a Waiting>) -> u32 {
    jobs.fold(0, |sum, waiting| sum.saturating_add(waiting.job.turns()))
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

    const DEADLINE: Duration = Duration::from_secs(5);

    #[derive(Debug, PartialEq, Eq)]
    enum Told {
        Begun(usize),
        Refused(usize),
    }

    struct Fake {
        name: usize,
        turns: u32,
        abandoned: Arc<AtomicBool>,
        told: mpsc::Sender<Told>,
    }

    impl Job for Fake {
        fn is_abandoned(&self) -> bool {
            self.abandoned.load(Ordering::Relaxed)
        }

        fn turns(&self) -> u32 {
            self.turns
        }

        fn came(&self) -> Duration {
            Duration::ZERO
        }

        fn refuse(&mut self, _: NoRoom) {
            self.told.send(Told::Refused(self.name)).unwrap();
        }

        fn begin(&mut self) -> Option<Bcrypt> {
            self.told.send(Told::Begun(self.name)).unwrap();
            None
        }

        fn go_on(&mut self, _: Digest) -> Option<Bcrypt> {
            None
        }
    }

    /// A queue, and what its jobs were told. They are counted from one.
    struct Line {
        queue: Queue,
        next: usize,
        abandoned: Arc<AtomicBool>,
        told: (mpsc::Sender<Told>, mpsc::Receiver<Told>),
    }

    /// One worker that takes one job at a time. Its places go by time when there are a thousand: of 4.5 s at 0.1 s
    /// a job two jobs' time is for the one in work and the one that asks, and what is left is for those ahead.
    fn line(capacity: usize) -> Line {
        let limits =
            Limits { capacity, workers: 1, lanes: 1, deadline: DEADLINE, site_prefix: SitePrefix::default() };
        let queue = Queue::new(limits, TURN);
        Line { queue, next: 0, abandoned: Arc::default(), told: mpsc::channel() }
    }

    impl Line {
        fn admit(&mut self, requester: Requester, turns: u32, now: Duration) -> Result<(), NoRoom> {
            self.next += 1;
            let (abandoned, told) = (self.abandoned.clone(), self.told.0.clone());
            let job = Fake { name: self.next, turns, abandoned, told };
            self.queue.admit(Box::new(job), requester, now, now + DEADLINE)
        }

        /// How many of a hundred that come at once are let in.
        fn crowd(&mut self, requester: Requester) -> usize {
            (0..100).filter(|_| self.admit(requester, TURNS, Duration::ZERO).is_ok()).count()
        }

        /// What jobs are told when the queue is emptied at this time.
        fn empty(&mut self, now: Duration) -> Vec<Told> {
            while let Some(mut job) = self.queue.pop(now) {
                job.begin();
            }
            self.told.1.try_iter().collect()
        }

        fn pop(&mut self, count: usize) {
            for _ in 0..count {
                assert!(self.queue.pop(Duration::ZERO).is_some());
            }
        }
    }

    fn network(number: u8) -> Requester {
        Requester::Client(ClientNetwork::of([192, 0, 2, number].into()))
    }

    #[test]
    fn as_many_are_let_in_as_can_be_answered_in_nine_tenths_of_the_deadline() {
        let mut line = line(1000);

        assert_eq!(line.crowd(network(1)), 44);
    }

    #[test]
    fn no_more_are_let_in_than_the_operator_allows() {
        let mut line = line(8);

        let admitted = (0..100).filter(|n| line.admit(network(*n), TURNS, Duration::ZERO).is_ok()).count();

        assert_eq!(admitted, 8);
    }

    #[test]
    fn whoever_is_refused_is_told_when_those_are_done_who_wait_and_at_most_the_deadline() {
        let mut line = line(1000);
        while line.queue.len() < 35 {
            line.admit(network(1), TURNS, Duration::ZERO).unwrap();
        }

        let refused = line.admit(network(1), 16 * TURNS, Duration::ZERO);

        assert_eq!(refused, Err(NoRoom(Duration::from_secs(4))));
        for _ in 0..64 {
            line.queue.measure(TURNS, Duration::from_secs(1), 1);
        }
        assert_eq!(line.queue.no_room(), NoRoom(DEADLINE));
    }

    #[test]
    fn a_slower_pace_lets_fewer_in() {
        let mut line = line(1000);
        for _ in 0..64 {
            line.queue.measure(TURNS, Duration::from_millis(400), 1);
        }

        // 4.5 s less two times 0.4 s hold nine of them, and the first one never waits.
        assert_eq!(line.crowd(network(1)), 10);
    }

    #[test]
    fn a_pace_that_was_not_a_crowds_is_not_taken_for_one() {
        let limits = Limits { lanes: 6, ..line(100).queue.limits };
        let mut queue = Queue::new(limits, TURN);

        queue.measure(TURNS, Duration::from_secs(4), 5);

        assert_eq!(queue.turn, TURN);
    }

    #[test]
    fn whoever_finds_nobody_waiting_is_let_in_and_begun_however_long_it_takes() {
        let mut line = line(1000);

        assert_eq!(line.admit(network(1), 100 * TURNS, Duration::ZERO), Ok(()));
        assert_eq!(line.empty(Duration::ZERO), [Told::Begun(1)]);
    }

    #[test]
    fn networks_are_served_in_turn() {
        let mut line = line(1000);
        for number in [1, 1, 1, 2, 2, 3] {
            line.admit(network(number), TURNS, Duration::ZERO).unwrap();
        }

        let order = [1, 4, 6, 2, 5, 3].map(Told::Begun);

        assert_eq!(line.empty(Duration::ZERO), order);
    }

    #[test]
    fn a_flood_closes_the_door_to_its_own_network_and_to_no_other() {
        let mut line = line(1000);
        line.crowd(network(1));
        for _ in 0..64 {
            line.queue.measure(TURNS, Duration::from_millis(400), 1);
        }

        // At this pace the flood that was let in is too much already, and the newcomer is next but one.
        assert!(line.admit(network(1), TURNS, Duration::ZERO).is_err());
        assert_eq!(line.admit(network(2), TURNS, Duration::ZERO), Ok(()));
        line.pop(1);
        assert_eq!(line.empty(Duration::ZERO)[0], Told::Begun(102));
    }

    #[test]
    fn a_network_by_itself_gets_three_quarters_of_the_places_and_the_next_one_what_is_left() {
        let mut line = line(40);

        assert_eq!(line.crowd(network(1)), 30);
        assert_eq!(line.crowd(network(2)), 10);
        assert_eq!((line.crowd(network(1)), line.crowd(network(3))), (0, 0));
    }

    #[test]
    fn up_to_half_the_places_go_to_whoever_comes_first() {
        let mut line = line(40);
        line.admit(network(2), TURNS, Duration::ZERO).unwrap();

        assert_eq!(line.crowd(network(1)), 19);
        assert_eq!(line.crowd(network(2)), 14, "three eighths, of which it had one");
    }

    #[test]
    fn places_that_fall_free_go_to_the_networks_that_hold_few() {
        let mut line = line(40);
        line.crowd(network(1));
        line.crowd(network(2));

        // Of 30 and 10 there are 24 and 4 left; three networks get 10 each.
        line.pop(12);

        assert_eq!((line.crowd(network(1)), line.crowd(network(3))), (0, 10));
        assert_eq!(line.crowd(network(4)), 2);
    }

    fn ipv6(address: &str) -> Requester {
        Requester::Client(ClientNetwork::of(address.parse().unwrap()))
    }

    #[test]
    fn ipv6_site_has_four_turns_however_many_networks_it_uses() {
        let mut line = line(1000);
        for number in 0..8 {
            for _ in 0..2 {
                line.admit(ipv6(&format!("2001:db8:0:{number}::1")), TURNS, Duration::ZERO).unwrap();
            }
        }
        for number in [1, 1, 2] {
            line.admit(network(number), TURNS, Duration::ZERO).unwrap();
        }
        line.admit(ipv6("2001:db8:1::1"), TURNS, Duration::ZERO).unwrap();

        // Four of the site, then one of each other, then four of its networks that had no turn yet.
        let order = [1, 3, 5, 7, 17, 19, 20, 9, 11, 13, 15, 18, 2, 4, 6, 8, 10, 12, 14, 16].map(Told::Begun);
        assert_eq!(line.empty(Duration::ZERO), order);
    }

    #[test]
    fn ipv6_site_holds_four_shares_however_many_networks_it_uses() {
        let mut line = line(40);
        line.admit(network(1), TURNS, Duration::ZERO).unwrap();

        let admitted = (0..100)
            .filter(|number| {
                line.admit(ipv6(&format!("2001:db8:0:{number:x}::1")), TURNS, Duration::ZERO).is_ok()
            })
            .count();

        assert_eq!(admitted, 24, "four fifths of three quarters");
        // Everybody else has their share still.
        assert_eq!(line.crowd(network(1)), 5);
        assert_eq!(line.crowd(ipv6("2001:db8:1::1")), 5);
        assert_eq!(line.crowd(ipv6("2001:db8:0:7::1")), 0);
    }

    #[test]
    fn ipv6_site_finds_the_work_before_it_that_its_turns_leave() {
        let mut line = line(1000);
        // As many as one network would fit in.
        for number in 0..11 {
            for _ in 0..4 {
                let of_site = ipv6(&format!("2001:db8:0:{number:x}::1"));
                line.admit(of_site, TURNS, Duration::ZERO).unwrap();
            }
        }

        assert!(line.admit(ipv6("2001:db8:0:1::1"), TURNS, Duration::ZERO).is_err());
        assert_eq!(line.admit(network(1), TURNS, Duration::ZERO), Ok(()));
        assert_eq!(line.empty(Duration::ZERO).len(), 45);
    }

    #[test]
    fn those_who_have_gone_make_room_and_are_not_begun() {
        let mut line = line(40);
        line.crowd(network(1));
        line.crowd(Requester::Bulk);
        line.abandoned.store(true, Ordering::Relaxed);
        line.abandoned = Arc::default();

        assert_eq!(line.crowd(network(1)), 30);
        assert_eq!(line.queue.len(), 30);
        assert_eq!(line.empty(Duration::ZERO)[0], Told::Begun(201));
    }

    #[test]
    fn bulk_work_whose_caller_has_gone_is_not_begun() {
        let mut line = line(8);
        line.crowd(Requester::Bulk);
        line.abandoned.store(true, Ordering::Relaxed);

        assert_eq!(line.empty(Duration::ZERO), []);
    }

    #[test]
    fn bulk_work_waits_for_every_client_and_takes_no_clients_place() {
        let mut line = line(8);

        assert_eq!((line.crowd(Requester::Bulk), line.crowd(network(1))), (8, 6));

        let clients = 101..=106;
        assert_eq!(line.empty(Duration::ZERO), clients.chain(1..=8).map(Told::Begun).collect::<Vec<_>>());
    }

    #[test]
    fn what_would_be_late_is_refused_and_not_begun() {
        let mut line = line(8);
        line.admit(network(1), TURNS, Duration::ZERO).unwrap();
        line.admit(network(1), TURNS, Duration::ZERO).unwrap();
        line.admit(network(1), TURNS, Duration::from_secs(1)).unwrap();

        let told = line.empty(Duration::from_millis(4901));

        assert_eq!(told, [Told::Refused(1), Told::Refused(2), Told::Begun(3)]);
    }
}
