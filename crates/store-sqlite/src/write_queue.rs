//! The writes that wait for the writer, and which may join them.
//!
//! The writer takes all of them at once into one transaction, so their order gives nobody an advantage. What a flood can
//! take from others is the room in the queue, and so client networks share that. Writes of no client, such as the purge,
//! have room of their own.

use std::collections::HashMap;
use std::mem::take;
use std::sync::Arc;

use domain::ClientNetwork;
use domain::ports::Requester;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Where writes are put. Clones put them into the same queue.
pub(crate) struct Sender<T>(Arc<Queue<T>>);

/// Where the writer takes them. When it is dropped, all that wait are dropped, and no more are let in.
pub(crate) struct Receiver<T>(Arc<Queue<T>>);

/// Why a write was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Too many are waiting, in all or of this network.
    Full,
    /// The queue was shut.
    Shut,
    /// Nobody writes any more.
    Abandoned,
}

struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Notify,
}

struct State<T> {
    waiting: Vec<T>,
    /// How many wait of each network that has any.
    of_clients: HashMap<ClientNetwork, usize>,
    of_background: usize,
    /// How many may wait of all clients, and as many of the background.
    capacity: usize,
    is_shut: bool,
    is_abandoned: bool,
}

/// A queue in which so many writes of clients may wait, and as many of the background.
pub(crate) fn queue<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let state = State {
        waiting: Vec::new(),
        of_clients: HashMap::new(),
        of_background: 0,
        capacity,
        is_shut: false,
        is_abandoned: false,
    };
    let queue = Arc::new(Queue { state: Mutex::new(state), changed: Notify::new() });
    (Sender(queue.clone()), Receiver(queue))
}

impl<T> Sender<T> {
    /// Lets a write in, if there is room for it.
    pub(crate) fn push(&self, requester: Requester, write: T) -> Result<(), Refused> {
        self.0.state.lock().push(requester, write)?;
        self.0.changed.notify_one();
        Ok(())
    }

    /// Lets nothing more in. What waits is written.
    pub(crate) fn shut(&self) {
        self.0.state.lock().is_shut = true;
        self.0.changed.notify_one();
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.0.state.lock().waiting.len()
    }
}

impl<T> Receiver<T> {
    /// All that wait, once there are any; nothing when the queue is shut and empty. Whoever stops waiting loses nothing.
    pub(crate) async fn take_all(&mut self) -> Option<Vec<T>> {
        loop {
            {
                let mut state = self.0.state.lock();
                if !state.waiting.is_empty() {
                    return Some(state.take_all());
                }
                if state.is_shut {
                    return None;
                }
            }
            self.0.changed.notified().await;
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let dropped = {
            let mut state = self.0.state.lock();
            state.is_abandoned = true;
            state.take_all()
        };
        // Without the lock: whoever waits for them is answered.
        drop(dropped);
    }
}

impl<T> Queue<T> {}

impl<T> State<T> {
    fn push(&mut self, requester: Requester, write: T) -> Result<(), Refused> {
        if self.is_shut {
            return Err(Refused::Shut);
        }
        if self.is_abandoned {
            return Err(Refused::Abandoned);
        }
        if !self.has_room(requester) {
            return Err(Refused::Full);
        }
        match requester {
            Requester::Client(network) => *self.of_clients.entry(network).or_default() += 1,
            Requester::Bulk => self.of_background += 1,
        }
        self.waiting.push(write);
        Ok(())
    }

    /// From half full on, each network may hold an equal share of three quarters. The last quarter is left for networks
    /// that come next.
    fn has_room(&self, requester: Requester) -> bool {
        let Requester::Client(network) = requester else { return self.of_background < self.capacity };
        let all = self.waiting.len() - self.of_background;
        let held = self.of_clients.get(&network).copied().unwrap_or(0);
        let networks = self.of_clients.len() + usize::from(held == 0);
        all < self.capacity
            && (all < self.capacity.div_ceil(2) || held < (self.capacity * 3 / 4 / networks).max(1))
    }

    fn take_all(&mut self) -> Vec<T> {
        self.of_clients.clear();
        self.of_background = 0;
        take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures_util::FutureExt as _;

    use super::*;

    fn network(number: u32) -> Requester {
        Requester::Client(ClientNetwork::of(Ipv4Addr::from(number).into()))
    }

    /// How many of a hundred are let in.
    fn crowd(sender: &Sender<u32>, requester: Requester) -> usize {
        (0..100).filter(|number| sender.push(requester, *number).is_ok()).count()
    }

    #[test]
    fn one_network_leaves_a_quarter_of_the_queue_to_others() {
        let (sender, _receiver) = queue(40);

        assert_eq!([crowd(&sender, network(1)), crowd(&sender, network(2))], [30, 10]);
        assert_eq!(sender.push(network(1), 0), Err(Refused::Full));
    }

    #[test]
    fn networks_share_a_queue_that_is_half_full() {
        let (sender, _receiver) = queue(40);
        for number in 1..=3 {
            (0..7).for_each(|_| sender.push(network(number), 0).unwrap());
        }

        assert_eq!([1, 2, 3].map(|number| crowd(&sender, network(number))), [3, 3, 3]);
        assert_eq!(crowd(&sender, network(4)), 7, "of ten places that are left");
        assert_eq!(crowd(&sender, network(5)), 3);
    }

    #[test]
    fn background_writes_take_no_room_of_clients() {
        let (sender, _receiver) = queue(40);

        assert_eq!([crowd(&sender, Requester::Bulk), crowd(&sender, network(1))], [40, 30]);
        assert_eq!(sender.len(), 70);
    }

    #[test]
    fn taking_all_makes_room_for_all() {
        let (sender, mut receiver) = queue(40);
        crowd(&sender, network(1));

        let taken = receiver.take_all().now_or_never().flatten().unwrap();

        assert_eq!(taken, (0..30).collect::<Vec<_>>(), "in the order in which they came");
        assert_eq!((sender.len(), crowd(&sender, network(1))), (0, 30));
    }

    #[test]
    fn shut_queue_gives_out_what_waits_and_lets_nothing_in() {
        let (sender, mut receiver) = queue(40);
        sender.push(Requester::Bulk, 7).unwrap();
        sender.shut();

        assert_eq!(sender.push(Requester::Bulk, 8), Err(Refused::Shut));
        assert_eq!(receiver.take_all().now_or_never(), Some(Some(vec![7])));
        assert_eq!(receiver.take_all().now_or_never(), Some(None));
    }

    #[tokio::test]
    async fn push_wakes_a_receiver_that_waits() {
        let (sender, mut receiver) = queue(40);
        let taking = tokio::spawn(async move { receiver.take_all().await });
        tokio::task::yield_now().await;

        sender.push(network(1), 7).unwrap();

        assert_eq!(taking.await.unwrap(), Some(vec![7]));
    }

    #[test]
    fn abandoned_queue_drops_what_waits_and_refuses_more() {
        let (sender, receiver) = queue(40);
        let waits = Arc::new(());
        sender.push(Requester::Bulk, waits.clone()).unwrap();

        drop(receiver);

        assert_eq!(Arc::strong_count(&waits), 1);
        assert_eq!(sender.push(Requester::Bulk, waits), Err(Refused::Abandoned));
    }
}
