//! How a server starts, and how it stops without losing what it began.

use std::io::{self, IsTerminal};
use std::net::{SocketAddr, TcpListener};
use std::num::NonZero;
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::rt::System;
use api::{Observer, RepeatedRequests, Traffic};
use domain::ports::Clock;
use rustls::ServerConfig;
use sd_notify::NotifyState;
use settings::{Config, Loaded};
use socket2::{Domain, Socket, Type};
use telemetry::error_reports;
use telemetry::traces::{Emitter, Traces};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::connection_limits::{self, ReservedFds};
use crate::reload::Reload;
use crate::signals::{self, Ending};
use crate::system::SystemClock;
use crate::tls::{InForce, TlsError};
use crate::wiring::{Application, StartError, Unfinished};
use crate::{metrics, signing_keys};

/// What the store gets to finish even when requests have used up all of the grace.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// How many clients may wait to be accepted; the system may allow fewer.
const BACKLOG: i32 = 1024;

/// How much of its answer the system takes over for a client that does not read it; it doubles this. By itself it would
/// take several megabytes of each, and nobody would notice that the client takes nothing. Connections have it from the
/// listener.
const SEND_BUFFER: usize = 64 * 1024;

/// How often the log tells of requests that share a line.
const FLUSH_EVERY: Duration = Duration::from_secs(10);

/// Why a server did not start, or did not stop as it should.
#[derive(Debug, Error)]
pub(crate) enum ServeError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    #[error("cannot listen on {address}, which AUTH_HTTP__ADDR names")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot listen on {address}, which AUTH_OPS__ADDR names")]
    ListenToOperators { address: SocketAddr, source: io::Error },
    #[error("the server failed")]
    Serve(#[source] io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Stop(#[from] Unfinished),
}

/// Where people come in.
struct Doors {
    public: TcpListener,
    /// What the public one speaks TLS with, if it does, and how.
    tls: Option<(Arc<InForce>, Arc<ServerConfig>)>,
    operators: Option<TcpListener>,
}

/// Serves until SIGTERM or SIGINT, or until the terminal is closed that it was started on, then finishes what was begun.
pub(crate) fn serve(loaded: Loaded, file: Option<&Path>) -> Result<(), ServeError> {
    let mut config = loaded.config.clone();
    let address = config.http.address;
    let fail = |source| ServeError::Listen { address, source };
    let socket = bind(address).map_err(fail)?;
    config.listen_on(socket.local_addr().map_err(fail)?.as_socket().unwrap_or(address));
    let config = &config;
    let tls = config.http.tls.as_ref().map(|tls| InForce::read(tls, SystemClock::new().now())).transpose()?;
    let application = Application::start(config)?;
    let live = api::Live::new(config.live(), application.clock.clone());
    let asked_to_stop = watch_signals(&application).map_err(ServeError::Signals)?;
    follow_keys(config, &application).map_err(ServeError::Signals)?;
    follow_settings(loaded, file, live.clone(), &application).map_err(ServeError::Signals)?;
    if let Some(tls) = &tls {
        follow_certificate(tls, &application).map_err(ServeError::Signals)?;
    }
    socket.set_send_buffer_size(SEND_BUFFER).map_err(fail)?;
    socket.listen(BACKLOG).map_err(fail)?;
    let listener = TcpListener::from(socket);
    let ops_listener = config.ops.address.map(bind_for_operators).transpose()?;

    let traces = tell_others(config, &application).map_err(ServeError::Serve)?;
    let tls = tls.map(|tls| tls.server_config().map(|config| (tls, config))).transpose()?;

    let doors = Doors { public: listener, tls, operators: ops_listener };
    let run = run(config, &application, live, traces.clone(), doors, asked_to_stop);
    let served = System::new().block_on(run);
    let stopping_since = served.map_err(ServeError::Serve)?;

    let clock = application.clock.clone();
    let left = || {
        let used = clock.monotonic().saturating_sub(stopping_since);
        config.http.grace.saturating_sub(used).max(LEAST_PATIENCE)
    };
    let stopped = application.stop(left());
    // Last, so that they have the whole story.
    if let Some(traces) = traces {
        traces.finish(left());
    }
    error_reports::finish(left());
    stopped?;
    info!("stopped");
    Ok(())
}

/// Takes the address, on which nobody is let in yet: the port that the system chose is part of what tokens say.
fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // As the standard library does it, for a start right after a stop.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn bind_for_operators(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).map_err(|source| ServeError::ListenToOperators { address, source })
}

/// Answers requests until told to stop, and until those in flight then are answered; returns when it was told.
async fn run(
    config: &Config,
    application: &Application,
    live: api::Live,
    traces: Option<Arc<Traces>>,
    Doors { public: listener, tls, operators: ops_listener }: Doors,
    asked_to_stop: oneshot::Receiver<()>,
) -> io::Result<Duration> {
    let (certificate, tls) = tls.unzip();
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let traffic = Arc::new(Traffic::default());
    let repeated = Arc::new(RepeatedRequests::default());
    let api = api::Api {
        auth: application.auth.clone(),
        clock: application.clock.clone(),
        entropy: application.entropy.clone(),
        traffic: traffic.clone(),
        repeated: repeated.clone(),
        observer: traces.map(|traces| traces as Arc<dyn Observer>),
        settings: api::Settings {
            issuer: config.token.issuer.clone(),
            docs: config.docs,
            clients: !config.clients.is_empty(),
            change_password_page: config.http.change_password_page.clone(),
            encryption: config.encryption(),
        },
        live,
    };
    let (address, ops_address) =
        (listener.local_addr()?, ops_listener.as_ref().map(TcpListener::local_addr).transpose()?);
    let reserved = ReservedFds {
        workers: cores,
        store: application.store.load(),
        operators: ops_listener.as_ref().map_or(0, |_| api::MOST_OPERATORS),
        exporters: usize::from(config.otlp_endpoint.is_some()) + usize::from(config.sentry.is_some()),
    };
    let (grace, idle_timeout) = (config.http.grace, config.http.idle_timeout);
    let limits = connection_limits::limits(config.http.max_connections, &reserved);
    info!(max = limits.connections, per_network = limits.per_network, "connection limit");
    let ops_server = ops_listener.map(|listener| {
        let issuer = config.token.issuer.clone();
        let sight = Arc::new(sight(application, traffic, limits, certificate));
        let hosts = config.ops.hosts.clone();
        let ops = api::Ops { sight, entropy: application.entropy.clone(), issuer, hosts };
        api::listen_to_operators(ops, listener)
    });
    let ops_server = ops_server.transpose()?;
    let ops_handle = ops_server.as_ref().map(Server::handle);
    let ops = ops_server.map(actix_web::rt::spawn);
    let address =
        if config.http.tls.is_some() { format!("https://{address}") } else { format!("http://{address}") };
    let server =
        api::listen(api, listener, api::Serving { workers: cores, grace, limits, idle_timeout, tls })?;
    let docs = config.docs.then(|| format!("{address}/docs"));
    let ops_address = ops_address.map(|address| format!("http://{address}"));
    info!(address, docs, ops = ops_address, "listening");
    tell_supervisor(NotifyState::Ready);
    let flushing = actix_web::rt::spawn(flush_repeated(repeated.clone()));

    let handle = server.handle();
    let clock = application.clock.clone();
    let (begun, stopping_begun) = oneshot::channel();
    let stopping = actix_web::rt::spawn(async move {
        // Ends with an error only when the task that watches is gone; stopping is right then too.
        _ = asked_to_stop.await;
        let since = clock.monotonic();
        info!("stopping");
        tell_supervisor(NotifyState::Stopping);
        drop(handle.stop(true));
        _ = begun.send(());
        since
    });
    // The server itself counts its grace in whole seconds.
    let over = async move {
        _ = stopping_begun.await;
        tokio::time::sleep(grace).await;
    };
    tokio::pin!(server);
    tokio::select! {
        ended = &mut server => ended?,
        () = over => info!("what clients have not taken by now is not sent"),
    }
    flushing.abort();
    repeated.flush();
    // Whoever watches the server sees it drain.
    if let (Some(ops), Some(handle)) = (ops, ops_handle) {
        handle.stop(false).await;
        ops.await.map_err(io::Error::other)??;
    }
    stopping.await.map_err(io::Error::other)
}

/// Logs how many requests shared a line, every few seconds, for ever.
async fn flush_repeated(repeated: Arc<RepeatedRequests>) {
    loop {
        tokio::time::sleep(FLUSH_EVERY).await;
        repeated.flush();
    }
}

/// Tells systemd, if that started this process and wants to know, as `sd_notify(3)` has it.
fn tell_supervisor(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(cause = %error, "cannot tell the supervisor");
    }
}

/// Tells those of errors and of requests who are configured to be told.
fn tell_others(config: &Config, application: &Application) -> io::Result<Option<Arc<Traces>>> {
    let (clock, entropy) = (application.clock.clone(), application.entropy.clone());
    if let Some(dsn) = &config.sentry {
        error_reports::start(dsn, config.environment, clock.clone(), entropy.clone())?;
    }
    let Some(endpoint) = &config.otlp_endpoint else { return Ok(None) };
    let scheme = if config.token.issuer.starts_with("https:") { "https" } else { "http" };
    let emitter = Emitter { environment: config.environment, scheme };
    Traces::start(endpoint, emitter, clock, entropy).map(Arc::new).map(Some)
}

fn sight(
    application: &Application,
    traffic: Arc<Traffic>,
    limits: api::Limits,
    certificate: Option<Arc<InForce>>,
) -> metrics::Server {
    metrics::Server {
        auth: application.auth.clone(),
        traffic,
        limits,
        attempts: application.attempts.clone(),
        live_sessions: application.live_sessions.clone(),
        hasher: application.hasher.clone(),
        store: application.store.clone(),
        certificate,
        since: metrics::Start::now(&*application.clock),
        clock: application.clock.clone(),
    }
}

/// Listens for signals from now on. The first one that ends a server is handed on. A supervisor may repeat SIGTERM, which
/// changes nothing. Somebody at a terminal who presses Ctrl-C once more will not wait.
fn watch_signals(application: &Application) -> io::Result<oneshot::Receiver<()>> {
    let _inside = application.runtime.enter();
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut endings = signals::take_over();
    let has_terminal = is_on_terminal();
    let (ask_to_stop, asked_to_stop) = oneshot::channel();
    application.runtime.spawn(async move {
        loop {
            tokio::select! {
                _ = endings.recv() => break,
                // Otherwise it asks for the configuration to be read again.
                _ = hang_up.recv() => if has_terminal && !is_on_terminal() {
                    info!("the terminal is closed");
                    break;
                },
            }
        }
        _ = ask_to_stop.send(());
        while let Some(ending) = endings.recv().await {
            if ending == Ending::Interrupt && has_terminal {
                error!("interrupted a second time: requests under way are cut");
                process::exit(1);
            }
        }
    });
    Ok(asked_to_stop)
}

/// Whether one of the standard streams is a terminal, and one that is still there. `nohup` leaves none.
fn is_on_terminal() -> bool {
    io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal()
}

/// Has what signs tokens follow what is in its folder, from now on.
fn follow_keys(config: &Config, application: &Application) -> io::Result<()> {
    let _inside = application.runtime.enter();
    let hang_up = signal(SignalKind::hangup())?;
    let keys = signing_keys::Source::of(&config.token);
    application.runtime.spawn(signing_keys::follow(keys, application.tokens.clone(), hang_up));
    Ok(())
}

/// Has what may change follow the configuration, from now on.
fn follow_settings(
    loaded: Loaded,
    file: Option<&Path>,
    live: api::Live,
    application: &Application,
) -> io::Result<()> {
    let _inside = application.runtime.enter();
    let hang_up = signal(SignalKind::hangup())?;
    let file = file.map(Path::to_path_buf);
    let (tokens, level) = (application.tokens.clone(), loaded.config.log.level);
    let clock = application.clock.clone();
    let hasher = application.hasher.clone();
    let reload = Reload { file, loaded, live, hasher, tokens, level, clock };
    application.runtime.spawn(reload.follow(hang_up));
    Ok(())
}

/// Has TLS follow what is in the files, from now on.
fn follow_certificate(tls: &Arc<InForce>, application: &Application) -> io::Result<()> {
    let _inside = application.runtime.enter();
    let hang_up = signal(SignalKind::hangup())?;
    application.runtime.spawn(tls.clone().follow(application.clock.clone(), hang_up));
    Ok(())
}
