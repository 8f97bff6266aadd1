//! `GET /health/live` and `GET /health/ready`

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde::Serialize;
use utoipa::ToSchema;

use crate::Api;
use crate::problem::Problem;

/// How the service is.
#[derive(Serialize, ToSchema)]
#[schema(as = Health)]
pub(crate) struct HealthView {
    /// `live` or `ready`.
    #[schema(example = "ready")]
    status: &'static str,
}

/// Tell whether the process runs. Never touches the database.
#[utoipa::path(
    get,
    path = "/health/live",
    operation_id = "live",
    tag = "health",
    responses((status = 200, description = "It runs.", body = HealthView)),
)]
pub(crate) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(HealthView { status: "live" })
}

/// Tell whether a sign-up or a login would be served now.
#[utoipa::path(
    get,
    path = "/health/ready",
    operation_id = "ready",
    tag = "health",
    responses(
        (status = 200, description = "They would.", body = HealthView),
        (status = 503, description = "The store cannot be read from or written to."),
    ),
)]
pub(crate) async fn ready(api: Data<Api>) -> Result<HttpResponse, Problem> {
    api.auth.check_readiness().await?;
    Ok(HttpResponse::Ok().json(HealthView { status: "ready" }))
}
