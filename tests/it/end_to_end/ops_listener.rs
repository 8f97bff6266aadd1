//! What operators see of a running server.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::client::{Client, PASSWORD};
use crate::support::external_tools;
use crate::support::server::Server;

/// The samples of a scrape: name and labels, and the value.
struct Scrape(BTreeMap<String, String>);

impl Scrape {
    async fn of(server: &Server) -> Self {
        let text = reqwest::get(format!("{}/metrics", server.ops_url())).await.unwrap().text().await.unwrap();
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        Self(
            samples
                .map(|line| line.rsplit_once(' ').unwrap())
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    /// The value of a sample that is a whole number.
    #[track_caller]
    fn value(&self, name: &str) -> u64 {
        self.0.get(name).unwrap_or_else(|| panic!("no {name} in {:#?}", self.0)).parse().unwrap()
    }
}

/// Whatever there is to count has happened once.
async fn busy() -> (Server, Client) {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    client.sign_up("ann", PASSWORD).await;
    client.log_in("ann", "wrong").await;
    let logged_in = client.log_in("ann", PASSWORD).await;
    client.post("/api/refresh", &json!({ "refresh_token": logged_in.refresh_token() })).await;
    client.me(&logged_in.token()).await;
    (server, client)
}

#[tokio::test]
async fn what_happens_is_counted() {
    let (server, client) = busy().await;
    let before = Scrape::of(&server).await;

    client.log_in("ann", "wrong").await;
    client.log_in("nobody", "wrong").await;
    let token = client.log_in("ann", PASSWORD).await.token();
    client.me(&token).await;
    client.get("/canary-4711?canary-4711").await;

    let after = Scrape::of(&server).await;
    // What has not happened yet is not there yet.
    let more = |name: &str| after.value(name) - before.0.get(name).map_or(0, |_| before.value(name));
    assert_eq!(more(r#"auth_api_http_requests_total{route="/api/login",method="POST",status="401"}"#), 2);
    assert_eq!(more(r#"auth_api_http_requests_total{route="/api/me",method="GET",status="200"}"#), 1);
    assert_eq!(more(r#"auth_api_http_requests_total{route="unmatched",method="GET",status="404"}"#), 1);
    let logins = r#"auth_api_http_request_duration_seconds_count{route="/api/login",method="POST"}"#;
    assert_eq!(more(logins), 3);
    let refused =
        |reason| format!(r#"auth_api_attempts_total{{action="log_in",outcome="refused",reason="{reason}"}}"#);
    assert_eq!(more(&refused("wrong_password")), 1);
    assert_eq!(more(&refused("unknown_user")), 1);
    assert_eq!(more(r#"auth_api_attempts_total{action="log_in",outcome="success",reason=""}"#), 1);
    assert_eq!(more("auth_api_hashing_wait_seconds_count"), 3);
    assert_eq!(after.value("auth_api_http_requests_in_flight"), 0);
    assert_eq!(after.value("auth_api_hashing_queue_length"), 0);
    assert!(after.value("process_resident_memory_bytes") > 1_000_000);
    assert!(!after.0.keys().any(|name| name.contains("canary")), "{:#?}", after.0.keys());
}

#[tokio::test]
async fn who_has_sent_too_much_is_counted_by_what_the_quota_is_of() {
    let limits = [("ENABLED", "true"), ("LOGINS", "1"), ("SESSION", "2")];
    let deployment = limits.into_iter().fold(super::deployment(), |deployment, (name, value)| {
        deployment.set(&format!("AUTH_LIMITS__{name}"), value)
    });
    let server = deployment.serve();
    let client = Client::of(&server);
    client.sign_up("ann", PASSWORD).await;
    let token = client.log_in("ann", PASSWORD).await.token();
    for _ in 0..3 {
        assert_eq!(client.log_in("ann", "wrong").await.status, 429);
    }
    let answers = [client.me(&token).await, client.me(&token).await, client.me(&token).await];
    assert_eq!(answers.map(|answer| answer.status.as_u16()), [200, 200, 429]);

    let scrape = Scrape::of(&server).await;

    let limited = |quota| scrape.value(&format!(r#"auth_api_http_limited_total{{quota="{quota}"}}"#));
    assert_eq!(["login", "session"].map(limited), [3, 1]);
    assert_eq!(["signup", "refresh", "anonymous"].map(limited), [0; 3]);
}

#[tokio::test]
async fn what_was_lacking_is_counted_apart() {
    let deployment = super::deployment()
        .set("AUTH_HASHING__WORKERS", "1")
        .set("AUTH_HASHING__LANES", "1")
        .set("AUTH_HASHING__QUEUE", "1");
    let server = deployment.serve();
    let client = Client::of(&server);
    client.sign_up("ann", PASSWORD).await;
    let logins = join_all((0..10).map(|_| client.log_in("ann", PASSWORD))).await;
    let refused = logins.iter().filter(|answer| answer.status == 503).count() as u64;
    assert!(refused > 0);
    let lack = async |lack| {
        Scrape::of(&server).await.value(&format!(r#"auth_api_http_unavailable_total{{lack="{lack}"}}"#))
    };
    assert_eq!([lack("hashing").await, lack("database").await, lack("time").await], [refused, 0, 0]);

    let held = server.deployment().lock();
    client.sign_up("eve", PASSWORD).await.assert_problem(503, "unavailable");
    drop(held);

    assert_eq!([lack("hashing").await, lack("database").await, lack("time").await], [refused, 1, 0]);
}

#[tokio::test]
async fn a_request_that_waits_is_in_flight() {
    let server = super::deployment().serve();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let head = "POST /api/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    // It says so when the handler waits for the body.
    stream.read_exact(&mut [0; 25]).unwrap();

    assert_eq!(Scrape::of(&server).await.value("auth_api_http_requests_in_flight"), 1);
}

#[tokio::test]
async fn connections_are_counted_and_why_they_were_cut() {
    let server = super::deployment().serve();
    let _open = TcpStream::connect(server.address()).unwrap();
    let mut cut = TcpStream::connect(server.address()).unwrap();
    cut.write_all(format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(40_000)).as_bytes()).unwrap();
    let mut said = Vec::new();
    cut.read_to_end(&mut said).unwrap();
    assert!(said.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&said));

    let scrape = Scrape::of(&server).await;

    assert!(scrape.value("auth_api_http_connections") >= 1);
    let of = |reason| scrape.value(&format!(r#"auth_api_http_connections_cut_total{{reason="{reason}"}}"#));
    assert_eq!(of("large_head"), 1);
    assert_eq!(["no_room", "to_make_room", "silent", "slow_head", "untaken_answer"].map(of), [0; 5]);
}

#[tokio::test]
async fn a_client_can_make_no_series_of_its_own() {
    let (server, client) = busy().await;
    let series = |scrape: Scrape| scrape.0.into_keys().collect::<BTreeSet<_>>();
    let ask = async |number: usize| {
        for method in ["GET", "POST", "BREW", &format!("CANARY{number}")] {
            let path = format!("/{number}?{number}");
            client.send(client.request(method, &path).header("User-Agent", number)).await;
        }
        client.send(client.request("DELETE", &format!("/api/sessions/{number}"))).await;
        client.log_in(&format!("canary{number}"), "wrong").await;
    };
    ask(0).await;
    let few = series(Scrape::of(&server).await);

    for number in 1..20 {
        ask(number).await;
    }

    assert_eq!(series(Scrape::of(&server).await), few);
}

#[tokio::test]
async fn promtool_finds_nothing_wrong_with_the_measurements() {
    let (server, _) = busy().await;
    let answer = reqwest::get(format!("{}/metrics", server.ops_url())).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text().await.unwrap();
    if !external_tools::is_installed("promtool") {
        external_tools::skip("Prometheus' opinion of the measurements", "promtool (apt install prometheus)");
        return;
    }

    let mut check = Command::new("promtool");
    check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut check = check.spawn().unwrap();
    check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let checked = check.wait_with_output().unwrap();

    assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:?}");
}

#[tokio::test]
async fn how_each_part_is_can_be_seen_and_no_secret() {
    let server = super::deployment().serve();
    let health = async |server: &Server| {
        let answer = reqwest::get(format!("{}/health", server.ops_url())).await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let statuses = |health: &Value| {
        let parts = health["parts"].as_array().unwrap().iter();
        parts.map(|part| format!("{} {}", text(&part["name"]), text(&part["status"]))).collect::<Vec<_>>()
    };

    let (status, well) = health(&server).await;
    assert_eq!((status, &well["status"]), (200, &json!("well")));
    assert_eq!(statuses(&well), ["database well", "hashing well", "keys well"]);
    assert_eq!(well["version"], env!("CARGO_PKG_VERSION"));
    assert!(well["parts"][1]["workers"].as_u64() > Some(0), "{well}");
    let secret = std::fs::read_to_string(server.deployment().folder().join("data/token-secret")).unwrap();
    assert!(!well.to_string().contains(secret.trim_end()), "{well}");

    // What was found once holds for a second, so another one is asked.
    let server = super::deployment().serve();
    server.deployment().tamper("ALTER TABLE users RENAME TO gone");
    let (status, unwell) = health(&server).await;
    assert_eq!((status, &unwell["status"]), (503, &json!("unavailable")));
    assert_eq!(statuses(&unwell)[0], "database unavailable");
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[tokio::test]
async fn operators_and_the_public_see_nothing_of_each_other() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    client.get("/metrics").await.assert_problem(404, "not_found");
    client.get("/health").await.assert_problem(404, "not_found");

    let ops = Client::of_operators(&server);
    for path in ["/", "/api/me", "/health/live", "/docs", "/canary-4711"] {
        ops.get(path).await.assert_problem(404, "not_found");
    }
    let wrong = ops.post("/metrics", &json!({})).await;
    wrong.assert_problem(405, "method_not_allowed");
    assert_eq!(wrong.header("Allow"), "GET, HEAD");
    ops.get(&format!("/{}", "x".repeat(9000))).await.assert_problem(414, "uri_too_long");
}

#[test]
fn a_port_that_somebody_has_stops_the_start_and_names_the_setting() {
    let server = Server::start();
    let ops = server.ops_url().strip_prefix("http://").unwrap().to_owned();

    let refused = super::deployment().set("AUTH_OPS__ADDR", ops).run(&["serve"]);

    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("AUTH_OPS__ADDR"), "{refused:?}");
}

#[test]
fn without_an_address_there_is_no_listener_for_operators() {
    let server = super::deployment().set("AUTH_OPS__ADDR", "").serve();

    let listening = server.log().wait_for("a listening server", |line| line["message"] == "listening");

    assert!(listening["ops"].is_null(), "{listening}");
}

#[test]
fn operators_see_a_server_drain() {
    let mut server = super::deployment().set("AUTH_HTTP__GRACE", "1h").serve();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let head = "POST /api/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    stream.read_exact(&mut [0; 25]).unwrap();
    server.terminate();
    server.log().wait_for("a stop", |line| line["message"] == "stopping");

    let address = server.ops_url().strip_prefix("http://").unwrap().to_owned();
    let mut ops = TcpStream::connect(address).unwrap();
    ops.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut seen = String::new();
    ops.read_to_string(&mut seen).unwrap();

    assert!(seen.contains("\nauth_api_http_requests_in_flight 1\n"), "{seen}");
    stream.write_all(b"{}").unwrap();
    assert!(server.wait().success());
}
