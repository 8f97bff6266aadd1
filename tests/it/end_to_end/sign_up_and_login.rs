//! Signing up, logging in and being recognised, as a client sees it.

use std::future::ready;
use std::io::Write;
use std::net::TcpStream;

use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, poll};
use serde_json::{Value, json};

use crate::support::client::{Client, PASSWORD};
use crate::support::server::Deployment;

#[tokio::test]
async fn somebody_signs_up_logs_in_and_is_recognised_also_after_a_restart() {
    let server = super::deployment().serve();
    let client = Client::of(&server);

    let signed_up = client.sign_up("Ann", PASSWORD).await;
    assert_eq!((signed_up.status.as_u16(), signed_up.header("Location")), (201, "/api/me"));
    let user = signed_up.json();
    let time = user["created_at"].as_str().unwrap();
    assert_eq!((time.len(), &time[10..11], &time[26..]), (27, "T", "Z"), "{time}");
    assert_eq!(user, json!({ "username": "Ann", "id": 1, "created_at": time, "updated_at": time }));

    let logged_in = client.log_in("ann", PASSWORD).await;
    assert_eq!(logged_in.status, 200);
    assert_eq!(logged_in.header("Cache-Control"), "no-store");
    let answer = logged_in.json();
    let members: Vec<_> = answer.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "access_token",
        "expires_in",
        "message",
        "refresh_expires_in",
        "refresh_token",
        "session_id",
        "token_type",
    ];
    assert_eq!(members, expected);
    assert_eq!(answer["refresh_expires_in"], 14 * 86_400);
    assert_eq!(
        (&answer["token_type"], &answer["message"]),
        (&json!("bearer"), &json!("Successfully logged in!"))
    );
    let token = logged_in.token();
    assert_eq!(client.me(&token).await.json(), user);

    let server = server.restart();
    let client = Client::of(&server);
    assert_eq!(client.me(&token).await.json(), user);
    assert_eq!(client.log_in("ANN", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn the_token_says_what_the_answer_says() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    client.sign_up("ann", PASSWORD).await;

    let logged_in = client.log_in("ann", PASSWORD).await;

    let token = logged_in.token();
    let part = |index| -> Value {
        use base64::Engine;
        let segment = token.split('.').nth(index).unwrap();
        serde_json::from_slice(&base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(segment).unwrap()).unwrap()
    };
    let (header, claims) = (part(0), part(1));
    assert_eq!(header, json!({ "alg": "HS256", "typ": "at+jwt", "kid": header["kid"] }));
    let (issued, expires) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
    assert_eq!(logged_in.json()["expires_in"], json!(expires - issued));
    assert!((855..=900).contains(&(expires - issued)));
    let expected = json!({
        "iss": "http://localhost:8000", "sub": "1", "aud": "auth-api", "iat": issued, "exp": expires,
        "jti": claims["jti"], "sid": logged_in.json()["session_id"], "client_id": "auth-api", "preferred_username": "ann",
    });
    assert_eq!(claims, expected);
}

#[tokio::test]
async fn a_taken_name_is_taken_in_every_spelling() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    client.sign_up("Zoé", PASSWORD).await;

    for spelling in ["Zoé", "zoé", "ZOÉ", "zoe\u{301}", "ＺＯÉ"] {
        client.sign_up(spelling, PASSWORD).await.assert_problem(409, "username_taken");
        assert_eq!(client.log_in(spelling, PASSWORD).await.status, 200, "{spelling}");
    }
    assert_eq!(client.sign_up("zoe", PASSWORD).await.status, 201);
}

#[tokio::test]
async fn of_fifty_sign_ups_of_one_name_at_once_one_succeeds() {
    let server = super::deployment().serve();
    let client = Client::of(&server);

    let spellings = ["ann", "Ann", "ANN", "ａｎｎ"];
    let answers = join_all((0..50).map(|n| client.sign_up(spellings[n % 4], PASSWORD))).await;

    let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(201), count(409)), (1, 49));
}

#[tokio::test]
async fn two_servers_share_one_database_and_one_set_of_names() {
    let deployment = super::deployment();
    let (one, other) = (deployment.serve(), deployment.serve());
    let clients = [Client::of(&one), Client::of(&other)];

    let answers = join_all((0..20).map(|n| clients[n % 2].sign_up("ann", PASSWORD))).await;

    let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(201), count(409)), (1, 19));
    let token = clients[0].log_in("ann", PASSWORD).await.token();
    assert_eq!(clients[1].me(&token).await.json()["username"], "ann");
}

#[tokio::test]
async fn whatever_is_wrong_with_a_login_the_answer_is_the_same_byte_for_byte() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    client.sign_up("ann", PASSWORD).await;
    client.sign_up("eve", PASSWORD).await;
    assert_eq!(server.deployment().run(&["users", "disable", "eve"]).code, 0);
    let long = format!("{}{}", PASSWORD, "x".repeat(80));

    let cases = [
        ("nobody", PASSWORD),
        ("ann", "wrong"),
        ("ann", ""),
        ("ann", "seven brown otters sing\0"),
        ("ann", &long),
        ("eve", PASSWORD),
        ("eve", "wrong"),
        ("", ""),
        ("a", PASSWORD),
        ("no name at all!\0\u{202e}", PASSWORD),
        (&"x".repeat(5000), PASSWORD),
    ];
    let mut seen = Vec::new();
    for (username, password) in cases {
        let answer = client.log_in(username, password).await;
        answer.assert_problem(401, "invalid_credentials");
        assert_eq!(answer.header("WWW-Authenticate"), "Bearer");
        let mut problem = answer.json();
        problem["request_id"] = json!("");
        let mut headers: Vec<_> = answer.headers.keys().map(|name| name.as_str().to_owned()).collect();
        headers.sort();
        seen.push((problem.to_string(), headers, answer.bytes.len()));
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:#?}");
}

#[tokio::test]
async fn disabling_and_deleting_end_a_token_at_once_and_a_new_owner_of_the_name_does_not_revive_it() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    let token = client.token_of_new("ann").await;
    let users =
        |command, more: &[&str]| server.deployment().run(&[&["users", command, "ann"], more].concat());

    assert_eq!(users("disable", &[]).code, 0);
    client.me(&token).await.assert_problem(401, "invalid_token");
    assert_eq!(users("enable", &[]).code, 0);
    client.me(&token).await.assert_problem(401, "invalid_token");
    let token = client.log_in("ann", PASSWORD).await.token();
    assert_eq!(client.me(&token).await.status, 200);

    assert_eq!(users("delete", &["--yes"]).code, 0);
    client.me(&token).await.assert_problem(401, "invalid_token");
    assert_eq!(client.sign_up("ann", PASSWORD).await.json()["id"], 2);
    client.me(&token).await.assert_problem(401, "invalid_token");
}

#[tokio::test]
async fn passwords_are_whole_significant_and_normalised() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    // 64 characters of four bytes, in no order that a program would guess.
    let pictures: String = (0..64_u32).filter_map(|n| char::from_u32(0x1f400 + n * n * n % 251)).collect();
    assert_eq!(pictures.len(), 256);
    let prefix = "correct horse battery staple, ".repeat(3);
    let cases = [
        ("user-1", pictures.as_str()),
        ("user-2", "  Leading and trailing blanks  "),
        ("user-3", "caf\u{e9} cr\u{e8}me br\u{fb}l\u{e9}e"),
        ("user-4", &prefix[..72]),
        ("user-5", &prefix[..73]),
    ];
    for (username, password) in cases {
        assert_eq!(client.sign_up(username, password).await.status, 201, "{password}");
        assert_eq!(client.log_in(username, password).await.status, 200, "{password}");
    }

    assert_eq!(client.log_in("user-3", "cafe\u{301} cre\u{300}me bru\u{302}le\u{301}e").await.status, 200);
    for (username, password) in [
        ("user-2", "Leading and trailing blanks"),
        ("user-2", "  leading and trailing blanks  "),
        ("user-3", "cafe creme brulee"),
        ("user-4", &prefix[..73]),
        ("user-4", &prefix[..71]),
        ("user-5", &prefix[..72]),
        ("user-5", &prefix[..74]),
    ] {
        assert_eq!(client.log_in(username, password).await.status, 401, "{password}");
    }
}

#[tokio::test]
async fn a_raised_cost_is_taken_up_by_the_next_login() {
    let server = super::deployment().serve();
    Client::of(&server).sign_up("ann", PASSWORD).await;
    let deployment = server.deployment().clone().set("AUTH_PASSWORD__BCRYPT_COST", "11");
    let kept = |prefix: &[u8]| {
        let kept = deployment.all_that_is_kept();
        kept.windows(prefix.len()).any(|bytes| bytes == prefix)
    };
    assert!(server.stop().success());
    assert_eq!((kept(b"$2b$10$"), kept(b"$2b$11$")), (true, false));

    let server = deployment.serve();
    let client = Client::of(&server);
    let token = client.log_in("ann", PASSWORD).await.token();
    let user = client.me(&token).await.json();
    assert_eq!(user["updated_at"], user["created_at"]);
    assert_eq!(client.log_in("ann", PASSWORD).await.status, 200);
    assert!(server.stop().success());
    assert!(kept(b"$2b$11$"));
}

#[tokio::test]
async fn of_too_many_logins_at_once_some_are_refused_and_told_when_to_come_back() {
    let deployment = super::deployment()
        .set("AUTH_HASHING__WORKERS", "1")
        .set("AUTH_HASHING__QUEUE", "8")
        .set("AUTH_PASSWORD__BCRYPT_COST", "12");
    let server = deployment.serve();
    let client = Client::of(&server);
    client.sign_up("ann", PASSWORD).await;

    let answers = join_all((0..20).map(|_| client.log_in("ann", PASSWORD))).await;

    let (let_in, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert!(let_in.len() >= 3, "{answers:?}");
    assert!(!refused.is_empty());
    for answer in refused {
        answer.assert_problem(503, "overloaded");
        assert!(answer.header("Retry-After").parse::<u64>().is_ok_and(|seconds| seconds >= 1));
    }
    assert_eq!(client.log_in("ann", PASSWORD).await.status, 200);
}

/// Whose server hashes one password after the other, while a few may wait.
fn one_at_a_time() -> Deployment {
    super::deployment()
        .set("AUTH_HASHING__WORKERS", "1")
        .set("AUTH_HASHING__LANES", "1")
        .set("AUTH_HASHING__QUEUE", "8")
        .set("AUTH_PASSWORD__BCRYPT_COST", "11")
}

#[tokio::test]
async fn a_flood_of_logins_from_one_network_leaves_places_for_another() {
    let server = one_at_a_time().serve();
    Client::of(&server).sign_up("ann", PASSWORD).await;
    let (flooder, ann) = (Client::at(&server, [127, 0, 0, 2]), Client::at(&server, [127, 0, 0, 3]));

    let flood: FuturesUnordered<_> = (0..30).map(|_| flooder.log_in("ann", "a guess")).collect();
    // From the first refusal on the flooder has all places that it can get.
    let mut flood = flood.skip_while(|answer| ready(answer.status != 503));
    assert!(flood.next().await.is_some());
    let let_in = ann.log_in("ann", PASSWORD).await;

    assert_eq!(let_in.status, 200, "{let_in:?}");
    assert!(flood.filter(|answer| ready(answer.status == 401)).count().await >= 6);
    // One guess was at work when she came, and one or two had their turns before hers; the others came later.
    let audit = server.log().audit();
    let logins = audit.iter().filter(|line| line["event"] == "log_in" && line["reason"] != "overloaded");
    let before = logins.take_while(|line| line["outcome"] != "success").count();
    assert!(before <= 3, "{audit:#?}");
}

#[tokio::test]
async fn whoever_hangs_up_takes_no_place_from_those_who_stay() {
    let server = one_at_a_time().serve();
    let client = Client::of(&server);
    client.sign_up("ann", PASSWORD).await;
    let mut busy = Box::pin(client.log_in("ann", PASSWORD));
    assert!(poll!(&mut busy).is_pending());

    for _ in 0..30 {
        let body = format!(r#"{{"username":"ann","password":"{PASSWORD}"}}"#);
        let length = body.len();
        let request = format!(
            "POST /api/login HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        let mut gone = TcpStream::connect(server.address()).unwrap();
        gone.write_all(request.as_bytes()).unwrap();
    }
    assert_eq!(busy.await.status, 200);
    server.log().wait_for_all("the end of every login", 31, |line| line["event"] == "log_in");
    assert_eq!(client.log_in("ann", PASSWORD).await.status, 200);

    let outcomes = |outcome| move |line: &Value| line["outcome"] == outcome;
    server.log().wait_for("an abandoned login", outcomes("abandoned"));
    // Those let in before are the first two logins, and at most one that hung up after it was begun.
    let audit = server.log().audit();
    let succeeded = audit.iter().filter(|line| line["event"] == "log_in" && outcomes("success")(line));
    assert!(succeeded.count() <= 3, "{audit:#?}");
}

#[tokio::test]
async fn tokens_of_a_server_with_another_secret_or_another_issuer_are_refused() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    client.sign_up("ann", PASSWORD).await;
    let secret = std::fs::read_to_string(server.deployment().folder().join("data/token-secret")).unwrap();

    let foreign = super::deployment().serve();
    let token = Client::of(&foreign).token_of_new("ann").await;
    client.me(&token).await.assert_problem(401, "invalid_token");

    let neighbour = super::deployment()
        .set("AUTH_TOKEN__SECRET", secret.trim_end())
        .set("AUTH_TOKEN__ISSUER", "https://neighbour.example")
        .serve();
    let token = Client::of(&neighbour).token_of_new("ann").await;
    client.me(&token).await.assert_problem(401, "invalid_token");
}

#[tokio::test]
async fn a_missing_token_a_bad_one_and_an_expired_one_are_told_apart() {
    let server = super::deployment().set("AUTH_TOKEN__ACCESS_TTL", "2s").serve();
    let client = Client::of(&server);
    let token = client.token_of_new("ann").await;
    let me = |value: &str| client.send(client.request("GET", "/api/me").header("Authorization", value));

    let missing = client.get("/api/me").await;
    missing.assert_problem(401, "missing_token");
    assert_eq!(missing.header("WWW-Authenticate"), "Bearer");
    for value in ["Basic YW5uOnB3", "Bearer", "Token abc"] {
        let answer = me(value).await;
        answer.assert_problem(401, "missing_token");
        assert_eq!(answer.header("WWW-Authenticate"), "Bearer");
    }
    for value in ["Bearer abc", "bearer a.b.c", "BEARER é"] {
        let answer = me(value).await;
        answer.assert_problem(401, "invalid_token");
        assert!(answer.header("WWW-Authenticate").contains("error=\"invalid_token\""));
    }
    let twice = client
        .request("GET", "/api/me")
        .header("Authorization", format!("Bearer {token}"))
        .header("Authorization", format!("Bearer {token}"));
    client.send(twice).await.assert_problem(400, "malformed_request");
    for path in [format!("/api/me?access_token={token}"), format!("/api/me?token={token}")] {
        client.get(&path).await.assert_problem(401, "missing_token");
    }

    // Refused from the second on in which it expires; asking again is the only clock a client has.
    let mut expired = client.me(&token).await;
    let asked = std::time::Duration::from_secs(10);
    tokio::time::timeout(asked, async {
        while expired.status == 200 {
            expired = client.me(&token).await;
        }
    })
    .await
    .expect("a token of two seconds expires");
    expired.assert_problem(401, "token_expired");
    assert!(expired.header("WWW-Authenticate").contains("the token has expired"));
}
