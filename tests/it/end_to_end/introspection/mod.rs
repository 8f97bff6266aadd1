//! How backends ask about tokens and revoke them.

mod requests;

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::Body;
use serde_json::{Value, json};

use crate::support::client::{Answer, Client, PASSWORD, exchange};
use crate::support::server::Deployment;

/// Two backends: the identifier, the secret, and what `sha256sum` makes of the secret.
const SHOP: (&str, &str) = ("shop", "Kq7wzmVx1plo94trrdhbn0cue5sTz9GfLa2");
const SHOP_DIGEST: &str = "bc0e5d5ea3512e3344b2fa5a77e33b5921ad03b1ea715836f314dc964ae992ca";
const STOCK: (&str, &str) = ("stock", "Zt5cVb1mQ8wXe7yRu3iKo0pLa9sDf4gHj2k");
const STOCK_DIGEST: &str = "d20bf4feff687b4dfbc9fa5b019861ff701dfa577edef1d9a8ad3511db47ac00";

const BOTH: [&str; 2] = ["/api/introspect", "/api/revoke"];

const FORM: &str = "application/x-www-form-urlencoded";

fn with_backends() -> Deployment {
    let clients = format!("{}:{SHOP_DIGEST}, {}:{STOCK_DIGEST}", SHOP.0, STOCK.0);
    super::deployment().set("AUTH_INTROSPECTION__CLIENTS", clients)
}

/// Posts a form as it is.
async fn form(client: &Client, path: &str, who: (&str, &str), form: impl Into<Body>) -> Answer {
    let request = client.request("POST", path).basic_auth(who.0, Some(who.1));
    client.send(request.header("Content-Type", FORM).body(form)).await
}

async fn introspect(client: &Client, token: &str) -> Answer {
    form(client, "/api/introspect", SHOP, format!("token={token}")).await
}

async fn introspect_refresh(client: &Client, token: &str) -> Answer {
    form(client, "/api/introspect", SHOP, format!("token_type_hint=refresh_token&token={token}")).await
}

async fn revoke(client: &Client, token: &str) -> Answer {
    form(client, "/api/revoke", SHOP, format!("token={token}")).await
}

async fn logged_in(client: &Client, username: &str) -> Answer {
    assert_eq!(client.sign_up(username, PASSWORD).await.status, 201);
    client.log_in(username, PASSWORD).await
}

async fn refresh(client: &Client, token: &str) -> Answer {
    client.post("/api/refresh", &json!({ "refresh_token": token })).await
}

#[track_caller]
fn assert_inactive(answer: &Answer) {
    assert_eq!((answer.status.as_u16(), answer.text()), (200, r#"{"active":false}"#), "{answer:?}");
    assert_eq!(
        (answer.header("Content-Type"), answer.header("Cache-Control")),
        ("application/json", "no-store")
    );
}

/// What a token says, by whoever looks at it.
fn claims(token: &str) -> Value {
    use base64::Engine;
    let payload = token.split('.').nth(1).unwrap();
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
    serde_json::from_slice(&json).unwrap()
}

/// A secret with what forms reserve, which many libraries send as it is, and how a form encodes it.
const RESERVED: &str = "Jx3+9f/Lq%2Bw8&zT=5k:Rv7 mN4pB6hD1cG0sYaUe";
const RESERVED_ENCODED: &str = "Jx3%2B9f%2FLq%252Bw8%26zT%3D5k%3ARv7+mN4pB6hD1cG0sYaUe";
const RESERVED_DIGEST: &str = "49566194cce52e9db095ede08e2ef5a96a98bf4caed6b1341580db51f1a5db82";

#[tokio::test]
async fn client_secret_with_reserved_characters_is_accepted() {
    let deployment =
        super::deployment().set("AUTH_INTROSPECTION__CLIENTS", format!("shop:{RESERVED_DIGEST}"));
    let server = deployment.serve();
    let client = Client::of(&server);

    for path in BOTH {
        for secret in [RESERVED, RESERVED_ENCODED] {
            assert_eq!(form(&client, path, ("shop", secret), "token=x").await.status, 200, "{path} {secret}");
        }
        for wrong in [&RESERVED.replace('+', " "), &RESERVED_ENCODED.replace("%2B", "+"), "", RESERVED_DIGEST]
        {
            form(&client, path, ("shop", wrong), "token=x").await.assert_problem(401, "invalid_client");
        }
    }
}

#[tokio::test]
async fn an_active_token_tells_what_it_says_and_whose_it_is_by_their_present_name() {
    let server = with_backends().serve();
    let client = Client::of(&server);
    let answer = logged_in(&client, "ann").await;
    let token = answer.token();
    let rename = client.request("PATCH", "/api/me").header("Authorization", format!("Bearer {token}"));
    assert_eq!(
        client.send(rename.json(&json!({ "username": "mia", "password": PASSWORD }))).await.status,
        200
    );

    for who in [SHOP, STOCK] {
        let told = form(&client, "/api/introspect", who, format!("token={token}")).await;

        let claims = claims(&token);
        let expected = json!({
            "active": true, "client_id": "auth-api", "username": "mia", "token_type": "bearer",
            "exp": claims["exp"], "iat": claims["iat"], "sub": "1", "aud": "auth-api",
            "iss": "http://localhost:8000", "jti": claims["jti"], "sid": answer.json()["session_id"],
        });
        assert_eq!((told.status.as_u16(), told.json()), (200, expected));
        assert_eq!(
            (told.header("Content-Type"), told.header("Cache-Control")),
            ("application/json", "no-store")
        );
    }
    let told: Vec<_> = server.log().audit().iter().map(|line| line["event"].clone()).collect();
    assert_eq!(told, ["sign_up", "log_in", "rename"], "asking is not put on record");
}

#[tokio::test]
async fn without_an_audience_none_is_told() {
    let server = with_backends().set("AUTH_TOKEN__TYPE", "JWT").set("AUTH_TOKEN__AUDIENCE", "").serve();
    let client = Client::of(&server);
    let token = client.token_of_new("ann").await;

    let told = introspect(&client, &token).await.json();

    assert_eq!((&told["active"], told.get("aud")), (&json!(true), None));
}

#[tokio::test]
async fn a_token_is_inactive_at_once_when_its_session_has_ended_however_it_did() {
    let server = with_backends().serve();
    let client = Client::of(&server);
    let bearing = |method: &str, path: &str, token: &str| {
        client.request(method, path).header("Authorization", format!("Bearer {token}"))
    };
    let command = |arguments: &[&str]| {
        let finished = server.deployment().run_with(arguments, "eight grey herons wade\n");
        assert_eq!(finished.code, 0, "{finished:?}");
    };
    let asked_until_inactive = async |token: &str| {
        // Another process did it, of which the server hears within a second. Asking again is the only clock.
        let asking = async { while introspect(&client, token).await.json()["active"] == true {} };
        tokio::time::timeout(Duration::from_secs(4), asking).await.expect("it is inactive");
    };
    let mut ended = Vec::new();
    let mut token_of = async |name: &str| {
        let token = client.token_of_new(name).await;
        // Twice, for the first time is not remembered if the token is new.
        for _ in 0..2 {
            assert_eq!(introspect(&client, &token).await.json()["active"], true, "{name}");
        }
        ended.push(token.clone());
        token
    };

    let out = token_of("ann").await;
    assert_eq!(client.send(bearing("POST", "/api/logout", &out)).await.status, 204);
    assert_inactive(&introspect(&client, &out).await);

    let changed = token_of("bob").await;
    let body = json!({ "current_password": PASSWORD, "new_password": "eight grey herons wade" });
    assert_eq!(client.send(bearing("PUT", "/api/me/password", &changed).json(&body)).await.status, 200);
    assert_inactive(&introspect(&client, &changed).await);

    let left = token_of("eve").await;
    let body = json!({ "password": PASSWORD });
    assert_eq!(client.send(bearing("DELETE", "/api/me", &left).json(&body)).await.status, 204);
    assert_inactive(&introspect(&client, &left).await);

    let disabled = token_of("mia").await;
    command(&["users", "disable", "mia"]);
    asked_until_inactive(&disabled).await;
    command(&["users", "enable", "mia"]);

    let staying = token_of("zoe").await;
    ended.pop();
    for token in &ended {
        assert_inactive(&introspect(&client, token).await);
    }
    assert_eq!(introspect(&client, &staying).await.json()["active"], true);
}

#[tokio::test]
async fn a_token_is_inactive_when_it_has_expired() {
    let server = with_backends().set("AUTH_TOKEN__ACCESS_TTL", "4s").serve();
    let client = Client::of(&server);
    let token = client.token_of_new("ann").await;
    assert_eq!(introspect(&client, &token).await.json()["active"], true);

    let asking = async { while introspect(&client, &token).await.json()["active"] == true {} };
    tokio::time::timeout(Duration::from_secs(20), asking).await.expect("it expires");

    assert_inactive(&introspect(&client, &token).await);
    client.me(&token).await.assert_problem(401, "token_expired");
}

#[tokio::test]
async fn whatever_is_no_good_token_is_inactive_in_the_same_bytes_and_not_put_on_record() {
    let server = with_backends().serve();
    let client = Client::of(&server);
    let mine = logged_in(&client, "ann").await;
    let foreign = with_backends().serve();
    let theirs = logged_in(&Client::of(&foreign), "ann").await;
    let (token, recorded) = (mine.token(), server.log().audit().len());
    let (signed, _) = token.rsplit_once('.').unwrap();

    let mut seen = BTreeSet::new();
    for bad in [
        "x",
        "a.b.c",
        &theirs.token(),
        &theirs.refresh_token(),
        &mine.refresh_token(),
        &format!("{signed}.AAAA"),
        &format!("%20{token}"),
        &format!("{token}%00"),
        &format!("Bearer+{token}"),
        &"A".repeat(10_000),
        "%E2%80%AE%00",
    ] {
        for hint in ["", "&token_type_hint=access_token", "&token_type_hint=nonsense"] {
            let answer = form(&client, "/api/introspect", SHOP, format!("token={bad}{hint}")).await;
            assert_inactive(&answer);
            seen.insert(answer.headers.len());
        }
    }

    assert_eq!(seen.len(), 1);
    assert_eq!(server.log().audit().len(), recorded);
    assert_eq!(introspect(&client, &token).await.json()["active"], true);
}

#[tokio::test]
async fn the_newest_refresh_token_is_active_to_who_asks_for_refresh_tokens_and_nothing_changes() {
    let server = with_backends().set("AUTH_SESSION__GRACE", "0s").serve();
    let client = Client::of(&server);
    let first = logged_in(&client, "ann").await;
    let second = refresh(&client, &first.refresh_token()).await;

    let told = introspect_refresh(&client, &second.refresh_token()).await.json();

    let members: BTreeSet<_> = told.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, BTreeSet::from(["active", "username", "exp", "iat", "sub", "sid"]));
    assert_eq!(
        (&told["active"], &told["username"], &told["sub"]),
        (&json!(true), &json!("ann"), &json!("1"))
    );
    assert_eq!(told["sid"], first.json()["session_id"]);
    let lifetime = told["exp"].as_i64().unwrap() - told["iat"].as_i64().unwrap();
    assert_eq!(lifetime, second.json()["refresh_expires_in"].as_i64().unwrap());
    // Unasked it is none, or it would be taken for an access token.
    assert_inactive(&introspect(&client, &second.refresh_token()).await);
    // Asking about the older one is neither a misuse nor an exchange.
    for _ in 0..2 {
        assert_inactive(&introspect_refresh(&client, &first.refresh_token()).await);
    }
    // It was not marked as seen either, so that a lost answer is given again.
    let again = refresh(&client, &first.refresh_token()).await;
    assert_eq!((again.status.as_u16(), again.header("Refresh-Reuse")), (200, "recovered"));
    assert_eq!(introspect_refresh(&client, &again.token()).await.json()["token_type"], "bearer");
    let third = refresh(&client, &second.refresh_token()).await;
    assert_eq!(third.status, 200);
    assert_inactive(&introspect_refresh(&client, &second.refresh_token()).await);
    revoke(&client, &third.token()).await;
    assert_inactive(&introspect_refresh(&client, &third.refresh_token()).await);
}

#[tokio::test]
async fn asking_about_the_first_access_token_of_a_generation_marks_it_as_seen() {
    let server = with_backends().set("AUTH_SESSION__GRACE", "0s").serve();
    let client = Client::of(&server);
    let first = logged_in(&client, "ann").await;
    let second = refresh(&client, &first.refresh_token()).await;

    assert_eq!(introspect(&client, &second.token()).await.json()["active"], true);
    // The mark is written behind the answer; the store's one writer has it before what comes after.
    assert_eq!(client.sign_up("bob", PASSWORD).await.status, 201);

    // The answer had arrived, so whoever shows the one before is a thief.
    refresh(&client, &first.refresh_token()).await.assert_problem(401, "invalid_refresh_token");
    assert_inactive(&introspect(&client, &second.token()).await);
}

#[tokio::test]
async fn either_token_revokes_its_session_and_no_other_and_can_be_revoked_again() {
    let server = with_backends().serve();
    let client = Client::of(&server);
    let by_access = logged_in(&client, "ann").await;
    let before = client.log_in("ann", PASSWORD).await;
    let by_refresh = refresh(&client, &before.refresh_token()).await;
    let other = client.log_in("ann", PASSWORD).await;

    for token in [by_access.token(), before.refresh_token()] {
        for _ in 0..2 {
            let revoked = revoke(&client, &token).await;
            assert_eq!((revoked.status.as_u16(), revoked.bytes.len()), (200, 0), "{revoked:?}");
            assert_eq!(revoked.header("Cache-Control"), "no-store");
        }
    }

    for over in [&by_access, &by_refresh] {
        client.me(&over.token()).await.assert_problem(401, "invalid_token");
        refresh(&client, &over.refresh_token()).await.assert_problem(401, "invalid_refresh_token");
        assert_inactive(&introspect(&client, &over.token()).await);
    }
    assert_eq!(client.me(&other.token()).await.status, 200);
    assert_eq!(refresh(&client, &other.refresh_token()).await.status, 200);
    let events = server.log().audit();
    let done = |line: &&Value| {
        line["event"] == "revoke_token" && line["outcome"] == "success" && line["user_id"] == 1
    };
    assert_eq!(events.iter().filter(done).count(), 2, "{events:?}");
}

#[tokio::test]
async fn revoking_what_is_no_token_of_a_live_session_is_200_and_changes_nothing() {
    let server = with_backends().serve();
    let client = Client::of(&server);
    let mine = logged_in(&client, "ann").await;
    let foreign = with_backends().serve();
    let theirs = logged_in(&Client::of(&foreign), "ann").await;
    let token = mine.token();
    let (signed, _) = token.rsplit_once('.').unwrap();

    for unknown in [
        "x",
        &theirs.token(),
        &theirs.refresh_token(),
        &format!("{signed}.AAAA"),
        &format!("{}A", mine.refresh_token()),
        &"A".repeat(10_000),
    ] {
        for hint in ["", "&token_type_hint=refresh_token", "&token_type_hint=nonsense"] {
            let answer = form(&client, "/api/revoke", SHOP, format!("token={unknown}{hint}")).await;
            assert_eq!((answer.status.as_u16(), answer.bytes.len()), (200, 0), "{unknown}");
        }
    }

    let told = server.log().audit();
    assert!(!told.iter().any(|line| line["event"] == "revoke_token" && line["outcome"] == "success"));
    assert_eq!(client.me(&token).await.status, 200);
    assert_eq!(refresh(&client, &mine.refresh_token()).await.status, 200);
}

#[tokio::test]
async fn no_secret_and_no_token_of_a_backends_request_appears_in_the_log_or_in_an_answer() {
    let server = with_backends().set("AUTH_LOG__LEVEL", "trace").serve();
    let client = Client::of(&server);
    let canary = "canary-4711-quokka";
    let mine = logged_in(&client, "ann").await;
    let mut answers = Vec::new();
    for path in BOTH {
        for (id, secret) in [(canary, SHOP.1), (SHOP.0, canary), (canary, canary)] {
            answers.push(form(&client, path, (id, secret), format!("token={canary}")).await);
        }
        for body in [
            format!("token={canary}"),
            format!("token={canary}&token={canary}"),
            format!("{canary}={canary}"),
            format!("token=x&token_type_hint={canary}"),
        ] {
            answers.push(form(&client, path, SHOP, body).await);
        }
        let address = format!("{path}?token={canary}");
        answers.push(form(&client, &address, SHOP, "token=x").await);
    }
    introspect(&client, &mine.token()).await;
    introspect_refresh(&client, &mine.refresh_token()).await;
    let last = revoke(&client, &mine.refresh_token()).await;
    server.log().wait_for("the last request", |line| line["request_id"] == last.header("X-Request-Id"));

    for answer in &answers {
        let shown = format!("{:?} {}", answer.headers, String::from_utf8_lossy(&answer.bytes));
        assert!(!shown.contains(canary), "{shown}");
    }
    let secrets = [SHOP.1, STOCK.1, SHOP_DIGEST, STOCK_DIGEST, &*mine.token(), &*mine.refresh_token()];
    for line in server.log().lines() {
        assert!(!line.contains(canary), "{line}");
        assert!(!secrets.iter().any(|secret| line.contains(secret)), "{line}");
    }
}

#[tokio::test]
async fn a_store_that_is_locked_by_somebody_else_revokes_nothing_and_says_so() {
    let server = with_backends().serve();
    let client = Client::of(&server);
    let token = client.token_of_new("ann").await;

    let lock = server.deployment().lock();
    let revoked = revoke(&client, &token).await;
    // Reading goes on beside a writer, although the first look at a token is to be noted.
    assert_eq!(introspect(&client, &token).await.json()["active"], true);
    drop(lock);

    revoked.assert_problem(503, "unavailable");
    assert_eq!(revoked.header("Retry-After"), "5");
    assert_eq!(revoke(&client, &token).await.status, 200);
    assert_inactive(&introspect(&client, &token).await);
}
