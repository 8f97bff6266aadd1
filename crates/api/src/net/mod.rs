//! HTTP/1.1 by actix, on connections that are ours: how many there may be, and how long each thing on one may take.
//!
//! actix bounds the time of the first head of a connection and of nothing else. So the stream that it reads from
//! and writes to is ours: it sees when a request begins to come and whether the client takes its answer, the edge
//! tells it where its answer ends, and one timer holds every deadline.

mod acceptor;
mod connection;
mod connection_limit;
mod connection_state;
pub(crate) mod http_server;
mod maybe_tls;
mod request_body;
mod request_head;
mod response_body;
#[cfg(test)]
mod tests;

use tokio::time::Instant;

pub(crate) use self::acceptor::Lobby;
pub(crate) use self::connection::ClientConnection;
pub use self::connection_limit::Limits;
pub(crate) use self::connection_state::{Exchange, InFlight, Overdue};
pub(crate) use self::request_body::LARGEST_BODY;
pub(crate) use self::response_body::AnswerBody;

/// The time as timers have it.
#[expect(clippy::disallowed_methods, reason = "the timers that hold the deadlines go by tokio's clock alone")]
fn now() -> Instant {
    Instant::now()
}
