//! What the log tells, and what it never does.

use std::io::{BufRead, BufReader, Read, Write};
use std::iter::repeat_with;
use std::net::TcpStream;
use std::process::{Child, ChildStderr};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::client::{Client, PASSWORD, exchange};
use crate::support::server::Deployment;

#[tokio::test]
async fn each_request_and_each_authentication_event_is_one_line() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    client.sign_up("ann", PASSWORD).await;
    client.log_in("ann", PASSWORD).await;
    client.log_in("ann", "wrong").await;
    client.log_in("nobody", "wrong").await;
    let last = client.me("no.good.token").await;

    let line = server.log().wait_for("the last request", |line| {
        line["target"] == "api::request" && line["request_id"] == last.header("X-Request-Id")
    });

    assert_eq!(
        (&line["method"], &line["route"], &line["status"]),
        (&json!("GET"), &json!("/api/me"), &json!(401))
    );
    assert_eq!((&line["client"], &line["code"]), (&json!("127.0.0.1"), &json!("invalid_token")));
    assert!(line["microseconds"].is_u64());
    let events: Vec<_> = server.log().audit();
    let told: Vec<_> = events
        .iter()
        .map(|event| (text(event, "event"), text(event, "outcome"), text(event, "reason")))
        .collect();
    let expected = [
        ("sign_up", "success", ""),
        ("log_in", "success", ""),
        ("log_in", "refused", "wrong_password"),
        ("log_in", "refused", "unknown_user"),
        ("show_token", "refused", "invalid"),
    ];
    assert_eq!(told, expected);
    for event in &events {
        assert!(text(event, "timestamp").ends_with('Z') && !text(event, "request_id").is_empty(), "{event}");
        assert_eq!(event["client"], "127.0.0.1");
    }
    // Whoever exists is told by number, and who does not by a digest.
    assert!(events[..3].iter().all(|event| event["user_id"] == 1 && event["name_digest"].is_null()));
    assert!(events[3]["user_id"].is_null() && events[3]["name_digest"].is_string());
}

fn text<'a>(line: &'a Value, field: &str) -> &'a str {
    line[field].as_str().unwrap_or_default()
}

#[tokio::test]
async fn no_secret_that_a_client_sends_anywhere_appears_in_the_log_or_in_an_answer() {
    let server = super::deployment().set("AUTH_LOG__LEVEL", "trace").serve();
    let client = Client::of(&server);
    let canary = "canary-4711-quokka";
    let mut answers = vec![
        client.sign_up("ann", canary).await,
        client.sign_up(canary, PASSWORD).await,
        client.sign_up(&format!("{canary}!"), canary).await,
        client.log_in(canary, canary).await,
        client.log_in(&format!("{canary} \0"), canary).await,
        client.me(canary).await,
        client.me(&format!("{canary}.{canary}.{canary}")).await,
        client.get(&format!("/{canary}?token={canary}")).await,
        client.get(&format!("/problems/{canary}")).await,
        client.post_text("/api/login", format!("{{\"{canary}\":")).await,
        client.post("/api/login", &json!({ canary: canary })).await,
        client.post("/api/login", &json!({ "username": [canary], "password": { canary: canary } })).await,
        client.send(client.request(&canary.to_uppercase(), "/api/me")).await,
        client.post("/api/refresh", &json!({ "refresh_token": canary })).await,
        client.post("/api/logout", &json!({ "refresh_token": canary })).await,
    ];
    for header in
        ["Cookie", "User-Agent", "X-Forwarded-For", "Forwarded", "Referer", "Accept", "X-Custom", "Origin"]
    {
        answers.push(client.send(client.request("GET", "/api/me").header(header, canary)).await);
    }
    let logged_in = client.log_in("ann", canary).await;
    let (token, first) = (logged_in.token(), logged_in.refresh_token());
    let second = client.post("/api/refresh", &json!({ "refresh_token": first })).await.refresh_token();
    let last = client.me(&token).await;
    server.log().wait_for("the last request", |line| line["request_id"] == last.header("X-Request-Id"));
    let kept = ["data/token-secret", "data/refresh-key"].map(|file| {
        let secret = std::fs::read_to_string(server.deployment().folder().join(file)).unwrap();
        secret.trim_end().to_owned()
    });
    let secrets = [&token, &first, &second, &kept[0], &kept[1]];

    // The one answer that repeats a name is the one that says it was taken into use.
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        let shown = format!("{:?} {}", answer.headers, String::from_utf8_lossy(&answer.bytes));
        assert!(!shown.to_lowercase().contains(canary), "{shown}");
    }
    for line in server.log().lines() {
        assert!(!line.to_lowercase().contains(canary), "{line}");
        assert!(!secrets.iter().any(|secret| line.contains(secret.as_str())), "{line}");
    }
}

#[tokio::test]
async fn nothing_a_client_sends_begins_a_line_of_its_own() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    let hostile = "ann\r\n{\"target\":\"audit\",\"event\":\"forged\"}\u{1b}[31m";
    client.sign_up(hostile, hostile).await;
    client.log_in(hostile, hostile).await;
    client.get("/%0d%0aforged%1b[31m").await;
    client.send(client.request("GET", "/api/me").header("X-Request-Id", "forged\tline")).await;
    let last = client.get("/health/live").await;
    server.log().wait_for("the last request", |line| line["request_id"] == last.header("X-Request-Id"));

    for line in server.log().lines() {
        assert!(!line.contains("forged") && !line.contains('\u{1b}'), "{line}");
        assert!(serde_json::from_str::<Value>(&line).is_ok(), "{line}");
    }
}

#[tokio::test]
async fn a_harmless_request_id_is_kept_and_any_other_replaced() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    let ask = |id: &str| client.send(client.request("GET", "/nope").header("X-Request-Id", id));

    let kept = ask("0198-abc.DEF_1").await;
    assert_eq!(kept.header("X-Request-Id"), "0198-abc.DEF_1");
    assert_eq!(kept.json()["request_id"], "0198-abc.DEF_1");
    for id in ["", "a b", "x\"y", &"x".repeat(65)] {
        let replaced = ask(id).await;
        assert_eq!(replaced.header("X-Request-Id").len(), 32, "{id}");
    }
}

#[tokio::test]
async fn what_is_no_request_has_no_line_however_much_of_it_comes() {
    let server = super::deployment().serve();
    for _ in 0..3 {
        exchange(&server, b"GET / HTTP/1.1\r\nHost: x\r\nbad h\x01: x\r\n\r\n");
    }
    Client::of(&server).get("/health/live").await;

    server.log().wait_for("the request", |line| line["route"] == "/health/live");
    let lines = server.log().lines();
    assert!(lines.iter().all(|line| line.contains("\"INFO\"")), "{lines:#?}");
}

#[tokio::test]
async fn statements_are_logged_at_debug_without_their_values() {
    let log = |level: &str| super::deployment().set("AUTH_LOG__LEVEL", level).serve();
    let is_statement = |line: &Value| line["message"] == "statement";
    let (debugging, usual) = (log("debug"), log("info"));
    for server in [&debugging, &usual] {
        Client::of(server).sign_up("ann-4711", PASSWORD).await;
    }

    let insert = debugging.log().wait_for("an insert", |line| {
        is_statement(line)
            && text(line, "statement").starts_with("INSERT INTO")
            && line["duration_ms"].is_f64()
    });
    debugging.log().wait_for("a commit", |line| is_statement(line) && line["statement"] == "COMMIT");

    assert_eq!((&insert["level"], &insert["failed"]), (&json!("DEBUG"), &json!(false)));
    for line in debugging.log().lines() {
        assert!(!line.contains("ann-4711") && !line.contains("$2b$") && !line.contains("binds"), "{line}");
    }
    usual.log().wait_for("the request", |line| line["route"] == "/api/signup");
    assert!(usual.log().lines().iter().all(|line| !line.contains("INSERT INTO")));
}

/// A server whose log is read only where a test does.
struct Unread {
    _deployment: Deployment,
    process: Child,
    log: BufReader<ChildStderr>,
    stream: TcpStream,
}

impl Unread {
    fn start() -> Self {
        let deployment = super::deployment();
        let mut process = deployment.command(&["serve"]).spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let listening = repeat_with(|| next_line(&mut log)).find(|line| line["message"] == "listening");
        let address = listening.unwrap()["address"].as_str().unwrap().replace("http://", "");
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { _deployment: deployment, process, log, stream }
    }

    /// Sends a request that is answered 401 with a problem document.
    fn send(&mut self, request: &str) {
        self.stream.write_all(request.as_bytes()).unwrap();
        let (mut answer, mut room) = (Vec::new(), [0; 4096]);
        while !answer.ends_with(b"}") {
            let count = self.stream.read(&mut room).unwrap();
            assert_ne!(count, 0);
            answer.extend_from_slice(&room[..count]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 401 "), "{}", String::from_utf8_lossy(&answer));
    }

    fn terminate(&self) {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

fn next_line(log: &mut impl BufRead) -> Value {
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

const ME: &str = "GET /api/me HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn stalled_log_reader_delays_neither_answers_nor_the_stop() {
    let mut server = Unread::start();
    let wrong = r#"{"username":"nobody","password":"wrong"}"#;
    let length = wrong.len();
    let log_in = format!(
        "POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{wrong}"
    );

    // A pipe holds 64 KiB, which is some 300 lines.
    (0..2000).for_each(|_| server.send(ME));
    server.send(&log_in);
    (0..100).for_each(|_| server.send(ME));
    server.terminate();

    assert!(server.process.wait().unwrap().success());
}

#[test]
fn log_says_how_many_lines_were_dropped() {
    let mut server = Unread::start();
    (0..2000).for_each(|_| server.send(ME));

    let (mut requests, mut dropped) = (0, 0);
    while requests + dropped < 2000 {
        let line = next_line(&mut server.log);
        requests += u64::from(line["target"] == "api::request");
        dropped += line["dropped"].as_u64().unwrap_or(0);
    }

    assert!(dropped > 0);
    assert_eq!(requests + dropped, 2000);
}
