//! `PUT /api/me/password`

use actix_web::HttpResponse;
use actix_web::web::Data;
use domain::{Password, PasswordPolicy};
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;

use super::log_in::TokensView;
use crate::Api;
use crate::extract::authentication::{Caller, Sender};
use crate::extract::json_body::{Body, Choice, ChosenPassword, Field, Fields};
use crate::extract::refresh_token::Transport;
use crate::problem::Problem;

/// Who wants another password.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[garde(context(PasswordPolicy))]
pub(crate) struct ChangePassword {
    /// The password that opens the account now.
    #[serde(default)]
    #[garde(dive)]
    #[schema(value_type = String, required, format = Password, max_length = 256, example = "seven brown otters sing")]
    current_password: Field<Password>,
    /// The one that is to, by the rules of a sign-up.
    #[serde(default)]
    #[garde(dive)]
    #[schema(value_type = String, required, format = Password, min_length = 8, max_length = 256, example = "eight grey herons wade")]
    new_password: Field<ChosenPassword>,
}

impl Fields for ChangePassword {
    fn choice(&self) -> Option<Choice> {
        let ChosenPassword(password) = self.new_password.parsed()?.clone();
        Some(Choice { field: "new_password", password, username: None })
    }
}

/// Change one's password: end every session and open a new one.
///
/// The tokens that the request was made with are good no more; go on with those of the answer. With the header
/// `X-Session-Transport: cookie` the refresh token goes into a cookie that no script can read.
#[utoipa::path(
    put,
    path = "/api/me/password",
    operation_id = "change_password",
    tag = "account",
    security(("access_token" = [])),
    request_body = ChangePassword,
    responses(
        (status = 200, description = "Changed. These are the tokens of a new session.", body = TokensView),
        (status = 400, description = "There is more than one header `Authorization`, or the body is not one JSON \
         object."),
        (status = 401, description = "There is no token, or it is not valid, or has expired, or its session is over."),
        (status = 403, description = "The current password is wrong, or was changed meanwhile. Nothing is done."),
        (status = 413, description = "The body is larger than 16 KiB."),
        (status = 415, description = "The body is not declared as JSON."),
        (status = 422, description = "A field is missing, unknown or breaks a rule; `errors` says which."),
        (status = 429, description = "Too many wrong passwords were tried. Nothing is done."),
        (status = 503, description = "The store does not answer, or too many passwords are waiting."),
    ),
)]
pub(crate) async fn change_password(
    api: Data<Api>,
    Sender(origin): Sender,
    Caller(holder): Caller,
    transport: Transport,
    Body(body): Body<ChangePassword>,
) -> Result<HttpResponse, Problem> {
    let (current, ChosenPassword(new)) =
        (body.current_password.into_parsed()?, body.new_password.into_parsed()?);
    let changed = api.auth.change_password(origin, &holder, current, new).await?;
    let mut answer = HttpResponse::Ok();
    let refresh_token = transport.hand_out(&mut answer, &api, &changed.tokens.refresh);
    Ok(answer.json(TokensView::new(&changed.tokens, refresh_token)))
}
