//! How a refresh token travels: in the body, or for browsers in a cookie that no script can read.
//!
//! A cookie comes with whatever request some other page makes, so it counts only with a header that no other page
//! can send without asking first, and from a page of our own origin or of one that the operator named. A browser that
//! says `Sec-Fetch-Site: same-origin` has compared origins itself, and no script can write that header, so it counts
//! whatever a proxy made of `Host`. Older browsers are told by `Origin`, which is compared with the issuer and `Host`.

use std::future::Ready;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use actix_web::{FromRequest, HttpRequest, HttpResponseBuilder};
use domain::{PasswordPolicy, RefreshToken};
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::extract::json_body::{Body, Field, Fields};
use crate::middleware::cors::{Origin, SentOrigin};
use crate::problem::{Code, Problem};
use crate::{Api, session_cookie};

/// The header that asks for the cookie, by the value `cookie`.
pub(crate) const SESSION_TRANSPORT: HeaderName = HeaderName::from_static("x-session-transport");

/// The header in which a browser says which site the page belongs to (Fetch Metadata Request Headers, section 2.3).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What is said where a cookie came along and the header did not.
const COOKIE_WITHOUT_HEADER: &str =
    "The session cookie counts only with the header X-Session-Transport: cookie.";

/// How the refresh tokens of one request and its answer travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Body,
    Cookie,
}

/// The refresh token that came with a request.
pub(crate) struct RefreshSecret {
    pub(crate) token: Zeroizing<String>,
    /// Whether there were other cookies of its name.
    pub(crate) has_rivals: bool,
}

/// A body with a refresh token.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[garde(context(PasswordPolicy))]
pub(crate) struct Refresh {
    /// The `refresh_token` of the login, or of the last refresh.
    #[serde(default)]
    #[garde(dive)]
    #[schema(value_type = String, required)]
    refresh_token: Field<Zeroizing<String>>,
}

impl Fields for Refresh {}

impl Transport {
    fn asked_for(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut values = headers.get_all(SESSION_TRANSPORT).map(HeaderValue::as_bytes);
        match (values.next(), values.next()) {
            (None, _) => Ok(Self::Body),
            (Some(b"cookie"), None) => Ok(Self::Cookie),
            _ => Err(Problem::new(Code::MalformedRequest)),
        }
    }

    /// The token for the body of an answer, unless it goes into a cookie, which is the only one of ours then.
    pub(crate) fn hand_out<'a>(
        self,
        answer: &mut HttpResponseBuilder,
        api: &Api,
        token: &'a RefreshToken,
    ) -> Option<&'a str> {
        match self {
            Self::Body => Some(&token.text),
            Self::Cookie => {
                session_cookie::set(answer, api, token);
                session_cookie::remove_others(answer, api);
                None
            }
        }
    }

    /// The same of a token that takes the place of another one. Nothing else is taken away unless there were rivals.
    pub(crate) fn replace<'a>(
        self,
        has_rivals: bool,
        answer: &mut HttpResponseBuilder,
        api: &Api,
        token: &'a RefreshToken,
    ) -> Option<&'a str> {
        if self == Self::Body || has_rivals {
            return self.hand_out(answer, api, token);
        }
        session_cookie::set(answer, api, token);
        None
    }

    /// Takes the cookie away, if that is how tokens travel.
    pub(crate) fn clear(self, answer: &mut HttpResponseBuilder, api: &Api) {
        if self == Self::Cookie {
            session_cookie::remove(answer, api);
            session_cookie::remove_others(answer, api);
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
                let request = request.clone();
                Box::pin(async move { from_cookie(request.headers(), Api::of(&request)?).await })
            }
            Ok(Transport::Body) => {
                let body = Body::<Refresh>::from_request(request, payload);
                let request = request.clone();
                Box::pin(async move {
                    let body = body.await.map_err(|problem| name_missing_header(&request, problem))?;
                    Ok(Self { token: body.0.refresh_token.into_parsed()?, has_rivals: false })
                })
            }
        }
    }
}

/// Names the header to whoever sent a cookie without it.
pub(crate) fn name_missing_header(request: &HttpRequest, problem: Problem) -> Problem {
    if session_cookie::is_sent(request.headers()) {
        problem.with_detail(COOKIE_WITHOUT_HEADER)
    } else {
        problem
    }
}

async fn from_cookie(headers: &HeaderMap, api: &Api) -> Result<RefreshSecret, Problem> {
    check_page(headers, api)?;
    let values = session_cookie::values(headers, api);
    let has_rivals = values.len() > 1;
    let token = api.auth.choose_refresh_token(values).await?;
    token.map(|token| RefreshSecret { token, has_rivals }).ok_or(Problem::new(Code::InvalidRefreshToken))
}

/// Refuses the cookie to pages that it is not for, and tells the operator what was compared.
fn check_page(headers: &HeaderMap, api: &Api) -> Result<(), Problem> {
    let issuer = &api.settings.issuer;
    let sent = SentOrigin::of(headers);
    let is_own = match &sent {
        SentOrigin::WellFormed(origin) => is_own_origin(origin, headers, issuer),
        SentOrigin::Missing | SentOrigin::Opaque | SentOrigin::Malformed => false,
    };
    if is_own || is_same_origin(headers) || api.live.current().admits(headers) {
        return Ok(());
    }
    let origin = sent.as_str();
    if api.live.refused_origins.has_line(origin) {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        tracing::warn!(
            origin,
            host,
            issuer,
            setting = "AUTH_CORS__ORIGINS",
            "refused the session cookie: the page's origin is neither the issuer's, nor that of the host, nor in the \
             setting"
        );
    }
    Err(sent.forbidden())
}

/// Whether the browser says that the page is of the origin that it asks.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all(&SEC_FETCH_SITE).map(HeaderValue::as_bytes);
    matches!((sites.next(), sites.next()), (Some(b"same-origin"), None))
}

/// Whether this is the issuer's origin, or that of the host that is asked, over the issuer's scheme.
fn is_own_origin(origin: &Origin, headers: &HeaderMap, issuer: &str) -> bool {
    let Some((scheme, rest)) = issuer.split_once("://") else { return false };
    let own = |host: &str| {
        let parts = origin.as_str().split_once("://");
        parts.is_some_and(|(of, at)| of == scheme && at.eq_ignore_ascii_case(host))
    };
    let issuer_host = rest.split('/').next().unwrap_or_default();
    // An empty one is the name of no origin.
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).filter(|host| !host.is_empty());
    own(issuer_host) || host.is_some_and(own)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::ORIGIN;

    use super::*;

    fn is_own(issuer: &str, origin: &[&'static str], host: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static(host));
        for origin in origin {
            headers.append(ORIGIN, HeaderValue::from_static(origin));
        }
        match SentOrigin::of(&headers) {
            SentOrigin::WellFormed(origin) => is_own_origin(&origin, &headers, issuer),
            _ => false,
        }
    }

    #[test]
    fn only_the_value_same_origin_counts() {
        let is_same = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(SEC_FETCH_SITE, HeaderValue::from_static(value));
            }
            is_same_origin(&headers)
        };

        assert!(is_same(&["same-origin"]));
        for values in [
            &[][..],
            &["same-site"],
            &["cross-site"],
            &["none"],
            &[""],
            &["Same-Origin"],
            &["same-origin, cross-site"],
            &["same-origin", "cross-site"],
            &["same-origin", "same-origin"],
        ] {
            assert!(!is_same(values), "{values:?}");
        }
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
