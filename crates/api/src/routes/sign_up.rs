//! `POST /api/signup`

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;
use actix_web::web::Data;
use domain::{PasswordPolicy, Username};
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;

use super::me::UserView;
use crate::Api;
use crate::extract::authentication::Sender;
use crate::extract::json_body::{Body, Choice, ChosenPassword, Field, Fields};
use crate::problem::Problem;

/// Who wants an account.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[garde(context(PasswordPolicy))]
pub(crate) struct SignUp {
    /// 3 to 64 letters and digits of one script, and `@ . _ - +`; or an e-mail address of at most 254 characters. Case
    /// and width do not matter.
    #[serde(default)]
    #[garde(dive)]
    #[schema(value_type = String, required, format = "username", min_length = 3, max_length = 254, example = "ann")]
    username: Field<Username>,
    /// At least 8 characters unless the operator asks for more, hard to guess, without NUL.
    #[serde(default)]
    #[garde(dive)]
    #[schema(value_type = String, required, format = Password, min_length = 8, max_length = 256, example = "seven brown otters sing")]
    password: Field<ChosenPassword>,
}

impl Fields for SignUp {
    fn choice(&self) -> Option<Choice> {
        let ChosenPassword(password) = self.password.parsed()?.clone();
        Some(Choice { field: "password", password, username: self.username.parsed().cloned() })
    }
}

/// Make an account.
#[utoipa::path(
    post,
    path = "/api/signup",
    operation_id = "sign_up",
    tag = "account",
    request_body = SignUp,
    responses(
        (status = 201, description = "The account exists.", body = UserView, headers(
            ("Location" = String, description = "Where the user reads about themselves."),
        )),
        (status = 400, description = "The body is not one JSON object."),
        (status = 403, description = "Only operators make accounts here."),
        (status = 409, description = "The name is taken, in this spelling or another; `errors` names the field."),
        (status = 413, description = "The body is larger than 16 KiB."),
        (status = 415, description = "The body is not declared as JSON."),
        (status = 422, description = "A field is missing, unknown or breaks a rule; `errors` says which."),
        (status = 503, description = "The store does not answer, or too many passwords are waiting."),
    ),
)]
pub(crate) async fn sign_up(
    api: Data<Api>,
    Sender(origin): Sender,
    Body(body): Body<SignUp>,
) -> Result<HttpResponse, Problem> {
    let SignUp { username, password } = body;
    let (username, ChosenPassword(password)) = (username.into_parsed()?, password.into_parsed()?);
    let user = api.auth.sign_up(origin, username, password).await?;
    let location = format!("{}/api/me", api.settings.base_path());
    Ok(HttpResponse::Created().insert_header((LOCATION, location)).json(UserView::from(&user)))
}
