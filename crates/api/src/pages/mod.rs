//! Pages for people. Every asset is in the binary, no page asks another origin for anything, and each comes
//! with a Content-Security-Policy that holds it to that.

mod redoc;
mod swagger;

use std::fmt::Write;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use actix_web::web::{Bytes, Data, Path, ServiceConfig};

use crate::Api;
use crate::endpoint::get;
use crate::problem::{Code, Problem};

/// For pages of our own, which have one style sheet and no script.
const PLAIN: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; \
                     form-action 'none'; frame-ancestors 'none'";

/// For Swagger UI and ReDoc, which write styles into their elements and work in the background.
const DOCUMENTATION: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                             img-src 'self' data:; font-src 'self' data:; connect-src 'self'; \
                             worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(crate) fn configure(config: &mut ServiceConfig, docs: bool) {
    config
        .service(get("/", landing))
        .service(get("/problems/{code}", problem))
        .service(get("/style.css", style))
        .service(get("/icon.svg", icon));
    if docs {
        swagger::configure(config);
        redoc::configure(config);
    }
}

async fn landing(api: Data<Api>) -> HttpResponse {
    let links = if api.settings.docs {
        "<li><a href=\"/docs\">Try it out</a>, in Swagger UI</li>\n\
         <li><a href=\"/redoc\">Read about it</a>, in ReDoc</li>\n\
         <li><a href=\"/openapi.json\">The description</a> for programs, OpenAPI 3.1</li>\n"
    } else {
        ""
    };
    let mut problems = String::new();
    for code in Code::ALL {
        let (code, title) = (code.as_str(), code.title());
        let _ = writeln!(problems, "<li><a href=\"/problems/{code}\"><code>{code}</code></a> {title}</li>");
    }
    page(
        "Authentication API",
        &format!(
            "<p>Sign-up, login and tokens over plain JSON.</p>\n<ul>\n{links}\
             <li><a href=\"/health/ready\">Whether it is ready</a></li>\n</ul>\n\
             <h2>Errors</h2>\n<ul>\n{problems}</ul>\n"
        ),
    )
}

async fn problem(code: Path<String>) -> Result<HttpResponse, Problem> {
    let code = code.into_inner();
    let code = Code::ALL.into_iter().find(|known| known.as_str() == code);
    let code = code.ok_or(Problem::new(Code::NotFound))?;
    let status = code.status();
    Ok(page(
        code.title(),
        &format!(
            "<p><code>{}</code>, answered with status {} {}.</p>\n<h2>What to do</h2>\n<p>{}</p>\n\
             <p><a href=\"/\">All errors</a></p>\n",
            code.as_str(),
            status.as_u16(),
            status.canonical_reason().unwrap_or_default(),
            code.advice(),
        ),
    ))
}

/// A page of our own words around `content`, which must be HTML already.
fn page(title: &str, content: &str) -> HttpResponse {
    html(
        PLAIN,
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<link rel=\"icon\" href=\"/icon.svg\">\n\
             <link rel=\"stylesheet\" href=\"/style.css\">\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n\
             {content}</main>\n</body>\n</html>\n"
        ),
    )
}

fn html(policy: &'static str, html: impl Into<Bytes>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((CONTENT_SECURITY_POLICY, policy))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body(html.into())
}

fn asset(media_type: &str, bytes: impl Into<Bytes>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, media_type))
        .insert_header((CACHE_CONTROL, "public, max-age=3600"))
        .body(bytes.into())
}

async fn style() -> HttpResponse {
    asset("text/css; charset=utf-8", &include_bytes!("style.css")[..])
}

async fn icon() -> HttpResponse {
    asset("image/svg+xml", &include_bytes!("icon.svg")[..])
}
