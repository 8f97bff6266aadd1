//! Accepts connections: within the limit on their number, with or without TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use domain::SitePrefix;
use rustls::ServerConfig;
use tokio::net::TcpStream;

use super::connection::{ClientConnection, Connection};
use super::connection_limit::{Limits, Seats};
use super::connection_state::Deadlines;
use super::maybe_tls::Wire;
use crate::client_address::TrustedProxies;
use crate::http_metrics::Traffic;
use crate::runtime_settings::Live;

/// Where connections come from.
#[derive(Clone)]
pub(crate) struct Lobby {
    seats: Arc<Seats>,
    tls: Option<Arc<ServerConfig>>,
    live: Option<Live>,
    deadlines: Deadlines,
}

impl Lobby {
    /// Where no proxies are trusted if there is nothing that names them.
    pub(crate) fn new(
        limits: Limits,
        tls: Option<Arc<ServerConfig>>,
        live: Option<Live>,
        traffic: Arc<Traffic>,
    ) -> Self {
        Self { seats: Seats::new(limits, traffic), tls, live, deadlines: Deadlines::IN_FORCE }
    }

    /// With another time that a connection may wait for its next request.
    pub(crate) fn with_idle_timeout(self, idle: Duration) -> Self {
        Self { deadlines: Deadlines { idle, ..self.deadlines }, ..self }
    }

    /// What came by this socket as a connection, and who it is with; an error if there is no room for it.
    pub(crate) fn admit(&self, stream: TcpStream) -> io::Result<(ClientConnection, SocketAddr)> {
        let peer = stream.peer_addr()?;
        let seat = match &self.live {
            Some(live) => {
                let current = live.current();
                self.seats.take(peer.ip(), &current.trusted_proxies, current.site_prefix)
            }
            None => self.seats.take(peer.ip(), &TrustedProxies::default(), SitePrefix::default()),
        };
        let seat = seat.ok_or(io::ErrorKind::QuotaExceeded)?;
        // Or the end of an answer that takes several packets waits until the client has acknowledged the others, which it
        // puts off for 40 ms.
        stream.set_nodelay(true)?;
        let wire = Wire::new(stream, self.tls.as_ref());
        Ok((Connection::new(wire, seat, self.deadlines), peer))
    }
}
