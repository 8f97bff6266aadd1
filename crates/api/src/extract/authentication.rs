//! Who sends a request: the attempt's origin for everybody, the user for those with a token, the backend for those
//! that an operator gave a secret.

use std::future::{Future, Ready, ready};
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header::{AUTHORIZATION, HeaderMap, USER_AGENT};
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::{AuthenticatedUser, Client, ClientCredentials, ClientKey, Origin, UserAgent};
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use crate::middleware::rate_limit::Tab;
use crate::middleware::request_scope::RequestId;
use crate::problem::{Code, Problem};
use crate::{Api, client_address};

/// Where a request comes from, as the use cases are told.
pub(crate) struct Sender(pub(crate) Origin);

/// The user whose access token came with the request, and the session it belongs to.
pub(crate) struct Caller(pub(crate) AuthenticatedUser);

/// The backend whose identifier and secret came with the request.
pub(crate) struct Backend(pub(crate) Client);

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
            let auth = &Api::of(&request)?.auth;
            let shown = auth.read_token(origin(&request), token)?;
            // Before the store is asked, which it is each time for a session that is over.
            if let Some(tab) = Tab::of(&request) {
                tab.charge_session(shown.session())?;
            }
            let holder = auth.authenticate(origin(&request), shown).await?;
            // After the store was asked: a token whose session is over must not use up what its owner has.
            if !request.method().is_safe()
                && let Some(tab) = Tab::of(&request)
            {
                tab.charge_account(holder.user.id)?;
            }
            Ok(Self(holder))
        })
    }
}

impl FromRequest for Backend {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    /// Ready before the body is looked at, of which a stranger learns nothing.
    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let recognise = || {
            let credentials = basic_credentials(request.headers())?;
            let client = Api::of(request)?.auth.authenticate_client(origin(request), &credentials)?;
            if let Some(tab) = Tab::of(request) {
                tab.waive();
            }
            Ok(Self(client))
        };
        ready(recognise())
    }
}

/// Where a request comes from.
pub(crate) fn origin(request: &HttpRequest) -> Origin {
    let request_id = request.extensions().get::<RequestId>().map(|RequestId(id)| id.clone());
    let user_agent = request.headers().get(USER_AGENT);
    Origin::Request {
        address: client_address::of(request),
        request_id: request_id.unwrap_or_default(),
        user_agent: user_agent
            .and_then(|value| UserAgent::from_header(&String::from_utf8_lossy(value.as_bytes()))),
    }
}

/// The token after `Bearer`.
pub(crate) fn bearer_token(headers: &HeaderMap) -> Result<&str, Problem> {
    let missing = || Problem::new(Code::MissingToken);
    let token =
        only_authorization(headers, "Bearer")?.filter(|token| !token.is_empty()).ok_or_else(missing)?;
    std::str::from_utf8(token).map_err(|_| Problem::new(Code::InvalidToken))
}

/// The identifier and the secret after `Basic`, as they came and as what they stand for where they are encoded as in a
/// form. RFC 6749, section 2.3.1, asks for that encoding, and curl and most libraries leave it out.
fn basic_credentials(headers: &HeaderMap) -> Result<ClientCredentials, Problem> {
    let decode = |encoded| {
        let pair = Zeroizing::new(STANDARD.decode(encoded).ok()?);
        let (id, secret) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
        let plain = ClientKey { id: id.to_owned(), secret: Zeroizing::new(secret.to_owned()) };
        let form_decoded = decoded(id).zip(decoded(secret));
        let form_decoded = form_decoded.map(|(id, secret)| ClientKey { id: id.to_string(), secret });
        Some(ClientCredentials { form_decoded: form_decoded.unwrap_or_else(|| plain.clone()), plain })
    };
    only_authorization(headers, "Basic")?.and_then(decode).ok_or(Problem::new(Code::InvalidClient))
}

/// What one part of a form stands for, if it is UTF-8.
fn decoded(part: &str) -> Option<Zeroizing<String>> {
    let spaced = Zeroizing::new(part.replace('+', " "));
    let text = percent_decode_str(&spaced).decode_utf8().ok()?;
    Some(Zeroizing::new(text.into_owned()))
}

/// What follows the scheme in the header `Authorization`, if it is of this scheme, in any case (RFC 9110, section
/// 11.1). Two headers are none: a proxy may have looked at the other one.
fn only_authorization<'a>(headers: &'a HeaderMap, scheme: &str) -> Result<Option<&'a [u8]>, Problem> {
    let mut values = headers.get_all(AUTHORIZATION);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::new(Code::MalformedRequest));
    }
    let value = value.as_bytes();
    let (said, rest) = value.split_at(value.iter().position(|byte| *byte == b' ').unwrap_or(value.len()));
    Ok(said.eq_ignore_ascii_case(scheme.as_bytes()).then(|| rest.trim_ascii()))
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

    fn credentials(values: &[&str]) -> Result<[(String, String); 2], Code> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        basic_credentials(&headers)
            .map(|ClientCredentials { plain, form_decoded }| {
                [plain, form_decoded].map(|ClientKey { id, secret }| (id, secret.to_string()))
            })
            .map_err(|problem| problem.code())
    }

    #[test]
    fn basic_pair_is_read_as_it_came_and_as_a_form() {
        let pair = |id: &str, secret: &str| (id.to_owned(), secret.to_owned());
        let basic = |text: &str| credentials(&[&format!("Basic {}", STANDARD.encode(text))]);
        let both = |text: &str, id: &str, secret: &str| {
            let (plain_id, plain_secret) = text.split_once(':').unwrap();
            assert_eq!(basic(text), Ok([pair(plain_id, plain_secret), pair(id, secret)]), "{text}");
        };

        both("shop:its-secret", "shop", "its-secret");
        both("a+b%3Ac:%2B%20%c3%a9:+", "a b:c", "+ \u{e9}: ");
        both("shop:Jx3+9f/=%2", "shop", "Jx3 9f/=%2");
        both("shop:50%&a:b", "shop", "50%&a:b");
        // What no form stands for is left as it came.
        both("shop:%ff", "shop", "%ff");
        both(":", "", "");
        // RFC 7617, section 2, with another spelling of the scheme.
        let aladdin = "bAsIc  QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
        assert_eq!(credentials(&[aladdin]).unwrap()[0], pair("Aladdin", "open sesame"));
    }

    #[test]
    fn whatever_is_no_pair_is_one_refusal() {
        for value in [
            "",
            "Basic",
            "Basic ",
            "Basic c2hvcA==",
            "Basic c2hvcDp4=",
            "Basic c2hvcDp4\u{e9}",
            "Basic shop:x",
            "Basic c2hvcDr/",
            "Bearer c2hvcDp4",
            "Basicc2hvcDp4",
        ] {
            assert_eq!(credentials(&[value]), Err(Code::InvalidClient), "{value}");
        }
        assert!(credentials(&["Basic c2hvcDp4"]).is_ok(), "or the others would prove nothing");
        assert_eq!(credentials(&[]), Err(Code::InvalidClient));
        assert_eq!(credentials(&["Basic c2hvcDp4", "Basic c2hvcDp4"]), Err(Code::MalformedRequest));
    }
}
