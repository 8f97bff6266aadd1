//! How keys come and go while the server runs, and what backends that know nothing but the issuer see of it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::client::{Client, PASSWORD};
use crate::support::pyjwt::PyJwt;
use crate::support::server::{Deployment, Server};

const ALGORITHMS: [&str; 3] = ["EdDSA", "ES256", "RS256"];

const JWKS: &str = "/.well-known/jwks.json";
const DISCOVERY: [&str; 2] = ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"];

fn with(algorithm: &str) -> Deployment {
    Deployment::new().set("AUTH_TOKEN__ALGORITHM", algorithm)
}

fn header(token: &str) -> Value {
    let (header, _) = token.split_once('.').unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap()
}

fn kid(token: &str) -> String {
    header(token)["kid"].as_str().unwrap().to_owned()
}

/// The keys as `keys list` has them: kid and state, the one that signs last first.
fn listed(deployment: &Deployment) -> Vec<(String, String)> {
    let list = deployment.run(&["keys", "list", "--json"]).json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    list.as_array().unwrap().iter().map(|key| (text(&key["kid"]), text(&key["state"]))).collect()
}

fn of_state(deployment: &Deployment, state: &str) -> String {
    listed(deployment).into_iter().find(|(_, its)| its == state).unwrap_or_else(|| panic!("{state}")).0
}

fn file(deployment: &Deployment, kid: &str) -> PathBuf {
    deployment.folder().join(format!("data/keys/{kid}.pem"))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Waits until the server has read the keys that `keys list` shows.
fn wait_for_keys(server: &Server) {
    let expected = listed(server.deployment()).into_iter().map(|(kid, _)| kid).collect::<Vec<_>>().join(" ");
    server
        .log()
        .wait_for("the keys", |line| line["message"] == "read the signing keys" && line["keys"] == expected);
}

fn wait_for_signing(server: &Server, kid: &str) {
    server
        .log()
        .wait_for("another key", |line| line["message"] == "signing with another key" && line["key"] == kid);
}

/// Runs a command that must succeed.
fn run(deployment: &Deployment, arguments: &[&str]) {
    let finished = deployment.run(arguments);
    assert_eq!(finished.code, 0, "{finished:?}");
}

#[tokio::test]
async fn each_algorithm_signs_from_a_first_start_on() {
    for algorithm in ALGORITHMS {
        let server = with(algorithm).serve();
        let client = Client::of(&server);

        let token = client.token_of_new("ann").await;

        let kid = of_state(server.deployment(), "active");
        assert_eq!(header(&token), json!({ "alg": algorithm, "typ": "at+jwt", "kid": kid }));
        assert_eq!(client.me(&token).await.json()["username"], "ann");
        assert_eq!(mode(&server.deployment().folder().join("data/keys")), 0o700);
        assert_eq!(mode(&file(server.deployment(), &kid)), 0o600);
        let keys = client.get(JWKS).await.json()["keys"].clone();
        assert_eq!(
            (&keys[0]["kid"], &keys[0]["alg"], &keys[0]["use"]),
            (&json!(kid), &json!(algorithm), &json!("sig"))
        );
        let server = server.restart();
        assert_eq!(Client::of(&server).me(&token).await.status, 200, "the key is made once");
    }
}

#[tokio::test]
async fn two_who_start_at_once_without_a_key_share_one() {
    let deployment = with("ES256");

    let (one, other) = std::thread::scope(|scope| {
        let one = scope.spawn(|| deployment.serve());
        let other = scope.spawn(|| deployment.serve());
        (one.join().unwrap(), other.join().unwrap())
    });

    let token = Client::of(&one).token_of_new("ann").await;
    assert_eq!(Client::of(&other).me(&token).await.status, 200);
    assert_eq!(listed(&deployment).len(), 1);
}

#[tokio::test]
async fn a_rotation_refuses_no_token_until_the_old_key_is_retired() {
    for algorithm in ALGORITHMS {
        let server = with(algorithm).serve();
        let deployment = server.deployment();
        let client = Client::of(&server);
        let before = client.token_of_new("ann").await;

        run(deployment, &["keys", "rotate"]);
        wait_for_keys(&server);
        let next = of_state(deployment, "next");
        assert!(client.get(JWKS).await.text().contains(&next), "published before it signs");
        let during = client.log_in("ann", PASSWORD).await.token();
        run(deployment, &["keys", "rotate", "--now"]);
        wait_for_signing(&server, &next);
        let after = client.log_in("ann", PASSWORD).await.token();

        assert_eq!((kid(&during), kid(&after)), (kid(&before), next));
        for token in [&before, &during, &after] {
            assert_eq!(client.me(token).await.status, 200);
        }
        assert_eq!(deployment.run(&["keys", "retire"]).stdout, "every key is needed\n");
        let needed = deployment.run(&["keys", "retire", &kid(&before)]);
        assert_eq!(needed.code, 3, "{needed:?}");
        run(deployment, &["keys", "retire", &kid(&before), "--now"]);
        wait_for_keys(&server);
        for token in [&before, &during] {
            client.me(token).await.assert_problem(401, "invalid_token");
        }
        assert_eq!(client.me(&after).await.status, 200);
        assert!(!client.get(JWKS).await.text().contains(&kid(&before)));
    }
}

#[tokio::test]
async fn what_is_no_good_leaves_the_keys_as_they_are_and_is_named_in_the_log() {
    let server = with("EdDSA").serve();
    let deployment = server.deployment();
    let client = Client::of(&server);
    let token = client.token_of_new("ann").await;
    let path = file(deployment, &kid(&token));
    let good = fs::read_to_string(&path).unwrap();
    wait_for_keys(&server);
    let stays = |name: &str, why: &str| {
        server.log().wait_for(why, |line| {
            let cause = line["cause"].as_str().unwrap_or_default();
            line["message"] == "the signing keys stay as they were"
                && cause.contains(name)
                && cause.contains(why)
        });
    };

    fs::write(&path, good.replace("PRIVATE", "xcanaryx")).unwrap();
    stays(&kid(&token), "holds no whole private key");
    assert_eq!(client.me(&token).await.status, 200);
    fs::write(&path, &good).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    stays(&kid(&token), "is open to others");
    deployment.write("data/keys/new.pem", "xcanaryx");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(deployment.folder().join("data/keys/new.pem"), Permissions::from_mode(0o600))
        .unwrap();
    stays("new.pem", "is not a key file");
    fs::rename(deployment.folder().join("data/keys"), deployment.folder().join("away")).unwrap();
    stays("data/keys", "there is no EdDSA key");
    assert_eq!(client.me(&token).await.status, 200);
    assert_eq!(kid(&client.log_in("ann", PASSWORD).await.token()), kid(&token));

    fs::rename(deployment.folder().join("away"), deployment.folder().join("data/keys")).unwrap();
    fs::remove_file(deployment.folder().join("data/keys/new.pem")).unwrap();
    run(deployment, &["keys", "rotate", "--now"]);
    wait_for_keys(&server);
    assert_eq!(client.me(&token).await.status, 200);
    let log = server.log().lines().join("\n");
    let secret = good.lines().nth(4).unwrap();
    assert!(!log.contains("xcanaryx") && !log.contains(secret), "{log}");
}

#[tokio::test]
async fn a_hang_up_has_the_keys_read_again_and_does_not_end_the_server() {
    let pairs = with("EdDSA").serve();
    pairs.hang_up();
    pairs
        .log()
        .wait_for("another look", |line| line["message"] == "read the signing keys" && line["asked"] == true);
    assert_eq!(Client::of(&pairs).get("/health/ready").await.status, 200);

    let shared = Server::start();
    shared.hang_up();
    shared.log().wait_for("an answer", |line| {
        line["message"] == "read the configuration again, and nothing is different"
    });
    assert_eq!(Client::of(&shared).get("/health/ready").await.status, 200);
}

#[test]
fn production_makes_no_key_and_says_how_to() {
    let production = with("EdDSA")
        .set("AUTH_ENV", "production")
        .set("AUTH_LIMITS__ENABLED", "true")
        .set("AUTH_SESSION__REFRESH_KEY", "Zt5cVb1mQ8wXe7yRu3iKo0pLa9sDf4gHj2kN");

    for command in [&["serve"][..], &["config", "check"]] {
        let refused = production.run(command);
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains("auth-api keys generate"), "{refused:?}");
        assert!(!refused.stderr.contains("AUTH_TOKEN__SECRET"), "{refused:?}");
    }
    assert!(!production.folder().join("data").exists(), "a refused start leaves nothing behind");

    run(&production, &["keys", "generate"]);
    run(&production, &["config", "check"]);
    production.serve();
}

#[test]
fn the_commands_say_what_they_need() {
    let shared = Deployment::new();
    for command in [&["generate"][..], &["list"], &["rotate"], &["retire"]] {
        let refused = shared.run(&[&["keys"], command].concat());
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains("AUTH_TOKEN__ALGORITHM"), "{refused:?}");
    }
    assert!(!shared.folder().join("data").exists());

    let empty = with("ES256");
    assert_eq!(empty.run(&["keys", "list", "--json"]).json(), json!([]));
    let nothing_to_rotate = empty.run(&["keys", "rotate"]);
    assert_eq!(nothing_to_rotate.code, 3, "{nothing_to_rotate:?}");
    assert!(nothing_to_rotate.stderr.contains("auth-api keys generate"), "{nothing_to_rotate:?}");
    run(&empty, &["keys", "generate"]);
    let kid = of_state(&empty, "active");
    for (command, says) in [
        (&["generate"][..], "auth-api keys rotate"),
        (&["retire", &kid], "is the one that signs"),
        (&["retire", &kid, "--now"], "is the one that signs"),
        (&["retire", "unknown"], "there is no key unknown"),
    ] {
        let refused = empty.run(&[&["keys"], command].concat());
        assert_eq!(refused.code, 3, "{refused:?}");
        assert!(refused.stderr.contains(says), "{refused:?}");
    }
    assert_eq!(listed(&empty), [(kid, "active".to_owned())]);
    for shown in [empty.run(&["keys", "list"]).stdout, empty.run(&["keys", "list", "--json"]).stdout] {
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }
}

#[test]
fn rotated_key_signs_after_the_lead_time() {
    for (lead_time, expected) in [(None, 3600), (Some("5m"), 300), (Some("1d"), 86_400), (Some("90m"), 5400)]
    {
        let deployment = with("EdDSA");
        run(&deployment, &["keys", "generate"]);
        let mut arguments = vec!["keys", "rotate"];
        arguments.extend(lead_time.iter().flat_map(|time| ["--lead-time", time]));

        run(&deployment, &arguments);

        let list = deployment.run(&["keys", "list", "--json"]).json();
        let next = list.as_array().unwrap().iter().find(|key| key["state"] == "next").unwrap();
        let time = |field: &str| next[field].as_str().unwrap().parse::<Timestamp>().unwrap();
        assert_eq!(
            time("signs_from").duration_since(time("created_at")).as_secs(),
            expected,
            "{lead_time:?}"
        );
    }
}

#[test]
fn lead_time_that_no_backend_can_follow_is_refused() {
    let deployment = with("EdDSA");
    run(&deployment, &["keys", "generate"]);

    for option in ["0s", "299s", "31d", "20", "soon", ""] {
        let refused = deployment.run(&["keys", "rotate", "--lead-time", option]);
        assert!(refused.code == 2 && refused.stderr.contains("from 5m to 30d"), "{refused:?}");
    }
    let both = deployment.run(&["keys", "rotate", "--lead-time", "1h", "--now"]);
    assert_eq!(both.code, 2, "{both:?}");
    assert_eq!(listed(&deployment).len(), 1);
}

#[tokio::test]
async fn under_a_shared_secret_nothing_is_published() {
    let server = Server::start();

    let answer = Client::of(&server).get(JWKS).await;

    assert_eq!(answer.json(), json!({ "keys": [] }));
}

#[tokio::test]
async fn what_is_published_is_kept_for_five_minutes_and_asked_for_by_tag() {
    let server = with("EdDSA").serve();
    let client = Client::of(&server);
    wait_for_keys(&server);

    for path in [JWKS, DISCOVERY[0], DISCOVERY[1]] {
        let first = client.get(path).await;
        let tag = first.header("ETag");
        assert_eq!((first.status.as_u16(), first.header("Content-Type")), (200, "application/json"));
        assert_eq!(first.header("Cache-Control"), "public, max-age=300");
        let again = client.send(client.request("GET", path).header("If-None-Match", tag)).await;
        assert_eq!((again.status.as_u16(), again.bytes.len()), (304, 0), "{path}");
        assert_eq!((again.header("ETag"), again.header("Cache-Control")), (tag, "public, max-age=300"));
        let head = client.send(client.request("HEAD", path)).await;
        assert_eq!((head.status.as_u16(), head.header("ETag"), head.bytes.len()), (200, tag, 0));
        let posted = client.send(client.request("POST", path)).await;
        posted.assert_problem(405, "method_not_allowed");
        assert_eq!(posted.header("Allow"), "GET, HEAD");
    }

    let before = client.get(JWKS).await;
    run(server.deployment(), &["keys", "rotate"]);
    wait_for_keys(&server);
    let tag = before.header("ETag");
    let after = client.send(client.request("GET", JWKS).header("If-None-Match", tag)).await;
    assert_eq!(after.status, 200);
    assert_ne!(after.header("ETag"), tag);
}

#[tokio::test]
async fn what_is_published_has_public_members_only() {
    for (algorithm, members) in [
        ("EdDSA", vec!["alg", "crv", "kid", "kty", "use", "x"]),
        ("ES256", vec!["alg", "crv", "kid", "kty", "use", "x", "y"]),
        ("RS256", vec!["alg", "e", "kid", "kty", "n", "use"]),
    ] {
        let server = with(algorithm).serve();
        wait_for_keys(&server);
        run(server.deployment(), &["keys", "rotate"]);
        wait_for_keys(&server);

        let set = Client::of(&server).get(JWKS).await.json();

        assert_eq!(set.as_object().unwrap().keys().collect::<Vec<_>>(), ["keys"]);
        let keys = set["keys"].as_array().unwrap();
        assert_eq!(keys.len(), 2);
        for key in keys {
            let mut names: Vec<_> = key.as_object().unwrap().keys().collect();
            names.sort();
            assert_eq!(names, members);
        }
    }
}

#[tokio::test]
async fn both_names_of_the_discovery_document_hold_one_that_rfc_8414_takes() {
    let issuer = "https://auth.example.com/accounts";
    for algorithm in ["HS256", "EdDSA", "ES256", "RS256"] {
        let server = with(algorithm).set("AUTH_TOKEN__ISSUER", issuer).serve();
        let client = Client::of(&server);

        let [document, other] = [client.get(DISCOVERY[0]).await, client.get(DISCOVERY[1]).await];

        assert_eq!(document.bytes, other.bytes);
        let document = document.json();
        assert_eq!(document["issuer"], issuer);
        assert_eq!(document["jwks_uri"], format!("{issuer}{JWKS}"));
        assert_eq!(document["id_token_signing_alg_values_supported"], json!([algorithm]));
        assert_follows_rfc_8414(&document);
    }
}

#[tokio::test]
async fn where_backends_ask_is_told_when_there_are_any() {
    let issuer = "https://auth.example.com/accounts";
    let digest = "bc0e5d5ea3512e3344b2fa5a77e33b5921ad03b1ea715836f314dc964ae992ca";
    let without = with("EdDSA").set("AUTH_TOKEN__ISSUER", issuer);
    let configured = without.clone().set("AUTH_INTROSPECTION__CLIENTS", format!("shop:{digest}"));
    for (deployment, there_are) in [(without, false), (configured, true)] {
        let server = deployment.serve();

        let document = Client::of(&server).get(DISCOVERY[1]).await.json();

        assert_follows_rfc_8414(&document);
        for (endpoint, path) in
            [("introspection_endpoint", "/api/introspect"), ("revocation_endpoint", "/api/revoke")]
        {
            let url = there_are.then(|| json!(format!("{issuer}{path}")));
            assert_eq!(document.get(endpoint), url.as_ref(), "{endpoint}");
            let methods = there_are.then(|| json!(["client_secret_basic"]));
            assert_eq!(document.get(format!("{endpoint}_auth_methods_supported")), methods.as_ref());
        }
    }
}

/// Section 2 for what there is, section 3.2 for what is empty.
fn assert_follows_rfc_8414(document: &Value) {
    let named = |name: &str| document.get(name).is_some();
    for required in ["issuer", "response_types_supported"] {
        assert!(named(required), "{required} is required");
    }
    let default = json!(["authorization_code", "implicit"]);
    let grants = document.get("grant_types_supported").unwrap_or(&default).as_array().unwrap();
    let authorizes = grants.iter().any(|grant| default.as_array().unwrap().contains(grant));
    assert_eq!(named("authorization_endpoint"), authorizes, "{grants:?}");
    assert!(named("token_endpoint") || grants == &[json!("implicit")], "{grants:?}");
    let issuer = document["issuer"].as_str().unwrap();
    assert!(issuer.starts_with("https://") && !issuer.contains(['?', '#']), "{issuer}");
    for (name, value) in document.as_object().unwrap() {
        match name.as_str() {
            "issuer"
            | "jwks_uri"
            | "token_endpoint"
            | "introspection_endpoint"
            | "revocation_endpoint"
            | "service_documentation" => {
                let url = value.as_str().unwrap_or_else(|| panic!("{name} is no text"));
                let url = reqwest::Url::parse(url).unwrap_or_else(|error| panic!("{name}: {error}"));
                assert!(url.as_str().starts_with(issuer), "{name} is not under the issuer");
            }
            name if name.ends_with("_supported") => {
                let values = value.as_array().unwrap_or_else(|| panic!("{name} is no list"));
                assert!(!values.is_empty(), "{name} is empty");
                assert!(
                    values.iter().all(|value| value.as_str().is_some_and(|text| !text.is_empty())),
                    "{name}"
                );
            }
            name => panic!("{name} is not of RFC 8414"),
        }
    }
    assert!(!named("registration_endpoint"), "there is none");
}

/// `PyJWT` is given the issuer and nothing else, and keeps its copy of the keys as a backend would.
#[tokio::test]
async fn pyjwt_verifies_by_the_issuer_alone_before_during_and_after_a_rotation() {
    let test = "pyjwt_verifies_by_the_issuer_alone_before_during_and_after_a_rotation";
    for algorithm in ALGORITHMS {
        // The issuer is the address, so it must be known before the server chooses a port. Nobody else is on this
        // address of the loopback network.
        let [.., high, middle, low] = std::process::id().to_be_bytes();
        let address = format!("127.{}.{middle}.{low}:8000", 64 + high % 64);
        let issuer = format!("http://{address}");
        let server =
            with(algorithm).set("AUTH_HTTP__ADDR", address).set("AUTH_TOKEN__ISSUER", issuer.clone()).serve();
        let deployment = server.deployment();
        let client = Client::of(&server);
        let Some(mut backend) = PyJwt::start(test, &issuer) else { return };
        let before = client.token_of_new("ann").await;

        assert_eq!(backend.verify(&before), json!({ "sub": "1", "alg": algorithm, "kid": kid(&before) }));

        run(deployment, &["keys", "rotate"]);
        wait_for_keys(&server);
        let during = client.log_in("ann", PASSWORD).await.token();
        assert_eq!(backend.verify(&during)["sub"], "1", "by what it has kept");
        backend.let_five_minutes_pass();
        assert_eq!(backend.verify(&before)["sub"], "1");

        let next = of_state(deployment, "next");
        run(deployment, &["keys", "rotate", "--now"]);
        wait_for_signing(&server, &next);
        let after = client.log_in("ann", PASSWORD).await.token();
        assert_eq!(backend.verify(&after), json!({ "sub": "1", "alg": algorithm, "kid": next }));
        for token in [&before, &during] {
            assert_eq!(backend.verify(token)["sub"], "1");
        }

        // Somebody who comes only now sees the new key alone.
        run(deployment, &["keys", "retire", &kid(&before), "--now"]);
        wait_for_keys(&server);
        let mut newcomer = PyJwt::start(test, &issuer).unwrap();
        assert_eq!(newcomer.verify(&after)["sub"], "1");
        assert_eq!(newcomer.verify(&before)["error"], "PyJWKClientError");
        // Or it would believe anything.
        let (signed, _) = after.rsplit_once('.').unwrap();
        let (_, foreign) = before.rsplit_once('.').unwrap();
        assert_eq!(newcomer.verify(&format!("{signed}.{foreign}"))["error"], "InvalidSignatureError");
    }
}
