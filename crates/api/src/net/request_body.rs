//! The body of a request, which says when all of it has come.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::web::Bytes;
use futures_util::{Stream, stream};

use super::connection_state::Exchange;
/// The most bytes of a body that are read.
pub(crate) const LARGEST_BODY: usize = 16 * 1024;

/// How many pieces are taken before somebody asks for them. A request that is sent to its end comes in one or two.
const AHEAD: usize = 16;

type Piece = Result<Bytes, PayloadError>;

/// A body that comes. Whether it has come is looked at before somebody asks for it, since who makes a client wait by
/// reading late must not take it for a slow one.
pub(super) struct Incoming {
    payload: RefCell<Payload>,
    ahead: RefCell<VecDeque<Piece>>,
    is_begun: Cell<bool>,
    is_over: Cell<bool>,
    discarded: Cell<usize>,
    exchange: Rc<Exchange>,
}

impl Incoming {
    pub(super) fn new(payload: Payload, exchange: Rc<Exchange>) -> Self {
        Self {
            payload: payload.into(),
            ahead: RefCell::default(),
            is_begun: Cell::new(false),
            is_over: Cell::new(false),
            discarded: Cell::new(0),
            exchange,
        }
    }

    /// What a handler reads.
    pub(super) fn into_payload(self: Rc<Self>) -> Payload {
        Payload::Stream { payload: Box::pin(stream::poll_fn(move |context| self.poll_next(context))) }
    }

    /// Whether somebody has asked for it.
    pub(super) fn is_begun(&self) -> bool {
        self.is_begun.get()
    }

    /// Takes what is there.
    pub(super) fn look_ahead(&self, context: &mut Context<'_>) {
        while self.ahead.borrow().len() < AHEAD
            && let Poll::Ready(Some(piece)) = self.poll_payload(context)
        {
            self.ahead.borrow_mut().push_back(piece);
        }
    }

    /// Takes what comes, for nobody. Ready when there is no more of it, or was more than anybody would have read.
    pub(super) fn poll_discard(&self, context: &mut Context<'_>) -> Poll<()> {
        let ahead = self.ahead.take();
        let length = |piece: &Piece| piece.as_ref().map_or(0, Bytes::len);
        let mut discarded = self.discarded.get() + ahead.iter().map(length).sum::<usize>();
        self.discarded.set(discarded);
        while discarded <= LARGEST_BODY
            && let Some(piece) = ready!(self.poll_payload(context))
        {
            discarded += length(&piece);
            self.discarded.set(discarded);
        }
        Poll::Ready(())
    }

    fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Piece>> {
        self.is_begun.set(true);
        let ahead = self.ahead.borrow_mut().pop_front();
        ahead.map_or_else(|| self.poll_payload(context), |piece| Poll::Ready(Some(piece)))
    }

    fn poll_payload(&self, context: &mut Context<'_>) -> Poll<Option<Piece>> {
        if self.is_over.get() {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut *self.payload.borrow_mut()).poll_next(context);
        if polled.is_ready() {
            self.exchange.claim();
        }
        match &polled {
            Poll::Ready(None) => {
                self.is_over.set(true);
                self.exchange.body_is_here();
            }
            Poll::Ready(Some(Err(_))) => self.is_over.set(true),
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }
}
