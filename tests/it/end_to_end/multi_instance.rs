//! Two instances on one PostgreSQL, each on a machine of its own, as a load balancer has them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::support::client::{Answer, Client, PASSWORD};
use crate::support::postgres::Database;
use crate::support::server::{Deployment, Server};

/// What both need of each other.
const SECRETS: [(&str, &str); 2] = [
    ("AUTH_TOKEN__SECRET", "mE0Wk8Qn1vTzr4YbXc7uJdL2gHs9aPfR5oKiN3tB6yM="),
    ("AUTH_SESSION__REFRESH_KEY", "Zt5cVb1mQ8wXe7yRu3iKo0pLa9sDf4gHj2kN"),
];

const NEW: &str = "another vx9 lantern";

/// Until when a change on one is felt on the other: the second that is promised, and patience with a busy machine.
const FELT: Duration = Duration::from_secs(4);

#[tokio::test]
async fn both_start_together_on_an_empty_database_and_serve() {
    for round in 0..5 {
        let database = Arc::new(Database::empty());
        let machines = machines(&database).map(|it| it.set("AUTH_DATABASE__MIGRATE_ON_START", "true"));

        let [one, other] = serve(machines).await;

        let clients = [Client::of(&one), Client::of(&other)];
        for client in &clients {
            assert_eq!(client.get("/health/ready").await.status, 200, "{round}");
        }
        assert_eq!(clients[0].sign_up("ann", PASSWORD).await.status, 201, "{round}");
        assert_eq!(clients[1].log_in("ann", PASSWORD).await.status, 200, "{round}");
        let applied =
            database.ask("SELECT count(*), count(DISTINCT version) FROM __diesel_schema_migrations");
        assert_eq!(applied[0][0], applied[0][1], "{round}");
        assert!(one.stop().success() && other.stop().success(), "{round}");
    }
}

#[tokio::test]
async fn of_fifty_sign_ups_of_one_name_over_both_one_succeeds() {
    let database = Arc::new(Database::migrated());
    let [one, other] = serve(machines(&database)).await;
    let clients = [Client::of(&one), Client::of(&other)];

    for name in ["ann", "bob", "eve"] {
        let spellings = [name.to_owned(), name.to_uppercase()];
        let answers =
            join_all((0..50).map(|n| clients[n % 2].sign_up(&spellings[n / 2 % 2], PASSWORD))).await;

        let (got_in, others): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 201);
        assert_eq!(got_in.len(), 1, "{answers:?}");
        for answer in others {
            // A queue may be too long already when the name is not taken yet.
            match answer.status.as_u16() {
                503 => answer.assert_problem(503, "overloaded"),
                _ => answer.assert_problem(409, "username_taken"),
            }
        }
        let id = &got_in[0].json()["id"];
        for client in &clients {
            let token = client.log_in(name, PASSWORD).await.token();
            assert_eq!(client.me(&token).await.json()["id"], *id);
        }
    }
    assert_eq!(database.ask("SELECT count(*) FROM users"), [["3"]]);
}

#[tokio::test]
async fn a_refresh_token_raced_over_both_leaves_one_lineage() {
    let database = Arc::new(Database::migrated());
    let [one, other] = serve(machines(&database)).await;
    let clients = [Client::of(&one), Client::of(&other)];
    let mut last = logged_in(&clients[0], "ann").await;

    for round in 0..20 {
        let answers = join_all((0..20).map(|n| refresh(&clients[(n + round) % 2], &last))).await;

        let told = |how: &str| answers.iter().filter(|answer| answer.header("Refresh-Reuse") == how).count();
        assert_eq!((told(""), told("concurrent")), (1, 19), "{round}: {answers:?}");
        assert_eq!(refresh_tokens(&answers).len(), 1, "{round}");
        for (n, answer) in answers.iter().enumerate() {
            assert_eq!(clients[n % 2].me(&answer.token()).await.status, 200, "{round}");
        }
        last = answers.into_iter().next().unwrap();
    }
    assert_eq!(live_sessions(&database), 1);
}

#[tokio::test]
async fn where_there_is_no_grace_a_race_over_both_leaves_one_lineage_or_none() {
    let database = Arc::new(Database::migrated());
    let machines = machines(&database).map(|it| it.set("AUTH_SESSION__GRACE", "0s"));
    let [one, other] = serve(machines).await;
    let clients = [Client::of(&one), Client::of(&other)];
    assert_eq!(clients[0].sign_up("ann", PASSWORD).await.status, 201);
    let race = |racers: usize| {
        let clients = &clients;
        async move {
            let first = clients[racers % 2].log_in("ann", PASSWORD).await;
            let answers = join_all((0..racers).map(|n| refresh(&clients[n % 2], &first))).await;
            (first, answers)
        }
    };

    for _ in 0..5 {
        // As many as a lost answer is given again to.
        let (first, answers) = race(4).await;
        let told = |how: &str| answers.iter().filter(|answer| answer.header("Refresh-Reuse") == how).count();
        assert_eq!((told(""), told("recovered")), (1, 3), "{answers:?}");
        assert_eq!(refresh_tokens(&answers).len(), 1);
        let next = refresh(&clients[1], &answers[0]).await;
        assert_eq!((next.status.as_u16(), next.headers.get("Refresh-Reuse")), (200, None));
        assert_eq!(clients[0].me(&next.token()).await.status, 200);
        refresh(&clients[0], &first).await.assert_problem(401, "invalid_refresh_token");
        refresh(&clients[1], &next).await.assert_problem(401, "invalid_refresh_token");

        // One more, and it is taken for stolen.
        let (_, answers) = race(12).await;
        let (good, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
        assert_eq!((good.len(), refused.len()), (4, 8), "{answers:?}");
        let one = good[0].refresh_token();
        for answer in good {
            assert_eq!(answer.refresh_token(), one);
            for client in &clients {
                refresh(client, answer).await.assert_problem(401, "invalid_refresh_token");
                is_over_at(client, answer).await;
            }
        }
    }
    assert_eq!(live_sessions(&database), 0);
}

#[tokio::test]
async fn what_ends_a_session_on_one_is_felt_on_the_other_within_a_second() {
    let database = Arc::new(Database::migrated());
    // Without a grace a token that was exchanged twice ends its session.
    let machines = machines(&database).map(|it| it.set("AUTH_SESSION__GRACE", "0s"));
    let [one, other] = serve(machines).await;
    let (client, elsewhere) = (Client::of(&one), Client::of(&other));
    let bob = logged_in(&client, "bob").await;
    let ends = [
        ("POST", "/api/logout", json!({}), 204),
        ("DELETE", "/api/sessions/{id}", json!({}), 204),
        ("DELETE", "/api/sessions?except=current", json!({}), 204),
        ("PUT", "/api/me/password", json!({ "current_password": PASSWORD, "new_password": NEW }), 200),
        ("DELETE", "/api/me", json!({ "password": PASSWORD }), 204),
        ("POST", "/api/refresh", json!({}), 401),
    ];

    for (number, (method, path, mut body, status)) in ends.into_iter().enumerate() {
        let name = format!("user{number}");
        let mine = logged_in(&client, &name).await;
        let mut by = client.log_in(&name, PASSWORD).await;
        is_remembered_at(&elsewhere, &mine, &database).await;
        let path = path.replace("{id}", mine.json()["session_id"].as_str().unwrap());
        match &*path {
            "/api/logout" => by = mine.clone(),
            "/api/refresh" => {
                refresh(&client, &refresh(&client, &mine).await).await;
                body = json!({ "refresh_token": mine.refresh_token() });
            }
            _ => {}
        }

        let request = client.request(method, &path).bearer_auth(by.token());
        let done = client.send(if body == json!({}) { request } else { request.json(&body) }).await;

        assert_eq!(done.status, status, "{path}: {done:?}");
        is_over_at(&elsewhere, &mine).await;
        refresh(&elsewhere, &mine).await.assert_problem(401, "invalid_refresh_token");
    }
    for command in [
        &["sessions", "revoke", "ann"][..],
        &["users", "disable", "ann"],
        &["users", "set-password", "ann"],
        &["users", "delete", "ann", "--yes"],
    ] {
        let mine = logged_in(&client, "ann").await;
        is_remembered_at(&elsewhere, &mine, &database).await;

        assert_eq!(one.deployment().run_with(command, NEW).code, 0);

        is_over_at(&elsewhere, &mine).await;
        one.deployment().run(&["users", "delete", "ann", "--yes"]);
    }

    assert_eq!(elsewhere.me(&bob.token()).await.status, 200);
}

#[tokio::test]
async fn every_request_may_come_to_another_one() {
    let database = Arc::new(Database::migrated());
    let [one, other] = serve(machines(&database)).await;
    let (here, there) = (Client::of(&one), Client::of(&other));
    let bearing = |client: &Client, method, path: &str, token: &Answer| {
        client.request(method, path).bearer_auth(token.token())
    };

    for name in ["ann", "bob", "eve"] {
        assert_eq!(here.sign_up(name, PASSWORD).await.status, 201);
        let first = there.log_in(name, PASSWORD).await;
        assert_eq!(here.me(&first.token()).await.json()["username"], name);
        let second = here.log_in(name, PASSWORD).await;
        let refreshed = there.post("/api/refresh", &json!({ "refresh_token": second.refresh_token() })).await;
        assert_eq!(here.me(&refreshed.token()).await.status, 200);
        let listed = there.send(bearing(&there, "GET", "/api/sessions", &refreshed)).await.json();
        assert_eq!(listed["sessions"].as_array().unwrap().len(), 2);

        let new = format!("{name}.lee");
        let renamed = bearing(&here, "PATCH", "/api/me", &first)
            .json(&json!({ "username": new, "password": PASSWORD }));
        assert_eq!(here.send(renamed).await.status, 200);
        let is_known = async { while there.me(&first.token()).await.json()["username"] != new {} };
        timeout(FELT, is_known).await.expect("the new name elsewhere");
        let change = json!({ "current_password": PASSWORD, "new_password": NEW });
        let changed = there.send(bearing(&there, "PUT", "/api/me/password", &refreshed).json(&change)).await;
        assert_eq!(here.me(&changed.token()).await.json()["username"], new);
        here.log_in(&new, PASSWORD).await.assert_problem(401, "invalid_credentials");
        is_over_at(&here, &first).await;

        let cookie = format!("auth_refresh={}", changed.refresh_token());
        let by_cookie = here.request("POST", "/api/refresh").header("X-Session-Transport", "cookie");
        let by_cookie = by_cookie.header("Origin", one.base_url()).header("Cookie", &cookie);
        let by_cookie = here.send(by_cookie).await;
        let cookie = by_cookie.header("Set-Cookie").split_once(';').unwrap().0.to_owned();
        let left = there.request("POST", "/api/logout").header("X-Session-Transport", "cookie");
        let left = left.header("Origin", other.base_url()).header("Cookie", &cookie);
        assert_eq!(there.send(left).await.status, 204);
        is_over_at(&here, &by_cookie).await;
    }
}

#[tokio::test]
async fn keys_that_are_rotated_on_one_machine_hold_on_the_other_as_soon_as_it_has_the_files() {
    let database = Arc::new(Database::migrated());
    let machines = machines(&database).map(|it| it.set("AUTH_TOKEN__ALGORITHM", "EdDSA"));
    let run = |machine: &Deployment, arguments: &[&str]| {
        let done = machine.run(arguments);
        assert_eq!(done.code, 0, "{done:?}");
    };
    run(&machines[0], &["keys", "generate"]);
    bring_keys(&machines);
    let servers = serve(machines.clone()).await;
    let (here, there) = (Client::of(&servers[0]), Client::of(&servers[1]));
    let mut tokens = vec![logged_in(&here, "ann").await, there.log_in("ann", PASSWORD).await];

    // Published on both before it signs on either, so that nobody refuses what the other signs.
    run(&machines[0], &["keys", "rotate"]);
    bring_keys(&machines);
    wait_for_keys(&servers);
    assert_eq!(
        here.get("/.well-known/jwks.json").await.json(),
        there.get("/.well-known/jwks.json").await.json()
    );
    tokens.extend([here.log_in("ann", PASSWORD).await, there.log_in("ann", PASSWORD).await]);
    for client in [&here, &there] {
        for token in &tokens {
            assert_eq!(client.me(&token.token()).await.status, 200);
        }
    }

    // In a hurry the files do not come first.
    run(&machines[0], &["keys", "rotate", "--now"]);
    run(&machines[0], &["keys", "retire", &kid(&tokens[0]), "--now"]);
    bring_keys(&machines);
    wait_for_keys(&servers);
    let new = [here.log_in("ann", PASSWORD).await, there.log_in("ann", PASSWORD).await];
    for client in [&here, &there] {
        for token in &new {
            assert_eq!(client.me(&token.token()).await.status, 200);
        }
        for token in &tokens {
            client.me(&token.token()).await.assert_problem(401, "invalid_token");
        }
    }
}

/// Two machines, which share a database and secrets, and no folder.
fn machines(database: &Arc<Database>) -> [Deployment; 2] {
    [(), ()].map(|()| {
        let machine = Deployment::new().on(database.clone());
        SECRETS.into_iter().fold(machine, |machine, (name, secret)| machine.set(name, secret))
    })
}

/// Starts a server on each, both at once.
async fn serve(machines: [Deployment; 2]) -> [Server; 2] {
    let [one, other] = machines.map(|machine| spawn_blocking(move || machine.serve()));
    let (one, other) = join(one, other).await;
    [one.unwrap(), other.unwrap()]
}

async fn logged_in(client: &Client, name: &str) -> Answer {
    assert_eq!(client.sign_up(name, PASSWORD).await.status, 201);
    client.log_in(name, PASSWORD).await
}

async fn refresh(client: &Client, answer: &Answer) -> Answer {
    client.post("/api/refresh", &json!({ "refresh_token": answer.refresh_token() })).await
}

fn refresh_tokens(answers: &[Answer]) -> BTreeSet<String> {
    answers.iter().map(Answer::refresh_token).collect()
}

fn live_sessions(database: &Database) -> usize {
    database.ask("SELECT count(*) FROM sessions WHERE ended_at IS NULL")[0][0].parse().unwrap()
}

/// Has a server know that a session is live, so that it would answer without asking the database.
async fn is_remembered_at(client: &Client, answer: &Answer, database: &Database) {
    let id = answer.json()["session_id"].as_str().unwrap().to_owned();
    let seen = format!("SELECT seen FROM sessions WHERE id = '{id}'");
    // Until it is noted that the token was seen, which is a change.
    while database.ask(&seen) != [["t"]] {
        assert_eq!(client.me(&answer.token()).await.status, 200);
    }
    for _ in 0..5 {
        assert_eq!(client.me(&answer.token()).await.status, 200);
    }
}

/// Waits until a server refuses an access token. Asking again is the only clock a client has.
async fn is_over_at(client: &Client, answer: &Answer) {
    let asking = async { while client.me(&answer.token()).await.status == 200 {} };
    timeout(FELT, asking).await.expect("it is over elsewhere");
    client.me(&answer.token()).await.assert_problem(401, "invalid_token");
}

/// Makes the keys of the second machine those of the first, each file at once, as whoever distributes secrets does.
fn bring_keys(machines: &[Deployment; 2]) {
    let [from, to] = machines.each_ref().map(|machine| machine.folder().join("data/keys"));
    let names = |folder: &Path| -> BTreeSet<OsString> {
        let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let keys = files.filter(|file| file.extension().is_some_and(|extension| extension == "pem"));
        keys.map(|key| key.file_name().unwrap().to_owned()).collect()
    };
    if !to.exists() {
        fs::create_dir_all(&to).unwrap();
        for folder in [to.parent().unwrap(), &to] {
            fs::set_permissions(folder, Permissions::from_mode(0o700)).unwrap();
        }
    }
    for gone in names(&to).difference(&names(&from)) {
        fs::remove_file(to.join(gone)).unwrap();
    }
    for name in names(&from) {
        let beside = to.with_file_name("on-its-way");
        fs::copy(from.join(&name), &beside).unwrap();
        fs::rename(beside, to.join(name)).unwrap();
    }
}

/// Waits until both have read the keys that are there now.
fn wait_for_keys(servers: &[Server; 2]) {
    for server in servers {
        let list = server.deployment().run(&["keys", "list", "--json"]).json();
        let list = list.as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap());
        let list = list.collect::<Vec<_>>().join(" ");
        let is_it = |line: &Value| line["message"] == "read the signing keys" && line["keys"] == list;
        server.log().wait_for("the keys", is_it);
    }
}

/// The key that signed a token.
fn kid(answer: &Answer) -> String {
    let header = URL_SAFE_NO_PAD.decode(answer.token().split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}
