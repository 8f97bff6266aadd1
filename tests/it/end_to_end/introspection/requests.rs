//! Who may ask, and how a request must look.

use super::*;

#[tokio::test]
async fn a_stranger_is_one_401_before_anything_else_is_looked_at_and_a_wrong_secret_put_on_record() {
    let server = with_backends().serve();
    let unconfigured = super::super::deployment().serve();
    let client = Client::of(&server);
    let token = client.token_of_new("ann").await;
    let body = format!("token={token}");

    for path in BOTH {
        let mut seen = BTreeSet::new();
        let mut refused = vec![
            form(&client, path, (SHOP.0, STOCK.1), body.clone()).await,
            form(&client, path, ("bank", SHOP.1), body.clone()).await,
            form(&client, path, (SHOP.0, ""), body.clone()).await,
            form(&client, path, ("", ""), body.clone()).await,
            // Whoever has read the configuration knows no more than the digest.
            form(&client, path, (SHOP.0, SHOP_DIGEST), body.clone()).await,
            form(&Client::of(&unconfigured), path, SHOP, body.clone()).await,
            form(&Client::of(&unconfigured), path, ("", ""), body.clone()).await,
            // Neither in the body nor in the address.
            client
                .send(
                    client
                        .request("POST", path)
                        .header("Content-Type", FORM)
                        .body(format!("{body}&client_id={}&client_secret={}", SHOP.0, SHOP.1)),
                )
                .await,
            client.send(client.request("POST", &format!("{path}?client_id=shop&client_secret=x"))).await,
            // Not even how a form has to look.
            client.post_text(path, "{").await,
            form(&client, path, (SHOP.0, STOCK.1), "x").await,
        ];
        for value in ["Basic", "Basic =", "Basic c2hvcA==", &format!("Bearer {token}")] {
            let request = client.request("POST", path).header("Authorization", value);
            refused.push(client.send(request.header("Content-Type", FORM).body(body.clone())).await);
        }
        for answer in refused {
            answer.assert_problem(401, "invalid_client");
            assert_eq!(answer.header("WWW-Authenticate"), r#"Basic realm="auth-api", charset="UTF-8""#);
            let mut problem = answer.json();
            assert_eq!(problem["error"], "invalid_client");
            problem["request_id"] = json!("");
            // A connection whose request was not read to its end is closed, whoever asked.
            let headers = answer.headers.keys().filter(|name| *name != "connection").count();
            seen.insert((problem.to_string(), answer.bytes.len(), headers));
        }
        assert_eq!(seen.len(), 1, "{seen:?}");
        let large = form(&client, path, (SHOP.0, STOCK.1), "x".repeat(20_000)).await;
        large.assert_problem(401, "invalid_client");

        let twice = client.request("POST", path).basic_auth(SHOP.0, Some(SHOP.1));
        let twice = twice.basic_auth(SHOP.0, Some(SHOP.1)).header("Content-Type", FORM).body(body.clone());
        client.send(twice).await.assert_problem(400, "malformed_request");
    }

    assert_eq!(client.me(&token).await.status, 200, "nobody revoked anything");
    let events = server.log().audit();
    let wrong = |line: &&Value| line["event"] == "recognise_client" && line["outcome"] == "refused";
    assert_eq!(events.iter().filter(wrong).count(), 14, "{events:?}");
}

#[tokio::test]
async fn an_identifier_and_a_secret_may_come_encoded_as_in_a_form() {
    let server = with_backends().serve();
    let client = Client::of(&server);
    // The same texts, each with its first letter written as in a form.
    let (id, secret) = ("%73hop", SHOP.1.replacen('K', "%4B", 1));

    let answer = form(&client, "/api/introspect", (id, &secret), "token=x").await;

    assert_inactive(&answer);
}

#[tokio::test]
async fn what_is_no_form_with_one_token_is_refused_by_the_name_that_libraries_know() {
    let server = with_backends().serve();
    let client = Client::of(&server);
    let token = client.token_of_new("ann").await;

    for path in BOTH {
        for bad in [
            String::new(),
            "&".to_owned(),
            "token".to_owned(),
            "token=".to_owned(),
            "Token=x".to_owned(),
            format!("token={token}&token={token}"),
            format!("token={token}&%74oken="),
            format!("token={token}&scope=a&scope=a"),
            format!("token={token}&token_type_hint=a&token_type_hint=a"),
            format!("token={token}%ff"),
            format!("{{\"token\":\"{token}\"}}"),
        ] {
            let answer = form(&client, path, SHOP, bad).await;
            answer.assert_problem(400, "invalid_request");
            assert_eq!(answer.json()["error"], "invalid_request");
        }
        // A token in the address is none.
        form(&client, &format!("{path}?token={token}"), SHOP, "")
            .await
            .assert_problem(400, "invalid_request");
    }
    let with_more = format!("resource=a&token={token}&client_id=b&scope=");
    assert_eq!(form(&client, "/api/introspect", SHOP, with_more).await.json()["active"], true);
}

#[tokio::test]
async fn other_content_types_are_415_and_other_methods_405() {
    let server = with_backends().serve();
    let client = Client::of(&server);

    for path in BOTH {
        let send = |types: &[&str]| {
            let request = client.request("POST", path).basic_auth(SHOP.0, Some(SHOP.1)).body("token=x");
            client.send(types.iter().fold(request, |request, value| request.header("Content-Type", *value)))
        };
        for types in [
            &[][..],
            &[""],
            &["application/json"],
            &["text/plain"],
            &["multipart/form-data; boundary=x"],
            &["application/x-www-form-urlencoded; charset=latin1"],
            &[FORM, FORM],
        ] {
            send(types).await.assert_problem(415, "unsupported_media_type");
        }
        assert_eq!(send(&["Application/X-WWW-Form-Urlencoded; charset=UTF-8"]).await.status, 200);
        let compressed = client.request("POST", path).basic_auth(SHOP.0, Some(SHOP.1)).body("token=x");
        let compressed = compressed.header("Content-Type", FORM).header("Content-Encoding", "gzip");
        client.send(compressed).await.assert_problem(415, "unsupported_media_type");
        for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
            let answer = client.send(client.request(method, path).basic_auth(SHOP.0, Some(SHOP.1))).await;
            assert_eq!((answer.status.as_u16(), answer.header("Allow")), (405, "POST"), "{method}");
        }
    }
}

#[tokio::test]
async fn a_form_over_16_kib_is_413_whatever_is_said_of_its_length() {
    let server = with_backends().serve();
    let client = Client::of(&server);
    let padded = |length: usize| format!("token={}", "A".repeat(length - "token=".len()));

    for path in BOTH {
        assert_eq!(form(&client, path, SHOP, padded(16 * 1024)).await.status, 200);
        for length in [16 * 1024 + 1, 1_000_000] {
            form(&client, path, SHOP, padded(length)).await.assert_problem(413, "body_too_large");
        }
        let chunks = (0..100).map(|_| Ok::<_, std::io::Error>("a=".repeat(500)));
        let chunked = Body::wrap_stream(futures_util::stream::iter(chunks));
        form(&client, path, SHOP, chunked).await.assert_problem(413, "body_too_large");
    }
    let announced = format!(
        "POST /api/introspect HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nAuthorization: Basic {}\r\n\
         Content-Length: 99999999\r\nConnection: close\r\n\r\ntoken=x",
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{}:{}", SHOP.0, SHOP.1))
    );
    assert!(exchange(&server, announced.as_bytes()).starts_with("HTTP/1.1 413 "));
}
