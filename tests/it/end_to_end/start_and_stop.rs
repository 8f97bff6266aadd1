//! How the server comes and goes.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::Value;

use crate::support::server::{Deployment, Server};

/// What a terminal makes a SIGINT of.
const CTRL_C: &[u8] = b"\x03";

const BODY: &str = r#"{"username":"ann","password":"kq7wzmv1 river"}"#;

async fn post(server: &Server, path: &str) -> reqwest::Response {
    let request = Client::new().post(server.url(path)).header("Content-Type", "application/json").body(BODY);
    request.send().await.unwrap()
}

async fn token(server: &Server) -> String {
    let answer: Value = post(server, "/api/login").await.json().await.unwrap();
    answer["access_token"].as_str().unwrap().to_owned()
}

async fn me(server: &Server, token: &str) -> StatusCode {
    Client::new().get(server.url("/api/me")).bearer_auth(token).send().await.unwrap().status()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A sign-up whose handler waits for the rest of the body: the server has said that it may be sent.
fn begin_sign_up(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    write!(
        stream,
        "POST /api/signup HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nExpect: \
         100-continue\r\n\r\n",
        server.address(),
        BODY.len()
    )
    .unwrap();
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).unwrap();
    assert_eq!(asked.as_slice(), b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

fn wait_until_it_stops(server: &Server) {
    server.log().wait_for("a stop", |line| line["message"] == "stopping");
}

#[test]
fn a_newcomer_needs_no_settings() {
    let server = Deployment::bare()
        .set("AUTH_HTTP__ADDR", "127.0.0.1:0")
        .set("AUTH_OPS__ADDR", "127.0.0.1:0")
        .set("AUTH_LOG__FORMAT", "json")
        .serve();

    let listening = server.log().wait_for("a listening server", |line| line["message"] == "listening");

    assert_eq!(listening["docs"], server.url("/docs"));
    let data = server.deployment().folder().join("data");
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("token-secret")), 0o600);
    assert_eq!(mode(&data.join("auth.db")), 0o600);
}

#[tokio::test]
async fn users_and_tokens_outlive_a_restart() {
    let server = Server::start();
    assert_eq!(post(&server, "/api/signup").await.status(), StatusCode::CREATED);
    let token = token(&server).await;
    let secret = fs::read(server.deployment().folder().join("data/token-secret")).unwrap();

    let server = server.restart();

    assert_eq!(me(&server, &token).await, StatusCode::OK);
    assert_eq!(post(&server, "/api/login").await.status(), StatusCode::OK);
    assert_eq!(fs::read(server.deployment().folder().join("data/token-secret")).unwrap(), secret);
}

#[tokio::test]
async fn a_user_who_was_acknowledged_outlives_a_power_cut() {
    let server = Server::start();
    assert_eq!(post(&server, "/api/signup").await.status(), StatusCode::CREATED);
    let deployment = server.deployment().clone();

    server.kill();

    assert_eq!(post(&deployment.serve(), "/api/login").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn two_who_start_at_once_in_an_empty_folder_share_one_secret_and_one_database() {
    let deployment = Deployment::new();

    let (one, other) = std::thread::scope(|scope| {
        let one = scope.spawn(|| deployment.serve());
        let other = scope.spawn(|| deployment.serve());
        (one.join().unwrap(), other.join().unwrap())
    });

    assert_eq!(post(&one, "/api/signup").await.status(), StatusCode::CREATED);
    assert_eq!(me(&other, &token(&one).await).await, StatusCode::OK);
}

#[test]
fn a_stop_finishes_the_request_in_flight_and_ends_well() {
    let mut server = Deployment::new().set("AUTH_HTTP__GRACE", "1h").serve();
    let mut stream = begin_sign_up(&server);

    server.terminate();
    wait_until_it_stops(&server);
    stream.write_all(BODY.as_bytes()).unwrap();

    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.to_lowercase().contains("\r\nconnection: close"), "{head}");
    assert_eq!(serde_json::from_str::<Value>(body).unwrap()["username"], "ann");
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(server.deployment().run(&["users", "show", "ann", "--json"]).json()["username"], "ann");
}

#[tokio::test]
async fn nobody_new_gets_in_while_it_stops() {
    let mut server = Deployment::new().set("AUTH_HTTP__GRACE", "1h").serve();
    let stream = begin_sign_up(&server);
    server.terminate();
    wait_until_it_stops(&server);

    // The listener closes a moment after the line is written; this ends when it has.
    let refused = async {
        loop {
            if let Err(refused) = tokio::net::TcpStream::connect(server.address()).await {
                return refused.kind();
            }
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(20), refused).await;

    // Whoever waits to be accepted when it closes is thrown out.
    let refusals = [ErrorKind::ConnectionRefused, ErrorKind::ConnectionReset];
    assert!(refusals.contains(&refused.expect("it still listens")));
    drop(stream);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_connection_that_only_waits_does_not_hold_up_a_stop() {
    let server = Deployment::new().set("AUTH_HTTP__GRACE", "1h").serve();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    write!(stream, "GET /health/live HTTP/1.1\r\nHost: {}\r\n\r\n", server.address()).unwrap();
    let mut status = String::new();
    BufReader::new(&stream).read_line(&mut status).unwrap();
    assert_eq!(status, "HTTP/1.1 200 OK\r\n");

    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn a_stop_waits_no_longer_than_the_grace() {
    let server = Deployment::new().set("AUTH_HTTP__GRACE", "1s").serve();
    let _stream = begin_sign_up(&server);

    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn second_sigterm_cuts_no_request_under_way() {
    let mut server = Deployment::new().set("AUTH_HTTP__GRACE", "1h").serve();
    let mut stream = begin_sign_up(&server);

    server.terminate();
    wait_until_it_stops(&server);
    for _ in 0..3 {
        server.terminate();
        server.interrupt();
    }
    stream.write_all(BODY.as_bytes()).unwrap();

    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn second_ctrl_c_on_a_terminal_cuts_requests_under_way() {
    let (mut server, mut terminal) = Deployment::new().set("AUTH_HTTP__GRACE", "1h").serve_on_a_terminal();
    let _stream = begin_sign_up(&server);

    terminal.write_all(CTRL_C).unwrap();
    wait_until_it_stops(&server);
    terminal.write_all(CTRL_C).unwrap();

    assert_eq!(server.wait().code(), Some(1));
}

#[test]
fn ctrl_c_on_a_terminal_ends_the_server() {
    let (mut server, mut terminal) = Deployment::new().serve_on_a_terminal();

    terminal.write_all(CTRL_C).unwrap();

    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn closed_terminal_ends_the_server() {
    let (mut server, terminal) = Deployment::new().serve_on_a_terminal();

    drop(terminal);

    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn sighup_on_an_open_terminal_reloads() {
    let (mut server, mut terminal) = Deployment::new().serve_on_a_terminal();

    server.hang_up();
    server.log().wait_for("a reload", |line| {
        line["message"].as_str().is_some_and(|message| message.starts_with("read the configuration again"))
    });
    terminal.write_all(CTRL_C).unwrap();

    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn server_leaves_no_core_dump() {
    let server = Server::start();

    let limits = fs::read_to_string(format!("/proc/{}/limits", server.process_id())).unwrap();

    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
}

#[test]
fn an_address_that_is_taken_is_named_by_its_key() {
    let server = Server::start();

    let refused = server.deployment().clone().set("AUTH_HTTP__ADDR", server.address()).run(&["serve"]);

    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("AUTH_HTTP__ADDR"), "{refused:?}");
}

#[tokio::test]
async fn what_a_client_sends_in_confidence_is_in_no_line_of_the_log_at_any_level() {
    let mut server = Deployment::new().set("AUTH_LOG__LEVEL", "trace").serve();
    post(&server, "/api/signup").await;
    let token = token(&server).await;
    me(&server, &token).await;
    me(&server, &format!("{token}x")).await;
    // Only when it has ended is the log whole.
    server.terminate();
    server.wait();

    let events: Vec<_> = server.log().audit().iter().map(|line| line["event"].clone()).collect();
    assert_eq!(events, ["sign_up", "log_in", "show_token"]);
    let log = server.log().lines().join("\n");
    let parts = token.split('.').chain(["kq7wzmv1"]);
    assert_eq!(parts.filter(|part| log.contains(part)).collect::<Vec<_>>(), [""; 0], "{log}");
}
