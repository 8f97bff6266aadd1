//! `GET /api/sessions`, `DELETE /api/sessions/{id}` and `DELETE /api/sessions?except=current`

use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use domain::ports::Ending;
use domain::{AuthenticatedUser, Session, SessionId};
use serde::Serialize;
use utoipa::ToSchema;

use super::me::rfc3339;
use crate::Api;
use crate::extract::authentication::{Caller, Sender};
use crate::problem::{Code, FieldCode, FieldError, Problem};

/// The sessions of a user, as they see them.
#[derive(Serialize, ToSchema)]
#[schema(as = Sessions)]
pub(crate) struct SessionsView {
    /// Those that are live, the newest first.
    sessions: Vec<SessionView>,
}

/// A session, as its user sees it.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
pub(crate) struct SessionView {
    /// Its identifier; the claim `sid` of its access tokens.
    #[schema(format = "uuid", example = "0198c3a4-5b6c-7d8e-9f01-23456789abcd")]
    id: String,
    /// When its user logged in.
    #[schema(format = DateTime, example = "2026-11-22T10:00:00.123456Z")]
    created_at: String,
    /// When it was last refreshed, or the login.
    #[schema(format = DateTime, example = "2026-11-22T10:00:00.123456Z")]
    last_used_at: String,
    /// When it ends unless it is refreshed.
    #[schema(format = DateTime, example = "2026-11-22T10:00:00.123456Z")]
    expires_at: String,
    /// From where its user logged in.
    #[schema(example = "192.0.2.7")]
    address: Option<String>,
    /// With what, as it said itself.
    user_agent: Option<String>,
    /// Whether it is the one that asks.
    current: bool,
}

/// List one's sessions.
#[utoipa::path(
    get,
    path = "/api/sessions",
    operation_id = "list_sessions",
    tag = "session",
    security(("access_token" = [])),
    responses(
        (status = 200, description = "The live ones, the newest first.", body = SessionsView),
        (status = 400, description = "There is more than one header `Authorization`."),
        (status = 401, description = "There is no token, or it is not valid, or has expired, or its session is over."),
        (status = 503, description = "The store does not answer."),
    ),
)]
pub(crate) async fn list(api: Data<Api>, Caller(holder): Caller) -> Result<HttpResponse, Problem> {
    let sessions = api.auth.list_sessions(&holder).await?;
    let sessions = sessions.into_iter().map(|session| SessionView::of(session, &holder)).collect();
    Ok(HttpResponse::Ok().json(SessionsView { sessions }))
}

/// End one of one's sessions.
#[utoipa::path(
    delete,
    path = "/api/sessions/{id}",
    operation_id = "end_session",
    tag = "session",
    security(("access_token" = [])),
    params(("id" = String, Path, description = "Its identifier, as the list has it.")),
    responses(
        (status = 204, description = "It is over."),
        (status = 400, description = "There is more than one header `Authorization`."),
        (status = 401, description = "There is no token, or it is not valid, or has expired, or its session is over."),
        (status = 404, description = "The caller has no such live session."),
        (status = 503, description = "The store does not answer."),
    ),
)]
pub(crate) async fn end(
    api: Data<Api>,
    Sender(origin): Sender,
    Caller(holder): Caller,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let id = SessionId::parse(&id).ok_or(Problem::new(Code::NotFound))?;
    match api.auth.end_session(origin, &holder, id).await? {
        Ending::Done => Ok(HttpResponse::NoContent().finish()),
        Ending::Unknown => Err(Problem::new(Code::NotFound)),
    }
}

/// End one's other sessions.
#[utoipa::path(
    delete,
    path = "/api/sessions",
    operation_id = "end_other_sessions",
    tag = "session",
    security(("access_token" = [])),
    params(("except" = String, Query, description = "`current`: the session that asks goes on.", pattern = "^current$")),
    responses(
        (status = 204, description = "They are over."),
        (status = 400, description = "There is more than one header `Authorization`."),
        (status = 401, description = "There is no token, or it is not valid, or has expired, or its session is over."),
        (status = 422, description = "The query is not `except=current`."),
        (status = 503, description = "The store does not answer."),
    ),
)]
pub(crate) async fn end_others(
    api: Data<Api>,
    Sender(origin): Sender,
    Caller(holder): Caller,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    // Spelt out, so that nobody who forgets half of an address ends everything.
    let wrong = match request.query_string() {
        "except=current" => None,
        "" => Some(FieldCode::Required),
        _ => Some(FieldCode::Invalid),
    };
    if let Some(code) = wrong {
        return Err(Problem::validation(vec![FieldError::new("except", code)]));
    }
    api.auth.end_other_sessions(origin, &holder).await?;
    Ok(HttpResponse::NoContent().finish())
}

impl SessionView {
    fn of(session: Session, holder: &AuthenticatedUser) -> Self {
        Self {
            id: session.id.to_string(),
            created_at: rfc3339(session.created_at),
            last_used_at: rfc3339(session.last_used_at),
            expires_at: rfc3339(session.expires_at),
            address: session.address.map(|address| address.to_string()),
            user_agent: session.user_agent.map(|user_agent| user_agent.as_str().to_owned()),
            current: session.id == holder.session,
        }
    }
}
