//! What may be a name, and how it is typed at a login.

use serde_json::json;

use crate::support::client::{Client, PASSWORD};

#[tokio::test]
async fn address_signs_up_once_and_logs_in_in_any_spelling() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    let created = client.sign_up("O'Brien@Bücher.example", PASSWORD).await;

    assert_eq!(
        (created.status.as_u16(), &created.json()["username"]),
        (201, &json!("O'Brien@Bücher.example"))
    );
    for other in ["o'brien@xn--bcher-kva.example", "O'BRIEN@BU\u{308}CHER.EXAMPLE"] {
        client.sign_up(other, PASSWORD).await.assert_problem(409, "username_taken");
        assert_eq!(client.log_in(other, PASSWORD).await.status, 200, "{other}");
    }
    let longest =
        format!("{}@{}.{}.{}.example", "a".repeat(64), "b".repeat(63), "c".repeat(63), "d".repeat(53));
    let signed_up = client.sign_up(&longest, PASSWORD).await;
    assert_eq!(signed_up.status, 201);
    let token = client.log_in(&longest, PASSWORD).await.token();
    assert_eq!(client.me(&token).await.json()["username"], longest);
    for (name, code) in
        [(format!("a{longest}"), "too_long"), ("\"a b\"@example.com".to_owned(), "invalid_characters")]
    {
        let refused = client.sign_up(&name, PASSWORD).await;
        refused.assert_problem(422, "validation_failed");
        assert_eq!(refused.json()["errors"][0]["code"], code, "{name}");
    }
}

#[tokio::test]
async fn letters_of_current_unicode_sign_up_and_log_in() {
    let server = super::deployment().serve();
    let client = Client::of(&server);

    for name in ["王\u{2c386}王", "\u{1e900}\u{1e901}\u{1e902}", "ა\u{1c91}\u{1c92}"] {
        assert_eq!(client.sign_up(name, PASSWORD).await.status, 201, "{name}");
        assert_eq!(client.log_in(name, PASSWORD).await.status, 200, "{name}");
    }
}

#[tokio::test]
async fn blanks_around_a_name_are_ignored_at_login_and_refused_at_sign_up() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    client.sign_up("ann", PASSWORD).await;

    for typed in ["ann ", " ann", "\tann\n", "ann\u{a0}", "\u{3000}ann", "ann\u{200b}", "\u{feff}Ann"] {
        assert_eq!(client.log_in(typed, PASSWORD).await.status, 200, "{typed:?}");
        client.sign_up(typed, PASSWORD).await.assert_problem(422, "validation_failed");
        assert_eq!(server.deployment().run(&["users", "show", typed]).code, 0, "{typed:?}");
    }
    client.log_in("an n", PASSWORD).await.assert_problem(401, "invalid_credentials");
    // A password keeps its blanks.
    client.log_in("ann", &format!("{PASSWORD} ")).await.assert_problem(401, "invalid_credentials");
}
