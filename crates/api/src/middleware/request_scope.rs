//! What every request passes on its way in and every answer on its way out: an identifier, bounds on the
//! head, headers that protect browsers, problems rendered, panics caught, one line in the log.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{
    ACCEPT, Accept, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, Header, HeaderMap, HeaderName, HeaderValue,
    Quality, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::http::uri::Authority;
use actix_web::http::{ConnectionType, Method};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpMessage, HttpResponse};
use data_encoding::HEXLOWER;
use domain::ClientNetwork;
use domain::ports::{Clock, Entropy};
use futures_util::FutureExt;

use crate::client_address;
use crate::http_metrics::{self, Counters, InFlight};
use crate::middleware::cors::{Admission, SentOrigin};
use crate::middleware::rate_limit::{self, Tab};
use crate::middleware::trace_context::Trace;
use crate::net::{self, AnswerBody, Overdue};
use crate::problem::{Code, Context, Problem};
use crate::repeated_requests::{Kind, REQUEST_TARGET, RepeatedRequests};
use crate::request_observer::{Exchange, Observer};
use crate::runtime_settings::Current;
use crate::{Api, Encryption, docs_pages, target};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Bounds that are checked here because the framework's own, 128 KiB and 96 headers, are constants.
const LONGEST_TARGET: usize = 8 * 1024;
const LARGEST_HEAD: usize = 16 * 1024;
const MOST_HEADERS: usize = 64;

/// A year, the least that ASVS 5.0 (3.4.1) asks for. Of other names under this one we know nothing, and whether
/// browsers should have it built in, only whoever runs all of them can say.
const HSTS: &str = "max-age=31536000";

/// The identifier of a request, in its answer and in every line about it.
#[derive(Clone)]
pub(crate) struct RequestId(pub(crate) String);

/// The middleware around everything.
pub(crate) async fn edge(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<AnswerBody>, Error> {
    let exchange = net::Exchange::of(&request);
    let mut in_flight = exchange.begin(&mut request).await;
    let Some(api) = request.app_data::<Data<Api>>().cloned() else {
        return Err(Problem::new(Code::Internal).into());
    };
    let current = api.live.current();
    let base = api.settings.base_path();
    target::strip_base(&mut request, base);
    let line = RequestLine::begin(&api, &current, &request, exchange.clone());
    request.extensions_mut().insert(RequestId(line.request_id.clone()));
    if let Err(problem) = check_head(&request) {
        // Wherever it was to go, nobody knows whose it is.
        let problem = line.tab.charge_stranger().err().unwrap_or(problem);
        let mut response = line.finish(problem.render(line.context(&api)), Some(&problem));
        // Whoever sends such a head is not to be trusted with where the next request begins.
        response.head_mut().set_connection_type(ConnectionType::Close);
        exchange.end_with_this();
        return Ok(request
            .into_response(response)
            .map_body(|head, body| AnswerBody::new(head, body, in_flight)));
    }
    if let Err(problem) = line.tab.enter(&request, line.route.as_deref()) {
        in_flight.come_to_rest().await;
        let response = line.finish(problem.render(line.context(&api)), Some(&problem));
        return Ok(request
            .into_response(response)
            .map_body(|head, body| AnswerBody::new(head, body, in_flight)));
    }
    let early = match current.cross_origin.preflight(&line.admission, &request) {
        None if line.route.is_none() => target::without_trailing_slash(&request, base).map(Ok),
        early => early,
    };
    if let Some(early) = early {
        // Nothing looks at the token or the secret that came along, so it counts like one without.
        let counted = line.tab.charge_stranger();
        let early = counted.and_then(|()| early.map_err(|origin| line.refuse_preflight(&api, &origin)));
        in_flight.come_to_rest().await;
        let answer = match early {
            Ok(answer) => line.finish(answer, None),
            Err(problem) => line.finish(problem.render(line.context(&api)), Some(&problem)),
        };
        return Ok(request
            .into_response(answer)
            .map_body(|head, body| AnswerBody::new(head, body, in_flight)));
    }
    // The request cannot be cloned before it is routed, so after a panic, a deadline or an error outside of a
    // handler there is none to answer; the error itself carries the answer then.
    let unrouted = |problem: Problem| {
        // Counted, but told what went wrong all the same.
        _ = line.tab.charge_stranger();
        let mut response = line.finish(problem.render(line.context(&api)), Some(&problem));
        close_after_rest(&mut response, &problem, &in_flight);
        InternalError::from_response("answered at the edge", response).into()
    };
    let served = match see_through(&exchange, next.call(request)).await {
        Ok(served) => served,
        Err(problem) => return Err(unrouted(problem)),
    };

    let (request, response) = served.map_into_boxed_body().into_parts();
    // Whoever brought a token or a secret that nothing asked for is a stranger like any other, and is counted though they
    // hang up now.
    let beyond = line.tab.charge_stranger().err();
    in_flight.come_to_rest().await;
    let answer =
        render(response, beyond.as_ref(), line.context(&api), |answer, problem| line.finish(answer, problem));
    Ok(ServiceResponse::new(request, answer.map_body(|head, body| AnswerBody::new(head, body, in_flight))))
}

/// Has an answer be the last one if not all of the request has been read.
pub(crate) fn close_after_rest(response: &mut HttpResponse, problem: &Problem, in_flight: &net::InFlight) {
    if problem.code() == Code::RequestTimeout || in_flight.has_rest() {
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
}

/// What comes of handling a request, whether it panics, takes too long or cannot be answered by a handler.
pub(crate) async fn see_through<T>(
    exchange: &net::Exchange,
    handling: impl Future<Output = Result<T, Error>>,
) -> Result<T, Problem> {
    exchange
        .bounded(survive(handling))
        .await
        // What still comes of the body is not read, so where the next request begins is not known.
        .inspect_err(|overdue| {
            if *overdue == Overdue::Body {
                exchange.end_with_this();
            }
        })?
}

/// What comes of handling a request, whether it panics or cannot be answered by a handler.
pub(crate) async fn survive<T>(handling: impl Future<Output = Result<T, Error>>) -> Result<T, Problem> {
    match AssertUnwindSafe(handling).catch_unwind().await {
        Ok(Ok(served)) => Ok(served),
        Ok(Err(error)) => Err(Problem::from_status(error.as_response_error().status_code())),
        Err(_) => Err(Problem::new(Code::Internal)),
    }
}

/// Renders the problem that an answer stands for, if it does, or this one in its place, and has `finish` put the last
/// things on whatever goes out.
pub(crate) fn render(
    response: HttpResponse,
    instead: Option<&Problem>,
    context: Context<'_>,
    finish: impl FnOnce(HttpResponse, Option<&Problem>) -> HttpResponse,
) -> HttpResponse {
    let own = response.error().and_then(|error| error.as_error::<Problem>());
    // What the framework answers by itself, as it does where a path cannot be decoded.
    let status = response.status();
    let made_up =
        (status.is_client_error() || status.is_server_error()).then(|| Problem::from_status(status));
    match instead.or(own).or(made_up.as_ref()) {
        Some(problem) => finish(problem.render(context), Some(problem)),
        None => finish(response, None),
    }
}

pub(crate) fn check_head(request: &ServiceRequest) -> Result<(), Problem> {
    // That there is one and only one, the framework has seen to (RFC 9112, section 3.2). An empty one says that there is
    // no name to ask for, as health checks by address have it.
    let host = request.headers().get(HOST).map(HeaderValue::as_bytes).filter(|host| !host.is_empty());
    if host.is_some_and(|host| Authority::try_from(host).is_err()) {
        return Err(Problem::new(Code::MalformedRequest));
    }
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > LONGEST_TARGET {
        return Err(Problem::new(Code::UriTooLong));
    }
    let headers = request.headers();
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if headers.len() > MOST_HEADERS || bytes > LARGEST_HEAD {
        return Err(Problem::new(Code::HeadersTooLarge));
    }
    Ok(())
}

/// The one line of the log that a request has, unless it is one of many that share a line. It is written when the answer
/// goes out, or when the client went away before.
struct RequestLine {
    request_id: String,
    method: &'static str,
    /// The template of the path. A path that nobody serves is not repeated: it may hold anything, a password
    /// in the wrong window included.
    route: Option<String>,
    client: IpAddr,
    admission: Admission,
    /// The path of the issuer, if a wrong address is answered with a page.
    page: Option<String>,
    tab: Rc<Tab>,
    trace: Trace,
    in_flight: Option<InFlight>,
    observer: Option<Arc<dyn Observer>>,
    repeated: Arc<RepeatedRequests>,
    /// The connection that it came by, unless that is one of a proxy, which other clients' requests come by.
    own_connection: Option<Rc<net::Exchange>>,
    clock: Arc<dyn Clock>,
    begun: Duration,
    is_tls: bool,
    written: std::cell::Cell<bool>,
}

impl RequestLine {
    fn begin(api: &Api, current: &Current, request: &ServiceRequest, connection: Rc<net::Exchange>) -> Self {
        let client = client_address::find_out(request, &current.trusted_proxies);
        let tab = Rc::new(Tab::open(current.limits.clone(), client));
        request.extensions_mut().insert(tab.clone());
        let headers = request.headers();
        let (given_id, given_trace) = (request_id(headers), Trace::of(headers));
        // A trace may have many requests. One that begins here has this one, and both can be known by one name.
        let (trace, own_id) = if let Some(trace) = given_trace {
            (trace, None)
        } else {
            let trace = Trace::new(api.entropy.draw());
            (trace, given_id.is_none().then(|| trace.id.to_string()))
        };
        // By the path as the router reads it, and not as it came: `/api/%6cogin` is `/api/login`.
        let route = request.resource_map().match_pattern(request.match_info().as_str());
        let counters = request.app_data::<Counters>();
        Self {
            request_id: given_id.or(own_id).unwrap_or_else(|| new_request_id(&*api.entropy)),
            method: known_method(request.method().as_str()),
            in_flight: counters.map(|counters| counters.begin(route.as_deref())),
            route,
            client,
            admission: current.cross_origin.admission(request.headers()),
            page: prefers_html(request).then(|| api.settings.base_path().to_owned()),
            tab,
            trace,
            observer: api.observer.clone(),
            repeated: api.repeated.clone(),
            own_connection: (!client_address::is_by_proxy(request, &current.trusted_proxies))
                .then_some(connection),
            clock: api.clock.clone(),
            begun: api.clock.monotonic(),
            is_tls: api.settings.encryption == Encryption::Ours,
            written: false.into(),
        }
    }

    fn context<'a>(&'a self, api: &'a Api) -> Context<'a> {
        Context { issuer: &api.settings.issuer, request_id: &self.request_id }
    }

    /// The answer to a preflight of a page that may not ask, of which the operator is told.
    fn refuse_preflight(&self, api: &Api, origin: &SentOrigin) -> Problem {
        let shown = origin.as_str();
        if api.live.refused_origins.has_line(shown) {
            let (request_id, route) = (&self.request_id, self.route.as_deref());
            tracing::warn!(
                request_id,
                route,
                origin = shown,
                setting = "AUTH_CORS__ORIGINS",
                "refused a preflight: the setting does not name the page's origin"
            );
        }
        origin.forbidden()
    }

    /// Puts the last headers on an answer and writes the line.
    fn finish(&self, response: HttpResponse, problem: Option<&Problem>) -> HttpResponse {
        let mut response = match (&self.page, problem) {
            (Some(base), Some(problem)) => docs_pages::in_place_of(response, problem.code(), base),
            _ => response,
        };
        protect(response.headers_mut(), &self.request_id);
        self.admission.write_into(response.headers_mut());
        self.tab.write_into(response.headers_mut());
        if self.is_tls {
            response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(HSTS));
        }
        if let (Some(in_flight), Some(kind)) = (&self.in_flight, self.tab.beyond()) {
            in_flight.beyond_quota(kind);
        }
        if let (Some(connection), Some(_)) = (&self.own_connection, self.tab.beyond())
            && connection.note_rate_limited()
        {
            response.head_mut().set_connection_type(ConnectionType::Close);
            connection.end_with_this();
        }
        if let (Some(in_flight), Some(lack)) = (&self.in_flight, problem.and_then(Problem::lack)) {
            in_flight.unavailable(lack);
        }
        let code = problem.map(|problem| problem.code().as_str());
        let cause = problem.and_then(Problem::cause);
        if cause.is_some() || response.status().is_server_error() && code == Some(Code::Internal.as_str()) {
            let (request_id, route, trace_id) = (&self.request_id, self.route.as_deref(), self.trace.id);
            tracing::error!(request_id, %trace_id, route, code, cause, "a request failed");
        }
        self.write(response.status().as_u16(), code);
        response
    }

    fn write(&self, status: u16, code: Option<&'static str>) {
        let took = self.clock.monotonic().saturating_sub(self.begun);
        let (method, route, trace) = (self.method, self.route.as_deref(), self.trace);
        if let Some(in_flight) = &self.in_flight {
            in_flight.answered(method, status, took);
        }
        if let Some(observer) = &self.observer {
            observer.ended(&Exchange { method, route, status, code, trace, took });
        }
        self.written.set(true);
        if self.repeats(status, code) {
            return;
        }
        tracing::info!(
            target: REQUEST_TARGET,
            method,
            route,
            status,
            code,
            microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            client = %self.client,
            request_id = self.request_id,
            trace_id = %trace.id,
        );
    }

    /// Whether this is one of many that a client may send without end, and not the first of them: beyond a quota, or
    /// where there is none.
    fn repeats(&self, status: u16, code: Option<&'static str>) -> bool {
        let route =
            self.route.as_deref().and_then(|route| rate_limit::UNLIMITED.into_iter().find(|it| *it == route));
        let limit = self.tab.beyond().map(rate_limit::Kind::as_str);
        if limit.is_none() && route.is_none() {
            return false;
        }
        let client = ClientNetwork::of(self.client);
        !self.repeated.is_first(Kind { client, limit, route, status, code })
    }
}

impl Drop for RequestLine {
    fn drop(&mut self) {
        if !self.written.get() {
            // What would have counted if the client had waited for an answer counts all the same.
            _ = self.tab.charge_stranger();
            // The status that nginx made common for a client that closed its connection.
            self.write(499, None);
        }
    }
}

/// Whether somebody opens an address in a browser, which takes a page and would only show JSON.
fn prefers_html(request: &ServiceRequest) -> bool {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return false;
    }
    let is_named = |accept: &HeaderValue| accept.as_bytes().windows(9).any(|part| part == b"text/html");
    if !request.headers().get_all(ACCEPT).any(is_named) {
        return false;
    }
    let Ok(Accept(accepted)) = Accept::parse(request) else { return false };
    let best = |kinds: &[&str]| {
        let fits = accepted.iter().filter(|kind| kinds.contains(&kind.item.essence_str()));
        fits.map(|kind| kind.quality).max().unwrap_or(Quality::ZERO)
    };
    best(&["text/html"]) > best(&["application/problem+json", "application/json", "application/*", "*/*"])
}

/// Headers that every answer has; a page brings a policy of its own.
pub(crate) fn protect(headers: &mut HeaderMap, request_id: &str) {
    let set = |headers: &mut HeaderMap, name, value| headers.insert(name, HeaderValue::from_static(value));
    set(headers, X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(headers, REFERRER_POLICY, "no-referrer");
    if !headers.contains_key(CONTENT_SECURITY_POLICY) {
        set(headers, CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'");
    }
    if !headers.contains_key(CACHE_CONTROL) {
        set(headers, CACHE_CONTROL, "no-store");
    }
    if let Ok(request_id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, request_id);
    }
}

/// The identifier that a client or proxy gave, if it can do no harm in a log.
fn request_id(headers: &HeaderMap) -> Option<String> {
    let mut given = headers.get_all(&REQUEST_ID);
    let (Some(only), None) = (given.next(), given.next()) else { return None };
    let text = only.to_str().ok()?;
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    ((1..=64).contains(&text.len()) && text.bytes().all(harmless)).then(|| text.to_owned())
}

pub(crate) fn new_request_id(entropy: &dyn Entropy) -> String {
    HEXLOWER.encode(&entropy.draw())
}

/// A method is a word of the client's own choosing, so unknown ones are not repeated.
fn known_method(method: &str) -> &'static str {
    http_metrics::METHODS.into_iter().find(|known| *known == method).unwrap_or("OTHER")
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn given(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(REQUEST_ID, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        request_id(&headers)
    }

    #[test]
    fn a_request_id_that_could_do_harm_in_a_log_is_not_taken() {
        assert_eq!(given(&["0198-abc.DEF_1"]), Some("0198-abc.DEF_1".to_owned()));
        for value in ["", "a b", "a\tb", "\"x\"", "{}", "é", &"x".repeat(65)] {
            assert_eq!(given(&[value]), None, "{value:?}");
        }
        assert_eq!(given(&[]), None);
        assert_eq!(given(&["a", "b"]), None);
    }

    #[test]
    fn page_is_served_if_html_is_preferred_to_json() {
        let prefers = |method, accept: &[&str]| {
            let mut request = TestRequest::default().method(method);
            for accept in accept {
                request = request.append_header((ACCEPT, *accept));
            }
            prefers_html(&request.to_srv_request())
        };

        let chromium = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        for accept in [&[chromium][..], &["text/html"], &["text/html", "*/*;q=0.5"]] {
            assert!(prefers(Method::GET, accept), "{accept:?}");
            assert!(!prefers(Method::POST, accept), "{accept:?}");
        }
        assert!(prefers(Method::HEAD, &[chromium]));
        for accept in [
            &[][..],
            &[""],
            &["*/*"],
            &["text/*"],
            &["text/html, */*"],
            &["application/json, text/html;q=0.9"],
            &["application/json, text/html"],
            &["text/html;q=0"],
            &["text/html;q=nonsense"],
            &["text/htmlx"],
        ] {
            assert!(!prefers(Method::GET, accept), "{accept:?}");
        }
    }

    #[test]
    fn methods_nobody_knows_are_not_repeated() {
        assert_eq!(known_method("PATCH"), "PATCH");
        assert_eq!(known_method("hunter2"), "OTHER");
    }
}
