//! What a connection is at, as its stream sees it and the requests on it.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use actix_web::HttpMessage;
use actix_web::dev::{Payload, ServiceRequest};
use tokio::time::{Instant, sleep};

use super::connection_limit::{Rank, Standing};
use super::now;
use super::request_body::{Incoming, LARGEST_BODY};
use super::request_head::{self, BodyLength, RequestHead, Scan};
use crate::LINGER;

/// How much of a body in chunks the parser is given at once: behind its end there may be other requests.
const CHUNKED_AT_ONCE: u64 = 512;

/// The most requests of a connection that are answered 429 within a minute.
const MAX_RATE_LIMITED: u32 = 10;

const MINUTE: Duration = Duration::from_mins(1);

/// How long a client, and we, may take over what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    /// The head of a request, from its first byte; and the first byte of a connection, with its handshake.
    pub(crate) head: Duration,
    /// The body of a request, from the end of its head.
    pub(crate) body: Duration,
    /// Our work, from the end of the request.
    pub(crate) handler: Duration,
    /// The next request, from the end of an answer.
    pub(crate) idle: Duration,
    /// 32 KiB of an answer, or what is left of it, from when the client's side took no more at once.
    pub(crate) taking: Duration,
}

impl Deadlines {
    /// Those in force, but for the idle time-out, which is a setting: load balancers keep connections for up to an hour.
    /// The others are none: nobody who waits that long is well served by waiting longer.
    ///
    /// An answer has no bound of its own, because the largest, ReDoc's bundle, takes a telephone a while. That a
    /// client takes a kilobyte a second is asked for, and whoever does not is cut.
    pub(crate) const IN_FORCE: Self = Self {
        head: Duration::from_secs(10),
        body: Duration::from_secs(15),
        handler: Duration::from_secs(10),
        idle: Duration::from_secs(75),
        taking: Duration::from_secs(30),
    };

    pub(super) fn shortest(&self) -> Duration {
        self.head.min(self.body).min(self.handler).min(self.idle).min(self.taking)
    }
}

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Accepted, and nothing has come yet.
    Silent,
    /// The head of a request has begun to come.
    Head,
    /// Its body is coming, or has come further than we have read.
    Body,
    /// All of the request is here, and its answer is not made yet, or not handed over.
    Handling,
    /// All of the answer is handed over, and not sent yet.
    Sending,
    /// The last answer is sent, and nothing has come since.
    Idle,
    /// What comes is refused from here on, and the client may still be sending it.
    Refused,
    /// We send no more than what we have, and read nothing.
    Closing,
}

/// Why a request is answered before it is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// Its body did not come in time.
    Body,
    /// What it asks for was not done in time.
    Handler,
}

/// What a connection is at, since when, and how far what came reaches.
pub(crate) struct Exchange {
    deadlines: Deadlines,
    stage: Cell<Stage>,
    since: Cell<Instant>,
    /// Since when the client has not taken what we have for it.
    stuck: Cell<Option<Instant>>,
    /// How many requests were answered 429 in the minute that began then.
    rate_limited: Cell<Option<(Instant, u32)>>,
    input: Cell<Input>,
    /// The body that comes, while somebody may read it.
    body: RefCell<Weak<Incoming>>,
    /// How many bytes came since the parser last made something of them, and who is woken when it does.
    unclaimed: Cell<usize>,
    held: Cell<Option<Waker>>,
    /// Whether nothing comes after the answer that is being made.
    is_last: Cell<bool>,
    standing: Arc<Standing>,
}

/// What the parser may have of the bytes that came. It would make requests of as many as it is given, some kilobytes of
/// memory of each, so it is given one at a time: a head, then its body. What came behind is kept until the answer is
/// sent.
#[derive(Clone, Copy)]
struct Input {
    /// How many bytes of an incomplete head were parsed, in vain.
    scanned: usize,
    /// Whether the parser was given a head of which no request has come yet.
    has_head: bool,
    body: BodyLength,
}

/// A request that is being answered, until this is dropped.
pub(crate) struct InFlight {
    exchange: Rc<Exchange>,
    /// Kept beside the handler, which may drop it before all of it has come.
    body: Option<Rc<Incoming>>,
}

impl Exchange {
    pub(super) fn new(deadlines: Deadlines, standing: Arc<Standing>) -> Self {
        let input = Input { scanned: 0, has_head: false, body: BodyLength::Known(0) };
        let exchange = Self {
            deadlines,
            stage: Cell::new(Stage::Silent),
            since: Cell::new(now()),
            stuck: Cell::new(None),
            rate_limited: Cell::new(None),
            input: Cell::new(input),
            body: RefCell::default(),
            unclaimed: Cell::new(0),
            held: Cell::new(None),
            is_last: Cell::new(false),
            standing,
        };
        exchange.enter(Stage::Silent);
        exchange
    }

    /// The one that a request belongs to. A request that came by no connection of ours, as in a test, has one to
    /// itself.
    pub(crate) fn of(request: &ServiceRequest) -> Rc<Self> {
        let own = || Rc::new(Self::new(Deadlines::IN_FORCE, Arc::default()));
        request.request().conn_data::<Rc<Self>>().cloned().unwrap_or_else(own)
    }

    /// Says that the head of this request has come, and has its body tell when it has. Never ready for a request that
    /// actix parsed from bytes behind the last request of the connection: it must not be processed (RFC 9112, section 9.6).
    pub(crate) async fn begin(self: &Rc<Self>, request: &mut ServiceRequest) -> InFlight {
        if !matches!(self.stage.get(), Stage::Silent | Stage::Head) {
            pending::<()>().await;
        }
        self.claim();
        self.input.set(Input { has_head: false, ..self.input.get() });
        let body = match request.take_payload() {
            Payload::None => None,
            payload => Some(Rc::new(Incoming::new(payload, self.clone()))),
        };
        if let Some(body) = &body {
            *self.body.borrow_mut() = Rc::downgrade(body);
            request.set_payload(body.clone().into_payload());
        }
        self.enter(if body.is_some() { Stage::Body } else { Stage::Handling });
        InFlight { exchange: self.clone(), body }
    }

    /// Says that all of the body has come.
    pub(super) fn body_is_here(&self) {
        if self.stage.get() == Stage::Body {
            self.enter(Stage::Handling);
        }
    }

    /// Says that nothing comes after the answer to this request: where another one would begin is not known.
    pub(crate) fn end_with_this(&self) {
        self.is_last.set(true);
    }

    /// Counts a request that is answered 429, and tells whether the connection has had as many as it may have within a
    /// minute. A client that goes on regardless has to connect anew, which costs it more than us.
    pub(crate) fn note_rate_limited(&self) -> bool {
        let now = now();
        let (since, count) = match self.rate_limited.get() {
            Some((since, count)) if now.duration_since(since) < MINUTE => (since, count + 1),
            _ => (now, 1),
        };
        self.rate_limited.set(Some((since, count)));
        count >= MAX_RATE_LIMITED
    }

    /// Does this work for the request that has begun, as long as its deadlines allow. The timer of the connection
    /// sees to it that the task is woken when one has passed.
    pub(crate) async fn bounded<T>(&self, work: impl Future<Output = T>) -> Result<T, Overdue> {
        let mut work = pin!(work);
        poll_fn(|context| {
            let body = self.body.borrow().upgrade();
            if let Some(body) = body {
                body.look_ahead(context);
            }
            if self.stage.get() == Stage::Closing {
                // It had to make room, and what the work made of the end of its input is not what has happened.
                return Poll::Ready(Err(Overdue::Body));
            }
            match work.as_mut().poll(context) {
                Poll::Ready(done) => Poll::Ready(Ok(done)),
                Poll::Pending => match self.overdue() {
                    Some(overdue) => Poll::Ready(Err(overdue)),
                    None => Poll::Pending,
                },
            }
        })
        .await
    }

    fn overdue(&self) -> Option<Overdue> {
        let what = match self.stage.get() {
            Stage::Body => Overdue::Body,
            Stage::Handling => Overdue::Handler,
            _ => return None,
        };
        self.due().is_some_and(|due| due <= now()).then_some(what)
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage.get()
    }

    pub(super) fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    /// When what the connection is at should be over.
    pub(super) fn due(&self) -> Option<Instant> {
        let allowed = match self.stage.get() {
            Stage::Silent | Stage::Head => self.deadlines.head,
            Stage::Body => self.deadlines.body,
            Stage::Handling => self.deadlines.handler,
            Stage::Sending => return None,
            Stage::Idle => self.deadlines.idle,
            Stage::Refused => LINGER,
            Stage::Closing => self.deadlines.taking,
        };
        Some(self.since.get() + allowed)
    }

    /// How many bytes came of which the parser has made nothing yet.
    pub(super) fn unclaimed(&self) -> usize {
        self.unclaimed.get()
    }

    /// Says that the parser has made something of what came.
    pub(super) fn claim(&self) {
        self.unclaimed.set(0);
        self.go_on();
    }

    /// Reads nothing until there is something to be read for.
    pub(super) fn hold(&self, task: &Waker) {
        self.held.set(Some(task.clone()));
    }

    fn go_on(&self) {
        if let Some(task) = self.held.take() {
            task.wake();
        }
    }

    /// Whether the parser is to be given something, if it comes.
    pub(super) fn wants_more(&self) -> bool {
        match self.stage.get() {
            Stage::Silent | Stage::Idle => true,
            Stage::Head => !self.input.get().has_head,
            Stage::Body => self.input.get().missing() > 0,
            Stage::Handling | Stage::Sending | Stage::Refused | Stage::Closing => false,
        }
    }

    /// Whether a head has begun to come and is not complete.
    pub(super) fn awaits_head(&self) -> bool {
        self.stage.get() == Stage::Head && !self.input.get().has_head
    }

    /// Returns how many of the bytes that came the parser gets now. Rewrites a head that asks for an upgrade.
    pub(super) fn release(&self, bytes: &mut Vec<u8>) -> usize {
        match self.stage.get() {
            Stage::Silent | Stage::Idle => {
                self.enter(Stage::Head);
                self.release_head(bytes)
            }
            Stage::Head => self.release_head(bytes),
            Stage::Body => self.release_body(bytes.len()),
            Stage::Handling | Stage::Sending | Stage::Refused | Stage::Closing => 0,
        }
    }

    fn release_head(&self, bytes: &mut Vec<u8>) -> usize {
        let mut input = self.input.get();
        // A head ends with a line: without another one there is nothing new to be found.
        let has_line = bytes.get(input.scanned..).is_some_and(|new| new.contains(&b'\n'));
        if input.has_head || !has_line {
            return 0;
        }
        let scan = request_head::scan(bytes);
        input = match &scan {
            Scan::Partial => Input { scanned: bytes.len(), ..input },
            Scan::Invalid => Input { scanned: 0, has_head: true, body: BodyLength::Known(0) },
            Scan::Complete(head) => Input { scanned: 0, has_head: true, body: head.body },
        };
        self.input.set(input);
        match scan {
            Scan::Partial => 0,
            Scan::Invalid => bytes.len(),
            Scan::Complete(RequestHead { length, body, without_upgrade }) => {
                if body == BodyLength::Chunked {
                    // actix takes what follows the last chunk for trailers, so nothing else may follow.
                    self.end_with_this();
                }
                let Some(head) = without_upgrade else { return length };
                let length_now = head.len();
                bytes.splice(..length, head);
                length_now
            }
        }
    }

    fn release_body(&self, came: usize) -> usize {
        let mut input = self.input.get();
        let released = usize::try_from(input.missing()).map_or(came, |missing| missing.min(came));
        if let BodyLength::Known(missing) = &mut input.body {
            *missing -= released as u64;
        }
        self.input.set(input);
        self.unclaimed.set(self.unclaimed.get() + released);
        released
    }

    /// Says that nothing is left to be sent of what was handed over, and tells whether that ended an answer.
    pub(super) fn sent(&self) -> bool {
        let is_end = self.stage.get() == Stage::Sending;
        if is_end {
            self.enter(if self.is_last.get() { Stage::Refused } else { Stage::Idle });
            self.go_on();
        }
        is_end
    }

    pub(super) fn enter(&self, stage: Stage) {
        self.stage.set(stage);
        self.since.set(now());
        self.take_rank();
    }

    /// Since when the client has not taken what we have for it, if it does not.
    pub(super) fn stuck(&self) -> Option<Instant> {
        self.stuck.get()
    }

    /// Says that the client takes nothing of what we have for it.
    pub(super) fn stick(&self) {
        if self.stuck.get().is_none() {
            self.stuck.set(Some(now()));
            self.take_rank();
        }
    }

    /// Says that it does again.
    pub(super) fn come_loose(&self) {
        if self.stuck.take().is_some() {
            self.take_rank();
        }
    }

    /// Whether it is the client whom we wait for.
    pub(super) fn is_waiting(&self) -> bool {
        self.stuck.get().is_some() || !matches!(self.stage.get(), Stage::Handling | Stage::Sending)
    }

    fn take_rank(&self) {
        let (rank, since) = match (self.stuck.get(), self.stage.get()) {
            (Some(since), _) => (Rank::Slow, since),
            (None, Stage::Silent) => (Rank::Silent, self.since.get()),
            (None, Stage::Idle) => (Rank::Idle, self.since.get()),
            (None, Stage::Head | Stage::Body | Stage::Refused) => (Rank::Slow, self.since.get()),
            (None, Stage::Handling | Stage::Sending | Stage::Closing) => (Rank::Busy, self.since.get()),
        };
        self.standing.set(rank, since);
    }
}

impl InFlight {
    /// Resolves when all of a body has come that nobody has looked into, if it is one that anybody would, or when it was
    /// waited for long enough: whoever is refused keeps the connection if where their request ends is known.
    pub(crate) async fn come_to_rest(&mut self) {
        let Some(body) = self.body.take() else { return };
        if !self.has_rest()
            || body.is_begun()
            || self.exchange.is_last.get()
            || self.exchange.input.get().missing() > LARGEST_BODY as u64
        {
            return;
        }
        let mut patience = pin!(sleep(LINGER));
        poll_fn(|context| match body.poll_discard(context) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => patience.as_mut().poll(context),
        })
        .await;
    }

    /// Whether there is a body whose end nobody has read.
    pub(crate) fn has_rest(&self) -> bool {
        self.exchange.stage.get() == Stage::Body
    }

    /// Stops reading the body. Returns whether this is the last request of the connection, which it is if more of the body
    /// would come.
    pub(super) fn leave_rest(&mut self) -> bool {
        self.body = None;
        if self.has_rest() {
            self.exchange.end_with_this();
        }
        self.exchange.is_last.get()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.leave_rest();
        // A request that is dropped because its connection is has nothing to send any more.
        if self.exchange.stage.get() != Stage::Closing {
            self.exchange.enter(Stage::Sending);
        }
    }
}

impl Input {
    /// How much of a body has not come, or may be given at once where that is not known.
    fn missing(&self) -> u64 {
        match self.body {
            BodyLength::Known(missing) => missing,
            BodyLength::Chunked => CHUNKED_AT_ONCE,
        }
    }
}
