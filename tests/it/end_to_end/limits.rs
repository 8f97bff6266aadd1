//! How much anybody may send, over real connections: every address of 127.0.0.0/8 is a network of its own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{Answer, Client, PASSWORD};
use crate::support::nginx::Nginx;
use crate::support::server::{Deployment, Server};

/// A server with its limits on, some of them low enough to be met.
fn server(limits: &[(&str, &str)]) -> Server {
    let limited = super::deployment().set("AUTH_LIMITS__ENABLED", "true");
    let set = |deployment: Deployment, (name, value): &(&str, &str)| {
        deployment.set(&format!("AUTH_LIMITS__{name}"), *value)
    };
    limits.iter().fold(limited, set).serve()
}

/// Asserts that this is a 429 that says for how long, this many seconds or a few less, since what came before took time,
/// and that its fields say the same.
#[track_caller]
fn assert_limited(answer: &Answer, limit: &str, seconds: u64) {
    answer.assert_problem(429, "too_many_requests");
    let told = answer.header("Retry-After");
    assert!((seconds - 5..=seconds).contains(&told.parse().unwrap()), "{answer:?}");
    assert_eq!(answer.header("RateLimit"), format!("\"{limit}\";r=0;t={told}"), "{answer:?}");
}

#[tokio::test]
async fn a_network_may_try_so_many_logins_and_others_do_not_notice() {
    let server = server(&[("LOGINS", "3")]);
    let client = Client::of(&server);
    client.sign_up("ann", PASSWORD).await;

    for left in ["2", "1", "0"] {
        let answer = client.log_in("ann", "wrong").await;
        answer.assert_problem(401, "invalid_credentials");
        assert_eq!(answer.header("RateLimit-Policy"), "\"login\";q=3;w=60");
        assert_eq!(answer.header("RateLimit"), format!("\"login\";r={left};t=20"));
    }
    for (name, password) in [("ann", "wrong"), ("ann", PASSWORD), ("nobody", "wrong")] {
        assert_limited(&client.log_in(name, password).await, "login", 20);
    }

    assert_eq!(client.sign_up("bob", PASSWORD).await.status, 201);
    assert_eq!(Client::at(&server, [127, 0, 0, 2]).log_in("ann", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn a_path_that_is_spelt_otherwise_is_counted_as_what_it_is() {
    let server = server(&[("LOGINS", "3"), ("SIGNUPS", "1"), ("REFRESHES", "1")]);
    let client = Client::of(&server);
    let body = json!({ "username": "ann", "password": PASSWORD });

    assert_eq!(client.post("/api/%73ignup", &body).await.status, 201);
    assert_limited(&client.post("/%61pi/signup", &body).await, "signup", 60);
    let mut statuses = Vec::new();
    for path in ["/api/%6cogin", "/%61pi/login", "/api/login", "/api/lo%67in"] {
        statuses.push(client.post(path, &body).await.status.as_u16());
    }

    assert_eq!(statuses, [200, 200, 200, 429]);
    let line =
        server.log().wait_for("a request", |line| line["status"] == 429 && line["route"] == "/api/login");
    assert_eq!(line["code"], "too_many_requests");
}

#[tokio::test]
async fn whoever_waits_for_as_long_as_they_are_told_gets_in() {
    let server = server(&[("LOGINS", "60")]);
    let client = Client::of(&server);
    client.sign_up("ann", PASSWORD).await;
    let refused = loop {
        let answer = client.log_in("\0", "wrong").await;
        if answer.status == 429 {
            break answer;
        }
    };

    let seconds = refused.header("Retry-After").parse().unwrap();
    assert_eq!(seconds, 1);
    tokio::time::sleep(Duration::from_secs(seconds)).await;

    assert_eq!(client.log_in("ann", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn what_a_stranger_says_of_their_address_changes_nothing() {
    let server = server(&[("LOGINS", "3")]);
    let client = Client::of(&server);
    let log_in = async |number: usize| {
        let request =
            client.request("POST", "/api/login").json(&json!({ "username": "ann", "password": "x" }));
        let address = format!("198.51.100.{number}");
        let request = request.header("X-Forwarded-For", &address).header("X-Real-IP", &address);
        client.send(request.header("Forwarded", format!("for={address}"))).await.status.as_u16()
    };

    let mut answers = Vec::new();
    for number in 0..5 {
        answers.push(log_in(number).await);
    }

    assert_eq!(answers, [401, 401, 401, 429, 429]);
    let lines = server.log().lines();
    assert!(lines.iter().all(|line| !line.contains("198.51.100.")), "{lines:#?}");
}

#[tokio::test]
async fn those_who_come_through_a_trusted_proxy_are_counted_one_by_one() {
    let deployment = super::deployment().set("AUTH_LIMITS__ENABLED", "true").set("AUTH_LIMITS__LOGINS", "2");
    let server = deployment.set("AUTH_HTTP__TRUSTED_PROXIES", "127.0.0.1,10.0.0.0/8").serve();
    let client = Client::of(&server);
    let log_in = async |through: &str| {
        let request =
            client.request("POST", "/api/login").json(&json!({ "username": "ann", "password": "x" }));
        client.send(request.header("X-Forwarded-For", through)).await.status.as_u16()
    };

    assert_eq!([log_in("198.51.100.1").await, log_in("198.51.100.1, 10.0.0.7").await], [401, 401]);
    assert_eq!(log_in("203.0.113.9, 198.51.100.1").await, 429);
    assert_eq!(log_in("198.51.100.2").await, 401);
    server.log().wait_for("the client's own address", |line| line["client"] == "198.51.100.2");
}

/// What a client may send to make unreadable what a proxy appends to.
const BROKEN: [&[u8]; 8] =
    [b"\"", b"\"203.0.113.1", b"for=\"", b"for=\"203.0.113.1", b"\\\"", b"unknown", b"\xff", b"a;b=\", c"];

/// How often each of two clients may try a login through nginx, the first of them with broken headers. Every address of
/// 127.0.0.0/8 is a network of its own, and nginx asks from the first.
async fn logins_through_nginx(test: &str, header: &str, directives: &str) -> Option<[usize; 2]> {
    let deployment = super::deployment().set("AUTH_LIMITS__ENABLED", "true").set("AUTH_LIMITS__LOGINS", "2");
    let deployment = deployment.set("AUTH_HTTP__TRUSTED_PROXIES", "::ffff:127.0.0.1/128");
    let server = deployment.set("AUTH_HTTP__CLIENT_IP_HEADER", header).serve();
    let directives = directives.replace("http://127.0.0.1:8000", server.base_url());
    let nginx = Nginx::start(test, "", |_| directives.clone())?;
    let log_in = async |address, broken: &[u8]| {
        let client = Client::at(&server, address).through(nginx.origin.clone());
        let request =
            client.request("POST", "/api/login").json(&json!({ "username": "ann", "password": "x" }));
        let request = request.header("X-Forwarded-For", broken).header("Forwarded", broken);
        usize::from(client.send(request).await.status == 401)
    };

    let mut tried = [0; 2];
    for broken in BROKEN {
        tried[0] += log_in([127, 0, 0, 2], broken).await;
    }
    for _ in 0..4 {
        tried[1] += log_in([127, 0, 0, 3], b"").await;
    }
    let clients = ["127.0.0.2", "127.0.0.3"];
    let is_foreign = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["target"] == "api::request" && !clients.iter().any(|client| line["client"] == *client)
    };
    assert!(!server.log().lines().iter().any(|line| is_foreign(line)), "{:#?}", server.log().lines());
    Some(tried)
}

#[tokio::test]
async fn broken_header_hides_no_client_behind_nginx() {
    let readme = include_str!("../../../README.md");
    let mut blocks = readme.split("```nginx\n").skip(1).filter_map(|rest| rest.split_once("```"));
    let (advised, _) = blocks.find(|(block, _)| block.contains("$proxy_add_x_forwarded_for")).unwrap();

    let tried = logins_through_nginx("X-Forwarded-For through nginx", "x-forwarded-for", advised).await;

    assert!(tried.is_none_or(|tried| tried == [2, 2]), "{tried:?}");
}

#[tokio::test]
async fn broken_forwarded_hides_no_client_behind_nginx() {
    // What a proxy does that appends to whatever came.
    let appending = "location / {
        proxy_pass http://127.0.0.1:8000;
        proxy_set_header Forwarded '$http_forwarded, for=\"$remote_addr\";proto=http';
    }";

    let tried = logins_through_nginx("Forwarded through nginx", "forwarded", appending).await;

    assert!(tried.is_none_or(|tried| tried == [2, 2]), "{tried:?}");
}

#[tokio::test]
async fn rate_limited_requests_of_a_client_share_a_log_line() {
    let mut server = server(&[("ANONYMOUS", "3")]);
    let client = Client::of(&server);
    let other = Client::at(&server, [127, 0, 0, 2]);
    for _ in 0..50 {
        client.get("/").await;
    }
    for _ in 0..4 {
        other.get("/").await;
    }
    server.terminate();
    server.wait();

    let lines: Vec<Value> =
        server.log().lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |client: &str| {
        let refused = lines.iter().filter(|line| line["status"] == 429 && line["client"] == client);
        let counts: Vec<u64> = refused.map(|line| line["count"].as_u64().unwrap_or(1)).collect();
        (counts.len(), counts.iter().sum::<u64>())
    };
    // A line at once and one for the others, and as much again where ten seconds pass meanwhile.
    let (written, told) = of("127.0.0.1");
    assert!((2..=6).contains(&written), "{lines:#?}");
    assert_eq!(told, 47);
    assert_eq!(of("127.0.0.2"), (1, 1));
}

#[tokio::test]
async fn health_checks_of_a_client_share_a_log_line() {
    let mut server = server(&[]);
    let client = Client::of(&server);
    for _ in 0..20 {
        client.get("/health/live").await;
        client.get("/health/ready").await;
    }
    server.terminate();
    server.wait();

    let lines: Vec<Value> =
        server.log().lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    for route in ["/health/live", "/health/ready"] {
        let checks = lines.iter().filter(|line| line["route"] == route);
        let counts: Vec<u64> = checks.map(|line| line["count"].as_u64().unwrap_or(1)).collect();
        assert!((2..=6).contains(&counts.len()), "{lines:#?}");
        assert_eq!(counts.iter().sum::<u64>(), 20);
    }
}

/// How many answers a client gets on one connection that asks a hundred times.
fn answers_on_one_connection(server: &Server) -> usize {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let mut answers = 0;
    for _ in 0..100 {
        if stream.write_all(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n").is_err() {
            break;
        }
        let mut said = Vec::new();
        let mut room = [0; 4096];
        // A head, and a body that ends with the brace of a problem.
        while !said.ends_with(b"}") {
            match stream.read(&mut room) {
                Ok(count @ 1..) => said.extend_from_slice(&room[..count]),
                _ => return answers,
            }
        }
        answers += 1;
    }
    answers
}

#[test]
fn tenth_429_within_a_minute_closes_the_connection() {
    let limited = super::deployment().set("AUTH_LIMITS__ENABLED", "true").set("AUTH_LIMITS__ANONYMOUS", "3");

    assert_eq!(answers_on_one_connection(&limited.serve()), 13);
    // The connections of a proxy are those of many clients.
    let behind_proxy = limited.set("AUTH_HTTP__TRUSTED_PROXIES", "127.0.0.1");
    assert_eq!(answers_on_one_connection(&behind_proxy.serve()), 100);
}

#[tokio::test]
async fn whoever_has_a_token_is_counted_by_session_and_whoever_makes_one_up_by_network() {
    let server = server(&[("SESSION", "4"), ("ANONYMOUS", "3")]);
    let client = Client::of(&server);
    let (first, second) = (client.token_of_new("ann").await, client.log_in("ann", PASSWORD).await.token());

    for _ in 0..4 {
        assert_eq!(client.me(&first).await.status, 200);
    }
    assert_limited(&client.me(&first).await, "session", 15);
    assert_limited(&Client::at(&server, [127, 0, 0, 2]).me(&first).await, "session", 15);
    for _ in 0..3 {
        client.me("made.up.token").await.assert_problem(401, "invalid_token");
    }
    for path in ["/api/me", "/", "/nope", "/docs/"] {
        for authorization in [None, Some("Bearer made.up.token"), Some("Basic c2hvcDp4")] {
            let request = client.request("GET", path);
            let request = match authorization {
                Some(text) => request.header("Authorization", text),
                None => request,
            };
            assert_limited(&client.send(request).await, "anonymous", 20);
        }
    }
    for authorization in ["Bearer made.up.token", "Basic c2hvcDp4"] {
        let preflight = client.request("OPTIONS", "/api/me").header("Origin", "https://app.example");
        let preflight = preflight.header("Access-Control-Request-Method", "PATCH");
        assert_limited(&client.send(preflight.header("Authorization", authorization)).await, "anonymous", 20);
    }
    let leaving =
        || client.request("POST", "/api/logout").header("Authorization", format!("Bearer {second}"));
    for leaving in [leaving(), leaving().header("X-Session-Transport", "cookie")] {
        assert_limited(&client.send(leaving).await, "anonymous", 20);
    }

    assert_eq!(client.me(&second).await.status, 200);
}

#[tokio::test]
async fn changes_count_for_the_account_over_all_its_sessions() {
    let server = server(&[("ACCOUNT", "3"), ("LOGINS", "100")]);
    let client = Client::of(&server);
    let first = client.token_of_new("ann").await;
    let second = client.log_in("ann", PASSWORD).await.token();
    let bobs = client.token_of_new("bob").await;
    let change = async |token: &str, method: &str, path: &str, body: &serde_json::Value| {
        let request = client.request(method, path).header("Authorization", format!("Bearer {token}"));
        client.send(request.json(body)).await
    };
    let right = json!({ "username": "ann", "password": PASSWORD });
    let wrong = json!({ "password": "wrong" });
    let wrong_change = json!({ "current_password": "wrong", "new_password": "eight grey herons wade" });

    // Whatever comes of them: these change nothing.
    assert_eq!(change(&first, "PATCH", "/api/me", &right).await.status, 200);
    let put = change(&second, "PUT", "/api/me/password", &wrong_change).await;
    put.assert_problem(403, "password_wrong");
    assert_eq!(put.header("RateLimit-Policy"), "\"session\";q=600;w=60, \"account\";q=3;w=60");
    assert!(put.header("RateLimit").ends_with(", \"account\";r=1;t=20"), "{put:?}");
    change(&first, "DELETE", "/api/me", &wrong).await.assert_problem(403, "password_wrong");

    let third = client.log_in("ann", PASSWORD).await.token();
    for (token, method, path, body) in [
        (&first, "PATCH", "/api/me", &right),
        (&second, "PUT", "/api/me/password", &wrong_change),
        (&third, "DELETE", "/api/sessions?except=current", &json!({})),
    ] {
        let refused = change(token, method, path, body).await;
        refused.assert_problem(429, "too_many_requests");
        let told = refused.header("Retry-After");
        assert!((15..=20).contains(&told.parse().unwrap()), "{refused:?}");
        assert!(refused.header("RateLimit").ends_with(&format!("\"account\";r=0;t={told}")), "{refused:?}");
    }

    let read = client.me(&first).await;
    assert_eq!((read.status.as_u16(), read.header("RateLimit-Policy")), (200, "\"session\";q=600;w=60"));
    change(&bobs, "DELETE", "/api/me", &wrong).await.assert_problem(403, "password_wrong");
    let leaving = client.request("POST", "/api/logout").header("Authorization", format!("Bearer {third}"));
    assert_eq!(client.send(leaving).await.status, 204);
}

#[tokio::test]
async fn token_of_an_ended_session_uses_up_no_account() {
    let server = server(&[("ACCOUNT", "1")]);
    let client = Client::of(&server);
    let (stolen, mine) = (client.token_of_new("ann").await, client.log_in("ann", PASSWORD).await.token());
    let bearing = |method: &str, path: &str, token: &str| {
        client.request(method, path).header("Authorization", format!("Bearer {token}"))
    };
    assert_eq!(client.send(bearing("POST", "/api/logout", &stolen)).await.status, 204);

    for _ in 0..3 {
        let refused = client.send(bearing("DELETE", "/api/sessions?except=current", &stolen)).await;
        refused.assert_problem(401, "invalid_token");
    }

    assert!(client.send(bearing("DELETE", "/api/sessions?except=current", &mine)).await.status.is_success());
}

#[tokio::test]
async fn a_token_whose_session_is_over_uses_up_the_quota_of_its_session() {
    let server = server(&[("SESSION", "4"), ("ANONYMOUS", "3")]);
    let client = Client::of(&server);
    let token = client.token_of_new("ann").await;
    let leaving = client.request("POST", "/api/logout").header("Authorization", format!("Bearer {token}"));
    assert_eq!(client.send(leaving).await.status, 204);

    for _ in 0..4 {
        client.me(&token).await.assert_problem(401, "invalid_token");
    }

    assert_limited(&client.me(&token).await, "session", 15);
}

#[tokio::test]
async fn a_head_that_is_refused_is_counted_by_network_wherever_it_goes() {
    let server = server(&[("ANONYMOUS", "3")]);
    let client = Client::of(&server);
    let large = |path, header| client.request("GET", path).header(header, "x".repeat(17_000));

    for (path, header, left) in
        [("/health/live", "X-Large", 2), ("/api/me", "Authorization", 1), ("/nothing", "X-Large", 0)]
    {
        let answer = client.send(large(path, header)).await;
        answer.assert_problem(431, "headers_too_large");
        assert_eq!(answer.header("RateLimit"), format!("\"anonymous\";r={left};t=20"));
    }

    let beyond = client.send(large("/api/me", "Authorization")).await;
    assert_limited(&beyond, "anonymous", 20);
    assert_eq!(beyond.header("Connection"), "close");
    assert_eq!(client.get("/health/live").await.status, 200);
}

#[test]
fn nothing_behind_a_head_that_is_refused_is_taken_for_a_request() {
    let server = server(&[]);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let refused = "GET / HTTP/1.1\r\nHost: a b\r\n\r\n";
    let behind = "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";

    stream.write_all(format!("{refused}{behind}").as_bytes()).unwrap();

    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 400 ") && said.matches("HTTP/1.1 ").count() == 1, "{said}");
}

#[tokio::test]
async fn whoever_asks_whether_the_server_is_well_is_never_refused() {
    let server = server(&[("ANONYMOUS", "1")]);
    let client = Client::of(&server);
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(client.get("/").await.status, 429);

    for _ in 0..20 {
        assert_eq!(client.get("/health/live").await.status, 200);
        assert_eq!(client.get("/health/ready").await.status, 200);
    }
}

#[tokio::test]
async fn where_sign_up_is_closed_only_operators_make_accounts() {
    let deployment = super::deployment().set("AUTH_SIGNUP__ENABLED", "false");
    let server = deployment.serve();
    let client = Client::of(&server);

    client.sign_up("ann", PASSWORD).await.assert_problem(403, "signup_disabled");
    let created = deployment.run_with(&["users", "create", "ann"], PASSWORD);

    assert_eq!(created.code, 0, "{created:?}");
    assert_eq!(client.log_in("ann", PASSWORD).await.status, 200);
    assert_eq!(client.get("/problems/signup_disabled").await.status, 200);
}
