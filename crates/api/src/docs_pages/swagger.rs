//! `/docs`: Swagger UI, on which everything can be tried out.

use std::sync::{Arc, LazyLock};

use actix_web::HttpResponse;
use actix_web::web::{Bytes, Data, ServiceConfig};
use serde_json::Value;
use utoipa_swagger_ui::{Config, serve};

use super::{DOCUMENTATION, asset, at, html};
use crate::Api;
use crate::method_router::get;

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Authentication API: try it out</title>
<link rel="icon" href="{base}/icon.svg">
<link rel="stylesheet" href="{base}/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{base}/docs/swagger-ui-bundle.js"></script>
<script src="{base}/docs/start.js"></script>
</body>
</html>
"#;

/// No validator: it would send the description to another origin.
const START: &str = r##"SwaggerUIBundle({
  url: {description},
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  validatorUrl: null,
});
"##;

static SCRIPT: LazyLock<Bytes> = LazyLock::new(|| vendored("swagger-ui-bundle.js"));
static STYLE: LazyLock<Bytes> = LazyLock::new(|| vendored("swagger-ui.css"));

pub(super) fn configure(config: &mut ServiceConfig) {
    config
        .service(get("/docs", page))
        .service(get("/docs/start.js", start))
        .service(get("/docs/swagger-ui-bundle.js", script))
        .service(get("/docs/swagger-ui.css", style));
}

async fn page(api: Data<Api>) -> HttpResponse {
    html(DOCUMENTATION, PAGE.replace("{base}", &at(api.settings.base_path(), "")))
}

async fn start(api: Data<Api>) -> HttpResponse {
    let description = Value::from(format!("{}/openapi.json", api.settings.base_path())).to_string();
    asset("text/javascript; charset=utf-8", START.replace("{description}", &description))
}

async fn script() -> HttpResponse {
    asset("text/javascript; charset=utf-8", SCRIPT.clone())
}

async fn style() -> HttpResponse {
    asset("text/css; charset=utf-8", STYLE.clone())
}

/// A file of Swagger UI, as its package carries it.
fn vendored(file: &str) -> Bytes {
    let found = serve(file, Arc::new(Config::from("/openapi.json"))).ok().flatten();
    found.map(|file| Bytes::from(file.bytes.into_owned())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_carries_what_the_page_asks_for() {
        assert!(SCRIPT.len() > 1_000_000, "{}", SCRIPT.len());
        assert!(STYLE.len() > 100_000, "{}", STYLE.len());
    }
}
