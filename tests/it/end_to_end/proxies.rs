//! Servers of front ends and proxies before the API, which rewrite hosts and paths.

use serde_json::json;

use super::readme_example::{log_in, page};
use crate::support::browser::Browser;
use crate::support::client::{Client, PASSWORD};
use crate::support::dev_proxy::FrontEnd;
use crate::support::nginx::Nginx;
use crate::support::server::{Deployment, Server};
use crate::support::vite::Vite;

/// A server whose access tokens are refreshed by a page every few seconds, with somebody who has an account.
async fn server() -> Server {
    let server = Deployment::new().set("AUTH_TOKEN__ACCESS_TTL", "3s").serve();
    Client::of(&server).sign_up("ann", PASSWORD).await;
    server
}

/// A user logs in on the README's page, which is at this URL, stays logged in by refreshes, and logs out.
async fn log_in_stay_and_log_out(browser: &Browser, url: &str, server: &Server) {
    let sessions = || server.deployment().run(&["sessions", "list", "ann", "--json"]).json();

    browser.open(url).await;
    browser.wait_for("#who", "nobody").await;
    log_in(browser, PASSWORD).await;
    let mut shown = browser.wait_for_another("#who", "ann at ", "").await;
    for _ in 0..2 {
        shown = browser.wait_for_another("#who", "ann at ", &shown).await;
    }
    browser.open(url).await;
    browser.wait_for("#who", "ann at ").await;
    assert_eq!(sessions().as_array().map(Vec::len), Some(1));
    browser.click("#leave").await;
    browser.wait_for("#who", "nobody").await;
    assert_eq!(sessions(), json!([]));
}

#[tokio::test]
async fn browser_stays_logged_in_behind_nginx_that_rewrites_host() {
    let test = "browser_stays_logged_in_behind_nginx_that_rewrites_host";
    let server = server().await;
    let pass = format!("location /api/ {{ proxy_pass {}; }}", server.base_url());
    let Some(nginx) = Nginx::start(test, page(), |_| pass.clone()) else { return };
    let Some(browser) = Browser::start(test).await else { return };

    log_in_stay_and_log_out(&browser, &nginx.page(), &server).await;
}

#[tokio::test]
async fn browser_stays_logged_in_behind_the_proxy_of_vite() {
    let test = "browser_stays_logged_in_behind_the_proxy_of_vite";
    let server = server().await;
    let Some(vite) = Vite::start(test, page(), server.base_url()) else { return };
    let Some(browser) = Browser::start(test).await else { return };

    log_in_stay_and_log_out(&browser, &format!("{}/", vite.origin), &server).await;
}

#[tokio::test]
async fn page_shows_why_its_refresh_is_refused() {
    let server = server().await;
    let front_end = FrontEnd::rewriting(server.address(), page().to_owned()).await;
    let Some(browser) = Browser::start("page_shows_why_its_refresh_is_refused").await else { return };

    browser.open(&front_end.page()).await;

    browser.wait_for("#who", &front_end.origin).await;
    browser.wait_for("#who", "AUTH_CORS__ORIGINS").await;
    let refused = server.log().wait_for("a refused cookie", |line| line["setting"] == "AUTH_CORS__ORIGINS");
    assert_eq!((&refused["level"], &refused["origin"]), (&json!("WARN"), &json!(front_end.origin)));
}

/// A server whose issuer has the path `/auth` of an nginx before it, which takes the path off or leaves it.
fn below_a_path(test: &str, passes_on: &str) -> Option<(Nginx, Server)> {
    let mut server = None;
    let nginx = Nginx::start(test, page(), |origin| {
        let started = Deployment::new().set("AUTH_TOKEN__ISSUER", format!("{origin}/auth")).serve();
        let api = started.base_url().to_owned();
        server = Some(started);
        format!(
            "location /auth/ {{ proxy_pass {api}{passes_on}; }}\n\
             location ~ ^/\\.well-known/(openid-configuration|oauth-authorization-server)/auth$ {{ proxy_pass {api}; }}"
        )
    })?;
    server.map(|server| (nginx, server))
}

#[tokio::test]
async fn pages_work_below_the_path_of_the_issuer_in_a_browser() {
    let test = "pages_work_below_the_path_of_the_issuer_in_a_browser";
    let Some((nginx, server)) = below_a_path(test, "/") else { return };
    Client::of(&server).sign_up("ann", PASSWORD).await;
    let Some(browser) = Browser::start(test).await else { return };
    let url = |path: &str| format!("{}/auth{path}", nginx.origin);

    browser.open(&url("/docs")).await;
    browser.wait_for("#operations-account-log_in", "/api/login").await;
    browser.click("#operations-account-log_in .opblock-summary-control").await;
    browser.wait_for("#operations-account-log_in .execute", "Execute").await;
    browser.click("#operations-account-log_in .execute").await;
    browser.wait_for("#operations-account-log_in .live-responses-table", "access_token").await;

    browser.open(&url("/redoc")).await;
    for path in ["/api/signup", "/api/login", "/health/ready"] {
        browser.wait_for("#redoc", path).await;
    }

    browser.open(&url("/")).await;
    browser.click("a[href='/auth/problems/username_taken']").await;
    browser.wait_for("h1", "The username is taken").await;
    browser.click("a[href='/auth/problems']").await;
    browser.wait_for("main", "signup_disabled").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());

    browser.open(&url("/no/such/page")).await;
    browser.wait_for("h1", "There is nothing here").await;
    browser.click("a[href='/auth/']").await;
    browser.wait_for("h1", "Authentication API").await;
    let requests = browser.requests().await;
    let strays: Vec<_> = requests
        .iter()
        .filter(|url| !url.starts_with(&format!("{}/auth/", nginx.origin)))
        .filter(|url| !["data:", "blob:"].iter().any(|scheme| url.starts_with(scheme)))
        .collect();
    assert_eq!(strays, Vec::<&String>::new());
}

#[tokio::test]
async fn links_and_documents_have_the_path_of_the_issuer() {
    for passes_on in ["/", ""] {
        let test = "links_and_documents_have_the_path_of_the_issuer";
        let Some((nginx, server)) = below_a_path(test, passes_on) else { return };
        let issuer = format!("{}/auth", nginx.origin);
        let (client, host) = (Client::before(&server, &issuer), Client::before(&server, &nginx.origin));

        let signed_up = client.sign_up("ann", PASSWORD).await;
        assert_eq!((signed_up.status.as_u16(), signed_up.header("Location")), (201, "/auth/api/me"));
        let problem = client.sign_up("ann", PASSWORD).await.json();
        assert_eq!(problem["type"], json!(format!("{issuer}/problems/username_taken")));
        assert_eq!(client.get("/problems/username_taken").await.status, 200);
        let redirect = client.post("/api/login/?x=1", &json!({})).await;
        assert_eq!((redirect.status.as_u16(), redirect.header("Location")), (308, "/auth/api/login?x=1"));
        let credentials = json!({ "username": "ann", "password": PASSWORD });
        let log_in = client.request("POST", "/api/login").header("X-Session-Transport", "cookie");
        let logged_in = client.send(log_in.json(&credentials)).await;
        assert!(logged_in.header("Set-Cookie").contains("; Path=/; "), "{logged_in:?}");
        assert_eq!(client.get("/openapi.json").await.json()["servers"], json!([{ "url": "/auth" }]));

        for page in ["/", "/problems", "/problems/internal", "/docs", "/redoc"] {
            let page = client.get(page).await;
            let html = page.text().replace("src=\"", "href=\"");
            let links: Vec<_> =
                html.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
            assert!(links.len() > 2, "{html}");
            for link in links {
                let answer = host.get(link).await;
                assert!(link.starts_with("/auth/") && answer.status == 200, "{link}: {answer:?}");
            }
        }
        for path in [
            "/auth/.well-known/openid-configuration",
            "/auth/.well-known/oauth-authorization-server",
            "/.well-known/oauth-authorization-server/auth",
            "/.well-known/openid-configuration/auth",
        ] {
            let known = host.get(path).await.json();
            assert_eq!(known["issuer"], json!(issuer), "{path}");
            for member in ["jwks_uri", "service_documentation"] {
                let found = known[member].as_str().unwrap().strip_prefix(&nginx.origin).unwrap();
                assert_eq!(host.get(found).await.status, 200, "{found}");
            }
        }
    }
}
