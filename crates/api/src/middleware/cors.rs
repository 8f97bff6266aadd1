//! Which pages of other origins may ask (the CORS protocol of the Fetch standard, section 3.3).
//!
//! Those of an origin that the operator named, byte for byte as a browser writes it, and with credentials, since
//! that is what this service is about. Others get the answers that they would get without CORS, which their browser
//! keeps from them. It is part of the edge and no middleware of its own, so that every answer that the edge makes by
//! itself has these headers too: a page must be able to read that it was sent too much.

use actix_web::http::Method;
use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue, ORIGIN, VARY,
};
use actix_web::http::uri::{Authority, Uri};
use actix_web::{HttpResponse, dev::ServiceRequest};

use crate::problem::{Code, Problem};

/// The most that Chromium takes; Firefox takes a day.
const PREFLIGHT_SECONDS: &str = "7200";

const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";

/// What a page may send beside what every page may: what this service reads, what libraries for tracing and HTTP add by
/// themselves, and what makes a browser ask anew.
const REQUEST_HEADERS: &str = "Authorization, Content-Type, X-Session-Transport, X-Request-Id, X-Correlation-Id, \
    Request-Id, traceparent, tracestate, baggage, sentry-trace, b3, X-B3-TraceId, X-B3-SpanId, X-B3-ParentSpanId, \
    X-B3-Sampled, X-B3-Flags, uber-trace-id, X-Amzn-Trace-Id, X-Cloud-Trace-Context, Request-Context, newrelic, \
    elastic-apm-traceparent, X-Datadog-Trace-Id, X-Datadog-Parent-Id, X-Datadog-Origin, \
    X-Datadog-Sampling-Priority, X-Datadog-Tags, X-Requested-With, X-CSRF-Token, X-XSRF-Token, Cache-Control, \
    Pragma, Expires, If-None-Match, If-Modified-Since, Accept, Accept-Language, Idempotency-Key, Priority";

/// What a page may read beside what every page may.
const RESPONSE_HEADERS: &str =
    "Location, RateLimit, RateLimit-Policy, Refresh-Reuse, Retry-After, WWW-Authenticate, X-Request-Id";

/// The longest origin that is taken for one: a scheme, the longest name of a host (RFC 1035, section 2.3.4), a port.
const MAX_ORIGIN_LENGTH: usize = 300;

/// Where pages come from: a scheme, a host and perhaps a port, as a browser writes them into the header `Origin`
/// (RFC 6454, section 6.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

/// Which pages of other origins may ask, and what they may send.
#[derive(Clone, Debug)]
pub(crate) struct CrossOrigin {
    origins: Vec<Origin>,
    request_headers: HeaderValue,
}

/// The origin that a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SentOrigin {
    /// There is no header `Origin`.
    Missing,
    /// `null`: the browser keeps it to itself.
    Opaque,
    /// More than one header, or no origin at all. It may be anything, so it is not repeated.
    Malformed,
    WellFormed(Origin),
}

/// What an answer has to say about the origin that asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Admission {
    /// Whether it could have been another answer for another origin.
    varies: bool,
    allowed: Option<HeaderValue>,
}

impl Origin {
    /// Takes any scheme but `file`, `://`, a host, and a port unless it is the scheme's own: all in lower case. `null` and
    /// `file://` are no origins of anybody, since pages without one share them.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_ORIGIN_LENGTH {
            return None;
        }
        let uri: Uri = text.parse().ok()?;
        let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
        if !scheme.starts_with(|first: char| first.is_ascii_lowercase()) {
            return None;
        }
        let own_port = match scheme {
            "file" => return None,
            "http" | "ws" => Some(80),
            "https" | "wss" => Some(443),
            "ftp" => Some(21),
            _ => None,
        };
        let has_own_port = own_port.is_some() && authority.port_u16() == own_port;
        // Nothing may stand there that a browser would not write: no path, no login, no capital, no leading zero.
        let canonical = format!("{}://{}", scheme.to_ascii_lowercase(), canonical(authority)?);
        (canonical == text && !has_own_port).then_some(Self(canonical))
    }

    /// As a browser writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn canonical(authority: &Authority) -> Option<String> {
    let host = authority.host().to_ascii_lowercase();
    let is_named = !host.is_empty() && !host.contains('*');
    is_named.then(|| match authority.port_u16() {
        Some(port) => format!("{host}:{port}"),
        None => host,
    })
}

impl SentOrigin {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut sent = headers.get_all(ORIGIN);
        match (sent.next().map(HeaderValue::as_bytes), sent.next()) {
            (None, _) => Self::Missing,
            (Some(b"null"), None) => Self::Opaque,
            (Some(only), None) => {
                let origin = str::from_utf8(only).ok().and_then(Origin::parse);
                origin.map_or(Self::Malformed, Self::WellFormed)
            }
            _ => Self::Malformed,
        }
    }

    /// What logs call it. Nothing that a client made up is repeated but an origin.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Missing => "none",
            Self::Opaque => "null",
            Self::Malformed => "malformed",
            Self::WellFormed(origin) => origin.as_str(),
        }
    }

    /// The problem of a page that may not ask, with the origin that was compared and the setting to change.
    pub(crate) fn forbidden(&self) -> Problem {
        let problem = Problem::new(Code::Forbidden);
        match self {
            Self::WellFormed(origin) => problem.with_detail(format!(
                "Pages of {} may not do that unless AUTH_CORS__ORIGINS names this origin.",
                origin.as_str()
            )),
            Self::Opaque => problem.with_detail(
                "Pages of the origin null may not do that, and AUTH_CORS__ORIGINS cannot name it.",
            ),
            Self::Missing => problem.with_detail(
                "The request names no Origin that can be compared with this service's or AUTH_CORS__ORIGINS.",
            ),
            Self::Malformed => problem.with_detail(
                "The request has no well-formed Origin that can be compared with AUTH_CORS__ORIGINS.",
            ),
        }
    }
}

impl CrossOrigin {
    /// Pages of these origins may ask, and may send these headers beside the usual ones.
    pub(crate) fn new(origins: Vec<Origin>, headers: &[HeaderName]) -> Self {
        let more = headers.iter().map(HeaderName::as_str);
        let all = std::iter::once(REQUEST_HEADERS).chain(more).collect::<Vec<_>>().join(", ");
        // The name of a header is a value of one, so it is never the shorter list.
        let request_headers = HeaderValue::try_from(all);
        let request_headers = request_headers.unwrap_or(HeaderValue::from_static(REQUEST_HEADERS));
        Self { origins, request_headers }
    }

    /// What to say to a request.
    pub(crate) fn admission(&self, headers: &HeaderMap) -> Admission {
        if self.origins.is_empty() {
            return Admission::default();
        }
        let allowed = match SentOrigin::of(headers) {
            SentOrigin::WellFormed(origin) if self.origins.contains(&origin) => {
                HeaderValue::try_from(origin.0).ok()
            }
            _ => None,
        };
        Admission { varies: true, allowed }
    }

    /// The answer to a browser that asks beforehand, if it does: a refusal unless its page may ask.
    pub(crate) fn preflight(
        &self,
        admission: &Admission,
        request: &ServiceRequest,
    ) -> Option<Result<HttpResponse, SentOrigin>> {
        let headers = request.headers();
        let asks = request.method() == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if !asks {
            return None;
        }
        if admission.is_granted() {
            let mut answer = HttpResponse::NoContent();
            answer
                .insert_header((ACCESS_CONTROL_ALLOW_METHODS, METHODS))
                .insert_header((ACCESS_CONTROL_ALLOW_HEADERS, self.request_headers.clone()))
                .insert_header((ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS));
            return Some(Ok(answer.finish()));
        }
        match SentOrigin::of(headers) {
            // Without an origin it is no preflight.
            SentOrigin::Missing => None,
            sent => Some(Err(sent)),
        }
    }
}

impl Admission {
    /// Whether the page that asks may.
    pub(crate) fn is_granted(&self) -> bool {
        self.allowed.is_some()
    }

    /// Says it in the headers of an answer.
    pub(crate) fn write_into(&self, headers: &mut HeaderMap) {
        let set = |headers: &mut HeaderMap, name: HeaderName, value| {
            headers.insert(name, HeaderValue::from_static(value));
        };
        if self.varies {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        if let Some(origin) = &self.allowed {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            set(headers, ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
            set(headers, ACCESS_CONTROL_EXPOSE_HEADERS, RESPONSE_HEADERS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(texts: &[&str]) -> Vec<Origin> {
        texts.iter().map(|text| Origin::parse(text).unwrap()).collect()
    }

    fn answer(allowed: &[&str], sent: &[&'static str]) -> HeaderMap {
        let mut request = HeaderMap::new();
        for origin in sent {
            request.append(ORIGIN, HeaderValue::from_static(origin));
        }
        let mut answer = HeaderMap::new();
        CrossOrigin::new(origins(allowed), &[]).admission(&request).write_into(&mut answer);
        answer
    }

    #[test]
    fn an_origin_is_written_as_a_browser_writes_it() {
        for text in [
            "https://app.example",
            "http://localhost:3000",
            "https://app.example:8443",
            "http://127.0.0.1:5173",
            "http://[::1]:3000",
            "http://app.example:443",
            "tauri://localhost",
            "capacitor://localhost",
            "ionic://localhost",
            "app://obsidian.md",
            "chrome-extension://gighmmpiobklfepjocnamgkkbiglidom",
            "moz-extension://1b2f7f3e-6f0a-4f43-9d2a-6b0c3c1a5f11",
            "com.example.app://localhost:8080",
            "x-app+v1.2://host",
            "ws://app.example:8080",
        ] {
            assert_eq!(Origin::parse(text).unwrap().as_str(), text);
        }
        for text in [
            "",
            "*",
            "null",
            "app.example",
            "https://",
            "https://app.example/",
            "https://app.example/path",
            "https://app.example?x",
            "https://App.example",
            "HTTPS://app.example",
            "https://app.example:443",
            "http://app.example:80",
            "https://app.example:0443",
            "https://app.example:",
            "https://*.example",
            "https://ann@app.example",
            "file://",
            "file://localhost",
            "file:///",
            "tauri://",
            "tauri:localhost",
            "tauri://localhost/",
            "TAURI://localhost",
            "tauri://LocalHost",
            "tauri://localhost?x",
            "tauri://localhost#x",
            "tauri://ann@localhost",
            "tauri://*",
            "1app://localhost",
            "a_b://localhost",
            "ws://app.example:80",
            "ftp://app.example:21",
            "data:text/html,x",
            "blob:https://app.example",
            "about:blank",
            "javascript:alert(1)",
            "https://app.example,https://evil.example",
            "https://bücher.example",
        ] {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_listed_origin_is_named_and_no_other_is() {
        let allowed = ["https://app.example", "http://localhost:3000"];

        for origin in allowed {
            let headers = answer(&allowed, &[origin]);
            assert_eq!(headers.get(ACCESS_CONTROL_ALLOW_ORIGIN).unwrap(), origin);
            assert_eq!(headers.get(ACCESS_CONTROL_ALLOW_CREDENTIALS).unwrap(), "true");
        }
        for origins in [
            &["null"][..],
            &["*"],
            &["https://evil.example"],
            &["https://app.example.evil.example"],
            &["https://evil-app.example"],
            &["https://app.exampl"],
            &["http://app.example"],
            &["https://app.example:8443"],
            &["https://APP.example"],
            &["https://app.example", "https://app.example"],
            &[],
        ] {
            let headers = answer(&allowed, origins);
            assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), "{origins:?}");
            assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS), "{origins:?}");
            assert_eq!(headers.get(VARY).unwrap(), "Origin", "{origins:?}");
        }
    }

    #[test]
    fn where_no_origin_is_listed_nothing_is_said() {
        assert_eq!(answer(&[], &["https://app.example"]).len(), 0);
    }

    #[test]
    fn refusal_repeats_the_origin_only_if_it_is_well_formed() {
        let sent = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(ORIGIN, HeaderValue::from_static(value));
            }
            SentOrigin::of(&headers)
        };

        let named = sent(&["http://localhost:5173"]);
        assert!(named.forbidden().detail().contains(" http://localhost:5173 "));
        assert_eq!(named.as_str(), "http://localhost:5173");
        for (values, shown) in [
            (&[][..], "none"),
            (&["null"], "null"),
            (&["<script>"], "malformed"),
            (&["https://a.example/?token=hunter2"], "malformed"),
            (&["https://ann:hunter2@a.example"], "malformed"),
            (&["https://a.example", "https://b.example"], "malformed"),
        ] {
            let origin = sent(values);
            assert_eq!(origin.as_str(), shown);
            let detail = origin.forbidden().detail().to_owned();
            assert!(detail.contains("AUTH_CORS__ORIGINS") && !detail.contains("hunter2"), "{detail}");
        }
    }

    #[test]
    fn preflight_allows_tracing_headers_and_configured_ones() {
        let more = ["x-tenant".parse().unwrap(), "apollo-require-preflight".parse().unwrap()];
        let cross_origin = CrossOrigin::new(origins(&["https://app.example"]), &more);
        let request = actix_web::test::TestRequest::default()
            .method(Method::OPTIONS)
            .insert_header((ORIGIN, "https://app.example"))
            .insert_header((ACCESS_CONTROL_REQUEST_METHOD, "POST"))
            .to_srv_request();

        let admission = cross_origin.admission(request.headers());
        let answer = cross_origin.preflight(&admission, &request).unwrap().unwrap();

        let allowed = answer.headers().get(ACCESS_CONTROL_ALLOW_HEADERS).unwrap().to_str().unwrap();
        let allowed: Vec<_> = allowed.split(", ").map(str::to_ascii_lowercase).collect();
        for name in ["baggage", "sentry-trace", "x-requested-with", "tracestate", "pragma", "x-tenant"] {
            assert_eq!(allowed.iter().filter(|allowed| *allowed == name).count(), 1, "{name}");
        }
    }
}
