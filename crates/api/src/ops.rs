//! What operators see: the measurements for Prometheus, and how each part is. On a listener of its own, which is kept
//! from the public.

use std::io;
use std::net::TcpListener;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Server, ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, Data};
use actix_web::{App, Error, HttpResponse, HttpServer};
use async_trait::async_trait;
use domain::ports::Entropy;
use futures_util::FutureExt;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::edge;
use crate::endpoint::get;
use crate::problem::{Code, Context, Problem};

/// How many connections are served at once. There are a scraper or two, and somebody who looks.
const MOST_CONNECTIONS: usize = 64;

/// How long a client may take over the head of a request, and how long a connection is kept for the next one.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// The version of Prometheus' text format, which every scraper reads.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Looks at the service as a whole.
#[async_trait]
pub trait Sight: Send + Sync {
    /// All measurements, in Prometheus' text format 0.0.4.
    async fn metrics(&self) -> String;

    /// How each part is.
    async fn health(&self) -> Health;
}

/// How the service is.
#[derive(Clone, Debug)]
pub struct Health {
    /// Its version.
    pub version: &'static str,
    /// How long it has been running, in seconds.
    pub uptime_seconds: u64,
    /// What it consists of.
    pub parts: Vec<Part>,
}

/// How a part of the service is.
#[derive(Clone, Debug)]
pub struct Part {
    /// What it is called.
    pub name: &'static str,
    /// Whether it does what is asked of it.
    pub is_well: bool,
    /// What else there is to say, as an object. It holds no secret.
    pub detail: Map<String, Value>,
}

/// What the listener stands on.
#[derive(Clone)]
pub struct Ops {
    /// What is shown.
    pub sight: Arc<dyn Sight>,
    /// For the identifiers of requests.
    pub entropy: Arc<dyn Entropy>,
    /// The URL that the addresses of problems begin with.
    pub issuer: String,
}

#[derive(Serialize)]
struct HealthView<'a> {
    status: &'static str,
    version: &'static str,
    uptime_seconds: u64,
    parts: Vec<PartView<'a>>,
}

#[derive(Serialize)]
struct PartView<'a> {
    name: &'static str,
    status: &'static str,
    #[serde(flatten)]
    detail: &'a Map<String, Value>,
}

/// Serves on `listener` with one thread, once the answer is awaited inside an actix system. Does not listen to signals,
/// and is stopped by its handle.
pub fn listen_to_operators(ops: Ops, listener: TcpListener) -> io::Result<Server> {
    let ops = Data::new(ops);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(ops.clone())
            .wrap(from_fn(around))
            .service(get("/metrics", metrics))
            .service(get("/health", health))
            .default_service(web::to(async || Err::<HttpResponse, _>(Problem::new(Code::NotFound))))
    });
    Ok(server
        .workers(1)
        .max_connections(MOST_CONNECTIONS)
        .client_request_timeout(HEAD_DEADLINE)
        .keep_alive(KEEP_ALIVE)
        .h1_allow_half_closed(false)
        .disable_signals()
        .listen(listener)?
        .run())
}

async fn metrics(ops: Data<Ops>) -> HttpResponse {
    HttpResponse::Ok().insert_header((CONTENT_TYPE, TEXT_FORMAT)).body(ops.sight.metrics().await)
}

/// For whoever reads it and for whatever only looks at the status: 503 when a part is not well.
async fn health(ops: Data<Ops>) -> HttpResponse {
    let Health { version, uptime_seconds, parts } = ops.sight.health().await;
    let mut answer = if parts.iter().all(|part| part.is_well) {
        HttpResponse::Ok()
    } else {
        HttpResponse::ServiceUnavailable()
    };
    let status = |is_well| if is_well { "well" } else { "unavailable" };
    let view = parts.iter().map(|Part { name, is_well, detail }| PartView {
        name,
        status: status(*is_well),
        detail,
    });
    answer.json(HealthView {
        status: status(parts.iter().all(|part| part.is_well)),
        version,
        uptime_seconds,
        parts: view.collect(),
    })
}

/// What the public edge does for an answer, but for the counts and the line in the log: nobody but operators asks here,
/// and they do every few seconds.
async fn around(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(ops) = request.app_data::<Data<Ops>>().cloned() else {
        return Err(Problem::new(Code::Internal).into());
    };
    let request_id = edge::hex(ops.entropy.draw());
    let context = Context { issuer: &ops.issuer, request_id: &request_id };
    let protected = |mut response: HttpResponse| {
        edge::protect(response.headers_mut(), &request_id);
        response
    };
    if let Err(problem) = edge::check_head(&request) {
        return Ok(request.into_response(protected(problem.render(context))));
    }
    let unrouted = |problem: Problem| {
        InternalError::from_response("answered at the edge", protected(problem.render(context))).into()
    };
    let served = match AssertUnwindSafe(next.call(request)).catch_unwind().await {
        Ok(Ok(served)) => served,
        Ok(Err(error)) => {
            return Err(unrouted(Problem::from_status(error.as_response_error().status_code())));
        }
        Err(_) => return Err(unrouted(Problem::new(Code::Internal))),
    };

    let (request, response) = served.map_into_boxed_body().into_parts();
    let own = response.error().and_then(|error| error.as_error::<Problem>());
    let made_up = response.status().is_client_error().then(|| Problem::from_status(response.status()));
    let answer = match own.or(made_up.as_ref()) {
        Some(problem) => problem.render(context),
        None => response,
    };
    Ok(ServiceResponse::new(request, protected(answer)))
}
