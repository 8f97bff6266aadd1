//! `POST /api/refresh`

use actix_web::HttpResponse;
use actix_web::http::header::HeaderName;
use actix_web::web::Data;
use domain::ports::Reuse;

use super::log_in::TokensView;
use crate::Api;
use crate::extract::authentication::Sender;
use crate::extract::refresh_token::{Refresh, RefreshSecret, Transport};
use crate::problem::Problem;

/// Tells a client's developer that a refresh token was shown which had been exchanged before.
const REFRESH_REUSE: HeaderName = HeaderName::from_static("refresh-reuse");

/// Exchange a refresh token for the next tokens.
///
/// Keep the answer's refresh token in place of the one that was sent. Several tabs may share one: whoever comes
/// late gets the same refresh token as whoever was first, and so does a client that never got its answer. A token
/// that is shown again long after it was exchanged has been stolen, as far as anybody can tell, and ends the session.
///
/// With the header `X-Session-Transport: cookie` the token comes and goes in the cookie, without a body, and only from
/// a page of this service's own origin.
#[utoipa::path(
    post,
    path = "/api/refresh",
    operation_id = "refresh",
    tag = "session",
    security((), ("refresh_cookie" = [])),
    request_body = Refresh,
    responses(
        (status = 200, description = "The next tokens.", body = TokensView, headers(
            ("Refresh-Reuse" = Option<String>, description = "Set if the token had been exchanged before: \
             `concurrent` for a tab that came late, `recovered` for an answer that was lost."),
        )),
        (status = 400, description = "The body is not one JSON object."),
        (status = 401, description = "The token is unknown, forged, expired or misused, or its session is over: \
         the answer is the same."),
        (status = 403, description = "The cookie was to be used, and the page that asks is of another origin, or of \
         none that is told."),
        (status = 413, description = "The body is larger than 16 KiB."),
        (status = 415, description = "The body is not declared as JSON."),
        (status = 422, description = "A field is missing or unknown; `errors` says which."),
        (status = 503, description = "The store does not answer."),
    ),
)]
pub(crate) async fn refresh(
    api: Data<Api>,
    Sender(origin): Sender,
    transport: Transport,
    RefreshSecret { token, has_rivals }: RefreshSecret,
) -> Result<HttpResponse, Problem> {
    let refreshed = api.auth.refresh(origin, token).await?;
    let mut answer = HttpResponse::Ok();
    if let Some(reuse) = refreshed.reuse {
        answer.insert_header((REFRESH_REUSE, word(reuse)));
    }
    let refresh_token = transport.replace(has_rivals, &mut answer, &api, &refreshed.tokens.refresh);
    Ok(answer.json(TokensView::new(&refreshed.tokens, refresh_token)))
}

fn word(reuse: Reuse) -> &'static str {
    match reuse {
        Reuse::Concurrent => "concurrent",
        Reuse::Recovered => "recovered",
    }
}
