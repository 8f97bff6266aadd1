//! What the HTTP surface does with requests that are wrong, and what every answer has.

mod framing;
mod routing;

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
