//! What people do with their own account: another password, another name, and leaving.

use serde_json::{Value, json};

use crate::support::client::{Answer, Client, PASSWORD};
use crate::support::server::Server;

const NEW: &str = "eight grey herons wade";

async fn bearing(client: &Client, method: &str, path: &str, token: &str, body: &Value) -> Answer {
    let request = client.request(method, path).header("Authorization", format!("Bearer {token}"));
    client.send(request.json(body)).await
}

async fn change(client: &Client, token: &str, current: &str, new: &str) -> Answer {
    let body = json!({ "current_password": current, "new_password": new });
    bearing(client, "PUT", "/api/me/password", token, &body).await
}

async fn rename(client: &Client, token: &str, username: &str) -> Answer {
    rename_with(client, token, username, PASSWORD).await
}

async fn rename_with(client: &Client, token: &str, username: &str, password: &str) -> Answer {
    let body = json!({ "username": username, "password": password });
    bearing(client, "PATCH", "/api/me", token, &body).await
}

async fn close(client: &Client, token: &str, password: &str) -> Answer {
    bearing(client, "DELETE", "/api/me", token, &json!({ "password": password })).await
}

async fn refresh(client: &Client, answer: &Answer) -> Answer {
    client.post("/api/refresh", &json!({ "refresh_token": answer.refresh_token() })).await
}

fn has_event(server: &Server, event: &str, outcome: &str, reason: &Value) -> bool {
    server.log().audit().iter().any(|line| {
        line["event"] == event
            && line["outcome"] == outcome
            && line["reason"] == *reason
            && line["user_id"].is_number()
    })
}

#[tokio::test]
async fn another_password_ends_every_session_and_the_fresh_tokens_go_on() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    client.sign_up("ann", PASSWORD).await;
    let (mine, phone) = (client.log_in("ann", PASSWORD).await, client.log_in("ann", PASSWORD).await);
    let bob = client.token_of_new("bob").await;

    let changed = change(&client, &mine.token(), PASSWORD, NEW).await;

    assert_eq!((changed.status.as_u16(), changed.header("Cache-Control")), (200, "no-store"), "{changed:?}");
    assert_ne!(changed.json()["session_id"], mine.json()["session_id"]);
    for old in [&mine, &phone] {
        client.me(&old.token()).await.assert_problem(401, "invalid_token");
        refresh(&client, old).await.assert_problem(401, "invalid_refresh_token");
    }
    assert_eq!(client.me(&changed.token()).await.json()["username"], "ann");
    assert_eq!(refresh(&client, &changed).await.status, 200);
    assert_eq!(client.me(&bob).await.status, 200);
    client.log_in("ann", PASSWORD).await.assert_problem(401, "invalid_credentials");
    assert_eq!(client.log_in("ann", NEW).await.status, 200);
    assert!(has_event(&server, "change_password", "success", &Value::Null));
}

#[tokio::test]
async fn whatever_is_wrong_with_a_change_of_password_nothing_changes() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    client.sign_up("annabelle", PASSWORD).await;
    let (mine, other) =
        (client.log_in("annabelle", PASSWORD).await, client.log_in("annabelle", PASSWORD).await);
    let token = mine.token();
    let path = "/api/me/password";

    for wrong in ["", "wrong", &format!("{PASSWORD}\0"), "\0", &format!("{PASSWORD} ")] {
        change(&client, &token, wrong, NEW).await.assert_problem(403, "password_wrong");
    }
    for (new, code) in [
        ("", "too_short"),
        ("kq7wzmv", "too_short"),
        ("kq7wzmv1\0", "invalid_characters"),
        ("password", "too_guessable"),
        ("Annabelle", "too_guessable"),
        (&*"x".repeat(257), "too_long"),
    ] {
        change(&client, &token, PASSWORD, new).await.assert_field("new_password", code);
    }
    for (body, field, code) in [
        (json!({ "new_password": NEW }), "current_password", "required"),
        (json!({ "current_password": null, "new_password": NEW }), "current_password", "wrong_type"),
        (json!({ "current_password": ["x"], "new_password": NEW }), "current_password", "wrong_type"),
        (json!({ "current_password": "x".repeat(257), "new_password": NEW }), "current_password", "too_long"),
        (json!({ "current_password": PASSWORD }), "new_password", "required"),
        (
            json!({ "current_password": PASSWORD, "new_password": NEW, "username": "x" }),
            "username",
            "unknown_field",
        ),
    ] {
        bearing(&client, "PUT", path, &token, &body).await.assert_field(field, code);
    }
    let body = json!({ "current_password": PASSWORD, "new_password": NEW });
    client.send(client.request("PUT", path).json(&body)).await.assert_problem(401, "missing_token");
    change(&client, "a.b.c", PASSWORD, NEW).await.assert_problem(401, "invalid_token");

    for answer in [&mine, &other] {
        assert_eq!(client.me(&answer.token()).await.status, 200);
        assert_eq!(refresh(&client, answer).await.status, 200);
    }
    assert_eq!(client.log_in("annabelle", PASSWORD).await.status, 200);
    assert!(has_event(&server, "change_password", "refused", &json!("wrong_password")));
    assert!(has_event(&server, "change_password", "refused", &json!("password_refused")));
}

#[tokio::test]
async fn of_two_changes_at_once_at_two_servers_one_is_made_and_the_other_told() {
    let deployment = super::deployment();
    let servers = [deployment.serve(), deployment.serve()];
    let clients = servers.each_ref().map(Client::of);
    let token = clients[0].token_of_new("ann").await;
    let other = clients[1].log_in("ann", PASSWORD).await.token();
    let news = [NEW, "nine black storks glide"];

    let (one, two) = tokio::join!(
        change(&clients[0], &token, PASSWORD, news[0]),
        change(&clients[1], &other, PASSWORD, news[1]),
    );

    let won = usize::from(one.status != 200);
    let (winner, loser) = if won == 0 { (one, two) } else { (two, one) };
    assert_eq!(winner.status, 200, "{winner:?}");
    // Whoever came so late that the session was over before the password was looked at is told that instead.
    match loser.status.as_u16() {
        401 => loser.assert_problem(401, "invalid_token"),
        _ => loser.assert_problem(403, "password_wrong"),
    }
    assert_eq!(clients[0].me(&winner.token()).await.status, 200);
    assert_eq!(clients[0].log_in("ann", news[won]).await.status, 200);
    assert_eq!(clients[0].log_in("ann", news[1 - won]).await.status, 401);
}

#[tokio::test]
async fn a_browser_gets_the_fresh_refresh_token_in_its_cookie_and_loses_it_with_its_account() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    let token = client.token_of_new("ann").await;
    let as_a_page = |method: &str, path: &str, token: String, body: Value| {
        let request = client.request(method, path).header("X-Session-Transport", "cookie");
        client.send(request.header("Authorization", format!("Bearer {token}")).json(&body))
    };

    let body = json!({ "current_password": PASSWORD, "new_password": NEW });
    let changed = as_a_page("PUT", "/api/me/password", token, body).await;
    assert_eq!((changed.status.as_u16(), changed.json().get("refresh_token")), (200, None));
    assert!(
        changed.header("Set-Cookie").starts_with("auth_refresh=") && changed.header("Set-Cookie").len() > 100
    );

    let left = as_a_page("DELETE", "/api/me", changed.token(), json!({ "password": NEW })).await;
    assert_eq!(left.status, 204);
    assert!(left.header("Set-Cookie").starts_with("auth_refresh=; Path=/; Max-Age=0"), "{left:?}");
}

#[tokio::test]
async fn another_name_leaves_the_old_one_to_anybody_and_the_account_to_its_owner() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    let signed_up = client.sign_up("ann", PASSWORD).await.json();
    let mine = client.log_in("ann", PASSWORD).await;

    let renamed = rename(&client, &mine.token(), "Mia").await;

    assert_eq!((renamed.status.as_u16(), &renamed.json()["username"]), (200, &json!("Mia")));
    assert_eq!(renamed.json()["id"], signed_up["id"]);
    assert_eq!(renamed.json()["created_at"], signed_up["created_at"]);
    assert_eq!(client.me(&mine.token()).await.json(), renamed.json());
    client.log_in("ann", PASSWORD).await.assert_problem(401, "invalid_credentials");
    assert_eq!(client.log_in("mia", PASSWORD).await.status, 200);

    let stranger = client.sign_up("ANN", NEW).await;
    assert_eq!(stranger.status, 201, "{stranger:?}");
    assert_ne!(stranger.json()["id"], signed_up["id"]);
    let theirs = client.log_in("ann", NEW).await;
    assert_eq!(client.me(&theirs.token()).await.json()["id"], stranger.json()["id"]);
    client.log_in("ann", PASSWORD).await.assert_problem(401, "invalid_credentials");
    assert_eq!(client.me(&refresh(&client, &mine).await.token()).await.json(), renamed.json());
    assert!(has_event(&server, "rename", "success", &Value::Null));
}

#[tokio::test]
async fn a_name_of_somebody_elses_or_of_no_form_is_refused_and_ones_own_can_be_spelt_anew() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    client.sign_up("bob", PASSWORD).await;
    let token = client.token_of_new("ann").await;

    for taken in ["bob", "BOB", "ｂｏｂ"] {
        rename(&client, &token, taken).await.assert_problem(409, "username_taken");
    }
    for (bad, code) in [("", "too_short"), ("an", "too_short"), ("ann!", "invalid_characters")] {
        rename(&client, &token, bad).await.assert_field("username", code);
    }
    for (body, code) in [
        (json!({ "password": PASSWORD }), "required"),
        (json!({ "username": null, "password": PASSWORD }), "wrong_type"),
    ] {
        bearing(&client, "PATCH", "/api/me", &token, &body).await.assert_field("username", code);
    }
    let bare = client.request("PATCH", "/api/me").json(&json!({ "username": "mia", "password": PASSWORD }));
    client.send(bare).await.assert_problem(401, "missing_token");
    assert_eq!(client.me(&token).await.json()["username"], "ann");

    for spelling in ["ANN", "Ann", "Ann"] {
        let renamed = rename(&client, &token, spelling).await;
        assert_eq!((renamed.status.as_u16(), &renamed.json()["username"]), (200, &json!(spelling)));
    }
    assert!(has_event(&server, "rename", "refused", &json!("username_taken")));
}

#[tokio::test]
async fn username_change_without_the_password_is_refused() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    let token = client.token_of_new("ann").await;

    for wrong in ["", "wrong", "\0", &format!("{PASSWORD} ")] {
        rename_with(&client, &token, "mia", wrong).await.assert_problem(403, "password_wrong");
        // Nothing would change, and the password is checked all the same.
        rename_with(&client, &token, "ann", wrong).await.assert_problem(403, "password_wrong");
    }
    for (body, code) in [
        (json!({ "username": "mia" }), "required"),
        (json!({ "username": "mia", "password": null }), "wrong_type"),
        (json!({ "username": "mia", "password": "x".repeat(257) }), "too_long"),
    ] {
        bearing(&client, "PATCH", "/api/me", &token, &body).await.assert_field("password", code);
    }

    assert_eq!(client.me(&token).await.json()["username"], "ann");
    assert!(has_event(&server, "rename", "refused", &json!("wrong_password")));
}

#[tokio::test]
async fn wrong_passwords_of_username_changes_are_throttled_as_logins() {
    let server = super::deployment().set("AUTH_LIMITS__ENABLED", "true").serve();
    let client = Client::of(&server);
    let token = client.token_of_new("ann").await;

    for _ in 0..5 {
        rename_with(&client, &token, "mia", "wrong").await.assert_problem(403, "password_wrong");
    }

    let throttled = rename(&client, &token, "mia").await;
    throttled.assert_problem(429, "too_many_requests");
    assert_eq!(throttled.header("Retry-After"), "1");
    client.log_in("ann", PASSWORD).await.assert_problem(429, "too_many_requests");
    assert_eq!(client.me(&token).await.json()["username"], "ann");
}

#[tokio::test]
async fn username_change_that_changes_nothing_is_not_recorded() {
    let deployment = super::deployment();
    let server = deployment.serve();
    let client = Client::of(&server);
    let token = client.token_of_new("ann").await;
    let before = client.me(&token).await.json();

    let renamed = rename(&client, &token, "ann").await;

    assert_eq!((renamed.status.as_u16(), renamed.json()), (200, before));
    drop(server);
    let events = deployment.run(&["audit", "list", "--json"]).json();
    let events: Vec<_> =
        events.as_array().unwrap().iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["sign_up", "log_in"]);
}

#[tokio::test]
async fn tries_at_usernames_are_bounded_for_an_account_not_a_session() {
    let limits = [("AUTH_LIMITS__ENABLED", "true"), ("AUTH_LIMITS__USERNAME_CHANGES", "3")];
    let deployment = limits.iter().fold(super::deployment(), |it, (name, value)| it.set(name, *value));
    let server = deployment.serve();
    let client = Client::of(&server);
    client.sign_up("bob", PASSWORD).await;
    let token = client.token_of_new("ann").await;
    let other = client.log_in("ann", PASSWORD).await.token();

    rename(&client, &token, "bob").await.assert_problem(409, "username_taken");
    assert_eq!(rename(&client, &other, "mia").await.status, 200);
    rename(&client, &token, "bob").await.assert_problem(409, "username_taken");

    for (token, name) in [(&token, "bob"), (&other, "zoe"), (&token, "mia")] {
        let refused = rename(&client, token, name).await;
        refused.assert_problem(429, "too_many_requests");
        let seconds: u64 = refused.header("Retry-After").parse().unwrap();
        assert!((1100..=1200).contains(&seconds), "{refused:?}");
    }
    let bobs = client.log_in("bob", PASSWORD).await.token();
    assert_eq!(rename(&client, &bobs, "eve").await.status, 200);
}

#[tokio::test]
async fn username_change_is_listed_with_salted_digests_of_both_names() {
    let deployment = super::deployment();
    let server = deployment.serve();
    let client = Client::of(&server);
    let token = client.token_of_new("ann").await;
    for name in ["Mia", "ann", "mia"] {
        assert_eq!(rename(&client, &token, name).await.status, 200);
    }

    let listed = deployment.run(&["audit", "list", "--json", "--user", "mia"]).json();
    let renamed: Vec<_> =
        listed.as_array().unwrap().iter().filter(|event| event["event"] == "rename").collect();

    let digests: std::collections::BTreeSet<_> = renamed
        .iter()
        .flat_map(|event| [&event["old_name_digest"], &event["new_name_digest"]])
        .map(|digest| digest.as_str().unwrap())
        .collect();
    assert_eq!((renamed.len(), digests.len()), (3, 6), "each event has a salt of its own: {renamed:?}");
    assert!(!listed.to_string().contains("\"Mia\""));
    let table = deployment.run(&["audit", "list"]).stdout;
    assert!(digests.iter().all(|digest| table.contains(digest)), "{table}");
    let line = server.log().audit().into_iter().find(|line| line["event"] == "rename").unwrap();
    assert!(digests.contains(line["old_name_digest"].as_str().unwrap()), "{line}");
    let verified = deployment.run(&["audit", "verify"]);
    assert_eq!(verified.code, 0, "{verified:?}");
}

#[tokio::test]
async fn whoever_leaves_is_gone_and_the_next_of_that_name_is_somebody_else() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    let id = client.sign_up("ann", PASSWORD).await.json()["id"].as_i64().unwrap();
    let (mine, phone) = (client.log_in("ann", PASSWORD).await, client.log_in("ann", PASSWORD).await);

    for wrong in ["", "wrong", &format!("{PASSWORD}\0")] {
        close(&client, &mine.token(), wrong).await.assert_problem(403, "password_wrong");
    }
    for (body, code) in [(json!({}), "required"), (json!({ "password": null }), "wrong_type")] {
        bearing(&client, "DELETE", "/api/me", &mine.token(), &body).await.assert_field("password", code);
    }
    let bare = client.request("DELETE", "/api/me").json(&json!({ "password": PASSWORD }));
    client.send(bare).await.assert_problem(401, "missing_token");
    assert_eq!(client.me(&phone.token()).await.status, 200);

    let left = close(&client, &mine.token(), PASSWORD).await;

    assert_eq!((left.status.as_u16(), left.bytes.len()), (204, 0));
    for old in [&mine, &phone] {
        client.me(&old.token()).await.assert_problem(401, "invalid_token");
        refresh(&client, old).await.assert_problem(401, "invalid_refresh_token");
        close(&client, &old.token(), PASSWORD).await.assert_problem(401, "invalid_token");
    }
    client.log_in("ann", PASSWORD).await.assert_problem(401, "invalid_credentials");
    let next = client.sign_up("ann", PASSWORD).await;
    assert_eq!(next.status, 201);
    assert!(next.json()["id"].as_i64().unwrap() > id);
    client.me(&mine.token()).await.assert_problem(401, "invalid_token");
    assert!(has_event(&server, "close_account", "success", &Value::Null));
    assert!(has_event(&server, "close_account", "refused", &json!("wrong_password")));
}
