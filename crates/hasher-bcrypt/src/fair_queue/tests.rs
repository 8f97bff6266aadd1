use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use super::*;
use crate::jobs::{Bcrypt, Digest};

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
