//! `POST /api/login`

use actix_web::HttpResponse;
use actix_web::web::Data;
use domain::{LoginName, Password, PasswordPolicy, Tokens};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Api;
use crate::extract::authentication::Sender;
use crate::extract::json_body::{Body, Field, Fields};
use crate::extract::refresh_token::Transport;
use crate::problem::Problem;

/// Who wants to be let in.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[garde(context(PasswordPolicy))]
pub(crate) struct LogIn {
    /// Any text. Blanks around it are ignored, and one that cannot be a name is simply wrong.
    #[serde(default)]
    #[garde(dive)]
    #[schema(value_type = String, required, example = "ann")]
    username: Field<LoginName>,
    /// Any text of at most 256 characters.
    #[serde(default)]
    #[garde(dive)]
    #[schema(value_type = String, required, format = Password, max_length = 256, example = "seven brown otters sing")]
    password: Field<Password>,
}

impl Fields for LogIn {}

/// What a login hands out.
#[derive(Serialize, ToSchema)]
#[schema(as = LoggedIn)]
pub(crate) struct LoggedInView<'a> {
    /// For people.
    #[schema(example = "Successfully logged in!")]
    message: &'static str,
    #[serde(flatten)]
    tokens: TokensView<'a>,
}

/// What a login hands out, and every refresh after it.
#[derive(Serialize, ToSchema)]
#[schema(as = Tokens)]
pub(crate) struct TokensView<'a> {
    /// The token to send as `Authorization: Bearer …`.
    access_token: &'a str,
    /// How to send it.
    #[schema(example = "bearer")]
    token_type: &'static str,
    /// For how many seconds the access token holds.
    #[schema(example = 900)]
    expires_in: u64,
    /// The token to exchange for the next ones, unless it is in the cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    /// For how many seconds the refresh token holds if nobody uses it.
    #[schema(example = 1_209_600)]
    refresh_expires_in: u64,
    /// The session that both tokens belong to.
    #[schema(format = "uuid", example = "0198c3a4-5b6c-7d8e-9f01-23456789abcd")]
    session_id: String,
}

/// Log in: open a session.
///
/// With the header `X-Session-Transport: cookie` the refresh token goes into a cookie that no script can read.
#[utoipa::path(
    post,
    path = "/api/login",
    operation_id = "log_in",
    tag = "account",
    request_body = LogIn,
    responses(
        (status = 200, description = "Logged in.", body = LoggedInView),
        (status = 400, description = "The body is not one JSON object."),
        (status = 401, description = "Unknown user, wrong password or disabled account: the answer is the same."),
        (status = 413, description = "The body is larger than 16 KiB."),
        (status = 415, description = "The body is not declared as JSON."),
        (status = 422, description = "A field is missing, unknown or too long; `errors` says which."),
        (status = 429, description = "Too many wrong passwords were tried; the answer is the same for a name that nobody \
         has."),
        (status = 503, description = "The store does not answer, or too many passwords are waiting."),
    ),
)]
pub(crate) async fn log_in(
    api: Data<Api>,
    Sender(origin): Sender,
    transport: Transport,
    Body(body): Body<LogIn>,
) -> Result<HttpResponse, Problem> {
    let LogIn { username, password } = body;
    let logged_in = api.auth.log_in(origin, username.into_parsed()?, password.into_parsed()?).await?;
    let mut answer = HttpResponse::Ok();
    let refresh_token = transport.hand_out(&mut answer, &api, &logged_in.tokens.refresh);
    let tokens = TokensView::new(&logged_in.tokens, refresh_token);
    Ok(answer.json(LoggedInView { message: "Successfully logged in!", tokens }))
}

impl<'a> TokensView<'a> {
    /// Without a refresh token if that goes elsewhere.
    pub(super) fn new(tokens: &'a Tokens, refresh_token: Option<&'a str>) -> Self {
        Self {
            access_token: &tokens.access.text,
            token_type: "bearer",
            expires_in: tokens.access.lifetime.as_secs(),
            refresh_token,
            refresh_expires_in: tokens.refresh.lifetime.as_secs(),
            session_id: tokens.session.to_string(),
        }
    }
}
