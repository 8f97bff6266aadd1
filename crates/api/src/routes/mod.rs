//! The endpoints, one file each. A handler translates and nothing else.

pub(crate) mod change_password;
mod change_password_page;
mod discovery;
mod health;
pub(crate) mod introspect;
pub(crate) mod jwks;
pub(crate) mod log_in;
pub(crate) mod log_out;
pub(crate) mod me;
pub(crate) mod refresh;
pub(crate) mod revoke;
pub(crate) mod sessions;
pub(crate) mod sign_up;

use actix_web::HttpResponse;
use actix_web::web::{self, ServiceConfig};
pub(crate) use discovery::{__path_authorization_server, __path_openid_configuration};
pub(crate) use health::{__path_live, __path_ready};

use crate::method_router::{delete, get, get_and_delete, get_patch_and_delete, post, put};
use crate::problem::{Code, Problem};
use crate::{Settings, docs_pages, openapi};

/// Every path there is, and what it answers to.
pub(crate) fn configure(config: &mut ServiceConfig, settings: &Settings) {
    config
        .service(post("/api/signup", sign_up::sign_up))
        .service(post("/api/login", log_in::log_in))
        .service(post("/api/refresh", refresh::refresh))
        .service(post("/api/logout", log_out::log_out))
        .service(get_and_delete("/api/sessions", sessions::list, sessions::end_others))
        .service(get_patch_and_delete("/api/me", me::me, me::rename, me::close))
        .service(put("/api/me/password", change_password::change_password))
        // Also where no backend is configured: none is known then, which is what they answer.
        .service(post("/api/introspect", introspect::introspect))
        .service(post("/api/revoke", revoke::revoke))
        .service(get("/.well-known/jwks.json", jwks::jwks))
        .service(get("/.well-known/openid-configuration", discovery::openid_configuration))
        .service(get("/.well-known/oauth-authorization-server", discovery::authorization_server))
        .service(get("/health/live", health::live))
        .service(get("/health/ready", health::ready))
        // Last: whatever comes after a path with a variable pays for a regular expression first.
        .service(delete("/api/sessions/{id}", sessions::end));
    let base = settings.base_path();
    // Where the issuer has a path, RFC 8414 (section 3.1) puts its own between the host and this one. A brace would make
    // a variable of it.
    if !base.is_empty() && !base.contains(['{', '}']) {
        let of_issuer = |path: &str| format!("{path}{base}");
        config
            .service(get(
                &of_issuer("/.well-known/oauth-authorization-server"),
                discovery::authorization_server,
            ))
            .service(get(&of_issuer("/.well-known/openid-configuration"), discovery::openid_configuration));
    }
    if settings.change_password_page.is_some() {
        config.service(get("/.well-known/change-password", change_password_page::redirect));
    }
    if settings.docs {
        config.configure(openapi::configure);
    }
    docs_pages::configure(config, settings);
    config.default_service(web::to(not_found));
}

async fn not_found() -> Result<HttpResponse, Problem> {
    Err(Problem::new(Code::NotFound))
}
