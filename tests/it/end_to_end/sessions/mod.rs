//! Staying logged in, seeing where one is, and logging out, as a client sees it.

mod cookies;

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::client::{Answer, Client, PASSWORD};

async fn logged_in(client: &Client, username: &str) -> Answer {
    assert_eq!(client.sign_up(username, PASSWORD).await.status, 201);
    client.log_in(username, PASSWORD).await
}

async fn refresh(client: &Client, token: &str) -> Answer {
    client.post("/api/refresh", &json!({ "refresh_token": token })).await
}

async fn bearing(client: &Client, method: &str, path: &str, token: &str) -> Answer {
    client.send(client.request(method, path).header("Authorization", format!("Bearer {token}"))).await
}

#[tokio::test]
async fn a_refresh_hands_out_the_next_tokens_also_after_a_restart() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    let first = logged_in(&client, "ann").await;

    let second = refresh(&client, &first.refresh_token()).await;

    assert_eq!((second.status.as_u16(), second.header("Cache-Control")), (200, "no-store"));
    assert_eq!(second.headers.get("Refresh-Reuse"), None);
    let answer = second.json();
    let members: BTreeSet<_> = answer.as_object().unwrap().keys().map(String::as_str).collect();
    let expected =
        ["access_token", "token_type", "expires_in", "refresh_token", "refresh_expires_in", "session_id"];
    assert_eq!(members, BTreeSet::from(expected));
    assert_eq!(answer["session_id"], first.json()["session_id"]);
    assert_ne!(second.refresh_token(), first.refresh_token());
    for token in [first.token(), second.token()] {
        assert_eq!(client.me(&token).await.json()["username"], "ann");
    }

    let server = server.restart();
    let client = Client::of(&server);
    assert_eq!(refresh(&client, &second.refresh_token()).await.status, 200);
    let late = refresh(&client, &first.refresh_token()).await;
    assert_eq!((late.status.as_u16(), late.header("Refresh-Reuse")), (200, "concurrent"));
}

#[tokio::test]
async fn fifty_tabs_that_refresh_at_once_at_two_servers_end_up_with_one_token() {
    let deployment = super::deployment();
    let (one, other) = (deployment.serve(), deployment.serve());
    let clients = [Client::of(&one), Client::of(&other)];
    let token = logged_in(&clients[0], "ann").await.refresh_token();

    let answers = join_all((0..50).map(|n| refresh(&clients[n % 2], &token))).await;

    let tokens: BTreeSet<_> = answers.iter().map(Answer::refresh_token).collect();
    assert_eq!(tokens.len(), 1);
    let late = answers.iter().filter(|answer| answer.header("Refresh-Reuse") == "concurrent").count();
    assert_eq!(late, 49);
    assert_eq!(refresh(&clients[1], tokens.first().unwrap()).await.status, 200);
}

#[tokio::test]
async fn a_lost_answer_is_given_again_and_a_replay_ends_the_session_with_its_access_tokens() {
    let server = super::deployment().set("AUTH_SESSION__GRACE", "0s").serve();
    let client = Client::of(&server);
    let other = logged_in(&client, "ann").await;
    let first = client.log_in("ann", PASSWORD).await;
    let lost = refresh(&client, &first.refresh_token()).await;

    let again = refresh(&client, &first.refresh_token()).await;
    assert_eq!((again.status.as_u16(), again.header("Refresh-Reuse")), (200, "recovered"));
    assert_eq!(again.refresh_token(), lost.refresh_token());
    let third = refresh(&client, &again.refresh_token()).await;
    assert_eq!(client.me(&third.token()).await.status, 200);

    refresh(&client, &first.refresh_token()).await.assert_problem(401, "invalid_refresh_token");
    refresh(&client, &third.refresh_token()).await.assert_problem(401, "invalid_refresh_token");
    for token in [first.token(), again.token(), third.token()] {
        client.me(&token).await.assert_problem(401, "invalid_token");
    }
    // Whoever logged in elsewhere notices nothing.
    assert_eq!(client.me(&other.token()).await.status, 200);
    assert_eq!(refresh(&client, &other.refresh_token()).await.status, 200);

    let told: Vec<_> = server.log().audit();
    let has = |event: &str, reason: Value| {
        told.iter().any(|line| line["event"] == event && line["reason"] == reason && line["user_id"] == 1)
    };
    assert!(has("recover_refresh", Value::Null), "{told:?}");
    assert!(has("refresh", json!("reuse_long_superseded")), "{told:?}");
    assert!(!told.iter().any(|line| line["event"] == "refresh" && line["outcome"] == "success"));
}

#[tokio::test]
async fn whatever_is_wrong_with_a_refresh_token_the_answer_is_the_same_and_nothing_changes() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    let mine = logged_in(&client, "ann").await;
    let token = mine.refresh_token();
    let ended = client.log_in("ann", PASSWORD).await;
    bearing(&client, "POST", "/api/logout", &ended.token()).await;
    let foreign = super::deployment().serve();
    let theirs = logged_in(&Client::of(&foreign), "ann").await.refresh_token();
    let flipped = if token.ends_with('A') { "Q" } else { "A" };

    let mut seen = BTreeSet::new();
    for bad in [
        String::new(),
        "x".to_owned(),
        ended.refresh_token(),
        theirs,
        mine.token(),
        format!("{token}="),
        format!(" {token}"),
        format!("{}{flipped}", &token[..85]),
        token.replacen(&token[40..42], "__", 1),
        "A".repeat(86),
        "A".repeat(10_000),
        "\u{202e}\0é".to_owned(),
    ] {
        let answer = refresh(&client, &bad).await;
        answer.assert_problem(401, "invalid_refresh_token");
        assert_eq!(answer.header("WWW-Authenticate"), "Bearer");
        let mut problem = answer.json();
        problem["request_id"] = json!("");
        seen.insert((problem.to_string(), answer.bytes.len(), answer.headers.len()));
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
    client.post("/api/refresh", &json!({})).await.assert_field("refresh_token", "required");
    client
        .post("/api/refresh", &json!({ "refresh_token": null }))
        .await
        .assert_field("refresh_token", "wrong_type");
    let large = json!({ "refresh_token": "A".repeat(20_000) });
    client.post("/api/refresh", &large).await.assert_problem(413, "body_too_large");

    // A refresh token is no access token.
    client.me(&token).await.assert_problem(401, "invalid_token");
    assert_eq!(client.me(&mine.token()).await.status, 200);
    assert_eq!(refresh(&client, &token).await.status, 200);
}

#[tokio::test]
async fn a_session_ends_however_much_it_is_used() {
    let server = super::deployment().set("AUTH_SESSION__ABSOLUTE_TTL", "2s").serve();
    let client = Client::of(&server);
    let first = logged_in(&client, "ann").await;
    assert_eq!((&first.json()["refresh_expires_in"], &first.json()["expires_in"]), (&json!(2), &json!(2)));

    // Asking again is the only clock a client has.
    let mut newest = first;
    let mut answer = refresh(&client, &newest.refresh_token()).await;
    let asked = std::time::Duration::from_secs(10);
    tokio::time::timeout(asked, async {
        while answer.status == 200 {
            let next = refresh(&client, &answer.refresh_token()).await;
            newest = std::mem::replace(&mut answer, next);
        }
    })
    .await
    .expect("a session of two seconds ends");

    answer.assert_problem(401, "invalid_refresh_token");
    assert_eq!(client.me(&newest.token()).await.status, 401);
}

#[tokio::test]
async fn a_logout_ends_the_session_at_once_and_can_be_repeated() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    logged_in(&client, "ann").await;
    let out = |answer: &Answer| json!({ "refresh_token": answer.refresh_token() });

    let (one, other) = (client.log_in("ann", PASSWORD).await, client.log_in("ann", PASSWORD).await);
    for _ in 0..2 {
        let left = bearing(&client, "POST", "/api/logout", &one.token()).await;
        assert_eq!((left.status.as_u16(), left.bytes.len()), (204, 0));
        assert_eq!(client.post("/api/logout", &out(&other)).await.status, 204);
    }

    for answer in [&one, &other] {
        client.me(&answer.token()).await.assert_problem(401, "invalid_token");
        refresh(&client, &answer.refresh_token()).await.assert_problem(401, "invalid_refresh_token");
    }
    let events = server.log().audit();
    let done = |line: &&Value| line["event"] == "log_out" && line["outcome"] == "success";
    assert_eq!(events.iter().filter(done).count(), 2, "{events:?}");
}

#[tokio::test]
async fn what_one_server_gives_is_good_at_the_other_at_once() {
    let deployment = super::deployment();
    let servers = [deployment.serve(), deployment.serve()];
    let clients = servers.each_ref().map(Client::of);
    let mut last = logged_in(&clients[0], "ann").await;

    for round in 0..20 {
        let (here, there) = (&clients[round % 2], &clients[(round + 1) % 2]);
        // Both remember the session as it is now.
        for client in [here, there] {
            assert_eq!(client.me(&last.token()).await.status, 200, "{round}");
        }
        last = here.post("/api/refresh", &json!({ "refresh_token": last.refresh_token() })).await;
        assert_eq!(there.me(&last.token()).await.status, 200, "{round}");
    }
}

#[tokio::test]
async fn what_ends_at_one_server_is_over_at_the_other_within_a_second() {
    let deployment = super::deployment();
    let (one, other) = (deployment.serve(), deployment.serve());
    let (client, elsewhere) = (Client::of(&one), Client::of(&other));
    let leaving = logged_in(&client, "ann").await.token();
    let banned = logged_in(&client, "eve").await.token();
    let staying = logged_in(&client, "bob").await.token();
    let is_over = async |token: &str| {
        // Asking again is the only clock a client has. A second, and patience with a busy machine.
        let asking = async { while elsewhere.me(token).await.status == 200 {} };
        tokio::time::timeout(std::time::Duration::from_secs(4), asking).await.expect("it is over elsewhere");
        elsewhere.me(token).await.assert_problem(401, "invalid_token");
    };
    for token in [&leaving, &banned, &staying] {
        // Many times: that a new token was seen is noted while nobody waits, and is a change after which the session is
        // looked up once more. From then on it is remembered.
        for _ in 0..50 {
            assert_eq!(elsewhere.me(token).await.status, 200);
        }
    }

    assert_eq!(bearing(&client, "POST", "/api/logout", &leaving).await.status, 204);
    is_over(&leaving).await;
    assert_eq!(deployment.run(&["users", "disable", "eve"]).code, 0);
    is_over(&banned).await;

    assert_eq!(elsewhere.me(&staying).await.status, 200);
}

#[tokio::test]
async fn a_logout_without_a_token_or_with_a_bad_one_ends_nothing() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    let mine = logged_in(&client, "ann").await;

    client.send(client.request("POST", "/api/logout")).await.assert_problem(401, "missing_token");
    bearing(&client, "POST", "/api/logout", "a.b.c").await.assert_problem(401, "invalid_token");
    client.post("/api/logout", &json!({})).await.assert_field("refresh_token", "required");
    for unknown in ["", "x", &"A".repeat(86)] {
        let left = client.post("/api/logout", &json!({ "refresh_token": unknown })).await;
        assert_eq!(left.status, 204, "{unknown}");
    }

    assert_eq!(client.me(&mine.token()).await.status, 200);
    assert_eq!(refresh(&client, &mine.refresh_token()).await.status, 200);
}

#[tokio::test]
async fn somebody_sees_their_sessions_and_ends_one_and_the_others() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    let first = logged_in(&client, "ann").await;
    let phone = client
        .request("POST", "/api/login")
        .header("User-Agent", "Phone/1.0")
        .json(&json!({ "username": "ann", "password": PASSWORD }));
    let phone = client.send(phone).await;
    let third = client.log_in("ann", PASSWORD).await;
    let bob = logged_in(&client, "bob").await;
    let id = |answer: &Answer| answer.json()["session_id"].as_str().unwrap().to_owned();

    let listed = bearing(&client, "GET", "/api/sessions", &phone.token()).await.json();

    let sessions = listed["sessions"].as_array().unwrap().clone();
    let ids: Vec<_> = sessions.iter().map(|session| session["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, [id(&third), id(&phone), id(&first)]);
    let current: Vec<_> = sessions.iter().map(|session| session["current"].clone()).collect();
    assert_eq!(current, [false, true, false]);
    assert_eq!(
        (&sessions[1]["user_agent"], &sessions[1]["address"]),
        (&json!("Phone/1.0"), &json!("127.0.0.1"))
    );
    for time in ["created_at", "last_used_at", "expires_at"] {
        assert!(sessions[1][time].as_str().unwrap().ends_with('Z'), "{sessions:?}");
    }

    let end = |id: String| {
        let (client, token) = (client.clone(), phone.token());
        async move { bearing(&client, "DELETE", &format!("/api/sessions/{id}"), &token).await }
    };
    assert_eq!(end(id(&first)).await.status, 204);
    client.me(&first.token()).await.assert_problem(401, "invalid_token");
    for unknown in [id(&first), id(&bob), "01980000-0000-7000-8000-000000000000".to_owned(), "x".to_owned()] {
        end(unknown).await.assert_problem(404, "not_found");
    }
    assert_eq!(client.me(&bob.token()).await.status, 200);

    bearing(&client, "DELETE", "/api/sessions", &phone.token()).await.assert_field("except", "required");
    bearing(&client, "DELETE", "/api/sessions?except=all", &phone.token())
        .await
        .assert_field("except", "invalid");
    assert_eq!(client.me(&third.token()).await.status, 200);
    assert_eq!(bearing(&client, "DELETE", "/api/sessions?except=current", &phone.token()).await.status, 204);
    client.me(&third.token()).await.assert_problem(401, "invalid_token");
    assert_eq!(client.me(&phone.token()).await.status, 200);
    assert_eq!(client.me(&bob.token()).await.status, 200);

    for (method, path) in [("GET", "/api/sessions"), ("DELETE", "/api/sessions?except=current")] {
        client.send(client.request(method, path)).await.assert_problem(401, "missing_token");
    }
    assert_eq!(end(id(&phone)).await.status, 204);
    client.me(&phone.token()).await.assert_problem(401, "invalid_token");
}

#[tokio::test]
async fn another_password_ends_every_session() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    let answer = logged_in(&client, "ann").await;

    let set = server.deployment().run_with(&["users", "set-password", "ann"], "eight brown otters sing\n");

    assert_eq!(set.code, 0, "{set:?}");
    client.me(&answer.token()).await.assert_problem(401, "invalid_token");
    refresh(&client, &answer.refresh_token()).await.assert_problem(401, "invalid_refresh_token");
}

#[tokio::test]
async fn tokens_of_the_key_before_hold_until_it_is_taken_away() {
    let deployment =
        super::deployment().set("AUTH_SESSION__REFRESH_KEY", "Zt5cVb1mQ8wXe7yRu3iKo0pLa9sDf4gHj2kN");
    let server = deployment.serve();
    let old = logged_in(&Client::of(&server), "ann").await.refresh_token();
    assert!(server.stop().success());
    let changed = deployment.set("AUTH_SESSION__REFRESH_KEY", "Qw9eRt2yUi5oPa8sDf1gHj4kLz7xCv0bNm3q");

    let server = changed.serve();
    refresh(&Client::of(&server), &old).await.assert_problem(401, "invalid_refresh_token");
    assert!(server.stop().success());
    let both = changed.set("AUTH_SESSION__REFRESH_KEY_PREVIOUS", "Zt5cVb1mQ8wXe7yRu3iKo0pLa9sDf4gHj2kN");
    let server = both.serve();
    let client = Client::of(&server);

    let new = refresh(&client, &old).await.refresh_token();
    assert_eq!(refresh(&client, &new).await.status, 200);
}

#[tokio::test]
async fn what_is_over_is_removed_and_stays_over() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    let answer = logged_in(&client, "ann").await;
    let other = client.log_in("ann", PASSWORD).await;
    bearing(&client, "POST", "/api/logout", &answer.token()).await;

    let server = server.restart();
    let swept = server.log().wait_for("a sweep", |line| line["message"] == "removed what is over");

    assert_eq!(swept["count"], 1);
    let client = Client::of(&server);
    client.me(&answer.token()).await.assert_problem(401, "invalid_token");
    refresh(&client, &answer.refresh_token()).await.assert_problem(401, "invalid_refresh_token");
    assert_eq!(bearing(&client, "POST", "/api/logout", &answer.token()).await.status, 204);
    assert_eq!(client.me(&other.token()).await.status, 200);
}

#[tokio::test]
async fn an_operator_sees_somebodys_sessions_and_ends_them_while_the_server_runs() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    let first = logged_in(&client, "ann").await;
    let second = client.log_in("ann", PASSWORD).await;
    let bob = logged_in(&client, "bob").await;
    let run = |arguments: &[&str]| server.deployment().run(arguments);

    let listed = run(&["sessions", "list", "Ann", "--json"]).json();
    let ids: Vec<_> = listed.as_array().unwrap().iter().map(|session| session["id"].clone()).collect();
    assert_eq!(ids, [second.json()["session_id"].clone(), first.json()["session_id"].clone()]);
    assert!(run(&["sessions", "list", "ann"]).stdout.contains("127.0.0.1"));
    let revoked = run(&["sessions", "revoke", "ann"]);
    assert_eq!((revoked.code, &*revoked.stdout), (0, "ended 2 sessions of ann\n"));

    for answer in [&first, &second] {
        client.me(&answer.token()).await.assert_problem(401, "invalid_token");
        refresh(&client, &answer.refresh_token()).await.assert_problem(401, "invalid_refresh_token");
    }
    assert_eq!(client.me(&bob.token()).await.status, 200);
    assert_eq!(run(&["sessions", "list", "ann", "--json"]).json(), json!([]));
    assert_eq!(run(&["sessions", "revoke", "nobody"]).code, 3);
}
