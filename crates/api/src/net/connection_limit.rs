//! How many connections there may be, and who goes when there is no room.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use domain::{ClientNetwork, ClientSite, NETWORKS_PER_SITE, SitePrefix};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::warn;

use super::now;
use crate::client_address::TrustedProxies;
use crate::http_metrics::{Cut, Traffic};

/// Of a full house, and of a network's full share, one part in so many goes at once, because it costs a look at all of
/// them to find the one that goes first.
const AT_ONCE: usize = 32;

/// How often it is said that there is no room.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// In all.
    pub connections: usize,
    /// Of one client network. The IPv6 networks of one site may have four times as many between them.
    pub per_network: usize,
}

/// Who has connections: the network that a client connects from, and the site of that.
#[derive(Clone, Copy)]
struct Client {
    network: ClientNetwork,
    site: Option<ClientSite>,
}

/// Of the connections there may be, one part in so many may be open besides, between the accepting of one and the
/// closing of another that made room for it.
const HEADROOM: usize = 8;

/// The connections there are.
pub(super) struct Seats {
    limits: Limits,
    traffic: Arc<Traffic>,
    opened: Instant,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    seats: HashMap<u64, Entry>,
    networks: HashMap<ClientNetwork, usize>,
    sites: HashMap<ClientSite, usize>,
    told: Option<Instant>,
}

struct Entry {
    client: Option<Client>,
    standing: Arc<Standing>,
}

/// One of them, until it is dropped.
pub(super) struct Seat {
    id: u64,
    seats: Arc<Seats>,
    standing: Arc<Standing>,
}

/// In which order connections go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    /// Nothing ever came: first, and of them the oldest.
    Silent,
    /// Kept for a next request.
    Idle,
    /// In the midst of a request that the client has not sent to its end, or of an answer that it does not take.
    Slow,
    /// Something is being done, which is let finish.
    Busy,
}

/// What others on other threads may see of a connection, and do to it.
#[derive(Default)]
pub(super) struct Standing {
    /// Its rank, and within it since when, so that the smallest goes first.
    order: AtomicU64,
    opened: Option<Instant>,
    is_to_go: AtomicBool,
    waker: AtomicWaker,
}

impl Limits {
    fn per_site(self) -> usize {
        self.per_network.saturating_mul(NETWORKS_PER_SITE as usize)
    }

    /// How many connections may be open for a moment.
    pub const fn open(self) -> usize {
        self.connections + self.connections.div_ceil(HEADROOM)
    }
}

impl Seats {
    pub(super) fn new(limits: Limits, traffic: Arc<Traffic>) -> Arc<Self> {
        Arc::new(Self { limits, traffic, opened: now(), taken: Mutex::default() })
    }

    /// A seat for whoever connects from there. The connections of a proxy are those of many clients, and count only in
    /// all. Where there is none, others go who are only waiting; where nobody is, there is none.
    pub(super) fn take(
        self: &Arc<Self>,
        peer: IpAddr,
        proxies: &TrustedProxies,
        site_prefix: SitePrefix,
    ) -> Option<Seat> {
        let peer = peer.to_canonical();
        let client = (!proxies.contain(peer)).then(|| {
            let network = ClientNetwork::of(peer);
            Client { network, site: network.site(site_prefix) }
        });

        let mut taken = self.taken.lock();
        let (share, of_site) = (self.limits.per_network, self.limits.per_site());
        let mut gone = Vec::new();
        let mut has_room = true;
        if let Some(Client { network, .. }) = client
            && taken.of(network) >= share
        {
            gone = taken.make_room(share.div_ceil(AT_ONCE), |client| client.network == network);
            has_room = !gone.is_empty();
        } else if let Some(Client { site: Some(site), .. }) = client
            && taken.of_site(site) >= of_site
        {
            gone = taken.make_room(of_site.div_ceil(AT_ONCE), |client| client.site == Some(site));
            has_room = !gone.is_empty();
        }
        if has_room && taken.seats.len() >= self.limits.connections {
            let more = taken.make_room_among(self.limits.connections.div_ceil(AT_ONCE), |_| true);
            has_room = !more.is_empty();
            gone.extend(more);
            taken.tell_of_full_house(self.limits.connections);
        }
        let seat = has_room.then(|| {
            let standing = Arc::new(Standing { opened: Some(self.opened), ..Standing::default() });
            let id = taken.add(Entry { client, standing: standing.clone() });
            Seat { id, seats: self.clone(), standing }
        });
        drop(taken);
        for waker in gone {
            self.traffic.note_cut(Cut::ToMakeRoom);
            waker.wake();
        }
        match &seat {
            Some(_) => self.traffic.note_opened(),
            None => self.traffic.note_cut(Cut::NoRoom),
        }
        seat
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let taken = self.taken.lock();
        taken.seats.is_empty() && taken.networks.is_empty() && taken.sites.is_empty()
    }
}

impl Taken {
    fn of(&self, network: ClientNetwork) -> usize {
        self.networks.get(&network).copied().unwrap_or(0)
    }

    fn of_site(&self, site: ClientSite) -> usize {
        self.sites.get(&site).copied().unwrap_or(0)
    }

    fn add(&mut self, entry: Entry) -> u64 {
        if let Some(Client { network, site }) = entry.client {
            *self.networks.entry(network).or_default() += 1;
            if let Some(site) = site {
                *self.sites.entry(site).or_default() += 1;
            }
        }
        let id = self.next;
        self.next += 1;
        self.seats.insert(id, entry);
        id
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Standing>> {
        let entry = self.seats.remove(&id)?;
        if let Some(Client { network, site }) = entry.client {
            count_down(&mut self.networks, &network);
            if let Some(site) = site {
                count_down(&mut self.sites, &site);
            }
        }
        Some(entry.standing)
    }

    /// Has up to `count` of these clients' go who are waiting, and returns what wakes them.
    fn make_room(&mut self, count: usize, is_meant: impl Fn(&Client) -> bool) -> Vec<Waker> {
        self.make_room_among(count, |entry| entry.client.as_ref().is_some_and(&is_meant))
    }

    /// Has up to `count` of those go who are waiting, and returns what wakes them.
    fn make_room_among(&mut self, count: usize, is_meant: impl Fn(&Entry) -> bool) -> Vec<Waker> {
        let meant = self.seats.iter().filter(|(_, entry)| is_meant(entry));
        let mut waiting: Vec<(u64, u64)> = meant
            .map(|(id, entry)| (entry.standing.order.load(Ordering::Relaxed), *id))
            .filter(|(order, _)| *order < order_of(Rank::Busy, 0))
            .collect();
        if waiting.len() > count {
            waiting.select_nth_unstable(count);
            waiting.truncate(count);
        }
        let going = waiting.into_iter().filter_map(|(_, id)| self.remove(id));
        going.map(|standing| standing.send_away()).collect()
    }

    fn tell_of_full_house(&mut self, connections: usize) {
        let now = now();
        if self.told.is_none_or(|told| now.duration_since(told) >= TELL_EVERY) {
            self.told = Some(now);
            warn!(
                connections,
                "there are as many connections as there may be, so those that wait are closed"
            );
        }
    }
}

impl Seat {
    pub(super) fn standing(&self) -> Arc<Standing> {
        self.standing.clone()
    }

    /// Says that its connection is closed from our side.
    pub(super) fn note_cut(&self, reason: Cut) {
        self.seats.traffic.note_cut(reason);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken.lock().remove(self.id);
        self.seats.traffic.note_closed();
    }
}

impl Standing {
    pub(super) fn set(&self, rank: Rank, since: Instant) {
        let age = self.opened.map_or(Duration::ZERO, |opened| since.duration_since(opened));
        self.order
            .store(order_of(rank, u64::try_from(age.as_micros()).unwrap_or(u64::MAX)), Ordering::Relaxed);
    }

    /// Whether it is to go as soon as it is only waiting. If not, this task is woken when that changes.
    pub(super) fn is_to_go(&self, task: &Waker) -> bool {
        self.waker.register(task);
        self.is_to_go.load(Ordering::Acquire)
    }

    fn send_away(&self) -> Waker {
        self.is_to_go.store(true, Ordering::Release);
        self.waker.take().unwrap_or_else(|| Waker::noop().clone())
    }
}

fn count_down<Key: Eq + Hash>(counts: &mut HashMap<Key, usize>, key: &Key) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

fn order_of(rank: Rank, microseconds: u64) -> u64 {
    (rank as u64) << 62 | microseconds.min((1 << 62) - 1)
}
