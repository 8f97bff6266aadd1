//! `GET /.well-known/openid-configuration` and `GET /.well-known/oauth-authorization-server`
//!
//! Two names of one document, since libraries look under the one or the other: what a backend needs to verify tokens
//! when it knows nothing but the issuer. It does not make this service an OpenID provider, and says so as far as it
//! can be said: RFC 8414, section 2, wants at least one response type, although there is nothing to get one from.
//! `none` is the registered one that yields nothing. Of grant types there is none either, and that has to be said,
//! since a document that is silent is taken for one with an authorization endpoint. The token endpoint, which is
//! required then, is where tokens are exchanged, in this service's own JSON. What would be an empty list is left out
//! (section 3.2).

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use utoipa::ToSchema;

use crate::problem::Problem;
use crate::{Api, etag};

/// What programs can find out about this service (RFC 8414, section 2).
#[derive(Serialize, ToSchema)]
#[schema(as = Discovery)]
pub(crate) struct DiscoveryView {
    /// The `iss` of access tokens.
    #[schema(format = "uri", example = "http://localhost:8000")]
    issuer: String,
    /// Where the keys are.
    #[schema(format = "uri", example = "http://localhost:8000/.well-known/jwks.json")]
    jwks_uri: String,
    /// Where refresh tokens are exchanged, in JSON and by no grant type of OAuth.
    #[schema(format = "uri", example = "http://localhost:8000/api/refresh")]
    token_endpoint: String,
    /// There is no authorization endpoint, so nothing comes from it.
    response_types_supported: [&'static str; 1],
    /// No grant type of OAuth.
    grant_types_supported: [&'static str; 1],
    /// A user's `sub` is the same for everybody.
    subject_types_supported: [&'static str; 1],
    /// What access tokens are signed with; the first one is that of new tokens.
    #[schema(value_type = Vec<String>)]
    id_token_signing_alg_values_supported: Vec<&'static str>,
    /// Where backends that are configured ask about tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, format = "uri")]
    introspection_endpoint: Option<String>,
    /// How they show who they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = [&'static str], required = false)]
    introspection_endpoint_auth_methods_supported: Option<[&'static str; 1]>,
    /// Where they revoke tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, format = "uri")]
    revocation_endpoint: Option<String>,
    /// How they show who they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = [&'static str], required = false)]
    revocation_endpoint_auth_methods_supported: Option<[&'static str; 1]>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, format = "uri")]
    service_documentation: Option<String>,
}

/// Find out how to verify access tokens, as OpenID Connect Discovery names it.
#[utoipa::path(
    get,
    path = "/.well-known/openid-configuration",
    operation_id = "openid_configuration",
    tag = "verification",
    responses(
        (status = 200, description = "What there is to know.", body = DiscoveryView, headers(
            ("ETag" = String, description = "What to ask with in `If-None-Match`."),
        )),
        (status = 304, description = "It is what the client has."),
    ),
)]
pub(crate) async fn openid_configuration(
    api: Data<Api>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    etag::json(&request, &DiscoveryView::of(&api))
}

/// Find out how to verify access tokens, as RFC 8414 names it.
#[utoipa::path(
    get,
    path = "/.well-known/oauth-authorization-server",
    operation_id = "authorization_server",
    tag = "verification",
    responses(
        (status = 200, description = "What there is to know.", body = DiscoveryView, headers(
            ("ETag" = String, description = "What to ask with in `If-None-Match`."),
        )),
        (status = 304, description = "It is what the client has."),
    ),
)]
pub(crate) async fn authorization_server(
    api: Data<Api>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    etag::json(&request, &DiscoveryView::of(&api))
}

impl DiscoveryView {
    fn of(api: &Api) -> Self {
        let issuer = &api.settings.issuer;
        // For nobody else there is anything there.
        let for_clients = |path: &str| api.settings.clients.then(|| format!("{issuer}{path}"));
        let auth_methods = api.settings.clients.then_some(["client_secret_basic"]);
        Self {
            issuer: issuer.clone(),
            jwks_uri: format!("{issuer}/.well-known/jwks.json"),
            token_endpoint: format!("{issuer}/api/refresh"),
            response_types_supported: ["none"],
            grant_types_supported: ["none"],
            subject_types_supported: ["public"],
            id_token_signing_alg_values_supported: api.auth.public_keys().algorithms,
            introspection_endpoint: for_clients("/api/introspect"),
            introspection_endpoint_auth_methods_supported: auth_methods,
            revocation_endpoint: for_clients("/api/revoke"),
            revocation_endpoint_auth_methods_supported: auth_methods,
            service_documentation: api.settings.docs.then(|| format!("{issuer}/docs")),
        }
    }
}
