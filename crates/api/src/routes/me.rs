//! `GET`, `PATCH` and `DELETE /api/me`

use actix_web::HttpResponse;
use actix_web::web::Data;
use domain::{Password, PasswordPolicy, User, Username};
use garde::Validate;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Api;
use crate::extract::authentication::{Caller, Sender};
use crate::extract::json_body::{Body, Field, Fields};
use crate::extract::refresh_token::Transport;
use crate::problem::Problem;

/// A user, as they see themselves.
#[derive(Serialize, ToSchema)]
#[schema(as = User)]
pub(crate) struct UserView<'a> {
    /// The name, as it was typed.
    #[schema(example = "ann")]
    username: &'a str,
    /// The number, given once and never again; the claim `sub` of the user's tokens.
    #[schema(example = 1)]
    id: i64,
    /// When the account was made.
    #[schema(format = DateTime, example = "2026-11-22T10:00:00.123456Z")]
    created_at: String,
    /// When its name, password or standing last changed.
    #[schema(format = DateTime, example = "2026-11-22T10:00:00.123456Z")]
    updated_at: String,
}

/// Who wants another name.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[garde(context(PasswordPolicy))]
pub(crate) struct Rename {
    /// By the rules of a sign-up; it may be another spelling of the name that one has.
    #[serde(default)]
    #[garde(dive)]
    #[schema(value_type = String, required, format = "username", min_length = 3, max_length = 254, example = "mia")]
    username: Field<Username>,
    /// The password of the account.
    #[serde(default)]
    #[garde(dive)]
    #[schema(value_type = String, required, format = Password, max_length = 256, example = "seven brown otters sing")]
    password: Field<Password>,
}

impl Fields for Rename {}

/// Who wants to leave.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[garde(context(PasswordPolicy))]
pub(crate) struct CloseAccount {
    /// The password of the account.
    #[serde(default)]
    #[garde(dive)]
    #[schema(value_type = String, required, format = Password, max_length = 256, example = "seven brown otters sing")]
    password: Field<Password>,
}

impl Fields for CloseAccount {}

/// Read about oneself.
#[utoipa::path(
    get,
    path = "/api/me",
    operation_id = "me",
    tag = "account",
    security(("access_token" = [])),
    responses(
        (status = 200, description = "The user whose token it is.", body = UserView),
        (status = 400, description = "There is more than one header `Authorization`."),
        (status = 401, description = "There is no token, or it is not valid, or has expired, or its session is over."),
        (status = 503, description = "The store does not answer."),
    ),
)]
pub(crate) async fn me(Caller(holder): Caller) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(UserView::from(&holder.user)))
}

/// Take another name.
///
/// The old one is free at once. The number stays, and so do sessions and tokens; an access token tells the new name
/// from the next refresh on. An account has ten changes an hour, and a name that is taken uses one up.
#[utoipa::path(
    patch,
    path = "/api/me",
    operation_id = "rename",
    tag = "account",
    security(("access_token" = [])),
    request_body = Rename,
    responses(
        (status = 200, description = "The user by the new name.", body = UserView),
        (status = 400, description = "There is more than one header `Authorization`, or the body is not one JSON \
         object."),
        (status = 401, description = "There is no token, or it is not valid, or has expired, or its session is over."),
        (status = 403, description = "The password is wrong, or was changed meanwhile. Nothing is done."),
        (status = 409, description = "Another account has that name, in this spelling or another; `errors` names the \
         field."),
        (status = 413, description = "The body is larger than 16 KiB."),
        (status = 415, description = "The body is not declared as JSON."),
        (status = 422, description = "A field is missing, unknown or breaks a rule; `errors` says which."),
        (status = 429, description = "The account has no change left for now, or too many wrong passwords were tried. \
         Nothing is done."),
        (status = 503, description = "The store does not answer, or too many passwords are waiting."),
    ),
)]
pub(crate) async fn rename(
    api: Data<Api>,
    Sender(origin): Sender,
    Caller(holder): Caller,
    Body(body): Body<Rename>,
) -> Result<HttpResponse, Problem> {
    let Rename { username, password } = body;
    let user =
        api.auth.change_username(origin, &holder, username.into_parsed()?, password.into_parsed()?).await?;
    Ok(HttpResponse::Ok().json(UserView::from(&user)))
}

/// Delete one's account and everything of it.
///
/// The name is free at once, and the number is never given again. With the header `X-Session-Transport: cookie` the
/// cookie is taken away.
#[utoipa::path(
    delete,
    path = "/api/me",
    operation_id = "close_account",
    tag = "account",
    security(("access_token" = [])),
    request_body = CloseAccount,
    responses(
        (status = 204, description = "The account is gone."),
        (status = 400, description = "There is more than one header `Authorization`, or the body is not one JSON \
         object."),
        (status = 401, description = "There is no token, or it is not valid, or has expired, or its session is over."),
        (status = 403, description = "The password is wrong, or was changed meanwhile. Nothing is done."),
        (status = 413, description = "The body is larger than 16 KiB."),
        (status = 415, description = "The body is not declared as JSON."),
        (status = 422, description = "A field is missing, unknown or too long; `errors` says which."),
        (status = 429, description = "Too many wrong passwords were tried. Nothing is done."),
        (status = 503, description = "The store does not answer, or too many passwords are waiting."),
    ),
)]
pub(crate) async fn close(
    api: Data<Api>,
    Sender(origin): Sender,
    Caller(holder): Caller,
    transport: Transport,
    Body(body): Body<CloseAccount>,
) -> Result<HttpResponse, Problem> {
    api.auth.delete_account(origin, &holder, body.password.into_parsed()?).await?;
    let mut answer = HttpResponse::NoContent();
    transport.clear(&mut answer, &api);
    Ok(answer.finish())
}

impl<'a> From<&'a User> for UserView<'a> {
    fn from(user: &'a User) -> Self {
        let User { id, name, created_at, updated_at } = user;
        Self {
            username: name.as_typed(),
            id: id.0,
            created_at: rfc3339(*created_at),
            updated_at: rfc3339(*updated_at),
        }
    }
}

/// UTC with a `Z` and always six digits (RFC 3339, section 5.6).
pub(super) fn rfc3339(time: Timestamp) -> String {
    format!("{time:.6}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_six_digits_and_a_z() {
        assert_eq!(rfc3339("2026-11-22T10:00:00Z".parse().unwrap()), "2026-11-22T10:00:00.000000Z");
        assert_eq!(rfc3339("2026-11-22T10:00:00.12Z".parse().unwrap()), "2026-11-22T10:00:00.120000Z");
    }
}
