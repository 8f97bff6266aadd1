//! The body of an answer, which says when all of it is handed over.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::ResponseHead;
use actix_web::http::ConnectionType;
use actix_web::web::Bytes;

use super::connection::STRIDE;
use super::connection_state::InFlight;

/// The body of an answer, which says when all of it is handed over. It is, little by little: each piece is copied, and a
/// client that takes nothing must not have a megabyte for itself.
pub(crate) struct AnswerBody {
    body: BoxBody,
    /// What is left of the piece that came last.
    rest: Bytes,
    _until_handed_over: InFlight,
}

impl AnswerBody {
    /// The body of the answer with this head.
    pub(crate) fn new(head: &mut ResponseHead, body: BoxBody, mut in_flight: InFlight) -> Self {
        if in_flight.leave_rest() {
            // Where the next request begins is not known.
            head.set_connection_type(ConnectionType::Close);
        }
        Self { body, rest: Bytes::new(), _until_handed_over: in_flight }
    }
}

impl MessageBody for AnswerBody {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_next(context)) {
                Some(Ok(piece)) => this.rest = piece,
                end => return Poll::Ready(end),
            }
        }
        Poll::Ready(Some(Ok(this.rest.split_to(this.rest.len().min(STRIDE)))))
    }
}
