//! What an operator finds in the audit log, and what nobody can do to it unnoticed.

use serde_json::{Value, json};

use crate::support::client::{Client, PASSWORD};
use crate::support::server::{Deployment, Finished};

#[tokio::test]
async fn every_attempt_is_listed_with_its_request_and_a_plain_refresh_is_not() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    let asked = client.request("POST", "/api/signup").header("X-Request-Id", "sign-up-1");
    let asked = asked.header("User-Agent", "Sokoł/1.0 (ÄÖÜ)".as_bytes());
    client.send(asked.json(&json!({ "username": "Ann", "password": PASSWORD }))).await;
    let refused = client.log_in("ann", "wrong").await;
    client.log_in("nobody", "wrong").await;
    let logged_in = client.log_in("ann", PASSWORD).await;
    let refreshed = client.post("/api/refresh", &json!({ "refresh_token": logged_in.refresh_token() })).await;
    client.post("/api/logout", &json!({ "refresh_token": refreshed.refresh_token() })).await;
    server.deployment().run(&["users", "disable", "ann"]);

    let listed = list(server.deployment(), &[]);

    let told: Vec<_> = listed
        .iter()
        .map(|event| json!([event["event"], event["outcome"], event["reason"], event["user_id"]]))
        .collect();
    let expected = [
        json!(["sign_up", "success", null, 1]),
        json!(["log_in", "refused", "wrong_password", 1]),
        json!(["log_in", "refused", "unknown_user", null]),
        json!(["log_in", "success", null, 1]),
        json!(["log_out", "success", null, 1]),
        json!(["disable", "success", null, 1]),
    ];
    assert_eq!(told, expected);
    assert_eq!((&listed[0]["request_id"], &listed[0]["username"]), (&json!("sign-up-1"), &json!("Ann")));
    assert_eq!((&listed[0]["address"], &listed[0]["count"]), (&json!("127.0.0.1"), &json!(1)));
    assert_eq!(listed[1]["request_id"], refused.header("X-Request-Id"));
    assert!(listed[2]["username"].is_null() && listed[2]["name_digest"].is_string());
    assert!(listed[5]["address"].is_null() && listed[5]["request_id"].is_null());
    assert!(listed.iter().all(|event| event["time"].as_str().unwrap().ends_with('Z')));
}

#[tokio::test]
async fn a_list_can_be_of_one_name_and_since_some_time() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    client.log_in("ann", "before there was an ann").await;
    client.sign_up("ann", PASSWORD).await;
    client.sign_up("bob", PASSWORD).await;
    let deployment = server.deployment();

    let events = |arguments: &[&str]| {
        let listed = list(deployment, arguments);
        listed.iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(events(&["--user", "ANN"]), ["log_in", "sign_up"]);
    assert_eq!(events(&["--user", "eve"]), [""; 0]);
    let all = list(deployment, &[]);
    let last = all[2]["time"].as_str().unwrap();
    assert_eq!(events(&["--since", last]), ["sign_up"]);
    assert_eq!(events(&["--since", "2026-01-01"]).len(), 3);
    assert_eq!(events(&["--since", "2999-01-01T00:00:00Z"]), [""; 0]);

    for arguments in [["--since", "yesterday"], ["--user", "\u{202e}"]] {
        let refused = deployment.run(&[&["audit", "list"][..], &arguments].concat());
        assert!([2, 3].contains(&refused.code), "{refused:?}");
    }
    let table = deployment.run(&["audit", "list", "--user", "bob"]).stdout;
    assert!(table.contains("sign_up") && table.contains("success") && table.contains("bob"), "{table}");
}

#[tokio::test]
async fn what_anybody_can_send_without_end_is_counted_and_kept_in_few_events() {
    let mut server = super::deployment().serve();
    let client = Client::of(&server);
    for _ in 0..20 {
        client.me("no.good.token").await;
        client.post("/api/refresh", &json!({ "refresh_token": "no good either" })).await;
    }
    server.terminate();
    server.wait();

    let listed = list(server.deployment(), &[]);

    for kind in [["show_token", "invalid"], ["refresh", "malformed"]] {
        let of_kind = listed.iter().filter(|event| json!([event["event"], event["reason"]]) == json!(kind));
        // On a slow machine they are written in several goes.
        let counts: Vec<_> = of_kind.map(|event| event["count"].as_u64().unwrap()).collect();
        assert_eq!(counts.iter().sum::<u64>(), 20);
        assert!(counts.len() < 10, "{counts:?}");
    }
}

#[tokio::test]
async fn what_was_answered_is_on_record_though_the_server_is_killed() {
    let server = super::deployment().serve();
    let deployment = server.deployment().clone();
    let client = Client::of(&server);
    client.sign_up("ann", PASSWORD).await;
    client.log_in("ann", "wrong").await;
    server.kill();

    let told: Vec<_> = list(&deployment, &[]).iter().map(|event| event["event"].clone()).collect();

    assert_eq!(told, ["sign_up", "log_in"]);
    assert_eq!(verify(&deployment, &[]).code, 0);
}

#[tokio::test]
async fn a_log_is_proven_by_its_head_and_the_first_event_that_was_touched_is_named() {
    let mut server = super::deployment().serve();
    let client = Client::of(&server);
    client.sign_up("ann", PASSWORD).await;
    for _ in 0..3 {
        client.log_in("ann", "wrong").await;
    }
    server.terminate();
    server.wait();
    let deployment = server.deployment();
    let told = server.log().wait_for_all("the last head", 2, |line| line["head"].is_string());
    let head = told["head"].as_str().unwrap();

    let verified = verify(deployment, &[]);
    assert_eq!((verified.code, verified.stdout.trim_end()), (0, head), "{verified:?}");
    assert_eq!(verify(deployment, &["--head", head]).code, 0);

    deployment.tamper("DELETE FROM audit_events WHERE number = 4");
    assert_eq!(verify(deployment, &[]).code, 0, "nothing that is there tells of what is not");
    let cut_off = verify(deployment, &["--head", head]);
    assert_eq!(cut_off.code, 3);
    assert!(cut_off.stderr.contains("the log ends with event 3"), "{cut_off:?}");
    deployment.tamper("UPDATE audit_events SET reason = 'told' WHERE number = 2");
    let changed = verify(deployment, &[]);
    assert_eq!(changed.code, 3);
    assert!(changed.stderr.contains("event 2 was changed"), "{changed:?}");

    let refused = verify(deployment, &["--head", "4:abc"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("64 hexadecimal digits"), "{refused:?}");
}

#[tokio::test]
async fn a_log_holds_under_the_key_that_sealed_it_and_no_other() {
    let key = "Zt5cVb1mQ8wXe7yRu3iKo0pLa9sDf4gHj2kN";
    let deployment = super::deployment().set("AUTH_SESSION__REFRESH_KEY", key);
    let server = deployment.serve();
    Client::of(&server).sign_up("ann", PASSWORD).await;
    let changed = deployment.clone().set("AUTH_SESSION__REFRESH_KEY", "Qw9eRt2yUi5oPa8sDf1gHj4kLz7xCv0bNm3q");

    assert_eq!(verify(&deployment, &[]).code, 0);
    let otherwise = verify(&changed, &[]);
    assert_eq!(otherwise.code, 3);
    assert!(otherwise.stderr.contains("AUTH_AUDIT__KEY"), "{otherwise:?}");
    assert_eq!(verify(&changed.set("AUTH_AUDIT__KEY", key), &[]).code, 0);
}

#[tokio::test]
async fn who_deletes_an_account_leaves_no_address_and_the_log_is_whole() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    client.sign_up("ann", PASSWORD).await;
    client.log_in("ann", "wrong").await;
    let token = client.log_in("ann", PASSWORD).await.token();
    client.sign_up("bob", PASSWORD).await;
    let gone = client.request("DELETE", "/api/me").bearer_auth(token).json(&json!({ "password": PASSWORD }));
    assert_eq!(client.send(gone).await.status, 204);

    let listed = list(server.deployment(), &[]);

    let (of_bob, of_ann): (Vec<_>, Vec<_>) = listed.iter().partition(|event| event["username"] == "bob");
    assert_eq!((of_bob.len(), of_ann.len()), (1, 4));
    assert_eq!(of_bob[0]["address"], "127.0.0.1");
    assert!(of_ann.iter().all(|event| event["address"].is_null() && event["user_id"] == 1), "{of_ann:#?}");
    assert_eq!(verify(server.deployment(), &[]).code, 0);
}

fn list(deployment: &Deployment, arguments: &[&str]) -> Vec<Value> {
    deployment.run(&[&["audit", "list", "--json"][..], arguments].concat()).json().as_array().unwrap().clone()
}

fn verify(deployment: &Deployment, arguments: &[&str]) -> Finished {
    deployment.run(&[&["audit", "verify"][..], arguments].concat())
}
