//! What an operator changes while the server runs, by a file and a SIGHUP.

use std::fs;

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::server::{Deployment, Server};

const FILE: &str = "auth-api.toml";

/// A server that has this in its configuration file.
fn server(file: &str) -> Server {
    let deployment = Deployment::new().set("AUTH_LIMITS__ENABLED", "true");
    deployment.write(FILE, file);
    deployment.serve()
}

/// Puts other things into its configuration file, tells it, and returns what it says.
fn change(server: &Server, file: &str, answer: &str) -> Value {
    server.deployment().write(FILE, file);
    server.hang_up();
    server.log().wait_for("an answer", |line| line["message"] == answer)
}

const DONE: &str = "read the configuration again";
const NOT_DONE: &str = "the settings stay as they were";

#[tokio::test]
async fn origins_and_limits_change_at_once() {
    let server = server("[limits]\nlogins = 1\n");
    let client = Client::of(&server);
    let asks = async |origin: &str| {
        let answer = client.send(client.request("GET", "/health/live").header("Origin", origin)).await;
        answer.header("Access-Control-Allow-Origin").to_owned()
    };
    assert_eq!(client.log_in("ann", "x").await.status, 401);
    assert_eq!(client.log_in("ann", "x").await.status, 429);
    assert_eq!(asks("https://app.example").await, "");

    let file = "[limits]\nlogins = 2\n[cors]\norigins = \"https://app.example\"\n";
    let said = change(&server, file, DONE);

    assert_eq!(said["changed"], "AUTH_CORS__ORIGINS AUTH_LIMITS__LOGINS");
    assert_eq!(asks("https://app.example").await, "https://app.example");
    assert_eq!(client.log_in("ann", "x").await.header("RateLimit"), "\"login\";r=1;t=30");
}

#[tokio::test]
async fn what_was_counted_goes_on_being_counted_when_something_else_changes() {
    let server = server("[limits]\nlogins = 1\n");
    let client = Client::of(&server);
    assert_eq!(client.log_in("ann", "x").await.status, 401);

    change(&server, "[limits]\nlogins = 1\n[cors]\norigins = \"https://app.example\"\n", DONE);

    assert_eq!(client.log_in("ann", "x").await.status, 429);
}

#[tokio::test]
async fn another_level_shows_less_and_more() {
    let server = server("");
    let client = Client::of(&server);

    change(&server, "[log]\nlevel = \"error\"\n", DONE);
    // That was said a moment before, or it would not have been. What goes wrong is shown, and only after that moment.
    change(&server, "[log\n", NOT_DONE);
    let unseen = client.get("/nothing").await;
    server.deployment().write(FILE, "");
    server.hang_up();
    server.log().wait_for_all("the second answer", 2, |line| line["message"] == DONE);
    let seen = client.get("/nothing").await;

    // Lines come in the order in which they were written.
    server.log().wait_for("a request", |line| line["request_id"] == seen.header("X-Request-Id"));
    let id = unseen.header("X-Request-Id");
    assert!(server.log().lines().iter().all(|line| !line.contains(id)), "{id}");
}

#[tokio::test]
async fn a_file_that_cannot_be_used_changes_nothing_and_is_told_of_without_what_is_in_it() {
    let server = server("[limits]\nlogins = 1\n");
    let client = Client::of(&server);
    assert_eq!(client.log_in("ann", "x").await.status, 401);
    assert_eq!(client.log_in("ann", "x").await.status, 429);

    server.deployment().write("key.pem", "no key");
    for (file, names) in [
        ("[limits]\nlogins = 2\n[tls]\ncert_path = \"none.pem\"\nkey_path = \"key.pem\"\n", "none.pem"),
        ("[limits]\nlogins = 2\n[cors]\norigins = \"xcanaryx\"\n", "AUTH_CORS__ORIGINS"),
        ("[limits]\nlogins = 3\nlogouts = 4\n", "limits.logouts"),
        ("[limits\n", FILE),
    ] {
        server.deployment().write(FILE, file);
        server.hang_up();
        server.log().wait_for("an error", |line| {
            line["message"] == NOT_DONE
                && line["level"] == "ERROR"
                && line["cause"].as_str().is_some_and(|cause| cause.contains(names))
        });
        assert_eq!(client.log_in("ann", "x").await.status, 429, "{file}");
    }

    assert!(server.log().lines().iter().all(|line| !line.contains("xcanaryx")));
}

#[test]
fn where_nothing_changes_that_is_said_in_words() {
    let file = "[limits]\nlogins = 1\n";
    let server = server(file);

    let same = change(&server, file, "read the configuration again, and nothing is different");
    let later = change(&server, "[limits]\nlogins = 1\n[docs]\nenabled = false\n", DONE);

    assert!(same.get("changed").is_none() && later.get("changed").is_none(), "{same} {later}");
}

#[tokio::test]
async fn a_file_that_is_lost_does_not_mean_the_defaults() {
    for (lost, text) in [(FILE, "[limits]\nlogins = 1\n"), (".env", "AUTH_LIMITS__LOGINS=1\n")] {
        let deployment = Deployment::new().set("AUTH_LIMITS__ENABLED", "true");
        let path = deployment.write(lost, text);
        let server = deployment.serve();
        let client = Client::of(&server);
        assert_eq!(client.log_in("ann", "x").await.status, 401);

        fs::remove_file(path).unwrap();
        server.hang_up();

        let said = server.log().wait_for("an error", |line| line["message"] == NOT_DONE);
        assert!(said["cause"].as_str().unwrap().starts_with(lost), "{said}");
        assert_eq!(client.log_in("ann", "x").await.status, 429);
        // An empty one says that they are meant.
        server.deployment().write(lost, "");
        server.hang_up();
        server.log().wait_for("an answer", |line| line["message"] == DONE);
        assert_eq!(client.log_in("ann", "x").await.status, 401);
    }
}

#[tokio::test]
async fn what_takes_a_restart_is_said_to_take_one_and_takes_it() {
    let server = server("");
    let client = Client::of(&server);
    let file = "[docs]\nenabled = false\n";

    let said = change(&server, file, "some settings take effect at the next start only");
    assert_eq!((&said["changed"], &said["level"]), (&json!("AUTH_DOCS__ENABLED"), &json!("WARN")));
    assert_eq!(client.get("/docs").await.status, 200);
    let server = server.restart();

    assert_eq!(Client::of(&server).get("/docs").await.status, 404);
}
