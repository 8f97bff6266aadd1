//! `POST /api/revoke`

use actix_web::HttpResponse;
use actix_web::web::Data;

use crate::Api;
use crate::extract::authentication::{Backend, Sender};
use crate::extract::token_form::TokenForm;
use crate::problem::Problem;

/// Revoke a token: end the session that it belongs to.
///
/// For backends that an operator configured. Every token of the session is refused at once, whichever of them was
/// sent: an access token that holds, or a refresh token of any age.
#[utoipa::path(
    post,
    path = "/api/revoke",
    operation_id = "revoke",
    tag = "verification",
    security(("backend" = [])),
    request_body(content = TokenForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "The session is over, or was before, or there never was such a token: the \
         answer is the same."),
        (status = 400, description = "There is more than one header `Authorization`, or the form has no token, or a \
         parameter twice."),
        (status = 401, description = "The backend shows no secret, or a wrong one."),
        (status = 413, description = "The body is larger than 16 KiB."),
        (status = 415, description = "The body is not declared as a form."),
        (status = 503, description = "The store does not answer."),
    ),
)]
pub(crate) async fn revoke(
    api: Data<Api>,
    Sender(origin): Sender,
    Backend(client): Backend,
    form: TokenForm,
) -> Result<HttpResponse, Problem> {
    api.auth.revoke(&client, origin, &form.token).await?;
    Ok(HttpResponse::Ok().finish())
}
