//! `POST /api/introspect`

use actix_web::HttpResponse;
use actix_web::web::Data;
use domain::Introspected;
use serde::Serialize;
use utoipa::ToSchema;

use crate::Api;
use crate::extract::authentication::Backend;
use crate::extract::token_form::TokenForm;
use crate::problem::Problem;

/// What a token is good for (RFC 7662, section 2.2). Of one that is good for nothing `active` is all that is said.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = Introspection)]
pub(crate) struct IntrospectionView<'a> {
    /// Whether it is good for anything.
    active: bool,
    /// Through which client an access token was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, example = "auth-api")]
    client_id: Option<&'a str>,
    /// The name that its user has now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, example = "ann")]
    username: Option<&'a str>,
    /// How an access token is sent. A refresh token is not sent to anybody but this service, and has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, example = "bearer")]
    token_type: Option<&'static str>,
    /// Until when it holds unless its session ends before, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = i64, required = false, example = 1_790_000_900)]
    exp: Option<i64>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = i64, required = false, example = 1_790_000_000)]
    iat: Option<i64>,
    /// The number of its user, which is never given again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, example = "1")]
    sub: Option<String>,
    /// For whom an access token is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, example = "auth-api")]
    aud: Option<&'a str>,
    /// Who issued an access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, format = "uri", example = "http://localhost:8000")]
    iss: Option<&'a str>,
    /// An access token's own identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, example = "1.q83vEjRWeJCrze8SNFZ4kA")]
    jti: Option<&'a str>,
    /// The session that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, format = "uuid", example = "0198c3a4-5b6c-7d8e-9f01-23456789abcd")]
    sid: Option<String>,
}

/// Ask what a token is good for now.
///
/// For backends that an operator configured. An access token is active as long as this service itself would take it:
/// not when its session has ended, its user was disabled or it has expired. Refresh tokens are for this service
/// alone, so the newest one of a session is active only where `token_type_hint` is `refresh_token`.
#[utoipa::path(
    post,
    path = "/api/introspect",
    operation_id = "introspect",
    tag = "verification",
    security(("backend" = [])),
    request_body(content = TokenForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "What it is good for. Of a token that is good for nothing any more, or never \
         was, only that.", body = IntrospectionView),
        (status = 400, description = "There is more than one header `Authorization`, or the form has no token, or a \
         parameter twice."),
        (status = 401, description = "The backend shows no secret, or a wrong one."),
        (status = 413, description = "The body is larger than 16 KiB."),
        (status = 415, description = "The body is not declared as a form."),
        (status = 503, description = "The store does not answer."),
    ),
)]
pub(crate) async fn introspect(
    api: Data<Api>,
    Backend(client): Backend,
    form: TokenForm,
) -> Result<HttpResponse, Problem> {
    let introspected = api.auth.introspect(&client, form.asked_about(), &form.token).await?;
    Ok(HttpResponse::Ok().json(IntrospectionView::from(introspected.as_ref())))
}

impl<'a> From<Option<&'a Introspected>> for IntrospectionView<'a> {
    fn from(introspected: Option<&'a Introspected>) -> Self {
        match introspected {
            None => Self::default(),
            Some(Introspected::Access { user, claims }) => Self {
                active: true,
                client_id: Some(&claims.client_id),
                username: Some(user.name.as_typed()),
                token_type: Some("bearer"),
                exp: Some(claims.expires_at.as_second()),
                iat: Some(claims.issued_at.as_second()),
                sub: Some(user.id.to_string()),
                aud: claims.audience.as_deref(),
                iss: Some(&claims.issuer),
                jti: Some(&claims.id),
                sid: Some(claims.bearer.session.to_string()),
            },
            Some(Introspected::Refresh { user, session, issued_at, expires_at }) => Self {
                active: true,
                username: Some(user.name.as_typed()),
                exp: Some(expires_at.as_second()),
                iat: Some(issued_at.as_second()),
                sub: Some(user.id.to_string()),
                sid: Some(session.to_string()),
                ..Self::default()
            },
        }
    }
}
