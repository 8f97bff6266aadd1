//! Who sends a request: the attempt's origin for everybody, the user for those with a token.

use std::future::{Future, Ready, ready};
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header::{AUTHORIZATION, HeaderMap, USER_AGENT};
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use domain::{Holder, Origin, UserAgent};

use crate::edge::RequestId;
use crate::problem::{Code, Problem};
use crate::{Api, client_address};

/// Where a request comes from, as the use cases are told.
pub(crate) struct Sender(pub(crate) Origin);

/// The user whose access token came with the request, and the session it belongs to.
pub(crate) struct Caller(pub(crate) Holder);

impl FromRequest for Sender {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self(origin(request))))
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let token = bearer_token(request.headers())?;
            Ok(Self(Api::of(&request)?.auth.whoami(origin(&request), token).await?))
        })
    }
}

fn origin(request: &HttpRequest) -> Origin {
    let request_id = request.extensions().get::<RequestId>().map(|RequestId(id)| id.clone());
    let user_agent = request.headers().get(USER_AGENT);
    Origin::Request {
        address: client_address::of(request),
        request_id: request_id.unwrap_or_default(),
        user_agent: user_agent
            .and_then(|value| UserAgent::from_header(&String::from_utf8_lossy(value.as_bytes()))),
    }
}

/// The token after `Bearer`, in any case (RFC 9110, section 11.1). Two headers are none: a proxy may have
/// looked at the other one.
pub(crate) fn bearer_token(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut values = headers.get_all(AUTHORIZATION);
    let value = values.next().ok_or(Problem::new(Code::MissingToken))?;
    if values.next().is_some() {
        return Err(Problem::new(Code::MalformedRequest));
    }
    let value = value.as_bytes();
    let (scheme, token) = value.split_at(value.iter().position(|byte| *byte == b' ').unwrap_or(value.len()));
    let token = token.trim_ascii();
    if !scheme.eq_ignore_ascii_case(b"bearer") || token.is_empty() {
        return Err(Problem::new(Code::MissingToken));
    }
    std::str::from_utf8(token).map_err(|_| Problem::new(Code::InvalidToken))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn token(values: &[&'static str]) -> Result<String, Code> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        bearer_token(&headers).map(str::to_owned).map_err(|problem| problem.code())
    }

    #[test]
    fn the_scheme_is_read_in_any_case() {
        for value in ["Bearer a.b.c", "bearer a.b.c", "BEARER a.b.c", "Bearer  a.b.c"] {
            assert_eq!(token(&[value]), Ok("a.b.c".to_owned()), "{value}");
        }
    }

    #[test]
    fn no_token_is_told_from_a_bad_one_and_from_two() {
        assert_eq!(token(&[]), Err(Code::MissingToken));
        for value in ["", "Bearer", "Bearer ", "Basic YTpi", "Basic \u{e9}", "Bearera.b.c"] {
            assert_eq!(token(&[value]), Err(Code::MissingToken), "{value}");
        }
        assert_eq!(token(&["Bearer \u{e9}"]), Ok("\u{e9}".to_owned()));
        assert_eq!(token(&["Bearer a.b.c", "Bearer a.b.c"]), Err(Code::MalformedRequest));
    }
}
