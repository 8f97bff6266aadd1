//! `GET /api/me`

use actix_web::HttpResponse;
use domain::User;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::caller::Caller;
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
