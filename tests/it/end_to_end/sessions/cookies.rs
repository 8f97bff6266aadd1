//! The refresh token of a browser, in a cookie.

use super::*;

/// Asks as a page of this origin would, with a cookie if there is one.
async fn as_a_page(client: &Client, path: &str, origin: &str, cookie: &str, body: Option<Value>) -> Answer {
    let mut request = client.request("POST", path).header("X-Session-Transport", "cookie");
    for (name, value) in [("Origin", origin), ("Cookie", cookie)] {
        if !value.is_empty() {
            request = request.header(name, value);
        }
    }
    client.send(if let Some(body) = body { request.json(&body) } else { request }).await
}

#[tokio::test]
async fn a_browser_keeps_its_refresh_token_in_a_cookie_that_no_script_reads() {
    let development = || super::super::deployment().set("AUTH_LIMITS__ENABLED", "true");
    let production = || {
        let secrets = development().set("AUTH_TOKEN__SECRET", "K5lWfTgqUoV0yZb3xJ8nRc1mHs7dPe2a");
        let secrets = secrets.set("AUTH_SESSION__REFRESH_KEY", "u9QjXw4kLz6vBt0hCy5rNf8iGo3eMs1d");
        secrets.set("AUTH_ENV", "production")
    };
    for (deployment, issuer, name, secure) in [
        (development(), "http://localhost:8000", "auth_refresh", ""),
        (development(), "https://auth.example", "__Host-auth_refresh", " Secure;"),
        // Whatever it takes itself to be called.
        (production(), "http://localhost:8000", "__Host-auth_refresh", " Secure;"),
    ] {
        let server = deployment.set("AUTH_TOKEN__ISSUER", issuer).serve();
        let client = Client::of(&server);
        client.sign_up("ann", PASSWORD).await;
        let credentials = json!({ "username": "ann", "password": PASSWORD });
        let value = |answer: &Answer| {
            let cookie = answer.header("Set-Cookie").to_owned();
            let (value, attributes) = cookie.split_once("; ").unwrap_or_default();
            let max_age = if value.ends_with('=') { 0 } else { 14 * 86_400 };
            let expected = format!("Path=/; Max-Age={max_age}; HttpOnly;{secure} SameSite=Strict");
            assert_eq!(attributes, expected, "{answer:?}");
            value.strip_prefix(&format!("{name}=")).unwrap().to_owned()
        };

        let logged_in = as_a_page(&client, "/api/login", issuer, "", Some(credentials)).await;
        assert_eq!(logged_in.json().get("refresh_token"), None);
        assert_eq!(logged_in.json()["refresh_expires_in"], 14 * 86_400);
        let first = format!("other=1; {name}={}", value(&logged_in));

        let refreshed = as_a_page(&client, "/api/refresh", issuer, &first, None).await;
        assert_eq!((refreshed.status.as_u16(), refreshed.json().get("refresh_token")), (200, None));
        let second = format!("{name}={}", value(&refreshed));
        assert_ne!(first, second);

        let left = as_a_page(&client, "/api/logout", issuer, &second, None).await;
        assert_eq!((left.status.as_u16(), value(&left)), (204, String::new()));
        assert_eq!(client.me(&refreshed.token()).await.status, 401);
        let again = as_a_page(&client, "/api/logout", issuer, "", None).await;
        assert_eq!((again.status.as_u16(), value(&again)), (204, String::new()));
    }
}

#[tokio::test]
async fn a_browser_logs_out_by_its_cookie_whatever_access_token_it_still_has() {
    let server = super::super::deployment().serve();
    let client = Client::of(&server);
    let mine = logged_in(&client, "ann").await;
    let (cookie, own) = (format!("auth_refresh={}", mine.refresh_token()), server.base_url().to_owned());

    let leaving = client.request("POST", "/api/logout").header("X-Session-Transport", "cookie");
    let leaving = leaving.header("Origin", own).header("Cookie", cookie).bearer_auth("an.old.token");
    let left = client.send(leaving).await;

    assert_eq!(left.status, 204);
    assert!(left.header("Set-Cookie").starts_with("auth_refresh=;"));
    assert_eq!(client.me(&mine.token()).await.status, 401);
}

#[tokio::test]
async fn a_cookie_counts_for_nothing_without_the_header_or_from_another_origin() {
    let server = super::super::deployment().serve();
    let client = Client::of(&server);
    let mine = logged_in(&client, "ann").await;
    let cookie = format!("auth_refresh={}", mine.refresh_token());

    for path in ["/api/refresh", "/api/logout"] {
        for origin in ["", "null", "https://evil.example", "https://localhost:8000", "http://localhost:8001"]
        {
            as_a_page(&client, path, origin, &cookie, None).await.assert_problem(403, "forbidden");
        }
        let bare = client.request("POST", path).header("Cookie", &cookie).header("Origin", server.base_url());
        let refused = client.send(bare.json(&json!({}))).await;
        refused.assert_field("refresh_token", "required");
        let odd =
            client.request("POST", path).header("Cookie", &cookie).header("X-Session-Transport", "body");
        client.send(odd).await.assert_problem(400, "malformed_request");
    }
    for bad in ["", "auth_refresh=", "auth_refresh=x", "auth_refresh=x; auth_refresh=y"] {
        let refused = as_a_page(&client, "/api/refresh", server.base_url(), bad, None).await;
        refused.assert_problem(401, "invalid_refresh_token");
        assert_eq!(refused.headers.get("Set-Cookie"), None);
    }

    assert_eq!(client.me(&mine.token()).await.status, 200);
    let page = as_a_page(&client, "/api/refresh", server.base_url(), &cookie, None).await;
    assert_eq!((page.status.as_u16(), page.headers.get("Refresh-Reuse")), (200, None));
}

#[tokio::test]
async fn cookie_counts_if_the_browser_says_same_origin() {
    let server = super::super::deployment().serve();
    let client = Client::of(&server);
    let mine = logged_in(&client, "ann").await;
    let mut cookie = format!("auth_refresh={}", mine.refresh_token());
    let ask = async |path: &str, site: &str, origin: &str, cookie: &str| {
        let request = client.request("POST", path).header("X-Session-Transport", "cookie");
        let request = request.header("Sec-Fetch-Site", site).header("Cookie", cookie);
        client.send(if origin.is_empty() { request } else { request.header("Origin", origin) }).await
    };

    for site in ["cross-site", "same-site", "none", "", "Same-Origin", "same-origin, same-origin"] {
        let refused = ask("/api/refresh", site, "http://localhost:5173", &cookie).await;
        refused.assert_problem(403, "forbidden");
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(
            detail.contains("http://localhost:5173") && detail.contains("AUTH_CORS__ORIGINS"),
            "{detail}"
        );
    }
    for origin in ["http://localhost:5173", "https://app.example", "", "null"] {
        let refreshed = ask("/api/refresh", "same-origin", origin, &cookie).await;
        assert_eq!(refreshed.status, 200, "{origin}");
        refreshed.header("Set-Cookie").split(';').next().unwrap().clone_into(&mut cookie);
    }
    let odd = ask("/api/refresh", "cross-site", "https://a.example/?token=hunter2", &cookie).await;
    assert!(!odd.text().contains("hunter2"), "{odd:?}");
    assert_eq!(ask("/api/logout", "same-origin", "http://localhost:5173", &cookie).await.status, 204);
    ask("/api/refresh", "same-origin", "", &cookie).await.assert_problem(401, "invalid_refresh_token");
}

#[tokio::test]
async fn missing_transport_header_is_named_where_a_cookie_is_sent() {
    let server = super::super::deployment().serve();
    let client = Client::of(&server);
    let mine = logged_in(&client, "ann").await;
    let ask = async |path: &str, cookie: &str, body: Option<Value>| {
        let request = client.request("POST", path).header("Origin", server.base_url());
        let request = if cookie.is_empty() { request } else { request.header("Cookie", cookie) };
        client.send(if let Some(body) = body { request.json(&body) } else { request }).await
    };

    for name in ["auth_refresh", "__Host-auth_refresh"] {
        let cookie = format!("theme=dark; {name}={}", mine.refresh_token());
        for (path, body, status) in [
            ("/api/refresh", None, 415),
            ("/api/logout", None, 401),
            ("/api/refresh", Some(json!({})), 422),
            ("/api/logout", Some(json!({})), 422),
        ] {
            let named = ask(path, &cookie, body.clone()).await;
            let bare = ask(path, "theme=dark", body).await;
            assert_eq!((named.status.as_u16(), bare.status.as_u16()), (status, status), "{path}");
            let detail = |answer: &Answer| answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(detail(&named).contains("X-Session-Transport: cookie"), "{named:?}");
            assert!(!detail(&bare).contains("X-Session-Transport"), "{bare:?}");
        }
    }
}

/// Every cookie that an answer sets, as its name, its path and whether it is taken away.
fn cookies(answer: &Answer) -> Vec<(String, String, bool)> {
    let lines = answer.headers.get_all("Set-Cookie").iter().map(|line| line.to_str().unwrap().to_owned());
    let read = |line: String| {
        let (name, rest) = line.split_once('=').unwrap();
        let path = rest.split("; ").find_map(|part| part.strip_prefix("Path=")).unwrap();
        (name.to_owned(), path.to_owned(), rest.starts_with(';') && rest.contains("Max-Age=0;"))
    };
    lines.map(read).collect()
}

#[tokio::test]
async fn login_and_logout_remove_every_other_cookie_of_ours() {
    for (issuer, own, other) in [
        ("http://localhost:8000", "auth_refresh", "__Host-auth_refresh"),
        ("https://auth.example", "__Host-auth_refresh", "auth_refresh"),
    ] {
        let server = super::super::deployment().set("AUTH_TOKEN__ISSUER", issuer).serve();
        let client = Client::of(&server);
        client.sign_up("ann", PASSWORD).await;
        let credentials = json!({ "username": "ann", "password": PASSWORD });

        let logged_in = cookies(&as_a_page(&client, "/api/login", issuer, "", Some(credentials)).await);
        let logged_out = cookies(&as_a_page(&client, "/api/logout", issuer, "", None).await);

        for (cookies, is_removed) in [(logged_in, false), (logged_out, true)] {
            assert_eq!(cookies[0], (own.to_owned(), "/".to_owned(), is_removed));
            assert!(cookies.contains(&(other.to_owned(), "/".to_owned(), true)), "{cookies:?}");
            assert!(cookies[1..].iter().all(|(.., is_removed)| *is_removed), "{cookies:?}");
            // A name with the prefix has one path only.
            for path in ["/api", "/api/", "/api/refresh", "/api/logout"] {
                let is_there = cookies.contains(&("auth_refresh".to_owned(), path.to_owned(), true));
                assert_eq!(is_there, own == "auth_refresh", "{path}");
            }
        }
    }
}

#[tokio::test]
async fn second_cookie_of_the_name_locks_nobody_out() {
    let server = super::super::deployment().serve();
    let client = Client::of(&server);
    let mine = logged_in(&client, "ann").await;
    let over = client.log_in("ann", PASSWORD).await;
    assert_eq!(bearing(&client, "POST", "/api/logout", &over.token()).await.status, 204);
    let own = server.base_url().to_owned();
    let mut token = mine.refresh_token();
    let first = token.clone();

    for rival in ["of-another-program".to_owned(), String::new(), over.refresh_token(), first] {
        for rival_is_first in [true, false] {
            let pair = if rival_is_first { [&*rival, &*token] } else { [&*token, &*rival] };
            let cookie = pair.map(|value| format!("auth_refresh={value}")).join("; ");
            let refreshed = as_a_page(&client, "/api/refresh", &own, &cookie, None).await;
            assert_eq!(refreshed.status, 200, "{rival} {rival_is_first}");
            let next = refreshed.header("Set-Cookie").split(';').next().unwrap();
            token = next.strip_prefix("auth_refresh=").unwrap().to_owned();
            assert!(cookies(&refreshed).contains(&("auth_refresh".to_owned(), "/api".to_owned(), true)));
        }
    }
    let cookie = format!("auth_refresh=x; auth_refresh={token}");
    assert_eq!(as_a_page(&client, "/api/logout", &own, &cookie, None).await.status, 204);
    client.me(&mine.token()).await.assert_problem(401, "invalid_token");
}
