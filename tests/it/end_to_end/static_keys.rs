//! Private keys that come from the environment, as containers are given them.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::support::client::{Client, PASSWORD};
use crate::support::server::{Deployment, Finished};

const ALGORITHMS: [&str; 3] = ["EdDSA", "ES256", "RS256"];

const KEY: &str = "AUTH_TOKEN__PRIVATE_KEY";
const PREVIOUS: &str = "AUTH_TOKEN__PRIVATE_KEY_PREVIOUS";
const JWKS: &str = "/.well-known/jwks.json";

fn with(algorithm: &str) -> Deployment {
    Deployment::new().set("AUTH_TOKEN__ALGORITHM", algorithm)
}

/// A key of this algorithm, as its file has it, and its name.
fn key(algorithm: &str) -> (String, String) {
    let elsewhere = with(algorithm);
    assert_eq!(elsewhere.run(&["keys", "generate"]).code, 0);
    let kid = listed(&elsewhere)[0]["kid"].as_str().unwrap().to_owned();
    let file = elsewhere.folder().join(format!("data/keys/{kid}.pem"));
    (fs::read_to_string(file).unwrap(), kid)
}

fn listed(deployment: &Deployment) -> Value {
    deployment.run(&["keys", "list", "--json"]).json()
}

fn states(deployment: &Deployment) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let list = listed(deployment);
    list.as_array().unwrap().iter().map(|key| (text(&key["kid"]), text(&key["state"]))).collect()
}

fn header(token: &str) -> Value {
    let (header, _) = token.split_once('.').unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap()
}

async fn published(client: &Client) -> Vec<String> {
    let keys = client.get(JWKS).await.json()["keys"].clone();
    let keys = keys.as_array().unwrap().iter();
    keys.map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// The key itself, in its middle: what must not appear anywhere.
fn heart(pem: &str) -> &str {
    pem.lines().rev().nth(1).unwrap()
}

#[tokio::test]
async fn a_key_of_the_environment_signs_on_every_server_that_has_it_and_needs_no_folder() {
    for algorithm in ALGORITHMS {
        let (text, kid) = key(algorithm);
        let deployment = with(algorithm).set(KEY, &text);
        let one = deployment.serve();
        deployment.write("key.pem", &text);
        let named = with(algorithm)
            .set("AUTH_TOKEN__PRIVATE_KEY_FILE", deployment.folder().join("key.pem").to_str().unwrap());
        let elsewhere = named.serve();
        // On the same file, and given the key in one line.
        let other = deployment.clone().set(KEY, text.replace('\n', "\\n")).serve();

        let token = Client::of(&one).token_of_new("ann").await;

        assert_eq!(header(&token), json!({ "alg": algorithm, "typ": "at+jwt", "kid": kid }));
        assert_eq!(Client::of(&other).me(&token).await.status, 200);
        for server in [&one, &other, &elsewhere] {
            assert_eq!(published(&Client::of(server)).await, [&*kid]);
            assert_eq!(states(server.deployment()), [(kid.clone(), "active".to_owned())]);
            assert!(!server.deployment().folder().join("data/keys").exists());
            let log = server.log().lines().join("\n");
            assert!(!log.contains(heart(&text)), "{log}");
        }
    }
}

#[tokio::test]
async fn keys_of_the_environment_change_without_refusing_a_good_token() {
    let ((old, old_kid), (new, new_kid)) = (key("EdDSA"), key("EdDSA"));
    let deployment = with("EdDSA").set(KEY, &old);
    let server = deployment.serve();
    let before = Client::of(&server).token_of_new("ann").await;
    assert!(server.stop().success());

    let announced = deployment.clone().set(PREVIOUS, &new).serve();
    let client = Client::of(&announced);
    assert_eq!(published(&client).await, [&*old_kid, &new_kid]);
    let during = client.log_in("ann", PASSWORD).await.token();
    assert_eq!(header(&during)["kid"], *old_kid);
    let exchanged = deployment.clone().set(KEY, &new).set(PREVIOUS, &old).serve();
    let client = Client::of(&exchanged);
    let after = client.log_in("ann", PASSWORD).await.token();
    assert_eq!(header(&after)["kid"], *new_kid);

    // Those that were not restarted yet know the new key, and those that were know the old one.
    for client in [&client, &Client::of(&announced)] {
        for token in [&before, &during, &after] {
            assert_eq!(client.me(token).await.status, 200);
        }
    }
    let expected = [(new_kid.clone(), "active".to_owned()), (old_kid, "verifying".to_owned())];
    assert_eq!(states(exchanged.deployment()), expected);
    let alone = deployment.set(KEY, &new).serve();
    let client = Client::of(&alone);
    client.me(&before).await.assert_problem(401, "invalid_token");
    assert_eq!(client.me(&after).await.status, 200);
    assert_eq!(published(&client).await, [new_kid]);
}

#[tokio::test]
async fn a_key_of_another_algorithm_goes_on_verifying() {
    let ((old, _), (new, _)) = (key("RS256"), key("ES256"));
    let deployment = with("RS256").set(KEY, &old);
    let server = deployment.serve();
    let before = Client::of(&server).token_of_new("ann").await;
    assert!(server.stop().success());

    let server = deployment.set("AUTH_TOKEN__ALGORITHM", "ES256").set(KEY, &new).set(PREVIOUS, &old).serve();

    let client = Client::of(&server);
    assert_eq!(client.me(&before).await.status, 200);
    assert_eq!(header(&client.log_in("ann", PASSWORD).await.token())["alg"], "ES256");
}

#[test]
fn key_files_beside_a_key_of_the_environment_are_not_used_and_the_log_says_so() {
    let deployment = with("EdDSA");
    assert_eq!(deployment.run(&["keys", "generate"]).code, 0);
    let (text, kid) = key("EdDSA");

    let server = deployment.set(KEY, text).serve();

    server.log().wait_for("a warning", |line| {
        line["level"] == "WARN" && line["message"].as_str().is_some_and(|it| it.contains(KEY))
    });
    assert_eq!(states(server.deployment()), [(kid, "active".to_owned())]);
}

#[test]
fn the_commands_that_change_key_files_say_where_the_key_is() {
    let (text, kid) = key("EdDSA");
    let deployment = with("EdDSA").set(KEY, &text);

    for command in
        [&["generate"][..], &["rotate"], &["rotate", "--now"], &["retire"], &["retire", &kid, "--now"]]
    {
        let refused = deployment.run(&[&["keys"], command].concat());
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains(KEY), "{refused:?}");
    }

    let shown = deployment.run(&["keys", "list"]);
    assert!(shown.stdout.contains(&kid) && shown.stdout.contains("active"), "{shown:?}");
    assert_eq!(listed(&deployment)[0]["created_at"], Value::Null);
    let checked = deployment.run(&["config", "check"]);
    assert!(checked.stdout.contains("AUTH_TOKEN__PRIVATE_KEY=(redacted)\n"), "{checked:?}");
    for finished in [shown, checked] {
        assert!(!format!("{finished:?}").contains(heart(&text)), "{finished:?}");
    }
    assert!(!deployment.folder().join("data").exists());
}

/// That neither a check nor a start goes on, for this reason and of this setting, without showing a value.
fn assert_refused(deployment: &Deployment, setting: &str, says: &str, value: &str) {
    let refused = |finished: &Finished| {
        let errors: Vec<_> = finished.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!((finished.code, errors.len()), (2, 1), "{finished:?}");
        assert!(errors[0].starts_with(&format!("error: {setting} ")), "{finished:?}");
        assert!(errors[0].contains(says), "{says}: {finished:?}");
        assert!(!format!("{finished:?}").contains(value), "{finished:?}");
    };
    refused(&deployment.run(&["config", "check"]));
    refused(&deployment.run(&["serve"]));
    assert!(!deployment.folder().join("data").exists(), "a refused start leaves nothing behind");
}

#[test]
fn what_is_no_key_to_sign_with_is_refused_by_its_name_and_never_shown() {
    let (text, _) = key("EdDSA");
    let (other, _) = key("EdDSA");
    let (rsa, _) = key("RS256");
    let relabelled = |label: &str| text.replace("PRIVATE KEY", label);
    let canary = STANDARD.encode("xcanaryx xcanaryx");
    let foreign = relabelled("PRIVATE KEY").replace(heart(&text), &canary);

    for (bad, says) in [
        (canary.clone(), "not PEM"),
        (relabelled("ENCRYPTED PRIVATE KEY"), "encrypted"),
        (relabelled("EC PRIVATE KEY"), "PKCS #8"),
        (relabelled("PUBLIC KEY"), "public key only"),
        (foreign, "2048 bits"),
    ] {
        let value = if bad.contains(&canary) { canary.as_str() } else { heart(&text) };
        assert_refused(&with("EdDSA").set(KEY, &bad), KEY, says, value);
        assert_refused(&with("EdDSA").set(KEY, &other).set(PREVIOUS, &bad), PREVIOUS, says, value);
        let file = with("EdDSA").set("AUTH_TOKEN__PRIVATE_KEY_FILE", "key.pem");
        file.write("key.pem", &bad);
        assert_refused(&file, KEY, says, value);
    }
    let (rsa_heart, heart) = (heart(&rsa), heart(&text));
    assert_refused(&with("EdDSA").set(KEY, &rsa), KEY, "is a key of RS256", rsa_heart);
    assert_refused(&with("HS256").set(KEY, &text), KEY, "AUTH_TOKEN__ALGORITHM is HS256", heart);
    assert_refused(&Deployment::new().set(PREVIOUS, &text), PREVIOUS, "is not set", heart);
    assert_refused(&with("EdDSA").set(PREVIOUS, &text), PREVIOUS, "is not set", heart);
    assert_refused(&with("EdDSA").set(KEY, &text).set(PREVIOUS, &text), PREVIOUS, "the same key", heart);
    let both = with("EdDSA").set(KEY, &text).set("AUTH_TOKEN__PRIVATE_KEY_FILE", "key.pem");
    assert_refused(&both, "AUTH_TOKEN__PRIVATE_KEY_FILE", "both set", heart);
}

#[tokio::test]
async fn a_key_that_was_given_by_a_file_gives_way_to_the_next_one_in_it_when_it_is_said() {
    let ((first, first_kid), (second, second_kid)) = (key("EdDSA"), key("EdDSA"));
    let deployment = with("EdDSA");
    let (now, before) = (deployment.write("key.pem", &first), deployment.write("before.pem", &second));
    let server = deployment
        .set(format!("{KEY}_FILE").as_str(), now.to_str().unwrap())
        .set(format!("{PREVIOUS}_FILE").as_str(), before.to_str().unwrap())
        .serve();
    let client = Client::of(&server);
    let token = client.token_of_new("ann").await;
    assert_eq!(header(&token)["kid"], first_kid);

    server.deployment().write("key.pem", &second);
    server.deployment().write("before.pem", &first);
    server.hang_up();
    let said = server.log().wait_for("an answer", |line| line["message"] == "read the configuration again");

    assert_eq!(said["changed"], format!("{KEY} {PREVIOUS}"));
    assert_eq!(client.me(&token).await.status, 200, "its key still verifies");
    let next = client.log_in("ann", PASSWORD).await.token();
    assert_eq!(header(&next)["kid"], second_kid);
    assert_eq!(client.me(&next).await.status, 200);
}
