//! Many connections at once: as fast as they are answered, or at a pace of their own.

use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Builder, ScopedJoinHandle};
use std::time::{Duration, Instant};
use std::{io, iter};

use crate::Result;
use crate::ambient::now;
use crate::callers::{Caller, Reply};
use crate::client::Connection;
use crate::report::Wrong;
use crate::stats::{milliseconds, per_second};

/// Enough for a client that keeps its buffers on the heap, so that hundreds of threads are cheap.
const STACK: usize = 256 * 1024;

/// A caller who gets this many wrong answers gives up: no more can be learned from it.
const TOO_MANY_WRONG: usize = 10;

/// What came of the requests.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) done: Vec<Sample>,
    pub(crate) refused: Vec<Sample>,
    pub(crate) wrong: Wrong,
}

/// One answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// When it was there in full, since the load began.
    pub(crate) end: Duration,
    /// For how long it was waited for.
    pub(crate) took: Duration,
}

/// The part of a load that counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) warm_up: Duration,
    pub(crate) length: Duration,
}

impl Window {
    /// How long the load has to last.
    pub(crate) fn end(self) -> Duration {
        self.warm_up + self.length
    }
}

impl Tally {
    /// How many requests were done in a second.
    pub(crate) fn per_second(&self, window: Window) -> f64 {
        let ends: Vec<Duration> = self.done.iter().map(|sample| sample.end).collect();
        per_second(&ends, window.warm_up, window.end())
    }

    /// How many milliseconds those took that were sent in the window. Those that were answered after it are among
    /// them, or the slowest would be missing.
    pub(crate) fn latencies(&self, window: Window) -> Vec<f64> {
        let counts = |sample: &&Sample| sample.end.saturating_sub(sample.took) >= window.warm_up;
        self.done.iter().filter(counts).map(|sample| milliseconds(sample.took)).collect()
    }

    fn note(&mut self, judged: std::result::Result<Reply, String>, sample: Sample) {
        match judged {
            Ok(Reply::Done) => self.done.push(sample),
            Ok(Reply::Refused) => self.refused.push(sample),
            Err(what) => self.wrong.add(what),
        }
    }

    fn absorb(&mut self, other: Self) {
        self.done.extend(other.done);
        self.refused.extend(other.refused);
        self.wrong.absorb(other.wrong);
    }
}

/// Each caller on a connection of their own asks again as soon as they are answered.
pub(crate) fn closed_loop<C: Caller>(address: SocketAddr, callers: Vec<C>, window: Window) -> Result<Tally> {
    let ((), tally) = while_calling(address, callers, || thread::sleep(window.end()))?;
    Ok(tally)
}

/// The same for as long as `work` takes.
pub(crate) fn while_calling<C: Caller, T>(
    address: SocketAddr,
    callers: Vec<C>,
    work: impl FnOnce() -> T,
) -> Result<(T, Tally)> {
    let pairs = connect(address, callers)?;
    let is_over = AtomicBool::new(false);
    let is_over = &is_over;
    let begun = now();
    thread::scope(|scope| {
        let call = |(mut connection, mut caller): (Connection, C)| {
            Builder::new().stack_size(STACK).spawn_scoped(scope, move || {
                let mut tally = Tally::default();
                while !is_over.load(Ordering::Relaxed) && tally.wrong.count() < TOO_MANY_WRONG {
                    ask(&mut connection, &mut caller, begun, now(), &mut tally);
                }
                tally
            })
        };
        let threads: Vec<_> = pairs.into_iter().map(call).collect();
        let worked = work();
        is_over.store(true, Ordering::Relaxed);
        Ok((worked, gather(threads)?))
    })
}

/// Requests become due at a fixed rate, all callers together, whether or not the last one was answered.
///
/// How long one takes is counted from when it was due. A client that waits for an answer before it sends the
/// next request would leave out all those that somebody would have sent meanwhile, and so just the slow ones.
pub(crate) fn open_loop<C: Caller>(
    address: SocketAddr,
    callers: Vec<C>,
    rate: u32,
    length: Duration,
) -> Result<Tally> {
    let pairs = connect(address, callers)?;
    let step = Duration::from_secs(1) / rate;
    let stride = step * u32::try_from(pairs.len())?;
    let begun = now();
    thread::scope(|scope| {
        let call = |((mut connection, mut caller), first): ((Connection, C), Duration)| {
            Builder::new().stack_size(STACK).spawn_scoped(scope, move || {
                let mut tally = Tally::default();
                let mut due = first;
                while due < length && tally.wrong.count() < TOO_MANY_WRONG {
                    thread::sleep(due.saturating_sub(begun.elapsed()));
                    ask(&mut connection, &mut caller, begun, begun + due, &mut tally);
                    due += stride;
                }
                tally
            })
        };
        let firsts = iter::successors(Some(Duration::ZERO), |first| Some(*first + step));
        gather(pairs.into_iter().zip(firsts).map(call).collect())
    })
}

fn connect<C>(address: SocketAddr, callers: Vec<C>) -> Result<Vec<(Connection, C)>> {
    callers.into_iter().map(|caller| Ok((Connection::open(address)?, caller))).collect()
}

fn ask(
    connection: &mut Connection,
    caller: &mut impl Caller,
    begun: Instant,
    since: Instant,
    tally: &mut Tally,
) {
    let judged = match connection.ask(caller.request()) {
        Ok(answer) => caller.judge(&answer),
        Err(error) => Err(format!("a connection failed: {error}")),
    };
    let end = now();
    tally.note(judged, Sample { end: end - begun, took: end - since });
}

fn gather(threads: Vec<io::Result<ScopedJoinHandle<'_, Tally>>>) -> Result<Tally> {
    let mut all = Tally::default();
    for thread in threads {
        all.absorb(thread?.join().unwrap_or_else(|panic| resume_unwind(panic)));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::client::Answer;

    /// Takes any answer for a right one.
    struct Anybody;

    impl Caller for Anybody {
        fn request(&mut self) -> &[u8] {
            b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
        }

        fn judge(&mut self, answer: &Answer<'_>) -> std::result::Result<Reply, String> {
            if answer.status == 200 { Ok(Reply::Done) } else { Err(answer.status.to_string()) }
        }
    }

    /// Answers one connection, each time with the next of these and after its delay, the last one for ever.
    fn server(answers: &'static [(u64, &'static str)]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let last = answers.last().unwrap();
            for (delay, status) in answers.iter().chain(iter::repeat(last)) {
                if stream.read(&mut [0; 1024]).is_ok_and(|read| read == 0) {
                    break;
                }
                thread::sleep(Duration::from_millis(*delay));
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                if stream.write_all(answer.as_bytes()).is_err() {
                    break;
                }
            }
        });
        address
    }

    #[test]
    fn a_request_that_had_to_wait_for_its_turn_has_waited() {
        let address = server(&[(300, "200 OK"), (0, "200 OK")]);

        let tally = open_loop(address, vec![Anybody], 20, Duration::from_millis(400)).unwrap();

        let late = tally.done.iter().filter(|sample| sample.took > Duration::from_millis(90)).count();
        assert_eq!(tally.done.len(), 8);
        // Due at 0, 50, 100, 150 and 200 ms, and none answered before 300.
        assert!(late >= 5, "{:?}", tally.done);
    }

    #[test]
    fn a_wrong_answer_is_no_done_request_and_ten_are_enough() {
        let address = server(&[(0, "200 OK"), (0, "500 Broken")]);
        let window = Window { warm_up: Duration::ZERO, length: Duration::from_millis(500) };

        let tally = closed_loop(address, vec![Anybody], window).unwrap();

        assert_eq!((tally.done.len(), tally.wrong.count()), (1, TOO_MANY_WRONG));
    }

    #[test]
    fn latencies_are_of_what_was_sent_after_the_warm_up_and_answered_whenever() {
        let sample =
            |begin, end| Sample { end: Duration::from_millis(end), took: Duration::from_millis(end - begin) };
        let done = vec![sample(0, 90), sample(90, 190), sample(110, 150), sample(190, 500)];
        let tally = Tally { done, ..Tally::default() };
        let window = Window { warm_up: Duration::from_millis(100), length: Duration::from_millis(100) };

        assert_eq!(tally.latencies(window), [40.0, 310.0]);
        // From 90 to 190 ms two came to their end.
        assert!((tally.per_second(window) - 20.0).abs() < 1e-9);
    }
}
