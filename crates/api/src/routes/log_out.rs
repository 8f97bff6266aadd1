//! `POST /api/logout`

use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE};
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest, HttpResponse};
use domain::LogoutCredential;
use zeroize::Zeroizing;

use crate::Api;
use crate::extract::authentication::{Sender, bearer_token};
use crate::extract::json_body::has_body;
use crate::extract::refresh_token::{RefreshSecret, SESSION_TRANSPORT, Transport, name_missing_header};
use crate::middleware::rate_limit::Tab;
use crate::problem::{Code, Problem};

/// What whoever logs out shows: the cookie's refresh token, an access token, or else a refresh token.
pub(crate) struct Shown(LogoutCredential);

/// Log out: end this session.
///
/// Send the header `X-Session-Transport: cookie`, by which the cookie is used and taken away, or the access token, or
/// without either a body `{"refresh_token":"…"}`.
#[utoipa::path(
    post,
    path = "/api/logout",
    operation_id = "log_out",
    tag = "session",
    security(("access_token" = []), ("refresh_cookie" = [])),
    responses(
        (status = 204, description = "The session is over, or was before."),
        (status = 400, description = "There is more than one header `Authorization`, or the body is not one JSON \
         object."),
        (status = 401, description = "There is no token, or the access token is not valid, or has expired."),
        (status = 403, description = "The cookie was to be used, and the page that asks is of another origin."),
        (status = 413, description = "The body is larger than 16 KiB."),
        (status = 415, description = "There is a body, and it is not declared as JSON."),
        (status = 422, description = "A field is missing or unknown; `errors` says which."),
        (status = 503, description = "The store does not answer."),
    ),
)]
pub(crate) async fn log_out(
    api: Data<Api>,
    Sender(origin): Sender,
    transport: Transport,
    Shown(farewell): Shown,
) -> Result<HttpResponse, Problem> {
    api.auth.log_out(origin, farewell).await?;
    let mut answer = HttpResponse::NoContent();
    transport.clear(&mut answer, &api);
    Ok(answer.finish())
}

impl FromRequest for Shown {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let headers = request.headers();
        // Whatever is shown, and before it ends anything: also a token whose session is over can be shown again and again.
        if let Some(Err(problem)) = Tab::of(request).map(|tab| tab.charge_stranger()) {
            return Box::pin(async { Err(problem) });
        }
        // Whoever asks for the cookie to be taken away wants its session to end, though there is another token too.
        let has_transport = headers.contains_key(SESSION_TRANSPORT);
        if headers.contains_key(AUTHORIZATION) && !has_transport {
            let token = bearer_token(headers).map(|token| token.to_owned().into());
            return Box::pin(async { Ok(Self(LogoutCredential::AccessToken(token?))) });
        }
        if !headers.contains_key(CONTENT_TYPE) && !has_transport && !has_body(headers) {
            let problem = name_missing_header(request, Problem::new(Code::MissingToken));
            return Box::pin(async { Err(problem) });
        }
        let secret = RefreshSecret::from_request(request, payload);
        Box::pin(async {
            match secret.await {
                Ok(RefreshSecret { token, .. }) => Ok(Self(LogoutCredential::RefreshToken(token))),
                // A browser without the cookie has logged out before.
                Err(problem) if problem.code() == Code::InvalidRefreshToken => {
                    Ok(Self(LogoutCredential::RefreshToken(Zeroizing::default())))
                }
                Err(problem) => Err(problem),
            }
        })
    }
}
