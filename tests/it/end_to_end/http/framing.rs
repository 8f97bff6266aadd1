//! Heads, framing and connections (RFC 9112).

use super::*;

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let server = Server::start();
    let client = Client::of(&server);

    client.get(&format!("/{}", "x".repeat(9000))).await.assert_problem(414, "uri_too_long");
    let large = client.request("GET", "/health/live").header("X-Large", "x".repeat(17_000));
    client.send(large).await.assert_problem(431, "headers_too_large");
    let many = (0..70)
        .fold(client.request("GET", "/health/live"), |request, n| request.header(format!("x-{n}"), "1"));
    client.send(many).await.assert_problem(431, "headers_too_large");
}

#[test]
fn requests_whose_framing_is_ambiguous_are_refused_and_the_connection_is_closed() {
    let server = Server::start();
    let post = "POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let second = "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";

    for request in [
        format!("{post}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n"),
        format!("{post}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}"),
        format!("{post}Content-Length: 2, 2\r\n\r\n{{}}"),
        format!("{post}Content-Length: +2\r\n\r\n{{}}"),
        format!("{post}Content-Length: -1\r\n\r\n{{}}"),
        format!("{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\nZZ\r\n{{}}\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\n\r\n{{}}\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n{{}}\r\n0\r\n\r\n"),
        "GET /health/live HTTP/1.1\r\n\r\n".to_owned(),
        "GET /health/live HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n".to_owned(),
        "GET /health/live HTTP/1.1\r\nHost: x\r\nX-Folded: a\r\n b\r\n\r\n".to_owned(),
        "GET /health/live HTTP/1.1\r\nHost : x\r\n\r\n".to_owned(),
        "GET /health/live HTTP/1.1\r\nHost: x\r\nX-Nul: a\0b\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
    ] {
        let answer = exchange(&server, format!("{request}{second}").as_bytes());

        let answers = answer.matches("HTTP/1.1 ").count();
        let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
        assert!(refused && answers <= 1, "{request:?}: {answer}");
    }
}

#[test]
fn a_host_that_can_be_none_is_refused_and_the_connection_is_closed() {
    let server = Server::start();

    for host in ["a b", "a/b", "<a>"] {
        let answer =
            exchange(&server, format!("GET /health/live HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());

        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains("malformed_request"),
            "{host}: {answer}"
        );
    }
}

#[test]
fn empty_host_and_http_1_0_without_host_are_served() {
    let server = Server::start();
    let request = |line: &str| format!("{line}\r\nConnection: close\r\n\r\n");

    for head in [
        "GET /health/ready HTTP/1.1\r\nHost:",
        "GET /health/ready HTTP/1.1\r\nHost: ",
        "GET /health/ready HTTP/1.1\r\nHost: \t ",
        "GET /health/ready HTTP/1.0\r\nHost:",
        "GET /health/ready HTTP/1.0",
    ] {
        let answer = exchange(&server, request(head).as_bytes());
        assert!(
            answer.starts_with("HTTP/1.1 200 ") || answer.starts_with("HTTP/1.0 200 "),
            "{head}: {answer}"
        );
    }
    let missing = exchange(&server, request("GET /health/ready HTTP/1.1").as_bytes());
    assert!(missing.starts_with("HTTP/1.1 400 "), "{missing}");
    // It names no origin either.
    let refresh = "POST /api/refresh HTTP/1.1\r\nHost:\r\nX-Session-Transport: cookie\r\nOrigin: http://\r\n\
                   Cookie: auth_refresh=x\r\nContent-Length: 0";
    let refused = exchange(&server, request(refresh).as_bytes());
    assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
}

#[test]
fn unwanted_upgrade_is_ignored_on_a_kept_connection() {
    let server = Server::start();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let body = r#"{"username":"ann","password":"seven brown otters sing"}"#;
    let h2c =
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQBAAAAAAIAAAAA";
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13";
    let sign_up = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());

    for (line, upgrade, rest, status) in [
        ("POST /api/signup", h2c, sign_up.as_str(), 201),
        ("POST /api/login", h2c, &sign_up, 200),
        ("POST /api/login", websocket, &sign_up, 200),
        ("GET /api/me", websocket, "\r\n", 401),
        ("GET /api/me", h2c, "\r\n", 401),
        ("GET /health/ready", websocket, "\r\n", 200),
    ] {
        write!(stream, "{line} HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n{rest}").unwrap();

        let mut answer = Vec::new();
        // A head, and a body that ends with the brace of an object.
        while !answer.ends_with(b"}") {
            let mut room = [0; 4096];
            let count = stream.read(&mut room).unwrap();
            assert_ne!(count, 0, "{line} {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&room[..count]);
        }
        let answer = String::from_utf8(answer).unwrap();

        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line} {answer}");
        assert!(!answer.to_ascii_lowercase().contains("\r\nconnection:"), "{line} {answer}");
    }
}

#[test]
fn answer_to_a_chunked_request_closes_the_connection() {
    let server = Server::start();
    let body = r#"{"username":"ann","password":"seven brown otters sing"}"#;
    let get = "GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n";

    for (end, status) in [("0\r\n\r\n", 201), ("0\r\nx: y\r\n\r\n", 409)] {
        let sent = format!(
            "POST /api/signup HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n{end}{get}{get}",
            body.len()
        );
        let answers = exchange(&server, sent.as_bytes());

        assert!(answers.starts_with(&format!("HTTP/1.1 {status} ")), "{end:?} {answers}");
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{end:?} {answers}");
        assert!(answers.contains("connection: close"), "{end:?} {answers}");
    }
}

#[test]
fn half_closed_client_gets_no_answer() {
    let server = Server::start();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let body = r#"{"username":"ann","password":"seven brown otters sing"}"#;
    write!(
        stream,
        "POST /api/signup HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();

    let mut answer = String::new();
    // Nothing, or a reset.
    _ = stream.read_to_string(&mut answer);

    assert_eq!(answer, "");
}

#[test]
fn a_line_that_ends_in_a_bare_line_feed_is_one_line_and_never_two_requests() {
    let server = Server::start();
    // The parser takes a bare line feed for the end of a line, as RFC 9112, section 2.2, lets it. What may
    // not happen is that the two readings make different numbers of requests.
    let request = "GET /health/live HTTP/1.1\nHost: x\nX-A: GET /nope HTTP/1.1\nConnection: close\n\n";

    let answer = exchange(&server, request.as_bytes());

    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.matches("HTTP/1.1 ").count() == 1, "{answer}");
}
