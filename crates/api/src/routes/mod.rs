//! The endpoints, one file each. A handler translates and nothing else.

mod health;
pub(crate) mod log_in;
pub(crate) mod me;
pub(crate) mod sign_up;

use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpResponse, Resource};
pub(crate) use health::{__path_live, __path_ready};

use crate::problem::{Code, Problem};
use crate::{Settings, openapi, pages};

/// Every path there is, and what it answers to.
pub(crate) fn configure(config: &mut ServiceConfig, settings: &Settings) {
    config
        .service(post("/api/signup").route(web::post().to(sign_up::sign_up)))
        .service(post("/api/login").route(web::post().to(log_in::log_in)))
        .service(get("/api/me").route(web::get().to(me::me)).route(web::head().to(me::me)))
        .service(get("/health/live").route(web::get().to(health::live)).route(web::head().to(health::live)))
        .service(
            get("/health/ready").route(web::get().to(health::ready)).route(web::head().to(health::ready)),
        );
    if settings.docs {
        config.configure(openapi::configure);
    }
    pages::configure(config, settings.docs);
    config.default_service(web::to(not_found));
}

fn post(path: &str) -> Resource {
    web::resource(path).default_service(web::to(async || only("POST")))
}

/// A path to read from. `HEAD` is `GET` without the body, which the framework leaves away.
pub(crate) fn get(path: &str) -> Resource {
    web::resource(path).default_service(web::to(async || only("GET, HEAD")))
}

fn only(allow: &'static str) -> Result<HttpResponse, Problem> {
    Err(Problem::method_not_allowed(allow))
}

async fn not_found() -> Result<HttpResponse, Problem> {
    Err(Problem::new(Code::NotFound))
}
