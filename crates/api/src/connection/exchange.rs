//! What a connection is at, as its stream sees it and the requests on it.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use tokio::time::Instant;

use super::now;
use super::seats::{Rank, Standing};

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
    /// Those in force. They are no settings: nobody who waits that long is well served by waiting longer.
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
    /// Its body is coming.
    Body,
    /// All of the request is here, and its answer is not made yet, or not handed over.
    Handling,
    /// All of the answer is handed over, and not sent yet.
    Sending,
    /// The last answer is sent, and nothing has come since.
    Idle,
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
    input: Cell<Input>,
    /// Whether nothing comes after the answer that is being made.
    is_last: Cell<bool>,
    standing: Arc<Standing>,
}

/// How many bytes came, and what they are as far as is known. The parser alone knows where a request ends, and
/// tells nobody; a wrong guess here chooses a wrong deadline, the shorter one for whoever writes a head unusually,
/// and nothing else.
#[derive(Clone, Copy)]
struct Input {
    read: u64,
    last: [u8; 4],
    /// Where the head that came last, or that comes now, began.
    head_began: u64,
    /// Where the request that is being handled ends.
    ends: End,
}

#[derive(Clone, Copy)]
enum End {
    /// After this many bytes.
    At(u64),
    /// With an empty line.
    EmptyLine,
}

/// A request that is being answered, until this is dropped.
pub(crate) struct InFlight(Rc<Exchange>);

impl Exchange {
    pub(super) fn new(deadlines: Deadlines, standing: Arc<Standing>) -> Self {
        let input = Input { read: 0, last: *b"\r\n\r\n", head_began: 0, ends: End::EmptyLine };
        let exchange = Self {
            deadlines,
            stage: Cell::new(Stage::Silent),
            since: Cell::new(now()),
            input: Cell::new(input),
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

    /// Says that the head of this request has come.
    pub(crate) fn begin(self: &Rc<Self>, request: &ServiceRequest) -> InFlight {
        let mut input = self.input.get();
        let body = body_of(request.headers());
        input.ends = match body {
            Some(length) if length > 0 => End::At(input.head_began + head_length(request) + length),
            _ => End::EmptyLine,
        };
        self.input.set(input);
        let is_here = body == Some(0) || input.is_complete();
        self.enter(if is_here { Stage::Handling } else { Stage::Body });
        InFlight(self.clone())
    }

    /// Says that nothing comes after the answer to this request: where another one would begin is not known.
    pub(crate) fn end_with_this(&self) {
        self.is_last.set(true);
    }

    /// Does this work for the request that has begun, as long as its deadlines allow. The timer of the connection
    /// sees to it that the task is woken when one has passed.
    pub(crate) async fn bounded<T>(&self, work: impl Future<Output = T>) -> Result<T, Overdue> {
        let mut work = pin!(work);
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => match self.overdue() {
                Some(overdue) => Poll::Ready(Err(overdue)),
                None => Poll::Pending,
            },
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
            Stage::Closing => self.deadlines.taking,
        };
        Some(self.since.get() + allowed)
    }

    /// Says that these bytes came.
    pub(super) fn received(&self, bytes: &[u8]) {
        let mut input = self.input.get();
        let began = input.read;
        input.take(bytes);
        let stage = self.stage.get();
        if matches!(stage, Stage::Silent | Stage::Idle) {
            input.head_began = began;
        }
        self.input.set(input);
        match stage {
            Stage::Silent | Stage::Idle => self.enter(Stage::Head),
            Stage::Body if input.is_complete() => self.enter(Stage::Handling),
            _ => {}
        }
    }

    /// Says that nothing is left to be sent of what was handed over, and tells whether that ended an answer.
    pub(super) fn sent(&self) -> bool {
        let is_end = self.stage.get() == Stage::Sending;
        if is_end {
            let input = self.input.get();
            self.enter(match input.has_more() {
                _ if self.is_last.get() => Stage::Closing,
                true => Stage::Head,
                false => Stage::Idle,
            });
        }
        is_end
    }

    pub(super) fn enter(&self, stage: Stage) {
        let now = now();
        self.stage.set(stage);
        self.since.set(now);
        let rank = match stage {
            Stage::Silent => Rank::Silent,
            Stage::Idle => Rank::Idle,
            Stage::Head | Stage::Body => Rank::Slow,
            Stage::Handling | Stage::Sending | Stage::Closing => Rank::Busy,
        };
        self.standing.set(rank, now);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut input = self.0.input.get();
        if let End::At(end) = input.ends {
            input.head_began = end;
            self.0.input.set(input);
        }
        // A request that is dropped because its connection is has nothing to send any more.
        if self.0.stage.get() != Stage::Closing {
            self.0.enter(Stage::Sending);
        }
    }
}

impl Input {
    fn take(&mut self, bytes: &[u8]) {
        self.read += bytes.len() as u64;
        if let Some(last) = bytes.last_chunk() {
            self.last = *last;
        } else {
            self.last.rotate_left(bytes.len());
            self.last[4 - bytes.len()..].copy_from_slice(bytes);
        }
    }

    /// With bare line feeds too, as the parser takes them.
    fn ends_with_empty_line(&self) -> bool {
        self.last == *b"\r\n\r\n" || self.last.ends_with(b"\n\n")
    }

    /// Whether all of the request has come.
    fn is_complete(&self) -> bool {
        match self.ends {
            End::At(end) => self.read >= end,
            End::EmptyLine => self.ends_with_empty_line(),
        }
    }

    /// Whether something came after the request, and not the whole head of another one.
    fn has_more(&self) -> bool {
        let is_more = match self.ends {
            End::At(end) => self.read > end,
            End::EmptyLine => true,
        };
        is_more && !self.ends_with_empty_line()
    }
}

/// How long the body is that a head announces; nothing when it comes in chunks.
fn body_of(headers: &HeaderMap) -> Option<u64> {
    if headers.contains_key(TRANSFER_ENCODING) {
        return None;
    }
    let length = headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
    Some(length.and_then(|digits| str::from_utf8(digits).ok()?.parse().ok()).unwrap_or(0))
}

/// How long a head is as clients usually write it.
fn head_length(request: &ServiceRequest) -> u64 {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let line = request.method().as_str().len() + target + " ".len() + " HTTP/1.1\r\n".len();
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    (line + fields.sum::<usize>() + "\r\n".len()) as u64
}
