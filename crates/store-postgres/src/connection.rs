//! Connections: to whichever of the servers takes changes, with TLS as it was asked for.
//!
//! diesel-async's own way to connect knows no TLS, whatever `sslmode` says.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use diesel_async::AsyncPgConnection;
use tokio::net::lookup_host;
use tokio::time::timeout;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{ConnectCause, ConnectError, OpenProblem};
use crate::tls;
use crate::url::{Server, Url};

/// The servers of one database.
pub(crate) struct Servers {
    all: Vec<Server>,
    pub(crate) tls: MakeRustlsConnect,
    /// Which of them was reached last. It is tried first: those before it may be silent for long.
    last: AtomicUsize,
}

impl Servers {
    pub(crate) fn of(url: &Url) -> Result<Self, OpenProblem> {
        let tls = tls::connector(&url.tls)?;
        Ok(Self { all: url.servers.clone(), tls, last: AtomicUsize::new(0) })
    }

    /// Connects to the first server that lets it, beginning with the one that last did. On a runtime, which goes on
    /// to drive the connection.
    pub(crate) async fn connect(&self) -> Result<AsyncPgConnection, ConnectError> {
        let first = self.last.load(Ordering::Relaxed);
        let mut refused = None;
        for number in (0..self.all.len()).map(|number| (first + number) % self.all.len()) {
            let server = &self.all[number];
            match self.connect_to(server).await {
                Ok(connection) => {
                    self.last.store(number, Ordering::Relaxed);
                    return Ok(connection);
                }
                Err(cause) => refused = Some(ConnectError { server: server.shown.clone(), cause }),
            }
        }
        let nobody = || ConnectError { server: "nowhere".to_owned(), cause: ConnectCause::NoAnswer };
        Err(refused.unwrap_or_else(nobody))
    }

    async fn connect_to(&self, server: &Server) -> Result<AsyncPgConnection, ConnectCause> {
        let encrypted = self.attempt(server, server.config.get_ssl_mode()).await;
        match encrypted {
            // As libpq does it: with `prefer`, a handshake that fails and a server that wants no TLS from here lead to
            // a second attempt, in clear.
            Err(ConnectCause::Refused(error))
                if server.config.get_ssl_mode() == SslMode::Prefer
                    && error.code().is_none_or(|it| *it == SqlState::INVALID_AUTHORIZATION_SPECIFICATION) =>
            {
                self.attempt(server, SslMode::Disable).await
            }
            other => other,
        }
    }

    async fn attempt(&self, server: &Server, mode: SslMode) -> Result<AsyncPgConnection, ConnectCause> {
        let mut config = server.config.clone();
        config.ssl_mode(mode);
        // The driver's own timeout ends when the socket is connected, which a server that is stopped still does.
        let mut refused = None;
        let connected = timeout(server.patience, self.connect_by(config, &mut refused)).await;
        connected.ok().flatten().ok_or(refused.unwrap_or(ConnectCause::NoAnswer))
    }

    /// Connects by the first of a server's addresses that lets it. The driver would try them too, and then tell of the last
    /// one, which says nothing where that is an IPv6 address and there is no IPv6.
    async fn connect_by(
        &self,
        config: Config,
        refused: &mut Option<ConnectCause>,
    ) -> Option<AsyncPgConnection> {
        for address in addresses(&config).await {
            let mut config = config.clone();
            if let Some(address) = address {
                config.hostaddr(address);
            }
            match self.connect_once(&config).await {
                Ok(connection) => return Some(connection),
                Err(cause) if refused.as_ref().is_none_or(ConnectCause::is_of_the_way) => {
                    *refused = Some(cause);
                }
                Err(_) => {}
            }
        }
        None
    }

    async fn connect_once(&self, config: &Config) -> Result<AsyncPgConnection, ConnectCause> {
        let (client, connection) = config.connect(self.tls.clone()).await?;
        Ok(AsyncPgConnection::try_from_client_and_connection(client, connection).await?)
    }
}

/// The addresses of a name; nothing in the place of one where it is left to the driver to say what is wrong with it.
async fn addresses(config: &Config) -> Vec<Option<IpAddr>> {
    let [Host::Tcp(name)] = config.get_hosts() else { return vec![None] };
    // Any port has the same.
    match lookup_host((name.as_str(), 0)).await {
        Ok(addresses) => addresses.map(|address| Some(address.ip())).collect(),
        Err(_) => vec![None],
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tokio::runtime::Builder;
    use tokio_postgres::NoTls;

    use super::*;

    #[test]
    fn where_nobody_listens_nobody_has_refused() {
        let nobodys = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut config = Config::new();
        config.user("ann").host("127.0.0.1").port(nobodys.port());
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();

        let connected = runtime.block_on(config.connect(NoTls));

        let cause = ConnectCause::Refused(connected.err().unwrap());
        assert!(cause.is_of_the_way(), "{cause}");
    }
}
