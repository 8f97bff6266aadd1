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

/// The most that Chromium takes; Firefox takes a day.
const PREFLIGHT_SECONDS: &str = "7200";

const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";

/// What a page may send beside what every page may.
const REQUEST_HEADERS: &str = "Authorization, Content-Type, X-Session-Transport, X-Request-Id, traceparent";

/// What a page may read beside what every page may.
const RESPONSE_HEADERS: &str =
    "Location, RateLimit, RateLimit-Policy, Refresh-Reuse, Retry-After, WWW-Authenticate, X-Request-Id";

/// Where pages come from: a scheme, a host and perhaps a port, as a browser writes them into the header `Origin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

/// What an answer has to say about the origin that asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Admission {
    /// Whether it could have been another answer for another origin.
    varies: bool,
    allowed: Option<HeaderValue>,
}

impl Origin {
    /// Takes `http://` or `https://` and a host, in lower case, and a port unless it is the scheme's own.
    pub fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
        let own_port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let has_own_port = authority.port_u16() == Some(own_port);
        // Nothing may stand there that a browser would not write: no path, no login, no capital, no leading zero.
        let canonical = format!("{scheme}://{}", canonical(authority)?);
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

impl Admission {
    /// What to say to a request, where pages of these origins may ask.
    pub(crate) fn of(origins: &[Origin], headers: &HeaderMap) -> Self {
        if origins.is_empty() {
            return Self::default();
        }
        let mut sent = headers.get_all(ORIGIN);
        let allowed = match (sent.next(), sent.next()) {
            (Some(only), None) => {
                let is_listed = origins.iter().any(|origin| origin.0.as_bytes() == only.as_bytes());
                is_listed.then(|| only.clone())
            }
            _ => None,
        };
        Self { varies: true, allowed }
    }

    /// Whether the page that asks may.
    pub(crate) fn is_granted(&self) -> bool {
        self.allowed.is_some()
    }

    /// The answer to a browser that asks beforehand, if its page may.
    pub(crate) fn preflight(&self, request: &ServiceRequest) -> Option<HttpResponse> {
        let asks = request.method() == Method::OPTIONS
            && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        (asks && self.is_granted()).then(|| {
            HttpResponse::NoContent()
                .insert_header((ACCESS_CONTROL_ALLOW_METHODS, METHODS))
                .insert_header((ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS))
                .insert_header((ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS))
                .finish()
        })
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
        Admission::of(&origins(allowed), &request).write_into(&mut answer);
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
            "ftp://app.example",
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
}
