//! Pages of other origins than the API's own, in a real browser and by hand.

use serde_json::json;

use crate::support::browser::Browser;
use crate::support::client::{Answer, Client, PASSWORD};
use crate::support::dev_proxy::FrontEnd;
use crate::support::server::Deployment;

/// An origin that is allowed, for those who are no browser.
const APP: &str = "https://app.example";

/// A page that logs in and refreshes at once, at the API that its fragment names, and tells how far it came.
fn page() -> String {
    let script = r#"
        const post = async (path, body) => {
          const headers = { "X-Session-Transport": "cookie", ...(body && { "Content-Type": "application/json" }) };
          const options = { method: "POST", credentials: "include", headers, body: body && JSON.stringify(body) };
          const response = await fetch(API + path, options);
          return [response, await response.json()];
        };
        const told = document.querySelector("p");
        try {
          const [, login] = await post("/api/login", { username: "ann", password: PASSWORD });
          const [refreshed, tokens] = await post("/api/refresh");
          const me = await fetch(`${API}/api/me`, { headers: { Authorization: `Bearer ${tokens.access_token}` } });
          const same = login.session_id === tokens.session_id && !login.refresh_token;
          const id = refreshed.headers.get("X-Request-Id") ? "with" : "without";
          told.textContent = `${(await me.json()).username} ${same ? "goes on" : "is another"} ${id} an id`;
        } catch (error) {
          told.textContent = `kept out: ${error.name}`;
        }"#;
    let constants = format!("const API = location.hash.slice(1), PASSWORD = {};", json!(PASSWORD));
    format!(
        "<!doctype html><p id=\"told\">nothing yet</p><script type=\"module\">{constants}{script}</script>"
    )
}

#[tokio::test]
async fn a_browser_logs_in_and_refreshes_from_an_allowed_origin_and_cannot_from_another() {
    let test = "a_browser_logs_in_and_refreshes_from_an_allowed_origin_and_cannot_from_another";
    let Some(browser) = Browser::start(test).await else { return };
    let (allowed, foreign) = (FrontEnd::serve(page()).await, FrontEnd::serve(page()).await);
    let server = Deployment::new().set("AUTH_CORS__ORIGINS", allowed.origin.as_str()).serve();
    let open = async |front_end: &FrontEnd| {
        browser.open(&format!("{}#{}", front_end.page(), server.base_url())).await;
    };
    Client::of(&server).sign_up("ann", PASSWORD).await;

    open(&allowed).await;
    browser.wait_for("#told", "ann goes on with an id").await;
    let attempts = server.log().audit().len();
    open(&foreign).await;
    browser.wait_for("#told", "kept out: TypeError").await;

    assert_eq!(server.log().audit().len(), attempts, "the login was not even tried");
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_read_every_answer_and_is_told_so_beforehand() {
    let server =
        Deployment::new().set("AUTH_CORS__ORIGINS", "http://localhost:3000,https://app.example").serve();
    let client = Client::of(&server);
    let from = |method: &str, path: &str, origin: &str| client.request(method, path).header("Origin", origin);

    let asks = from("OPTIONS", "/api/login", APP).header("Access-Control-Request-Method", "POST");
    let preflight = client.send(asks.header("Access-Control-Request-Headers", "content-type")).await;
    assert_eq!((preflight.status.as_u16(), preflight.text()), (204, ""));
    assert_eq!(preflight.header("Access-Control-Max-Age"), "7200");
    let needed = ["X-Session-Transport", "baggage", "sentry-trace", "traceparent", "X-Requested-With"];
    let needed = needed.map(|name| ("Access-Control-Allow-Headers", name));
    for (header, needed) in [("Access-Control-Allow-Methods", "DELETE")].into_iter().chain(needed) {
        assert!(preflight.header(header).contains(needed), "{preflight:?}");
    }

    for (method, path, status) in [
        ("GET", "/api/me", 401),
        ("POST", "/api/login", 415),
        ("GET", "/nope", 404),
        ("GET", "/health/live", 200),
    ] {
        let answer = client.send(from(method, path, APP)).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("Access-Control-Allow-Origin"), APP, "{path}");
        assert_eq!(answer.header("Access-Control-Allow-Credentials"), "true", "{path}");
        assert_eq!(answer.header("Vary"), "Origin", "{path}");
        assert!(answer.header("Access-Control-Expose-Headers").contains("Retry-After"), "{path}");
    }
}

#[tokio::test]
async fn a_page_of_any_other_origin_is_told_nothing() {
    let server = Deployment::new().set("AUTH_CORS__ORIGINS", APP).serve();
    let client = Client::of(&server);

    for origin in [
        "null",
        "*",
        "https://evil.example",
        "https://app.example.evil.example",
        "https://notapp.example",
        "https://app.example:8443",
        "http://app.example",
        "https://APP.example",
    ] {
        let asks = client.request("OPTIONS", "/api/login").header("Origin", origin);
        let preflight = client.send(asks.header("Access-Control-Request-Method", "POST")).await;
        preflight.assert_problem(403, "forbidden");
        let answer = client.send(client.request("GET", "/health/live").header("Origin", origin)).await;
        for answer in [preflight, answer] {
            let told: Vec<_> =
                answer.headers.keys().filter(|name| name.as_str().starts_with("access-control-")).collect();
            assert_eq!(told, Vec::<&str>::new(), "{origin}");
            assert_eq!(answer.header("Vary"), "Origin", "{origin}");
        }
    }
}

#[tokio::test]
async fn refused_preflight_is_logged_once_with_its_origin() {
    for origins in ["", APP] {
        let server = Deployment::new().set("AUTH_CORS__ORIGINS", origins).serve();
        let client = Client::of(&server);
        let preflight = async |path: &str, origin: &str| {
            let asks = client.request("OPTIONS", path).header("Origin", origin);
            client.send(asks.header("Access-Control-Request-Method", "POST")).await
        };

        for path in ["/api/login", "/api/refresh", "/api/nope"] {
            let refused = preflight(path, "http://localhost:5173").await;
            refused.assert_problem(403, "forbidden");
            let detail = refused.json()["detail"].as_str().unwrap().to_owned();
            assert!(
                detail.contains("http://localhost:5173") && detail.contains("AUTH_CORS__ORIGINS"),
                "{detail}"
            );
        }
        let odd = preflight("/api/login", "https://a.example/?token=hunter2").await;
        odd.assert_problem(403, "forbidden");
        preflight("/api/login", "https://b.example").await;
        let is_refusal = |line: &serde_json::Value| line["setting"] == "AUTH_CORS__ORIGINS";
        server.log().wait_for("the last refusal", |line| line["origin"] == "https://b.example");
        let lines = server.log().lines();
        let lines = lines.iter().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let logged: Vec<_> = lines.filter(is_refusal).map(|line| line["origin"].clone()).collect();

        assert_eq!(logged, ["http://localhost:5173", "malformed", "https://b.example"]);
        assert!(!server.log().lines().concat().contains("hunter2"));
        client
            .send(client.request("OPTIONS", "/api/login").header("Origin", APP))
            .await
            .assert_problem(405, "method_not_allowed");
    }
}

#[tokio::test]
async fn app_of_another_scheme_may_ask_with_headers_of_its_own() {
    let origin = "tauri://localhost";
    let server =
        Deployment::new().set("AUTH_CORS__ORIGINS", origin).set("AUTH_CORS__HEADERS", "x-tenant").serve();
    let client = Client::of(&server);

    let asks = client.request("OPTIONS", "/api/login").header("Origin", origin);
    let preflight = client.send(asks.header("Access-Control-Request-Method", "POST")).await;
    let answer = client.send(client.request("GET", "/health/live").header("Origin", origin)).await;

    assert_eq!(preflight.status, 204);
    assert!(preflight.header("Access-Control-Allow-Headers").ends_with(", x-tenant"), "{preflight:?}");
    for answer in [preflight, answer] {
        assert_eq!(answer.header("Access-Control-Allow-Origin"), origin);
    }
    for wrong in ["null", "file://", "tauri://localhost/"] {
        let refused = Deployment::new().set("AUTH_CORS__ORIGINS", wrong).run(&["config", "check"]);
        assert!(refused.code == 2 && refused.stderr.contains("AUTH_CORS__ORIGINS"), "{refused:?}");
    }
}

#[tokio::test]
async fn a_cookie_counts_from_an_allowed_origin_and_from_no_other() {
    let server = Deployment::new().set("AUTH_CORS__ORIGINS", APP).serve();
    let client = Client::of(&server);
    client.sign_up("ann", PASSWORD).await;
    let cookie = |login: &Answer| login.header("Set-Cookie").split(';').next().unwrap().to_owned();
    let log_in = client.request("POST", "/api/login").header("X-Session-Transport", "cookie");
    let log_in = client.send(log_in.json(&json!({ "username": "ann", "password": PASSWORD }))).await;
    let refresh = async |origin: &str| {
        let request = client.request("POST", "/api/refresh").header("X-Session-Transport", "cookie");
        client.send(request.header("Cookie", cookie(&log_in)).header("Origin", origin)).await
    };

    refresh("https://evil.example").await.assert_problem(403, "forbidden");
    let refreshed = refresh(APP).await;

    assert_eq!(refreshed.status, 200, "{refreshed:?}");
    assert_eq!(refreshed.header("Access-Control-Allow-Origin"), APP);
}
