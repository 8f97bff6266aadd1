//! Pages for people. Every asset is in the binary, no page asks another origin for anything, and each comes
//! with a Content-Security-Policy that holds it to that.

mod redoc;
mod swagger;

use std::fmt::Write;

use actix_web::HttpResponse;
use actix_web::body::BoxBody;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use actix_web::web::{Bytes, Data, Path, ServiceConfig};

use crate::method_router::get;
use crate::problem::{Code, Problem};
use crate::{Api, Settings};

const HTML: &str = "text/html; charset=utf-8";

/// For pages of our own, which have one style sheet and no script.
const PLAIN: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; \
                     form-action 'none'; frame-ancestors 'none'";

/// For Swagger UI and ReDoc, which write styles into their elements and work in the background.
const DOCUMENTATION: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                             img-src 'self' data:; font-src 'self' data:; connect-src 'self'; \
                             worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A path of this service, under which a page finds it: below the path of the issuer, which a proxy takes off.
fn at(base: &str, path: &str) -> String {
    escaped(&format!("{base}{path}"))
}

pub(crate) fn configure(config: &mut ServiceConfig, settings: &Settings) {
    config
        .service(get("/", landing))
        .service(get("/problems", problems))
        .service(get("/problems/{code}", problem))
        .service(get("/style.css", style))
        .service(get("/icon.svg", icon));
    if settings.docs {
        swagger::configure(config);
        redoc::configure(config);
    }
}

async fn landing(api: Data<Api>) -> HttpResponse {
    let base = api.settings.base_path();
    let mut links = String::new();
    let docs: &[(&str, &str, &str)] = &[
        ("/docs", "Try it out", ", in Swagger UI"),
        ("/redoc", "Read about it", ", in ReDoc"),
        ("/openapi.json", "The description", " for programs, OpenAPI 3.1"),
    ];
    let docs = if api.settings.docs { docs } else { &[] };
    for (path, name, more) in docs.iter().chain(&[("/health/ready", "Whether it is ready", "")]) {
        let _ = writeln!(links, "<li><a href=\"{}\">{name}</a>{more}</li>", at(base, path));
    }
    page(
        base,
        "Authentication API",
        &format!(
            "<p>Sign-up, login and tokens over plain JSON.</p>\n<ul>\n{links}</ul>\n<h2>Errors</h2>\n{}",
            list_of_problems(base)
        ),
    )
}

async fn problems(api: Data<Api>) -> HttpResponse {
    let base = api.settings.base_path();
    page(
        base,
        "Errors",
        &format!(
            "<p>Every error is a problem document (RFC 9457) with one of these codes.</p>\n{}\
             <p><a href=\"{}\">Start page</a></p>\n",
            list_of_problems(base),
            at(base, "/")
        ),
    )
}

fn list_of_problems(base: &str) -> String {
    let mut list = "<ul>\n".to_owned();
    for code in Code::ALL {
        let (path, name, title) =
            (at(base, "/problems/") + code.as_str(), code.as_str(), escaped(code.title()));
        let status = code.status().as_u16();
        let _ = writeln!(list, "<li><a href=\"{path}\"><code>{name}</code></a> {status} {title}</li>");
    }
    list + "</ul>\n"
}

async fn problem(api: Data<Api>, code: Path<String>) -> Result<HttpResponse, Problem> {
    let base = api.settings.base_path();
    let code = code.into_inner();
    let code = Code::ALL.into_iter().find(|known| known.as_str() == code);
    let code = code.ok_or(Problem::new(Code::NotFound))?;
    let status = code.status();
    Ok(page(
        base,
        code.title(),
        &format!(
            "<p><code>{}</code>, answered with status {} {}.</p>\n<h2>What users read</h2>\n<p>{}</p>\n\
             <h2>What to do</h2>\n<p>{}</p>\n<p><a href=\"{}\">All errors</a></p>\n",
            code.as_str(),
            status.as_u16(),
            status.canonical_reason().unwrap_or_default(),
            escaped(code.detail()),
            escaped(code.hint()),
            at(base, "/problems"),
        ),
    ))
}

/// The same answer with a page in place of a problem document, where somebody opened a wrong address in a browser.
pub(crate) fn in_place_of(response: HttpResponse, code: Code, base: &str) -> HttpResponse {
    if !matches!(code, Code::NotFound | Code::MethodNotAllowed) {
        return response;
    }
    let content =
        format!("<p>{}</p>\n<p><a href=\"{}\">Start page</a></p>\n", escaped(code.detail()), at(base, "/"));
    let mut response = response.set_body(BoxBody::new(document(base, code.title(), &content)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(HTML));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PLAIN));
    response
}

/// A page of our own words around `content`, which must be HTML already.
fn page(base: &str, title: &str, content: &str) -> HttpResponse {
    html(PLAIN, document(base, title, content))
}

fn document(base: &str, title: &str, content: &str) -> String {
    let (icon, style, title) = (at(base, "/icon.svg"), at(base, "/style.css"), escaped(title));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<link rel=\"icon\" href=\"{icon}\">\n\
         <link rel=\"stylesheet\" href=\"{style}\">\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n\
         {content}</main>\n</body>\n</html>\n"
    )
}

/// A text as HTML and the values of its attributes have it.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            _ => html.push(c),
        }
    }
    html
}

fn html(policy: &'static str, html: impl Into<Bytes>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, HTML))
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
