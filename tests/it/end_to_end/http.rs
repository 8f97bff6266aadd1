//! What the HTTP surface does with requests that are wrong, and what every answer has.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use reqwest::{Body, RequestBuilder};
use serde_json::{Value, json};

use crate::support::client::{Answer, Client, PASSWORD, exchange};
use crate::support::server::{Deployment, Server};

/// An endpoint that takes a JSON object, and the fields of it.
struct Endpoint {
    method: &'static str,
    path: &'static str,
    fields: &'static [&'static str],
}

const ENDPOINTS: [Endpoint; 7] = [
    Endpoint { method: "POST", path: "/api/signup", fields: &["username", "password"] },
    Endpoint { method: "POST", path: "/api/login", fields: &["username", "password"] },
    Endpoint { method: "POST", path: "/api/refresh", fields: &["refresh_token"] },
    Endpoint { method: "POST", path: "/api/logout", fields: &["refresh_token"] },
    Endpoint { method: "PUT", path: "/api/me/password", fields: &["current_password", "new_password"] },
    Endpoint { method: "PATCH", path: "/api/me", fields: &["username", "password"] },
    Endpoint { method: "DELETE", path: "/api/me", fields: &["password"] },
];

impl Endpoint {
    /// A request without a body, with the token where one is needed.
    fn request(&self, client: &Client, token: &str) -> RequestBuilder {
        let request = client.request(self.method, self.path);
        // A logout with an access token asks for no body.
        if self.path.starts_with("/api/me") {
            request.header("Authorization", format!("Bearer {token}"))
        } else {
            request
        }
    }

    /// Sends a body as it is, declared as JSON.
    async fn send(&self, client: &Client, token: &str, body: impl Into<Body>) -> Answer {
        let request = self.request(client, token).header("Content-Type", "application/json");
        client.send(request.body(body)).await
    }

    /// A body that could be right.
    fn good(&self) -> Value {
        let value = |field: &str| match field {
            "username" => "eve",
            "refresh_token" => "x",
            _ => PASSWORD,
        };
        self.fields.iter().map(|field| ((*field).to_owned(), json!(value(field)))).collect()
    }

    /// The same with one member more, or with another value.
    fn with(&self, field: &str, value: Value) -> String {
        let mut body = self.good();
        body[field] = value;
        body.to_string()
    }

    fn is_password(field: &str) -> bool {
        field.ends_with("password")
    }
}

#[tokio::test]
async fn what_is_not_one_well_formed_object_is_400_and_nothing_is_changed() {
    let server = Server::start();
    let client = Client::of(&server);
    let token = client.token_of_new("ann").await;

    for endpoint in &ENDPOINTS {
        let (good, field) = (endpoint.good().to_string(), endpoint.fields[0]);
        let only = |value: &str| format!("{{\"{field}\":{value}}}").into_bytes();
        for body in [
            Vec::new(),
            b"{".to_vec(),
            b"null".to_vec(),
            b"[]".to_vec(),
            b"\"eve\"".to_vec(),
            format!("{good} trailing").into_bytes(),
            format!("{good}{good}").into_bytes(),
            format!("\u{feff}{good}").into_bytes(),
            good.replacen('{', &format!("{{\"{field}\":\"x\","), 1).into_bytes(),
            good.replacen('{', "{\"x\":{\"y\":1,\"y\":2},", 1).into_bytes(),
            only("\"\\ud800\""),
            only("NaN"),
            only("\"a\u{1}n\""),
            [&b"{\"x\":\"\xff\","[..], &good.as_bytes()[1..]].concat(),
            only(&format!("{}{}", "[".repeat(2000), "]".repeat(2000))),
        ] {
            let shown = String::from_utf8_lossy(&body).into_owned();
            let answer = endpoint.send(&client, &token, body).await;
            assert_eq!(answer.status, 400, "{} {} {shown:.80}", endpoint.method, endpoint.path);
            answer.assert_problem(400, "malformed_request");
        }
    }
    assert_eq!(client.me(&token).await.json()["username"], "ann");
    assert_eq!(client.sign_up("bob", PASSWORD).await.json()["id"], 2);
}

#[tokio::test]
async fn a_wrong_field_is_422_and_named() {
    let server = Server::start();
    let client = Client::of(&server);
    let token = client.token_of_new("ann").await;

    for endpoint in &ENDPOINTS {
        let send = |body: String| endpoint.send(&client, &token, body);
        for field in endpoint.fields {
            let mut body = endpoint.good();
            body.as_object_mut().unwrap().remove(*field);
            send(body.to_string()).await.assert_field(field, "required");
            for value in [json!(null), json!(7), json!(true), json!(["ann"]), json!({ "$ne": "" })] {
                send(endpoint.with(field, value)).await.assert_field(field, "wrong_type");
            }
            if Endpoint::is_password(field) {
                send(endpoint.with(field, json!("x".repeat(257)))).await.assert_field(field, "too_long");
            }
        }
        send(endpoint.with("is_admin", json!(true))).await.assert_field("is_admin", "unknown_field");
        send(endpoint.with("<script>", json!(true))).await.assert_field("", "unknown_field");
    }
    assert_eq!(client.me(&token).await.json()["username"], "ann");
    let [sign_up, ..] = &ENDPOINTS;
    for (field, value, code) in [
        ("username", "", "too_short"),
        ("username", "an", "too_short"),
        ("username", &*"a".repeat(65), "too_long"),
        ("username", "ann!", "invalid_characters"),
        ("username", "ann\0", "invalid_characters"),
        ("username", "p\u{430}ypal", "invalid_characters"),
        ("username", "ann\u{202e}", "invalid_characters"),
        ("password", "", "too_short"),
        ("password", "kq7wzmv", "too_short"),
        ("password", "kq7wzmv1\0", "invalid_characters"),
        ("password", "password", "too_guessable"),
        ("password", "aaaaaaaaaaaaaaaa", "too_guessable"),
    ] {
        sign_up.send(&client, "", sign_up.with(field, json!(value))).await.assert_field(field, code);
    }
    let own_name = json!({ "username": "annabelle", "password": "Annabelle" });
    client.post("/api/signup", &own_name).await.assert_field("password", "too_guessable");
    let both = client.post("/api/signup", &json!({})).await;
    assert_eq!(both.json()["errors"].as_array().map(Vec::len), Some(2));
    let users = server.deployment().run(&["users", "list", "--json"]).json();
    assert_eq!(users.as_array().map(Vec::len), Some(1), "{users}");
}

#[tokio::test]
async fn every_wrong_field_and_broken_rule_is_named_at_once() {
    let server = Server::start();
    let client = Client::of(&server);
    let token = client.token_of_new("ann").await;
    let named = |answer: Answer| {
        answer.assert_problem(422, "validation_failed");
        let errors = answer.json()["errors"].as_array().unwrap().clone();
        let named = errors.iter().map(|error| (error["field"].clone(), error["code"].clone()));
        named.map(|(field, code)| format!("{} {}", field.as_str().unwrap(), code.as_str().unwrap())).collect()
    };

    let sign_up = async |body: Value| -> Vec<String> { named(client.post("/api/signup", &body).await) };
    let both = sign_up(json!({ "username": "a!", "password": "a\0", "role": "x" })).await;
    let expected = [
        "password too_short",
        "password invalid_characters",
        "role unknown_field",
        "username too_short",
        "username invalid_characters",
    ];
    assert_eq!(both, expected);
    let short = sign_up(json!({ "username": "!".repeat(70), "password": "kq7wzmv" })).await;
    assert_eq!(short, ["password too_short", "username too_long", "username invalid_characters"]);
    let guessable = sign_up(json!({ "username": "a!", "password": "password" })).await;
    assert_eq!(guessable, ["password too_guessable", "username too_short", "username invalid_characters"]);
    assert_eq!(
        sign_up(json!({ "password": "password" })).await,
        ["password too_guessable", "username required"]
    );
    let change = client.request("PUT", "/api/me/password").bearer_auth(&token);
    let change = client.send(change.json(&json!({ "current_password": 7, "new_password": "a\0" }))).await;
    let expected: Vec<String> = named(change);
    assert_eq!(
        expected,
        ["current_password wrong_type", "new_password too_short", "new_password invalid_characters"]
    );
}

#[tokio::test]
async fn taken_username_is_named_as_a_field() {
    let server = Server::start();
    let client = Client::of(&server);
    client.sign_up("ann", PASSWORD).await;

    let taken = client.sign_up("ANN", PASSWORD).await;

    taken.assert_problem(409, "username_taken");
    let expected = json!([{ "field": "username", "code": "taken", "message": "This username is taken." }]);
    assert_eq!(taken.json()["errors"], expected);
    let description = client.get("/openapi.json").await.json();
    let codes = &description["components"]["schemas"]["FieldCode"]["enum"];
    assert!(codes.as_array().unwrap().contains(&json!("taken")), "{codes}");
}

#[tokio::test]
async fn a_configured_minimum_length_is_asked_for_and_named() {
    let server = Deployment::new().set("AUTH_PASSWORD__MIN_LENGTH", "15").serve();
    let client = Client::of(&server);

    let short = client.sign_up("ann", "qh7 zk2 wv9 xy").await;

    short.assert_field("password", "too_short");
    assert!(short.json()["errors"][0]["message"].as_str().unwrap().contains("15"));
    assert_eq!(client.sign_up("ann", "qh7 zk2 wv9 xyz").await.status, 201);
}

#[tokio::test]
async fn other_content_types_are_415() {
    let server = Server::start();
    let client = Client::of(&server);
    let token = client.token_of_new("ann").await;

    for endpoint in &ENDPOINTS {
        let send = |headers: &[(&str, &str)]| {
            let request = endpoint.request(&client, &token).body(endpoint.good().to_string());
            client.send(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)))
        };
        for value in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "",
            "application/json; charset=latin1",
            "application/problem+json",
        ] {
            send(&[("Content-Type", value)]).await.assert_problem(415, "unsupported_media_type");
        }
        let undeclared = send(&[("Accept", "application/json")]).await;
        undeclared.assert_problem(415, "unsupported_media_type");
        send(&[("Content-Type", "application/json"), ("Content-Encoding", "gzip")])
            .await
            .assert_problem(415, "unsupported_media_type");
    }
    assert_eq!(client.me(&token).await.json()["username"], "ann");
    let declared =
        client.request("POST", "/api/signup").header("Content-Type", "application/json; charset=UTF-8");
    let body = json!({ "username": "bob", "password": PASSWORD }).to_string();
    assert_eq!(client.send(declared.body(body)).await.status, 201);
}

#[tokio::test]
async fn a_body_over_16_kib_is_413_whatever_is_said_of_its_length() {
    let server = Server::start();
    let client = Client::of(&server);
    let token = client.token_of_new("bob").await;
    let padded = |length: usize| {
        let good = json!({ "username": "ann", "password": PASSWORD }).to_string();
        format!("{good}{}", " ".repeat(length - good.len()))
    };

    client.post_text("/api/login", padded(16 * 1024)).await.assert_problem(401, "invalid_credentials");
    for endpoint in &ENDPOINTS {
        for length in [16 * 1024 + 1, 1_000_000] {
            endpoint.send(&client, &token, padded(length)).await.assert_problem(413, "body_too_large");
        }
        let chunks = (0..100).map(|_| Ok::<_, std::io::Error>(" ".repeat(1000)));
        let chunked = Body::wrap_stream(futures_util::stream::iter(chunks));
        endpoint.send(&client, &token, chunked).await.assert_problem(413, "body_too_large");
    }

    let announced = "POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                     Content-Length: 99999999\r\nConnection: close\r\n\r\n{";
    assert!(exchange(&server, announced.as_bytes()).starts_with("HTTP/1.1 413 "));
}

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

#[tokio::test]
async fn every_answer_protects_the_browser_and_none_names_the_server() {
    let server = Server::start();
    let client = Client::of(&server);

    let answers = [
        client.get("/").await,
        client.get("/docs").await,
        client.get("/redoc").await,
        client.get("/health/live").await,
        client.get("/api/me").await,
        client.get("/nope").await,
        client.sign_up("ann", PASSWORD).await,
        client.log_in("ann", PASSWORD).await,
        client.post_text("/api/login", "{").await,
    ];
    for answer in &answers {
        assert_eq!(answer.header("X-Content-Type-Options"), "nosniff");
        assert_eq!(answer.header("Referrer-Policy"), "no-referrer");
        assert!(answer.header("Content-Security-Policy").starts_with("default-src 'none'"));
        assert!(answer.header("Content-Security-Policy").contains("frame-ancestors 'none'"));
        assert!(!answer.headers.contains_key("Server") && !answer.headers.contains_key("X-Powered-By"));
        assert!(!answer.header("X-Request-Id").is_empty());
    }
    for answer in &answers[3..] {
        assert_eq!(answer.header("Cache-Control"), "no-store");
    }
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let server = Server::start();
    let client = Client::of(&server);

    client.get(&format!("/{}", "x".repeat(9000))).await.assert_problem(414, "uri_too_long");
    let large = client.request("GET", "/health/live").header("X-Large", "x".repeat(17_000));
    client.send(large).await.assert_problem(431, "headers_too_large");
    let many = (0..70)
        .fold(client.request("GET", "/health/live"), |request, n| request.header(format!("x-{n}"), "1"));
    client.send(many).await.assert_problem(431, "headers_too_large");
}

#[test]
fn requests_whose_framing_is_ambiguous_are_refused_and_the_connection_is_closed() {
    let server = Server::start();
    let post = "POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let second = "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";

    for request in [
        format!("{post}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n"),
        format!("{post}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}"),
        format!("{post}Content-Length: 2, 2\r\n\r\n{{}}"),
        format!("{post}Content-Length: +2\r\n\r\n{{}}"),
        format!("{post}Content-Length: -1\r\n\r\n{{}}"),
        format!("{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\nZZ\r\n{{}}\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\n\r\n{{}}\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n{{}}\r\n0\r\n\r\n"),
        "GET /health/live HTTP/1.1\r\n\r\n".to_owned(),
        "GET /health/live HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n".to_owned(),
        "GET /health/live HTTP/1.1\r\nHost: x\r\nX-Folded: a\r\n b\r\n\r\n".to_owned(),
        "GET /health/live HTTP/1.1\r\nHost : x\r\n\r\n".to_owned(),
        "GET /health/live HTTP/1.1\r\nHost: x\r\nX-Nul: a\0b\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
    ] {
        let answer = exchange(&server, format!("{request}{second}").as_bytes());

        let answers = answer.matches("HTTP/1.1 ").count();
        let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
        assert!(refused && answers <= 1, "{request:?}: {answer}");
    }
}

#[test]
fn a_host_that_can_be_none_is_refused_and_the_connection_is_closed() {
    let server = Server::start();

    for host in ["a b", "a/b", "<a>"] {
        let answer =
            exchange(&server, format!("GET /health/live HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());

        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains("malformed_request"),
            "{host}: {answer}"
        );
    }
}

#[test]
fn empty_host_and_http_1_0_without_host_are_served() {
    let server = Server::start();
    let request = |line: &str| format!("{line}\r\nConnection: close\r\n\r\n");

    for head in [
        "GET /health/ready HTTP/1.1\r\nHost:",
        "GET /health/ready HTTP/1.1\r\nHost: ",
        "GET /health/ready HTTP/1.1\r\nHost: \t ",
        "GET /health/ready HTTP/1.0\r\nHost:",
        "GET /health/ready HTTP/1.0",
    ] {
        let answer = exchange(&server, request(head).as_bytes());
        assert!(
            answer.starts_with("HTTP/1.1 200 ") || answer.starts_with("HTTP/1.0 200 "),
            "{head}: {answer}"
        );
    }
    let missing = exchange(&server, request("GET /health/ready HTTP/1.1").as_bytes());
    assert!(missing.starts_with("HTTP/1.1 400 "), "{missing}");
    // It names no origin either.
    let refresh = "POST /api/refresh HTTP/1.1\r\nHost:\r\nX-Session-Transport: cookie\r\nOrigin: http://\r\n\
                   Cookie: auth_refresh=x\r\nContent-Length: 0";
    let refused = exchange(&server, request(refresh).as_bytes());
    assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
}

#[test]
fn unwanted_upgrade_is_ignored_on_a_kept_connection() {
    let server = Server::start();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let body = r#"{"username":"ann","password":"seven brown otters sing"}"#;
    let h2c =
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQBAAAAAAIAAAAA";
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13";
    let sign_up = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());

    for (line, upgrade, rest, status) in [
        ("POST /api/signup", h2c, sign_up.as_str(), 201),
        ("POST /api/login", h2c, &sign_up, 200),
        ("POST /api/login", websocket, &sign_up, 200),
        ("GET /api/me", websocket, "\r\n", 401),
        ("GET /api/me", h2c, "\r\n", 401),
        ("GET /health/ready", websocket, "\r\n", 200),
    ] {
        write!(stream, "{line} HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n{rest}").unwrap();

        let mut answer = Vec::new();
        // A head, and a body that ends with the brace of an object.
        while !answer.ends_with(b"}") {
            let mut room = [0; 4096];
            let count = stream.read(&mut room).unwrap();
            assert_ne!(count, 0, "{line} {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&room[..count]);
        }
        let answer = String::from_utf8(answer).unwrap();

        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line} {answer}");
        assert!(!answer.to_ascii_lowercase().contains("\r\nconnection:"), "{line} {answer}");
    }
}

#[test]
fn answer_to_a_chunked_request_closes_the_connection() {
    let server = Server::start();
    let body = r#"{"username":"ann","password":"seven brown otters sing"}"#;
    let get = "GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n";

    for (end, status) in [("0\r\n\r\n", 201), ("0\r\nx: y\r\n\r\n", 409)] {
        let sent = format!(
            "POST /api/signup HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n{end}{get}{get}",
            body.len()
        );
        let answers = exchange(&server, sent.as_bytes());

        assert!(answers.starts_with(&format!("HTTP/1.1 {status} ")), "{end:?} {answers}");
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{end:?} {answers}");
        assert!(answers.contains("connection: close"), "{end:?} {answers}");
    }
}

#[test]
fn half_closed_client_gets_no_answer() {
    let server = Server::start();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let body = r#"{"username":"ann","password":"seven brown otters sing"}"#;
    write!(
        stream,
        "POST /api/signup HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();

    let mut answer = String::new();
    // Nothing, or a reset.
    _ = stream.read_to_string(&mut answer);

    assert_eq!(answer, "");
}

#[test]
fn a_line_that_ends_in_a_bare_line_feed_is_one_line_and_never_two_requests() {
    let server = Server::start();
    // The parser takes a bare line feed for the end of a line, as RFC 9112, section 2.2, lets it. What may
    // not happen is that the two readings make different numbers of requests.
    let request = "GET /health/live HTTP/1.1\nHost: x\nX-A: GET /nope HTTP/1.1\nConnection: close\n\n";

    let answer = exchange(&server, request.as_bytes());

    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.matches("HTTP/1.1 ").count() == 1, "{answer}");
}

#[tokio::test]
async fn the_store_that_is_locked_by_somebody_else_is_503_and_not_ready_and_recovers() {
    let server = Server::start();
    let client = Client::of(&server);
    let token = client.token_of_new("ann").await;

    let lock = crate::support::lock::Lock::take(&server.deployment().folder().join("data/auth.db"));
    let (signed_up, logged_in, ready, live) = futures_util::join!(
        client.sign_up("eve", PASSWORD),
        client.log_in("ann", PASSWORD),
        client.get("/health/ready"),
        client.get("/health/live")
    );
    signed_up.assert_problem(503, "unavailable");
    assert_eq!(signed_up.header("Retry-After"), "5");
    logged_in.assert_problem(503, "unavailable");
    ready.assert_problem(503, "unavailable");
    assert_eq!(live.status, 200);
    // Reading goes on beside a writer, although the first look at a token is to be noted.
    assert_eq!(client.me(&token).await.status, 200);
    drop(lock);

    assert_eq!(client.sign_up("eve", PASSWORD).await.status, 201);
    assert_eq!(client.get("/health/ready").await.status, 200);
}

#[test]
fn five_hundred_clients_that_hang_up_leave_a_store_that_writes_at_once() {
    use std::io::Write;
    use std::net::TcpStream;

    let mut server = Server::start();
    let body = |n: usize| json!({ "username": format!("user-{n}"), "password": PASSWORD }).to_string();
    for n in 0..500 {
        let body = body(n);
        let request = format!(
            "POST /api/{} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            if n % 2 == 0 { "signup" } else { "login" },
            body.len(),
        );
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(&request.as_bytes()[..request.len() - n % 7]).unwrap();
        // Closing with unread data, or at once, resets the connection while the server is at work.
        rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
    }

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::of(&server);
        let token = client.token_of_new("ann").await;
        assert_eq!(client.me(&token).await.status, 200);
    });

    // Nobody has an account that the audit log does not know of.
    server.terminate();
    assert!(server.wait().success());
    let made = server.deployment().run(&["users", "list", "--json"]).json().as_array().unwrap().len();
    let is_made = |event: &Value| event["event"] == "sign_up" && event["outcome"] == "success";
    assert_eq!(server.log().audit().iter().filter(|event| is_made(event)).count(), made);
}
