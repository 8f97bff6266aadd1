//! One connection: the stream that actix reads from and writes to, and the timer that holds its deadlines.

use std::io;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::connection_limit::{Seat, Standing};
use super::connection_state::{Deadlines, Exchange, Stage};
use super::maybe_tls::Wire;
use super::now;
use crate::LINGER;
use crate::http_metrics::Cut;

/// What a client is told whose head did not come in time; nothing more can be said to it.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// What a client is told whose head is larger than any that is allowed.
const TOO_LARGE: &[u8] =
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// How much is read while the parser is given nothing.
const KEPT_AT_ONCE: usize = 512;

/// How much is read before the parser looks at it.
pub(super) const AT_ONCE: usize = 16 * 1024;

/// How much there may be of which the parser can make nothing: more than any head that is allowed. It would itself keep
/// 128 KiB of each connection.
pub(super) const MOST_UNCLAIMED: usize = 32 * 1024;

/// How much of an answer a client has to take within its deadline.
pub(super) const STRIDE: usize = 32 * 1024;

/// A client's connection.
pub(crate) struct Connection<S> {
    pub(super) stream: S,
    pub(super) exchange: Rc<Exchange>,
    /// Never set further ahead than the shortest of the deadlines, so that it never has to be set back: it is not
    /// touched for a request, only when it has run out.
    timer: Pin<Box<Sleep>>,
    /// How much the client has taken since it did not take all that we had for it.
    taken: usize,
    /// What came and the parser is not given yet.
    kept: Vec<u8>,
    /// How many of these the parser may have now.
    released: usize,
    /// How many bytes have come that actix has not looked at yet.
    unparsed: usize,
    has_given_up: bool,
    standing: Arc<Standing>,
    seat: Seat,
}

pub(crate) type ClientConnection = Connection<Wire>;

impl<S> Connection<S> {
    fn begin_to_discard(&mut self) {
        self.exchange.enter(Stage::Refused);
        self.timer.as_mut().reset(now() + LINGER);
    }

    pub(super) fn new(stream: S, seat: Seat, deadlines: Deadlines) -> Self {
        let standing = seat.standing();
        let exchange = Rc::new(Exchange::new(deadlines, standing.clone()));
        let timer = Box::pin(sleep(deadlines.shortest()));
        Self {
            stream,
            exchange,
            timer,
            taken: 0,
            kept: Vec::new(),
            released: 0,
            unparsed: 0,
            has_given_up: false,
            standing,
            seat,
        }
    }

    /// For the requests that come by it.
    pub(crate) fn exchange(&self) -> Rc<Exchange> {
        self.exchange.clone()
    }

    /// Ready when this connection has had its time. Where a request is being handled, the edge answers it, and the
    /// task is only to be woken.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(context).is_ready() {
            let now = now();
            let taken_by = self.exchange.stuck().map(|since| since + self.exchange.deadlines().taking);
            let due = self.exchange.due();
            let is_ours = !matches!(self.exchange.stage(), Stage::Body | Stage::Handling);
            if taken_by.is_some_and(|due| due <= now) || is_ours && due.is_some_and(|due| due <= now) {
                return Poll::Ready(());
            }
            let next = now + self.exchange.deadlines().shortest();
            let due = [taken_by, due].into_iter().flatten().filter(|due| *due > now).fold(next, Instant::min);
            self.timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> Connection<S> {
    /// Reads no more, and says why if there is somebody to hear it.
    fn close(&mut self, context: &mut Context<'_>) {
        if self.exchange.stage() == Stage::Head {
            // Nothing else is on its way now. What the client does not take at once, it does not get.
            _ = Pin::new(&mut self.stream).poll_write(context, TOO_SLOW);
        }
        self.exchange.enter(Stage::Closing);
    }

    /// Counts a client that has had its time, where no request tells of it.
    fn note_deadline(&self) {
        match self.exchange.stage() {
            Stage::Silent => self.seat.note_cut(Cut::Silent),
            Stage::Head => self.seat.note_cut(Cut::SlowHead),
            _ => {}
        }
    }

    /// Says that the head is too large, and goes on reading for a moment, since whoever is still sending when the
    /// connection is closed does not read why.
    fn refuse(&mut self, context: &mut Context<'_>) {
        self.seat.note_cut(Cut::LargeHead);
        _ = Pin::new(&mut self.stream).poll_write(context, TOO_LARGE);
        self.begin_to_discard();
    }

    /// The end of whatever the client has not taken for too long, or while there is no room.
    fn stick(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        self.exchange.stick();
        if self.standing.is_to_go(context.waker()) {
            return Poll::Ready(io::ErrorKind::TimedOut.into());
        }
        if self.poll_end(context).is_ready() {
            return Poll::Ready(self.give_up());
        }
        Poll::Pending
    }

    /// Nothing more comes of an answer that the client did not take in time.
    fn give_up(&mut self) -> io::Error {
        // Whoever reads and whoever writes may both come here.
        if !self.has_given_up {
            self.has_given_up = true;
            self.seat.note_cut(Cut::UntakenAnswer);
        }
        io::ErrorKind::TimedOut.into()
    }

    /// The client has taken so much. Whoever goes on taking gets all of it, however much that is.
    fn move_on(&mut self, taken: usize) {
        if self.exchange.stuck().is_some() {
            self.taken += taken;
        }
        if self.taken >= STRIDE {
            self.come_loose();
        }
    }

    fn come_loose(&mut self) {
        self.exchange.come_loose();
        self.taken = 0;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// What is read where there is nothing to be read: nothing yet, or the end.
    fn poll_wait(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let is_sent_away = self.standing.is_to_go(context.waker()) && self.exchange.is_waiting();
        let has_ended = self.poll_end(context).is_ready();
        if self.exchange.stuck().is_some() {
            if is_sent_away {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            if has_ended {
                return Poll::Ready(Err(self.give_up()));
            }
        }
        let is_unparsed = mem::take(&mut self.unparsed) > 0;
        if is_sent_away || has_ended {
            if is_unparsed {
                // It may be all of a request, and then the edge says so before this is asked again.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !is_sent_away {
                self.note_deadline();
            }
            self.close(context);
            // Nothing read: for actix this is the end of what the client says.
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    /// Gives the parser what it may have now of what came.
    fn hand_over(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.released == 0 && !self.kept.is_empty() {
                self.released = self.exchange.release(&mut self.kept);
            }
            if self.released > 0 {
                let handed_over = buffer.remaining().min(self.released);
                buffer.put_slice(&self.kept[..handed_over]);
                self.kept.drain(..handed_over);
                self.released -= handed_over;
                self.unparsed += handed_over;
                return Poll::Ready(Ok(()));
            }
            if self.has_large_head() {
                self.refuse(context);
                return self.discard(context);
            }
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
            let came = &buffer.filled()[before..];
            if came.is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.kept.extend_from_slice(came);
            buffer.set_filled(before);
        }
    }

    /// Whether more has come than any head that is allowed, and it is no head yet.
    fn has_large_head(&self) -> bool {
        self.kept.len() >= MOST_UNCLAIMED && self.exchange.awaits_head()
    }

    /// Reads while the parser is given nothing, if only to notice a client that hangs up: what comes is kept, and then no
    /// more is read. Ready when nothing comes any more.
    fn keep_back(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.kept.is_empty() {
            return Poll::Pending;
        }
        let mut room = [0; KEPT_AT_ONCE];
        let mut buffer = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        if buffer.filled().is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.kept.extend_from_slice(buffer.filled());
        Poll::Pending
    }

    /// Reads what nobody wants, until the client stops or has had its time.
    fn discard(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut room = [0; 4096];
        let mut buffer = ReadBuf::new(&mut room);
        let read = Pin::new(&mut self.stream).poll_read(context, &mut buffer);
        let is_over = match read {
            Poll::Ready(Ok(())) => buffer.filled().is_empty(),
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        };
        if is_over || self.standing.is_to_go(context.waker()) || self.poll_end(context).is_ready() {
            self.exchange.enter(Stage::Closing);
            return Poll::Ready(Ok(()));
        }
        if read.is_ready() {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.unparsed >= AT_ONCE {
            this.unparsed = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let is_full = this.unparsed == 0 && this.exchange.unclaimed() >= MOST_UNCLAIMED;
        let wants_more = match this.exchange.stage() {
            Stage::Closing => return Poll::Ready(Ok(())),
            Stage::Refused => return this.discard(context),
            _ if this.released > 0 => true,
            Stage::Body if is_full => false,
            _ => this.exchange.wants_more(),
        };
        let read = if wants_more { this.hand_over(context, buffer) } else { this.keep_back(context) };
        if read.is_ready() {
            return read;
        }
        if !wants_more {
            this.exchange.hold(context.waker());
        }
        this.poll_wait(context)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_write(context, bytes) {
            Poll::Pending => this.stick(context).map(Err),
            Poll::Ready(written) => {
                this.move_on(written.as_ref().map_or(0, |written| *written));
                Poll::Ready(written)
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_flush(context) {
            Poll::Pending => this.stick(context).map(Err),
            Poll::Ready(flushed) => {
                this.come_loose();
                let is_end = this.exchange.sent();
                if is_end && this.exchange.stage() == Stage::Refused {
                    this.begin_to_discard();
                }
                if is_end && this.standing.is_to_go(context.waker()) {
                    // It is not read from again before the client says something, or this.
                    context.waker().wake_by_ref();
                }
                Poll::Ready(flushed)
            }
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_shutdown(context) {
            Poll::Pending => this.stick(context).map(Err),
            Poll::Ready(shut) => Poll::Ready(shut),
        }
    }
}
