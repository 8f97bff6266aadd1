//! `/redoc`: ReDoc, in which everything can be read.

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::web::{Bytes, Data, ServiceConfig};
use aide::redoc::Redoc;
use serde_json::Value;

use super::{DOCUMENTATION, asset, at, html};
use crate::Api;
use crate::method_router::get;

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Authentication API: read about it</title>
<link rel="icon" href="{base}/icon.svg">
<link rel="stylesheet" href="{base}/redoc/page.css">
</head>
<body>
<div id="redoc"></div>
<script src="{base}/redoc/redoc.js"></script>
<script src="{base}/redoc/start.js"></script>
</body>
</html>
"#;

const STYLE: &str = "body { margin: 0; }\n";

const START: &str = r#"Redoc.init({description}, {}, document.getElementById("redoc"));
"#;

/// The one thing that ReDoc asks of another origin, and an empty picture to ask for instead.
const LOGO: &str = "https://cdn.redoc.ly/redoc/logo-mini.svg";
const NO_LOGO: &str = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'/>";

static SCRIPT: LazyLock<Bytes> = LazyLock::new(|| {
    Bytes::from(script_of(&Redoc::new("").html()).unwrap_or_default().replace(LOGO, NO_LOGO))
});

pub(super) fn configure(config: &mut ServiceConfig) {
    config
        .service(get("/redoc", page))
        .service(get("/redoc/page.css", style))
        .service(get("/redoc/start.js", start))
        .service(get("/redoc/redoc.js", script));
}

async fn page(api: Data<Api>) -> HttpResponse {
    html(DOCUMENTATION, PAGE.replace("{base}", &at(api.settings.base_path(), "")))
}

async fn style() -> HttpResponse {
    asset("text/css; charset=utf-8", STYLE)
}

async fn start(api: Data<Api>) -> HttpResponse {
    let description = Value::from(format!("{}/openapi.json", api.settings.base_path())).to_string();
    asset("text/javascript; charset=utf-8", START.replace("{description}", &description))
}

async fn script() -> HttpResponse {
    asset("text/javascript; charset=utf-8", SCRIPT.clone())
}

/// The bundle, cut out of the page that its package makes: a policy that forbids scripts within pages
/// wants it in a file of its own.
fn script_of(page: &str) -> Option<&str> {
    let (_, rest) = page.split_once("<script>")?;
    let (bundle, _) = rest.rsplit_once("Redoc.init(")?;
    Some(bundle.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_is_whole_and_asks_no_other_origin_for_a_picture() {
        let script = std::str::from_utf8(&SCRIPT).unwrap();

        assert!(script.len() > 900_000, "{}", script.len());
        assert!(Redoc::new("").html().contains(LOGO), "the address has changed");
        assert!(!script.contains("cdn.redoc.ly"));
    }
}
