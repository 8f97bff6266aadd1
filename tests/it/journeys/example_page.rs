//! The page that the README shows, in a real browser, on the API's own origin.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::support::browser::Browser;
use crate::support::client::{Client, PASSWORD};
use crate::support::server::{Deployment, Server};

const README: &str = include_str!("../../../README.md");

/// Where the page is, beside the API.
const PAGE: &str = "/app";

fn page() -> &'static str {
    let blocks: Vec<_> = README.split("```html\n").skip(1).collect();
    assert_eq!(blocks.len(), 1, "one page, and this test knows which");
    blocks[0].split_once("```").unwrap().0
}

/// The origin of a front end that serves the page and passes the rest on to the API, as a development server does.
async fn front_end(server: &Server) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let api: Arc<str> = server.address().into();
    tokio::spawn(async move {
        while let Ok((browser, _)) = listener.accept().await {
            // A browser that has gone is nobody's fault.
            tokio::spawn({
                let api = api.clone();
                async move { answer(browser, &api).await.ok() }
            });
        }
    });
    origin
}

/// One request, after which the connection is closed: each is looked at for where it goes.
async fn answer(mut browser: TcpStream, api: &str) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if browser.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    if request.starts_with(format!("GET {PAGE} ").as_bytes()) {
        let (page, kind) = (page(), "Content-Type: text/html; charset=utf-8");
        let head = format!("HTTP/1.1 200 OK\r\n{kind}\r\nContent-Length: {}\r\n", page.len());
        return browser.write_all(format!("{head}Connection: close\r\n\r\n{page}").as_bytes()).await;
    }
    let request = String::from_utf8(request).unwrap();
    let request = request.replacen("Connection: keep-alive\r\n", "Connection: close\r\n", 1);
    let mut api = TcpStream::connect(api).await?;
    api.write_all(request.as_bytes()).await?;
    copy_bidirectional(&mut browser, &mut api).await.map(drop)
}

#[tokio::test]
async fn the_page_in_the_readme_keeps_its_tabs_logged_in_together_and_logs_them_out_together() {
    let server = Deployment::new().set("AUTH_TOKEN__ACCESS_TTL", "3s").serve();
    Client::of(&server).sign_up("ann", PASSWORD).await;
    let test = "the_page_in_the_readme_keeps_its_tabs_logged_in_together_and_logs_them_out_together";
    let Some(browser) = Browser::start(test).await else { return };
    let origin = front_end(&server).await;
    let url = format!("{origin}{PAGE}");
    let sessions = || server.deployment().run(&["sessions", "list", "ann", "--json"]).json();

    browser.open(&url).await;
    browser.wait_for("#who", "nobody").await;
    let first = browser.tab().await;
    let second = browser.open_tab(&url).await;
    browser.wait_for("#who", "nobody").await;
    log_in(&browser, "wrong").await;
    browser.wait_for("#who", "Check the spelling").await;
    assert_eq!(sessions(), json!([]));

    log_in(&browser, PASSWORD).await;
    browser.wait_for("#who", "ann at ").await;
    browser.turn_to(&first).await;
    browser.wait_for("#who", "ann at ").await;
    // One that comes later finds the cookie.
    let third = browser.open_tab(&url).await;
    browser.wait_for("#who", "ann at ").await;
    let session = sessions();

    for tab in [&first, &second, &third] {
        browser.turn_to(tab).await;
        let mut shown = browser.wait_for_another("#who", "ann at ", "").await;
        for _ in 0..2 {
            shown = browser.wait_for_another("#who", "ann at ", &shown).await;
        }
    }
    let refreshed = sessions();
    assert_eq!(refreshed.as_array().map(Vec::len), Some(1), "{refreshed}");
    assert_eq!(refreshed[0]["id"], session[0]["id"]);
    assert_ne!(refreshed[0]["last_used_at"], session[0]["last_used_at"]);
    assert!(refusals(&server).iter().all(|reason| reason == "malformed" || reason == "wrong_password"));

    browser.turn_to(&second).await;
    browser.click("#leave").await;
    for tab in [&second, &first, &third] {
        browser.turn_to(tab).await;
        browser.wait_for("#who", "nobody").await;
    }
    assert_eq!(sessions(), json!([]));
    browser.open(&url).await;
    browser.wait_for("#who", "nobody").await;

    // A page without an icon, and requests of somebody who is not logged in: nothing else is to be complained of.
    let mut complaints = browser.complaints().await;
    let is_expected =
        |it: &String| it.contains("/favicon.ico") || (it.contains("/api/") && it.contains("401"));
    complaints.retain(|it| !is_expected(it));
    assert_eq!(complaints, Vec::<String>::new());
}

async fn log_in(browser: &Browser, password: &str) {
    browser.clear("[name=username]").await;
    browser.type_into("[name=username]", "ann").await;
    browser.clear("[name=password]").await;
    browser.type_into("[name=password]", password).await;
    browser.click("form button").await;
}

/// Why the server refused what it refused.
fn refusals(server: &Server) -> Vec<Value> {
    let events = server.log().audit();
    events
        .into_iter()
        .filter(|line| line["outcome"] == "refused")
        .map(|line| line["reason"].clone())
        .collect()
}
