//! The HTTP surface, on actix-web.
//!
//! Promises that every endpoint answers what `/openapi.json` says of it, that every error is a problem
//! document (RFC 9457) which tells the client what to do and nothing of our insides, and that of what a
//! client sent nothing is repeated or logged but what can do no harm: a plain request id, the plain name of
//! an unknown field. Refuses to know how anything is kept, hashed or signed, and to decide anything that
//! [`domain::Auth`] decides.
//!
//! A request passes `net` and `middleware`, is read by `extract` and handled in `routes`. Errors leave through
//! `problem`. Start reading at [`listen`], then at `routes`.

mod client_address;
mod docs_pages;
mod etag;
mod extract;
mod http_metrics;
mod method_router;
mod middleware;
mod net;
mod openapi;
mod ops;
mod problem;
mod refused_origins;
mod repeated_requests;
mod request_observer;
mod routes;
mod runtime_settings;
mod session_cookie;
mod target;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_server::Server;
use actix_web::middleware::from_fn;
use actix_web::web::Data;
use actix_web::{App, HttpRequest};
use domain::Auth;
use domain::ports::{Clock, Entropy};
use rustls::ServerConfig;

pub use self::client_address::{ClientIpHeader, TrustedProxies};
use self::http_metrics::Counters;
pub use self::http_metrics::{Answered, Traffic};
pub use self::middleware::cors::Origin;
pub use self::middleware::rate_limit::Quotas;
pub use self::middleware::trace_context::{Trace, TraceId};
pub use self::net::Limits;
use self::net::{Lobby, http_server};
pub use self::openapi::openapi_json;
pub use self::ops::{Health, MOST_OPERATORS, Ops, Part, Sight, listen_to_operators};
use self::problem::{Code, Problem};
pub use self::repeated_requests::REQUEST_TARGET;
pub use self::repeated_requests::RepeatedRequests;
pub use self::request_observer::{Exchange, Observer};
pub use self::runtime_settings::{Choices, Live};

/// How long a client that is told that no more is read has for what it is still sending, so that it reads why.
const LINGER: Duration = Duration::from_secs(1);

/// What the HTTP surface stands on.
#[derive(Clone)]
pub struct Api {
    /// The use cases.
    pub auth: Auth,
    /// For the time a request takes.
    pub clock: Arc<dyn Clock>,
    /// For the identifiers of requests.
    pub entropy: Arc<dyn Entropy>,
    /// Where requests are counted.
    pub traffic: Arc<Traffic>,
    /// Where requests are counted that share a line of the log.
    pub repeated: Arc<RepeatedRequests>,
    /// Who is told of every request besides the log, if anybody is.
    pub observer: Option<Arc<dyn Observer>>,
    /// The operator's choices.
    pub settings: Settings,
    /// Those of them that may change.
    pub live: Live,
}

/// The choices an operator makes about the HTTP surface that hold until it stops.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The URL under which clients know this service, without a slash at its end.
    pub issuer: String,
    /// Whether `/docs`, `/redoc` and `/openapi.json` are there.
    pub docs: bool,
    /// Whether there are backends that may ask about tokens, so that others are told where.
    pub clients: bool,
    /// Where `/.well-known/change-password` leads, if anywhere: a URL, or a path of this host.
    pub change_password_page: Option<String>,
    /// Who speaks TLS with clients.
    pub encryption: Encryption,
}

impl Settings {
    /// The path under which clients know this service, as a proxy may have it: empty, or one without a slash at its end.
    pub(crate) fn base_path(&self) -> &str {
        let rest = self.issuer.split_once("://").map_or("", |(_, rest)| rest);
        rest.find('/').map_or("", |begin| &rest[begin..])
    }
}

/// Who speaks TLS with clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// This server, so browsers are told to ask for nothing else.
    Ours,
    /// Somebody before it, so browsers send cookies by TLS alone, as where it is ours.
    Another,
    /// Nobody, as in development.
    None,
}

/// How the HTTP surface is served.
pub struct Serving {
    /// On how many threads.
    pub workers: usize,
    /// How long what was begun may take to finish, once told to stop.
    pub grace: Duration,
    /// How many connections there may be; an eighth more may be open for a moment.
    pub limits: Limits,
    /// How long a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// Where TLS is spoken.
    pub tls: Option<Arc<ServerConfig>>,
}

impl Api {
    /// The one that a request came to.
    fn of(request: &HttpRequest) -> Result<&Self, Problem> {
        let api = request.app_data::<Data<Self>>().map(|api| &***api);
        api.ok_or(Problem::new(Code::Internal))
    }
}

/// Serves on `listener`, once the answer is awaited inside an actix system. Does not listen to signals; stopped by its
/// handle, it lets what was begun finish.
pub fn listen(api: Api, listener: TcpListener, serving: Serving) -> io::Result<Server> {
    let Serving { workers, grace, limits, idle_timeout, tls } = serving;
    let api = Data::new(api);
    let lobby =
        Lobby::new(limits, tls, Some(api.live.clone()), api.traffic.clone()).with_idle_timeout(idle_timeout);
    let builder =
        Server::build().workers(workers).max_concurrent_connections(limits.open().div_ceil(workers));
    let server = http_server::serve(builder, "public", listener, lobby, move || {
        App::new()
            .app_data(api.clone())
            .app_data(Counters::of(api.traffic.clone()))
            .wrap(from_fn(middleware::request_scope::edge))
            .configure(|config| routes::configure(config, &api.settings))
    })?;
    // Whole seconds are all that it knows; who awaits it may be more exact.
    let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
    Ok(server.shutdown_timeout(seconds).disable_signals().run())
}
