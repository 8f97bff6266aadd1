//! Paths, methods and redirects.

use super::*;

#[tokio::test]
async fn unknown_paths_are_404_and_other_methods_405_with_allow() {
    let server = Server::start();
    let client = Client::of(&server);

    for path in [
        "/nope",
        "/api",
        "/api/",
        "/api/me/7",
        "/API/me",
        "//api/me",
        "/problems/nope",
        "/docs/../api/me/x",
        "/docs/..%2f..%2fetc%2fpasswd",
        "/docs/%2e%2e/x",
        "/.well-known/unknown",
        "/.env",
        "/data/auth.db",
        "/api/me%00",
        "/%ff",
    ] {
        client.get(path).await.assert_problem(404, "not_found");
    }
    for (path, allow) in [
        ("/api/signup", "POST"),
        ("/api/login", "POST"),
        ("/api/me", "GET, HEAD, PATCH, DELETE"),
        ("/api/me/password", "PUT"),
        ("/health/live", "GET, HEAD"),
    ] {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            if allow.contains(method) {
                continue;
            }
            let overridden = client
                .request(method, path)
                .header("X-HTTP-Method-Override", allow.split(", ").next().unwrap());
            let answer = client.send(overridden).await;
            assert_eq!((answer.status.as_u16(), answer.header("Allow")), (405, allow), "{method} {path}");
            answer.assert_problem(405, "method_not_allowed");
        }
    }
    let tunnel = exchange(
        &server,
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n",
    );
    assert!(tunnel.starts_with("HTTP/1.1 4"), "{tunnel}");
}

#[tokio::test]
async fn trailing_slash_leads_to_the_path_without_it() {
    let server = Server::start();
    let client = Client::of(&server);
    client.sign_up("ann", PASSWORD).await;

    for path in [
        "/api/signup",
        "/api/login",
        "/api/refresh",
        "/api/logout",
        "/api/me",
        "/api/me/password",
        "/api/sessions",
        "/api/sessions/0198c3a4-5b6c-7d8e-9f01-23456789abcd",
        "/api/introspect",
        "/api/revoke",
        "/.well-known/jwks.json",
        "/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
        "/health/live",
        "/health/ready",
        "/problems",
        "/problems/internal",
        "/docs",
        "/docs/swagger-ui.css",
        "/redoc",
        "/openapi.json",
        "/style.css",
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            for (sent, location) in [
                ("/", path.to_owned()),
                ("//", path.to_owned()),
                ("/?a=%2f&b=//c", format!("{path}?a=%2f&b=//c")),
            ] {
                let answer = client.send(client.request(method, &format!("{path}{sent}"))).await;
                let told = (answer.status.as_u16(), answer.header("Location"));
                assert_eq!(told, (308, &*location), "{method} {path}{sent}");
            }
        }
    }
    let body = json!({ "username": "ann", "password": PASSWORD });
    let redirected = client.post("/api/login/", &body).await;
    assert_eq!(client.post(redirected.header("Location"), &body).await.status, 200);
    let operators = Client::of_operators(&server);
    for path in ["/metrics", "/health"] {
        let answer = operators.get(&format!("{path}/?x=1")).await;
        assert_eq!((answer.status.as_u16(), answer.header("Location")), (308, &*format!("{path}?x=1")));
    }
}

#[test]
fn trailing_slash_leads_to_no_other_host() {
    let server = Server::start();

    for target in [
        "//evil.example/",
        "//evil.example//",
        "///",
        "//api/login/",
        "/\\evil.example/",
        "/%2fevil.example/",
        "/%5cevil.example/",
        "/evil.example/",
        "/api/sessions//evil.example/",
        "/api/login/..//evil.example/",
        "/nope/",
        "/api/",
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = exchange(&server, request.as_bytes());
        let head = answer.split("\r\n\r\n").next().unwrap().to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 404 ") && !head.contains("location:"), "{target}: {answer}");
    }
    let absolute =
        "GET http://evil.example/api/login/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    let answer = exchange(&server, absolute.as_bytes()).to_ascii_lowercase();
    assert!(answer.contains("location: /api/login\r\n"), "{answer}");
}

#[tokio::test]
async fn wrong_address_in_a_browser_is_answered_with_a_page() {
    let server = Server::start();
    let client = Client::of(&server);
    let chromium = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
    let ask = |method, path: &str, accept: &str| {
        client.send(client.request(method, path).header("Accept", accept.to_owned()))
    };

    for (path, status) in [("/nope", 404), ("/problems/nope", 404), ("/api/login", 405)] {
        let page = ask("GET", path, chromium).await;
        let kind = page.header("Content-Type");
        assert_eq!((page.status.as_u16(), kind), (status, "text/html; charset=utf-8"), "{path}");
        assert!(page.text().starts_with("<!doctype html>") && page.text().contains("href=\"/\""), "{page:?}");
        assert!(page.header("Content-Security-Policy").contains("style-src 'self'"));
        assert_eq!(page.header("Cache-Control"), "no-store");
        assert!(!page.text().contains("nope"), "nothing that was sent is repeated");
        let head = ask("HEAD", path, chromium).await;
        assert_eq!((head.status.as_u16(), head.header("Content-Type")), (status, "text/html; charset=utf-8"));
    }
    assert_eq!(ask("GET", "/api/login", chromium).await.header("Allow"), "POST");
    for accept in ["", "*/*", "application/json", "application/json, text/html", "text/*"] {
        ask("GET", "/nope", accept).await.assert_problem(404, "not_found");
    }
    ask("POST", "/nope", chromium).await.assert_problem(404, "not_found");
    ask("GET", "/api/me", chromium).await.assert_problem(401, "missing_token");
}

#[tokio::test]
async fn change_password_address_leads_to_the_configured_page() {
    let path = "/.well-known/change-password";
    for page in ["https://app.example/account?tab=password", "/account/password"] {
        let server = Deployment::new().set("AUTH_HTTP__CHANGE_PASSWORD_PAGE", page).serve();
        let answer = Client::of(&server).get(path).await;
        assert_eq!((answer.status.as_u16(), answer.header("Location")), (302, page));
        Client::of(&server).post(path, &json!({})).await.assert_problem(405, "method_not_allowed");
    }
    for deployment in [Deployment::new(), Deployment::new().set("AUTH_HTTP__CHANGE_PASSWORD_PAGE", "")] {
        Client::of(&deployment.serve()).get(path).await.assert_problem(404, "not_found");
    }
    for wrong in ["//evil.example", "javascript:alert(1)", "evil.example/password"] {
        let refused = Deployment::new().set("AUTH_HTTP__CHANGE_PASSWORD_PAGE", wrong).run(&["serve"]);
        assert!(
            refused.code == 2 && refused.stderr.contains("AUTH_HTTP__CHANGE_PASSWORD_PAGE"),
            "{refused:?}"
        );
        assert!(!refused.stderr.contains(wrong), "{refused:?}");
    }
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let server = Server::start();
    let client = Client::of(&server);
    let token = client.token_of_new("ann").await;

    for path in
        ["/", "/docs", "/health/live", "/health/ready", "/openapi.json", "/api/me", "/problems/internal"]
    {
        let ask = |method| {
            client.send(client.request(method, path).header("Authorization", format!("Bearer {token}")))
        };
        let (get, head) = (ask("GET").await, ask("HEAD").await);
        assert_eq!((get.status.as_u16(), head.status.as_u16()), (200, 200), "{path}");
        assert!(!get.bytes.is_empty() && head.bytes.is_empty(), "{path}");
        assert_eq!(get.header("Content-Length"), head.header("Content-Length"), "{path}");
        assert_eq!(get.header("Content-Type"), head.header("Content-Type"), "{path}");
    }
    assert_eq!(client.send(client.request("HEAD", "/nope")).await.status, 404);
}
