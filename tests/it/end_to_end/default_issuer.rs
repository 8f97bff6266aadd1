//! The issuer that follows from the listener in development.

use std::net::TcpListener;

use serde_json::Value;

use crate::support::client::{Client, PASSWORD};
use crate::support::server::{Deployment, Server};

/// The issuer as each text of the server has it, which have to agree.
async fn issuer(server: &Server) -> String {
    let client = Client::of(server);
    assert_eq!(client.sign_up("ann", PASSWORD).await.status, 201);
    let token = client.log_in("ann", PASSWORD).await.token();
    let claims: Value = {
        use base64::Engine;
        let segment = token.split('.').nth(1).unwrap();
        serde_json::from_slice(&base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(segment).unwrap()).unwrap()
    };
    let issuer = claims["iss"].as_str().unwrap().to_owned();
    assert_eq!(client.me(&token).await.status, 200);
    let problem = client.get("/nowhere").await.json();
    assert_eq!(problem["type"], format!("{issuer}/problems/not_found"));
    let discovered = client.get("/.well-known/openid-configuration").await.json();
    assert_eq!(discovered["issuer"], issuer);
    issuer
}

fn port(server: &Server) -> &str {
    server.base_url().rsplit_once(':').unwrap().1
}

/// A port that nobody has at this moment.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn development() -> Deployment {
    Deployment::new().unset("AUTH_TOKEN__ISSUER")
}

#[tokio::test]
async fn issuer_names_the_port_of_the_listener() {
    let free = free_port();
    let server = development().set("AUTH_HTTP__ADDR", format!("127.0.0.1:{free}")).serve();

    assert_eq!(issuer(&server).await, format!("http://localhost:{free}"));
}

#[tokio::test]
async fn issuer_names_the_port_that_the_system_chose() {
    let server = development().serve();

    assert_eq!(issuer(&server).await, format!("http://localhost:{}", port(&server)));
}

#[tokio::test]
async fn issuer_of_an_unspecified_address_is_localhost() {
    let deployment =
        development().set("AUTH_HTTP__ADDR", "0.0.0.0:0").set("AUTH_HTTP__BEHIND_TLS_PROXY", "true");
    let server = deployment.serve();
    let problem = reqwest::get(format!("http://127.0.0.1:{}/nowhere", port(&server))).await.unwrap();

    let problem: Value = problem.json().await.unwrap();

    assert_eq!(problem["type"], format!("http://localhost:{}/problems/not_found", port(&server)));
}

#[tokio::test]
async fn issuer_that_is_set_does_not_follow_the_listener() {
    let server = development().set("AUTH_TOKEN__ISSUER", "https://auth.example").serve();

    assert_eq!(issuer(&server).await, "https://auth.example");
}

#[test]
fn issuer_is_shown_as_it_will_be() {
    let issuer = |deployment: &Deployment| {
        let checked = deployment.run(&["config", "check"]);
        assert_eq!(checked.code, 0, "{checked:?}");
        let line = checked.stdout.lines().find_map(|line| line.strip_prefix("AUTH_TOKEN__ISSUER="));
        line.unwrap().to_owned()
    };
    let on = |address: &str| Deployment::bare().set("AUTH_HTTP__ADDR", address);

    assert_eq!(issuer(&Deployment::bare()), "http://localhost:8000");
    assert_eq!(issuer(&on("127.0.0.1:18200")), "http://localhost:18200");
    let production = on("127.0.0.1:18200")
        .set("AUTH_ENV", "production")
        .set("AUTH_TOKEN__SECRET", "mE0Wk8Qn1vTzr4YbXc7uJdL2gHs9aPfR5oKiN3tB6yM=")
        .set("AUTH_SESSION__REFRESH_KEY", "Zt5cVb1mQ8wXe7yRu3iKo0pLa9sDf4gHj2kNq6lTzWY=");
    assert_eq!(issuer(&production), "http://localhost:8000");
}
