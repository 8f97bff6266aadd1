//! The pages, in a real browser whose network is cut.

use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::client::{Client, PASSWORD};
use crate::support::server::{Deployment, Server};

const README: &str = include_str!("../../../README.md");

#[tokio::test]
async fn swagger_ui_takes_somebody_from_a_login_to_me() {
    let server = Server::start();
    Client::of(&server).sign_up("ann", PASSWORD).await;
    let Some(browser) = Browser::start("swagger_ui_takes_somebody_from_a_login_to_me").await else { return };

    browser.open(&server.url("/docs")).await;
    browser.wait_for("#operations-account-log_in", "/api/login").await;
    browser.click("#operations-account-log_in .opblock-summary-control").await;
    browser.wait_for("#operations-account-log_in .execute", "Execute").await;
    browser.click("#operations-account-log_in .execute").await;
    let answer = "#operations-account-log_in .live-responses-table";
    browser.wait_for(answer, "access_token").await;
    let body = browser.text(&format!("{answer} .highlight-code code")).await;
    let token = serde_json::from_str::<Value>(&body).unwrap()["access_token"].as_str().unwrap().to_owned();

    browser.click(".scheme-container .authorize").await;
    browser.wait_for(".auth-container", "access_token").await;
    browser.type_into(".auth-container input", &token).await;
    browser.click(".auth-btn-wrapper .authorize").await;
    browser.wait_for(".auth-btn-wrapper", "Logout").await;
    browser.click(".auth-btn-wrapper .btn-done").await;
    browser.click("#operations-account-me .opblock-summary-control").await;
    browser.wait_for("#operations-account-me .execute", "Execute").await;
    browser.click("#operations-account-me .execute").await;
    browser.wait_for("#operations-account-me .live-responses-table", "\"username\": \"ann\"").await;

    assert_clean(&browser, &server).await;
}

#[tokio::test]
async fn redoc_shows_every_endpoint() {
    let server = Server::start();
    let Some(browser) = Browser::start("redoc_shows_every_endpoint").await else { return };

    browser.open(&server.url("/redoc")).await;

    for path in ["/api/signup", "/api/login", "/api/me", "/health/live", "/health/ready"] {
        browser.wait_for("#redoc", path).await;
    }
    assert_clean(&browser, &server).await;
}

#[tokio::test]
async fn the_landing_page_and_the_pages_of_the_problems_are_readable() {
    let server = Server::start();
    let test = "the_landing_page_and_the_pages_of_the_problems_are_readable";
    let Some(browser) = Browser::start(test).await else { return };

    browser.open(&server.url("/")).await;
    browser.click("a[href='/problems/username_taken']").await;
    browser.wait_for("h1", "The username is taken").await;

    assert_clean(&browser, &server).await;
}

/// No error, no violation of the policy, and nothing asked of another origin.
async fn assert_clean(browser: &Browser, server: &Server) {
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    let requests = browser.requests().await;
    assert!(requests.iter().any(|url| url.starts_with(server.base_url())), "{requests:?}");
    let foreign: Vec<_> = requests
        .iter()
        .filter(|url| !url.starts_with(server.base_url()))
        .filter(|url| !["data:", "blob:", "chrome:"].iter().any(|scheme| url.starts_with(scheme)))
        .collect();
    assert_eq!(foreign, Vec::<&String>::new());
}

#[tokio::test]
async fn every_problem_has_a_page_and_every_page_of_a_problem_is_linked() {
    let server = Server::start();
    let client = Client::of(&server);
    let landing = client.get("/").await;

    let links: Vec<_> =
        landing.text().split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();

    assert!(links.iter().filter(|link| link.starts_with("/problems/")).count() >= 17, "{links:?}");
    for link in links {
        let answer = client.get(link).await;
        assert_eq!(answer.status, 200, "{link}");
        if link.starts_with("/problems/") {
            assert!(answer.text().contains("What to do"), "{link}");
        }
    }
}

#[tokio::test]
async fn list_of_problems_and_the_readme_have_every_code() {
    let server = Server::start();
    let list = Client::of(&server).get("/problems").await;
    assert_eq!((list.status.as_u16(), list.header("Content-Type")), (200, "text/html; charset=utf-8"));

    let items = list.text().split("<li>").skip(1);
    let mut listed: Vec<(String, String)> = items
        .map(|item| {
            let code = item.split_once("<code>").unwrap().1.split_once("</code>").unwrap().0;
            let status = item.split_once("</a> ").unwrap().1.split(' ').next().unwrap();
            (status.to_owned(), code.to_owned())
        })
        .collect();
    let table = README.split_once("| Status | `code` |").unwrap().1.split_once("\n\n").unwrap().0;
    let rows = table.lines().filter_map(|row| row.strip_prefix("| ")?.split_once(" | "));
    let mut told: Vec<(String, String)> = rows
        .flat_map(|(status, codes)| {
            // What comes after is about fields.
            let codes = codes.split(", with ").next().unwrap().split('`').skip(1).step_by(2);
            codes.filter(|code| !code.starts_with('/')).map(|code| (status.to_owned(), code.to_owned()))
        })
        .collect();
    listed.sort();
    told.sort();

    assert_eq!(told, listed);
    for (_, code) in listed {
        assert_eq!(Client::of(&server).get(&format!("/problems/{code}")).await.status, 200);
    }
}

#[tokio::test]
async fn the_documentation_can_be_switched_off() {
    let server = Deployment::new().set("AUTH_DOCS__ENABLED", "false").serve();
    let client = Client::of(&server);

    for path in ["/docs", "/redoc", "/openapi.json", "/docs/swagger-ui.css", "/redoc/redoc.js"] {
        client.get(path).await.assert_problem(404, "not_found");
    }
    let landing = client.get("/").await;
    assert_eq!(landing.status, 200);
    assert!(!landing.text().contains("/docs"));
}

#[tokio::test]
async fn the_description_is_the_one_that_the_command_prints() {
    let server = Server::start();
    let mut shown = Client::of(&server).get("/openapi.json").await.json();
    let mut printed = server.deployment().run(&["openapi"]).json();

    assert_eq!(shown["servers"].take(), json!([{ "url": "/" }]));
    assert_eq!(printed["servers"].take(), json!([{ "url": "http://localhost:8000" }]));
    assert_eq!(shown, printed);
}
