//! The page that the README shows, in a real browser, on the API's own origin.

use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::client::{Client, PASSWORD};
use crate::support::dev_proxy::FrontEnd;
use crate::support::server::{Deployment, Server};

const README: &str = include_str!("../../../README.md");

pub(super) fn page() -> &'static str {
    let blocks: Vec<_> = README.split("```html\n").skip(1).collect();
    assert_eq!(blocks.len(), 1, "one page, and this test knows which");
    blocks[0].split_once("```").unwrap().0
}

#[tokio::test]
async fn the_page_in_the_readme_keeps_its_tabs_logged_in_together_and_logs_them_out_together() {
    let server = Deployment::new().set("AUTH_TOKEN__ACCESS_TTL", "5s").serve();
    Client::of(&server).sign_up("ann", PASSWORD).await;
    let test = "the_page_in_the_readme_keeps_its_tabs_logged_in_together_and_logs_them_out_together";
    let Some(browser) = Browser::start(test).await else { return };
    let url = FrontEnd::before(server.address(), page().to_owned()).await.page();
    let sessions = || server.deployment().run(&["sessions", "list", "ann", "--json"]).json();

    browser.open(&url).await;
    browser.wait_for("#who", "nobody").await;
    let first = browser.tab().await;
    let second = browser.open_tab(&url).await;
    browser.wait_for("#who", "nobody").await;
    log_in(&browser, "wrong").await;
    browser.wait_for("#who", "The username or the password is wrong").await;
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

pub(super) async fn log_in(browser: &Browser, password: &str) {
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
