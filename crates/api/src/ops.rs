//! What operators see: the measurements for Prometheus, and how each part is. On a listener of its own, which is kept
//! from the public.

use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;

use actix_server::Server;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{CONTENT_TYPE, HOST, HeaderValue};
use actix_web::http::uri::Authority;
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{App, Error, HttpResponse};
use async_trait::async_trait;
use domain::ports::Entropy;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::method_router::get;
use crate::middleware::request_scope;
use crate::net::http_server;
use crate::net::{self, AnswerBody, Limits, Lobby};
use crate::problem::{Code, Context, Problem};
use crate::target;

/// How many connections of operators there may be. There are a scraper or two, and somebody who looks.
const LIMITS: Limits = Limits { connections: 56, per_network: 56 };

/// How many of them are open at once, at the most.
pub const MOST_OPERATORS: usize = LIMITS.open();

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
    /// The names, in lower case, that the listener may be asked by besides those of loopback and IP addresses.
    pub hosts: Vec<String>,
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
    // What is counted of these nobody looks at.
    let lobby = Lobby::new(LIMITS, None, None, Arc::default());
    let builder = Server::build().workers(1).max_concurrent_connections(LIMITS.open());
    let server = http_server::serve(builder, "operators", listener, lobby, move || {
        App::new().app_data(ops.clone()).wrap(from_fn(around)).configure(routes)
    })?;
    Ok(server.disable_signals().run())
}

fn routes(config: &mut ServiceConfig) {
    config
        .service(get("/metrics", metrics))
        .service(get("/health", health))
        .default_service(web::to(async || Err::<HttpResponse, _>(Problem::new(Code::NotFound))));
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
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<AnswerBody>, Error> {
    let exchange = net::Exchange::of(&request);
    let mut in_flight = exchange.begin(&mut request).await;
    let Some(ops) = request.app_data::<Data<Ops>>().cloned() else {
        return Err(Problem::new(Code::Internal).into());
    };
    let request_id = request_scope::new_request_id(&*ops.entropy);
    let context = Context { issuer: &ops.issuer, request_id: &request_id };
    let protected = |mut response: HttpResponse| {
        request_scope::protect(response.headers_mut(), &request_id);
        response
    };
    if let Err(problem) = request_scope::check_head(&request).and_then(|()| check_host(&request, &ops.hosts))
    {
        let mut response = protected(problem.render(context));
        response.head_mut().set_connection_type(ConnectionType::Close);
        exchange.end_with_this();
        return Ok(request
            .into_response(response)
            .map_body(|head, body| AnswerBody::new(head, body, in_flight)));
    }
    if let Some(redirect) = target::without_trailing_slash(&request, "") {
        in_flight.come_to_rest().await;
        let response = protected(redirect);
        return Ok(request
            .into_response(response)
            .map_body(|head, body| AnswerBody::new(head, body, in_flight)));
    }
    let unrouted = |problem: Problem| {
        let mut response = protected(problem.render(context));
        request_scope::close_after_rest(&mut response, &problem, &in_flight);
        InternalError::from_response("answered at the edge", response).into()
    };
    let served = match request_scope::see_through(&exchange, next.call(request)).await {
        Ok(served) => served,
        Err(problem) => return Err(unrouted(problem)),
    };

    let (request, response) = served.map_into_boxed_body().into_parts();
    in_flight.come_to_rest().await;
    // Only to say that a part is not well does a handler answer by itself what looks like a problem.
    let answer = if response.status() == StatusCode::SERVICE_UNAVAILABLE && response.error().is_none() {
        protected(response)
    } else {
        request_scope::render(response, None, context, |answer, _| protected(answer))
    };
    Ok(ServiceResponse::new(request, answer.map_body(|head, body| AnswerBody::new(head, body, in_flight))))
}

/// Refuses a request by a name that is not this listener's. A page of an attacker whose own name leads to this machine
/// (DNS rebinding) would read what only operators may.
fn check_host(request: &ServiceRequest, hosts: &[String]) -> Result<(), Problem> {
    let host = request.headers().get(HOST).map(HeaderValue::as_bytes).filter(|host| !host.is_empty());
    let host = host.map(|host| Authority::try_from(host).map_err(|_| Problem::new(Code::MalformedRequest)));
    let host = host.transpose()?;
    let asked_by = host.as_ref().map(Authority::host).into_iter().chain(request.uri().host());
    let mut others = asked_by.filter(|host| !is_own_name(host, hosts));
    others.next().map_or(Ok(()), |_| Err(Problem::new(Code::MisdirectedRequest)))
}

fn is_own_name(host: &str, hosts: &[String]) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let name = bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase();
    bare.parse::<IpAddr>().is_ok()
        || name == "localhost"
        || name.ends_with(".localhost")
        || hosts.contains(&name)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use actix_web::body::to_bytes;
    use actix_web::test;

    use super::*;

    /// Panics when it is looked at for the first time, and is unwell.
    #[derive(Default)]
    struct Frail(AtomicBool);

    #[async_trait]
    impl Sight for Frail {
        async fn metrics(&self) -> String {
            assert!(self.0.swap(true, Ordering::Relaxed), "a handler panics, as it is meant to");
            "well".to_owned()
        }

        async fn health(&self) -> Health {
            let part = Part { name: "database", is_well: false, detail: Map::new() };
            Health { version: "1", uptime_seconds: 7, parts: vec![part] }
        }
    }

    struct Seven;

    impl Entropy for Seven {
        fn draw(&self) -> [u8; 16] {
            [7; 16]
        }
    }

    #[::core::prelude::v1::test]
    fn foreign_host_names_are_refused() {
        let hosts = ["prometheus-target".to_owned(), "ops.example".to_owned()];
        let check = |uri: &str, host: Option<&str>| {
            let mut request = test::TestRequest::get().uri(uri);
            if let Some(host) = host {
                request = request.insert_header((HOST, host));
            }
            check_host(&request.to_srv_request(), &hosts).map_err(|problem| problem.code())
        };

        for host in [
            None,
            Some(""),
            Some("localhost"),
            Some("LOCALHOST:9464"),
            Some("localhost."),
            Some("auth.localhost:1"),
            Some("127.0.0.1:9464"),
            Some("192.0.2.7"),
            Some("[::1]:9464"),
            Some("[2001:db8::1]"),
            Some("prometheus-target:9464"),
            Some("Ops.Example"),
            Some("ops.example."),
        ] {
            assert_eq!(check("/metrics", host), Ok(()), "{host:?}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "evillocalhost",
            "127.0.0.1.evil.example",
            "127.1",
            "sub.ops.example",
            "ops.example.evil.example",
            "localhost..",
        ] {
            assert_eq!(check("/metrics", Some(host)), Err(Code::MisdirectedRequest), "{host}");
        }
        assert_eq!(check("http://evil.example/metrics", Some("localhost")), Err(Code::MisdirectedRequest));
        assert_eq!(check("http://localhost/metrics", Some("evil.example")), Err(Code::MisdirectedRequest));
        assert_eq!(check("http://localhost/metrics", Some("localhost")), Ok(()));
    }

    #[actix_web::test]
    async fn a_handler_that_panics_is_500_and_whoever_is_unwell_says_so_in_their_own_words() {
        let issuer = "https://auth.example".to_owned();
        let ops =
            Ops { sight: Arc::new(Frail::default()), entropy: Arc::new(Seven), issuer, hosts: Vec::new() };
        let app = App::new().app_data(Data::new(ops)).wrap(from_fn(around)).configure(routes);
        let app = test::init_service(app).await;
        let ask = async |path: &str| {
            let request = test::TestRequest::get().uri(path).to_request();
            let answer = match test::try_call_service(&app, request).await {
                Ok(answer) => answer.into_parts().1.map_into_boxed_body(),
                Err(error) => error.error_response(),
            };
            assert_eq!(answer.headers().get("x-request-id").unwrap(), "07070707070707070707070707070707");
            (answer.status().as_u16(), to_bytes(answer.into_body()).await.unwrap())
        };

        let (broken, well, unwell) = (ask("/metrics").await, ask("/metrics").await, ask("/health").await);

        let problem: Value = serde_json::from_slice(&broken.1).unwrap();
        assert_eq!((broken.0, &problem["code"]), (500, &Value::from("internal")));
        assert_eq!(well, (200, "well".into()));
        let health: Value = serde_json::from_slice(&unwell.1).unwrap();
        assert_eq!((unwell.0, &health["status"]), (503, &Value::from("unavailable")));
    }
}
