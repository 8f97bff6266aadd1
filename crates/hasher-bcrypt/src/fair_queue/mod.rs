//! The jobs that wait, and which may join them. Nobody is let in who could not be answered in time.
//!
//! No thread and no clock is in here: whoever calls says what time it is.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use domain::ports::Requester;
use domain::{ClientNetwork, ClientSite, NETWORKS_PER_SITE, SitePrefix};

use crate::worker_pool::Job;

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
