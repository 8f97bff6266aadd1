//! Connections: to whichever of the servers takes changes, with TLS as it was asked for.
//!
//! diesel-async's own way to connect knows no TLS, whatever `sslmode` says.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use diesel_async::{AsyncConnection as _, AsyncPgConnection};
use tokio::net::lookup_host;
use tokio::time::{sleep, timeout};
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, SimpleQueryMessage, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::database_url::{Server, Url};
use crate::error::{ConnectCause, ConnectError, OpenProblem};
use crate::statement_log::StatementLog;
use crate::tls;

/// How often, and how many times, to ask a server that takes no more connections.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(100);
pub(crate) const TRIES: u32 = 20;

/// How long a server may take for the first statement. PgBouncer in session mode lets it wait as long as its clients have
/// all of its connections, and then those that are open have to be shared.
pub(crate) const FIRST_STATEMENT: Duration = Duration::from_secs(1);

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
        self.connect_as(&set_up).await
    }

    /// Connects likewise, and waits for some time for a server that takes no more connections now.
    pub(crate) async fn connect_patiently(&self) -> Result<AsyncPgConnection, ConnectError> {
        self.connect_patiently_as(set_up).await
    }

    /// Connects as patiently, without diesel.
    pub(crate) async fn connect_raw_patiently(&self) -> Result<Client, ConnectError> {
        self.connect_patiently_as(drive).await
    }

    async fn connect_patiently_as<T>(&self, wrap: impl Wrap<T>) -> Result<T, ConnectError> {
        for _ in 1..TRIES {
            match self.connect_as(&wrap).await {
                Err(error) if error.is_connection_limit() => sleep(RETRY_PAUSE).await,
                outcome => return outcome,
            }
        }
        self.connect_as(&wrap).await
    }

    /// Connects likewise, without diesel.
    pub(crate) async fn connect_raw(&self) -> Result<Client, ConnectError> {
        self.connect_as(&drive).await
    }

    async fn connect_as<T>(&self, wrap: &impl Wrap<T>) -> Result<T, ConnectError> {
        let first = self.last.load(Ordering::Relaxed);
        let mut refused = None;
        for number in (0..self.all.len()).map(|number| (first + number) % self.all.len()) {
            let server = &self.all[number];
            match self.connect_to(server, wrap).await {
                Ok(connection) => {
                    self.last.store(number, Ordering::Relaxed);
                    return Ok(connection);
                }
                // A server that is full serves again; the others may be standbys, which never take changes.
                Err(_) if refused.as_ref().is_some_and(ConnectError::is_connection_limit) => {}
                Err(cause) => refused = Some(ConnectError { server: server.shown.clone(), cause }),
            }
        }
        let nobody = || ConnectError { server: "nowhere".to_owned(), cause: ConnectCause::NoAnswer };
        Err(refused.unwrap_or_else(nobody))
    }

    async fn connect_to<T>(&self, server: &Server, wrap: &impl Wrap<T>) -> Result<T, ConnectCause> {
        let encrypted = self.attempt(server, server.config.get_ssl_mode(), wrap).await;
        match encrypted {
            // As libpq does it: with `prefer`, a handshake that fails and a server that wants no TLS from here lead to
            // a second attempt, in clear.
            Err(ConnectCause::Refused(error))
                if server.config.get_ssl_mode() == SslMode::Prefer
                    && error.code().is_none_or(|it| *it == SqlState::INVALID_AUTHORIZATION_SPECIFICATION) =>
            {
                self.attempt(server, SslMode::Disable, wrap).await
            }
            other => other,
        }
    }

    async fn attempt<T>(
        &self,
        server: &Server,
        mode: SslMode,
        wrap: &impl Wrap<T>,
    ) -> Result<T, ConnectCause> {
        let mut config = server.config.clone();
        config.ssl_mode(mode);
        // The driver's own timeout ends when the socket is connected, which a server that is stopped still does.
        let mut refused = None;
        let connected = timeout(server.patience, self.connect_by(config, wrap, &mut refused)).await;
        connected.ok().flatten().ok_or(refused.unwrap_or(ConnectCause::NoAnswer))
    }

    /// Connects by the first of a server's addresses that lets it. The driver would try them too, and then tell of the last
    /// one, which says nothing where that is an IPv6 address and there is no IPv6.
    async fn connect_by<T>(
        &self,
        config: Config,
        wrap: &impl Wrap<T>,
        refused: &mut Option<ConnectCause>,
    ) -> Option<T> {
        for address in addresses(&config).await {
            let mut config = config.clone();
            if let Some(address) = address {
                config.hostaddr(address);
            }
            match self.connect_once(&config, wrap).await {
                Ok(connection) => return Some(connection),
                Err(cause) if refused.as_ref().is_none_or(ConnectCause::is_of_the_way) => {
                    *refused = Some(cause);
                }
                Err(_) => {}
            }
        }
        None
    }

    async fn connect_once<T>(&self, config: &Config, wrap: &impl Wrap<T>) -> Result<T, ConnectCause> {
        // The driver would ask for the target within `connect`, where a pooler that lets a statement wait looks like a server
        // that does not answer.
        let mut any = config.clone();
        any.target_session_attrs(TargetSessionAttrs::Any);
        let (client, driver) = any.connect(self.tls.clone()).await?;
        let first_statements = async {
            let (client, driver) = refuse_read_only(config, client, driver).await?;
            wrap(client, driver).await
        };
        timeout(FIRST_STATEMENT, first_statements).await.unwrap_or(Err(ConnectCause::Queued))
    }
}

/// What moves the bytes of a connection.
type Driver = Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// What makes use of a connection that stands.
trait Wrap<T>: AsyncFn(Client, Driver) -> Result<T, ConnectCause> {}

impl<T, F: AsyncFn(Client, Driver) -> Result<T, ConnectCause>> Wrap<T> for F {}

/// Whether a server takes changes, unless the URL says that any will do.
async fn refuse_read_only(
    config: &Config,
    client: Client,
    mut driver: Driver,
) -> Result<(Client, Driver), ConnectCause> {
    if config.get_target_session_attrs() == TargetSessionAttrs::Any {
        return Ok((client, driver));
    }
    let answer = tokio::select! {
        answer = client.simple_query("SHOW transaction_read_only") => answer?,
        Err(closed) = &mut driver => return Err(closed.into()),
    };
    let is_on = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => row.get(0) == Some("on"),
        _ => false,
    };
    if answer.iter().any(is_on) { Err(ConnectCause::ReadOnly) } else { Ok((client, driver)) }
}

async fn set_up(client: Client, driver: Driver) -> Result<AsyncPgConnection, ConnectCause> {
    let mut connection = AsyncPgConnection::try_from_client_and_connection(client, driver).await?;
    connection.set_instrumentation(StatementLog::default());
    Ok(connection)
}

async fn drive(client: Client, driver: Driver) -> Result<Client, ConnectCause> {
    // It ends when the client is dropped, which hears of every error itself.
    drop(tokio::spawn(driver));
    Ok(client)
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
