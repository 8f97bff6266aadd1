//! How a refresh token travels: in the body, or for browsers in a cookie that no script can read.
//!
//! A cookie comes with whatever request some other page makes, so it counts only with a header that no other page
//! can send without asking first, and from our own origin or one that the operator named. Which our own is, the issuer
//! and the request's own Host say.

use std::future::Ready;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header::{COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, SET_COOKIE};
use actix_web::{FromRequest, HttpRequest, HttpResponseBuilder};
use domain::RefreshToken;
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::body::{Body, Field};
use crate::problem::{Code, Problem};
use crate::{Api, Encryption};

/// The header that asks for the cookie, by the value `cookie`.
pub(crate) const SESSION_TRANSPORT: HeaderName = HeaderName::from_static("x-session-transport");

/// How the refresh tokens of one request and its answer travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Body,
    Cookie,
}

/// The refresh token that came with a request.
pub(crate) struct RefreshSecret(pub(crate) Zeroizing<String>);

/// A body with a refresh token.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refresh {
    /// The `refresh_token` of the login, or of the last refresh.
    #[serde(default)]
    #[garde(dive)]
    #[schema(value_type = String, required)]
    refresh_token: Field<Zeroizing<String>>,
}

impl Transport {
    fn asked_for(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut values = headers.get_all(SESSION_TRANSPORT).map(HeaderValue::as_bytes);
        match (values.next(), values.next()) {
            (None, _) => Ok(Self::Body),
            (Some(b"cookie"), None) => Ok(Self::Cookie),
            _ => Err(Problem::new(Code::MalformedRequest)),
        }
    }

    /// The token for the body of the answer, unless it goes into a cookie, which is set then.
    pub(crate) fn hand_out<'a>(
        self,
        answer: &mut HttpResponseBuilder,
        api: &Api,
        token: &'a RefreshToken,
    ) -> Option<&'a str> {
        match self {
            Self::Body => Some(&token.text),
            Self::Cookie => {
                answer.insert_header((SET_COOKIE, cookie(api, &token.text, token.lifetime.as_secs())));
                None
            }
        }
    }

    /// Takes the cookie away, if that is how tokens travel.
    pub(crate) fn clear(self, answer: &mut HttpResponseBuilder, api: &Api) {
        if self == Self::Cookie {
            answer.insert_header((SET_COOKIE, cookie(api, "", 0)));
        }
    }
}

impl FromRequest for Transport {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(Self::asked_for(request.headers()))
    }
}

impl FromRequest for RefreshSecret {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        match Transport::asked_for(request.headers()) {
            Err(problem) => Box::pin(async { Err(problem) }),
            Ok(Transport::Cookie) => {
                let secret = Api::of(request).and_then(|api| from_cookie(request.headers(), api));
                Box::pin(async { secret.map(Self) })
            }
            Ok(Transport::Body) => {
                let body = Body::<Refresh>::from_request(request, payload);
                Box::pin(async { Ok(Self(body.await?.0.refresh_token.into_parsed()?)) })
            }
        }
    }
}

fn from_cookie(headers: &HeaderMap, api: &Api) -> Result<Zeroizing<String>, Problem> {
    if !is_own_origin(headers, &api.settings.issuer) && !api.live.current().admits(headers) {
        return Err(Problem::new(Code::Forbidden));
    }
    let secret = cookie_named(cookie_name(api), headers);
    secret.map(|secret| secret.to_owned().into()).ok_or(Problem::new(Code::InvalidRefreshToken))
}

/// The value of the only cookie of this name. Browsers send all of a host's cookies in one line, and what is in the
/// others is nothing that we could ask for anything.
fn cookie_named<'a>(name: &str, headers: &'a HeaderMap) -> Option<&'a str> {
    let pairs = headers.get_all(COOKIE).flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let mut values =
        pairs.filter_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    match (values.next(), values.next()) {
        (Some(only), None) => str::from_utf8(only).ok(),
        // Of two, one is not ours.
        _ => None,
    }
}

/// Whether the page that asks is the issuer's, or was served by the host that it asks, over the issuer's scheme.
fn is_own_origin(headers: &HeaderMap, issuer: &str) -> bool {
    let mut origins = headers.get_all(ORIGIN).filter_map(|origin| origin.to_str().ok());
    let (Some(origin), None) = (origins.next(), origins.next()) else { return false };
    let Some((scheme, rest)) = issuer.split_once("://") else { return false };
    let own = |host: &str| {
        origin.split_once("://").is_some_and(|(of, at)| of == scheme && at.eq_ignore_ascii_case(host))
    };
    let issuer_host = rest.split('/').next().unwrap_or_default();
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    own(issuer_host) || host.is_some_and(own)
}

/// The prefix has browsers refuse it from anywhere but this host over TLS (RFC 6265bis, section 4.1.3.2). Without
/// TLS, as in development, there is no such thing.
fn cookie_name(api: &Api) -> &'static str {
    if is_for_tls(api) { "__Host-auth_refresh" } else { "auth_refresh" }
}

fn cookie(api: &Api, value: &str, seconds: u64) -> String {
    let secure = if is_for_tls(api) { " Secure;" } else { "" };
    format!("{}={value}; Path=/; Max-Age={seconds}; HttpOnly;{secure} SameSite=Strict", cookie_name(api))
}

fn is_for_tls(api: &Api) -> bool {
    api.settings.encryption != Encryption::None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_own(issuer: &str, origin: &[&'static str], host: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static(host));
        for origin in origin {
            headers.append(ORIGIN, HeaderValue::from_static(origin));
        }
        is_own_origin(&headers, issuer)
    }

    #[test]
    fn the_issuers_origin_and_the_hosts_own_are_ours_and_no_other_is() {
        let issuer = "https://auth.example/base";

        assert!(is_own(issuer, &["https://auth.example"], "internal:8000"));
        assert!(is_own(issuer, &["https://app.example"], "app.example"));
        assert!(is_own("http://localhost:8000", &["http://127.0.0.1:8000"], "127.0.0.1:8000"));
        for origin in [
            "https://auth.example.evil",
            "https://evil.example",
            "https://evil.auth.example",
            "https://auth.example:444",
            "http://auth.example",
            "https://auth.example/",
            "https://auth.example@evil",
            "null",
            "",
            "https://",
        ] {
            assert!(!is_own(issuer, &[origin], "auth.example"), "{origin}");
        }
        assert!(!is_own(issuer, &[], "auth.example"));
        assert!(!is_own(issuer, &["https://auth.example", "https://auth.example"], "auth.example"));
    }

    #[test]
    fn a_cookie_is_found_beside_whatever_others_there_are_and_two_are_none() {
        let found = |lines: &[&'static [u8]]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(COOKIE, HeaderValue::from_bytes(line).unwrap());
            }
            cookie_named("ours", &headers).map(str::to_owned)
        };

        for lines in [
            &[&b"ours=a.b-c_"[..]][..],
            &[b"theirs=1; ours=a.b-c_;x"],
            &["theirs=\u{e9}; ours=a.b-c_".as_bytes()],
            &[b"theirs=\xff", b"oursx=2;ours=a.b-c_"],
        ] {
            assert_eq!(found(lines), Some("a.b-c_".to_owned()), "{lines:?}");
        }
        for lines in [
            &[][..],
            &[&b"xours=1"[..]],
            &[b"ours"],
            &[b"ours=1; ours=1"],
            &[b"ours=1", b"ours=2"],
            &[b"ours=\xff"],
        ] {
            assert_eq!(found(lines), None, "{lines:?}");
        }
    }

    #[test]
    fn one_value_asks_for_the_cookie_and_any_other_is_a_mistake() {
        let asked_for = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(SESSION_TRANSPORT, HeaderValue::from_static(value));
            }
            Transport::asked_for(&headers).map_err(|problem| problem.code())
        };

        assert_eq!(asked_for(&[]), Ok(Transport::Body));
        assert_eq!(asked_for(&["cookie"]), Ok(Transport::Cookie));
        for values in [&["body"][..], &["Cookie"], &[""], &["cookie", "cookie"]] {
            assert_eq!(asked_for(values), Err(Code::MalformedRequest), "{values:?}");
        }
    }
}
