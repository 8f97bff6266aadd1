//! The description of the surface (OpenAPI 3.1), made from the handlers themselves.

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::{Data, ServiceConfig};
use domain::ports::PortError;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Content, HeaderBuilder, ObjectBuilder, OpenApi as Document, Ref, RefOr, Required, ResponseBuilder,
    Schema, ServerBuilder, Type,
};
use utoipa::{Modify, OpenApi};

use crate::Api;
use crate::method_router::get;
use crate::problem::{FieldCode, FieldError, Problem, ProblemView};
use crate::routes;

/// The description, as JSON, of the service at `server`: the URL that clients know, or its path alone for whoever reads
/// it from the service itself. Fails only if the document cannot be written as JSON at all.
pub fn openapi_json(server: &str) -> serde_json::Result<String> {
    let mut document = Description::openapi();
    document.servers = Some(vec![ServerBuilder::new().url(server).build()]);
    document.to_pretty_json()
}

pub(crate) fn configure(config: &mut ServiceConfig) {
    config.service(get("/openapi.json", document));
}

async fn document(api: Data<Api>) -> Result<HttpResponse, Problem> {
    let base = api.settings.base_path();
    let json = openapi_json(if base.is_empty() { "/" } else { base })
        .map_err(|error| PortError::Failed(error.into()))?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/json"))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body(json))
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Authentication API",
        version = "1",
        description = "Sign-up, login and tokens over plain JSON. Every error is a problem document (RFC 9457) \
                       whose `type` is the address of a page that explains it.",
        license(name = "MIT", identifier = "MIT"),
    ),
    paths(
        routes::sign_up::sign_up,
        routes::log_in::log_in,
        routes::refresh::refresh,
        routes::log_out::log_out,
        routes::sessions::list,
        routes::sessions::end,
        routes::sessions::end_others,
        routes::me::me,
        routes::me::rename,
        routes::me::close,
        routes::change_password::change_password,
        routes::introspect::introspect,
        routes::revoke::revoke,
        routes::jwks::jwks,
        routes::openid_configuration,
        routes::authorization_server,
        routes::live,
        routes::ready,
    ),
    components(schemas(ProblemView, FieldError, FieldCode)),
    modifiers(&Credentials, &SessionTransport, &Forms, &Problems),
    tags(
        (name = "account", description = "Accounts and those who have them"),
        (name = "session", description = "Staying logged in, and logging out"),
        (name = "verification", description = "For backends that verify access tokens by themselves, or ask"),
        (name = "health", description = "For whoever runs this service"),
    ),
)]
struct Description;

/// What *Authorize* in Swagger UI asks for.
struct Credentials;

impl Modify for Credentials {
    fn modify(&self, document: &mut Document) {
        let access_token = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .description(Some("The `access_token` that a login answers."))
            .build();
        let backend = HttpBuilder::new()
            .scheme(HttpAuthScheme::Basic)
            .description(Some(
                "The id and the secret of a backend that whoever runs this service has configured, each encoded as \
                 in a form (RFC 6749, section 2.3.1).",
            ))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("access_token", SecurityScheme::Http(access_token));
        components.add_security_scheme("backend", SecurityScheme::Http(backend));
        let cookie = ApiKeyValue::with_description(
            "__Host-auth_refresh",
            "The refresh token of a browser, which no script can read: set by a login with the header \
             `X-Session-Transport: cookie`. It counts only together with that header and from this service's own \
             origin. In development, where nothing speaks TLS, its name is `auth_refresh`.",
        );
        components.add_security_scheme("refresh_cookie", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    }
}

/// The header by which a browser has its refresh token kept in a cookie, at every endpoint that looks at it.
struct SessionTransport;

impl SessionTransport {
    const OPERATIONS: [&str; 5] = ["log_in", "refresh", "log_out", "change_password", "close_account"];
}

impl Modify for SessionTransport {
    fn modify(&self, document: &mut Document) {
        let is_one = |operation: &&mut Operation| {
            operation.operation_id.as_deref().is_some_and(|id| Self::OPERATIONS.contains(&id))
        };
        for operation in operations(document).filter(is_one) {
            let parameter = ParameterBuilder::new()
                .name("X-Session-Transport")
                .parameter_in(ParameterIn::Header)
                .required(Required::False)
                .description(Some("Has the refresh token kept in a cookie, and not in the bodies."))
                .schema(Some(ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["cookie"]))))
                .build();
            operation.parameters.get_or_insert_default().push(parameter.into());
        }
    }
}

/// What else may stand in a form is text, each name of it once.
struct Forms;

impl Modify for Forms {
    fn modify(&self, document: &mut Document) {
        let schemas = document.components.iter_mut().flat_map(|components| &mut components.schemas);
        for (name, schema) in schemas {
            if let (true, RefOr::T(Schema::Object(form))) = (name == "TokenForm", schema) {
                let text = ObjectBuilder::new().schema_type(Type::String).build();
                form.additional_properties = Some(Box::new(RefOr::T(Schema::Object(text)).into()));
            }
        }
    }
}

fn operations(document: &mut Document) -> impl Iterator<Item = &mut Operation> {
    let paths = document.paths.paths.values_mut();
    paths
        .flat_map(|path| [&mut path.get, &mut path.post, &mut path.put, &mut path.patch, &mut path.delete])
        .flatten()
}

/// Whether this is for supervisors, whose requests are not counted.
fn is_about_health(operation: &Operation) -> bool {
    operation.tags.iter().flatten().any(|tag| tag == "health")
}

/// What every error answers, so that a route tells only when it does.
struct Problems;

impl Modify for Problems {
    fn modify(&self, document: &mut Document) {
        for operation in operations(document).filter(|operation| !is_about_health(operation)) {
            let limited = ResponseBuilder::new().description("There were too many requests.");
            let limited = || RefOr::T(limited.build());
            operation.responses.responses.entry("429".to_owned()).or_insert_with(limited);
        }
        for (status, response) in
            operations(document).flat_map(|operation| &mut operation.responses.responses)
        {
            let RefOr::T(response) = response else { continue };
            if !status.starts_with(['4', '5']) {
                continue;
            }
            let problem = Content::new(Some(Ref::from_schema_name("Problem")));
            response.content.insert("application/problem+json".to_owned(), RefOr::T(problem));
            let (name, kind, description) = match status.as_str() {
                "401" => (
                    "WWW-Authenticate",
                    Type::String,
                    "`Bearer`, and what is wrong with a token that was sent; `Basic` where a backend is asked for.",
                ),
                "429" | "503" => ("Retry-After", Type::Integer, "Seconds after which to try again."),
                _ => continue,
            };
            let header = HeaderBuilder::new()
                .schema(Some(ObjectBuilder::new().schema_type(kind)))
                .description(Some(description))
                .build();
            response.headers.insert(name.to_owned(), RefOr::T(header));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_openapi_3_1_and_names_every_endpoint() {
        let document: serde_json::Value =
            serde_json::from_str(&openapi_json("https://auth.example").unwrap()).unwrap();

        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let paths: Vec<_> = document["paths"].as_object().unwrap().keys().collect();
        let expected = [
            "/.well-known/jwks.json",
            "/.well-known/oauth-authorization-server",
            "/.well-known/openid-configuration",
            "/api/introspect",
            "/api/login",
            "/api/logout",
            "/api/me",
            "/api/me/password",
            "/api/refresh",
            "/api/revoke",
            "/api/sessions",
            "/api/sessions/{id}",
            "/api/signup",
            "/health/live",
            "/health/ready",
        ];
        assert_eq!(paths, expected);
        let schemes = &document["components"]["securitySchemes"];
        assert_eq!(schemes["access_token"]["scheme"], "bearer");
        assert_eq!(schemes["backend"]["scheme"], "basic");
        let cookie = serde_json::json!(["apiKey", "cookie", "__Host-auth_refresh"]);
        let told = &schemes["refresh_cookie"];
        assert_eq!(serde_json::json!([told["type"], told["in"], told["name"]]), cookie);
        for (method, path) in [
            ("post", "login"),
            ("post", "refresh"),
            ("post", "logout"),
            ("put", "me/password"),
            ("delete", "me"),
        ] {
            let parameter = &document["paths"][format!("/api/{path}")][method]["parameters"][0];
            let told = serde_json::json!([parameter["name"], parameter["in"], parameter["required"]]);
            assert_eq!(told, serde_json::json!(["X-Session-Transport", "header", false]), "{path}");
        }
        let forms = &document["paths"]["/api/introspect"]["post"]["requestBody"]["content"];
        assert_eq!(
            forms.as_object().unwrap().keys().collect::<Vec<_>>(),
            ["application/x-www-form-urlencoded"]
        );
        let form = &document["components"]["schemas"]["TokenForm"];
        assert_eq!(form["required"], serde_json::json!(["token"]));
        assert_eq!(form["additionalProperties"], serde_json::json!({ "type": "string" }));
        assert_eq!(document["components"]["schemas"]["SignUp"]["additionalProperties"], false);
    }
}
