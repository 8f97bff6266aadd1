//! What the server tells others of requests and errors: a collector of OpenTelemetry, and whoever speaks Sentry's protocol.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use prost::Message as _;
use serde_json::{Value, json};

use crate::support::client::{Client, PASSWORD};
use crate::support::http_sink::{Post, Receiver};
use crate::support::server::{Deployment, Server};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CANARY: &str = "canary-4711-quokka";

fn traced(collector: &Receiver) -> Deployment {
    super::deployment().set("AUTH_OTLP__ENDPOINT", format!("http://{}", collector.address()))
}

fn reporting(to: &Receiver) -> Deployment {
    super::deployment().set("AUTH_SENTRY__DSN", format!("http://canarykey4711@{}/42", to.address()))
}

fn resources(collector: &Receiver) -> Vec<ResourceSpans> {
    let exports = collector.posts().into_iter().map(|post| {
        assert_eq!(post.path, "/v1/traces");
        assert!(post.head.contains("content-type: application/x-protobuf\r\n"), "{}", post.head);
        ExportTraceServiceRequest::decode(&*post.body).unwrap()
    });
    exports.flat_map(|export| export.resource_spans).collect()
}

fn spans(collector: &Receiver) -> Vec<Span> {
    let scopes = resources(collector).into_iter().flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

fn attribute(span: &Span, name: &str) -> Option<String> {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == name)?;
    match attribute.value.clone()?.value? {
        Attribute::StringValue(text) => Some(text),
        Attribute::IntValue(number) => Some(number.to_string()),
        other => panic!("{other:?}"),
    }
}

/// The event in a report.
fn event(post: &Post) -> Value {
    assert_eq!(post.path, "/api/42/envelope/");
    assert!(post.head.contains("sentry_key=canarykey4711"), "{}", post.head);
    let text = String::from_utf8(post.body.clone()).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[1]["type"]), (3, &json!("event")), "{text}");
    assert_eq!(lines[0]["event_id"], lines[2]["event_id"]);
    lines[2].clone()
}

/// Sends a secret in every place there is, and returns the answer to the last request.
async fn send_canaries(server: &Server) {
    let client = Client::of(server);
    client.sign_up("ann", CANARY).await;
    client.log_in(CANARY, CANARY).await;
    client.log_in("ann", CANARY).await;
    client.me(CANARY).await;
    client.get(&format!("/{CANARY}?token={CANARY}")).await;
    client.send(client.request(&CANARY.to_uppercase(), "/api/me")).await;
    client.send(client.request("DELETE", &format!("/api/sessions/{CANARY}"))).await;
    for header in ["Cookie", "User-Agent", "Forwarded", "Referer", "Origin", "Tracestate", "Baggage"] {
        client.send(client.request("GET", "/api/me").header(header, CANARY)).await;
    }
}

fn assert_no_canary(posts: &[Post]) {
    for Post { head, body, .. } in posts {
        assert!(!format!("{head}{}", String::from_utf8_lossy(body)).to_lowercase().contains(CANARY));
    }
}

#[tokio::test]
async fn each_request_is_a_span_of_the_trace_that_it_names() {
    let collector = Receiver::start();
    let server = traced(&collector).serve();
    let client = Client::of(&server);
    let ask = |path: &str, traceparent: &str| {
        client.send(client.request("GET", path).header("traceparent", traceparent))
    };
    client.sign_up("ann", PASSWORD).await;
    ask("/api/me", &format!("00-{TRACE}-00f067aa0ba902b7-01")).await;
    ask("/health/live", &format!("00-{TRACE}-00f067aa0ba902b7-00")).await;
    ask("/nowhere", "nonsense").await;

    assert!(server.stop().success());

    let spans = spans(&collector);
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["POST /api/signup", "GET /api/me", "GET"], "what is not sampled is not there");
    let [sign_up, me, nowhere] = &*spans else { panic!("{spans:?}") };
    assert_eq!(me.trace_id, u128::from_str_radix(TRACE, 16).unwrap().to_be_bytes());
    assert_eq!(me.parent_span_id, [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
    assert!(sign_up.parent_span_id.is_empty() && nowhere.parent_span_id.is_empty());
    assert_eq!((sign_up.trace_id.len(), sign_up.span_id.len()), (16, 8));
    assert_ne!(sign_up.trace_id, nowhere.trace_id);
    assert!(sign_up.end_time_unix_nano > sign_up.start_time_unix_nano);
    for (span, route, status) in [(sign_up, Some("/api/signup"), "201"), (nowhere, None, "404")] {
        assert_eq!(span.kind(), SpanKind::Server);
        assert_eq!(attribute(span, "http.route").as_deref(), route);
        assert_eq!(attribute(span, "http.response.status_code").as_deref(), Some(status));
        assert_eq!(attribute(span, "url.scheme").as_deref(), Some("http"));
        assert_eq!(attribute(span, "error.type"), None);
        assert_eq!(span.status.as_ref().unwrap().code(), StatusCode::Unset);
    }
    let resource = resources(&collector)[0].resource.clone().unwrap();
    let names: Vec<_> = resource.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    assert_eq!(names, ["service.name", "service.version", "deployment.environment.name"]);
}

#[tokio::test]
async fn the_trace_is_in_the_lines_about_its_request() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    client.send(client.request("GET", "/health/live").header("traceparent", traceparent)).await;
    let own = client.get("/api/me").await;

    server.log().wait_for("a line of the trace", |line| line["trace_id"] == TRACE);
    let line =
        server.log().wait_for("the last request", |line| line["request_id"] == own.header("X-Request-Id"));

    // A trace that begins here is called as its first request.
    assert_eq!(line["trace_id"], line["request_id"]);
}

#[tokio::test]
async fn an_error_is_reported_with_what_leads_to_it() {
    let receiver = Receiver::start();
    let server = reporting(&receiver).serve();
    let client = Client::of(&server);
    server.deployment().tamper("ALTER TABLE users RENAME TO gone");

    let failed = client.log_in(CANARY, CANARY).await;
    assert!(failed.status.is_server_error(), "{failed:?}");
    assert!(server.stop().success());

    let posts = receiver.posts();
    assert_no_canary(&posts);
    let events: Vec<_> = posts.iter().map(event).collect();
    let event = events.iter().find(|event| event["tags"]["request_id"] == failed.header("X-Request-Id"));
    let event = event.unwrap_or_else(|| panic!("{events:#?}"));
    assert_eq!((&event["transaction"], &event["level"]), (&json!("/api/login"), &json!("error")));
    assert_eq!(event["tags"]["code"], failed.json()["code"]);
    assert_eq!(event["release"], format!("auth-api@{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(event["environment"], "development");
    assert!(event["extra"]["cause"].as_str().is_some_and(|cause| cause.contains("users")), "{event}");
    for absent in ["user", "request", "server_name", "contexts", "breadcrumbs"] {
        assert!(event.get(absent).is_none(), "{event}");
    }
}

#[test]
fn what_cannot_be_read_again_is_reported_with_what_is_wrong_with_it() {
    let receiver = Receiver::start();
    let server = super::tls::Pair::of("localhost").put_into(reporting(&receiver)).serve();
    server.deployment().write("cert.pem", "nothing");
    server.log().wait_for("a refusal", |line| line["message"] == "the certificate stays as it was");
    server.deployment().write("auth-api.toml", "[limits]\nlogouts = 4\n");
    server.hang_up();
    server.log().wait_for("another one", |line| line["message"] == "the settings stay as they were");

    assert!(server.stop().success());

    let events: Vec<_> = receiver.posts().iter().map(event).collect();
    for (message, cause) in [
        ("the certificate stays as it was", "is not PEM"),
        ("the settings stay as they were", "limits.logouts"),
    ] {
        let told = events.iter().find(|event| event["message"] == message);
        let told = told.unwrap_or_else(|| panic!("{message}: {events:#?}"));
        assert!(told["extra"]["cause"].as_str().is_some_and(|text| text.contains(cause)), "{told}");
    }
}

#[tokio::test]
async fn no_secret_that_a_client_sends_is_told_to_others() {
    let (collector, receiver) = (Receiver::start(), Receiver::start());
    let dsn = format!("http://canarykey4711@{}/42", receiver.address());
    let server = traced(&collector).set("AUTH_SENTRY__DSN", dsn).serve();
    send_canaries(&server).await;
    server.deployment().tamper("ALTER TABLE users RENAME TO gone");
    send_canaries(&server).await;
    let log = server.log().lines();

    assert!(server.stop().success());

    assert!(spans(&collector).len() > 20);
    assert!(!receiver.posts().is_empty());
    assert_no_canary(&collector.posts());
    assert_no_canary(&receiver.posts());
    assert!(!log.iter().any(|line| line.contains("canarykey4711")), "{log:#?}");
}

#[tokio::test]
async fn nobody_is_told_anything_who_is_not_configured() {
    let (collector, receiver) = (Receiver::start(), Receiver::start());
    let server = super::deployment()
        .set("AUTH_OTLP__ENDPOINT", "")
        .set("AUTH_SENTRY__DSN", "")
        // Where the libraries of others would look.
        .set("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", collector.address()))
        .set("SENTRY_DSN", format!("http://key@{}/42", receiver.address()))
        .set("HTTP_PROXY", format!("http://{}", receiver.address()))
        .serve();
    send_canaries(&server).await;
    server.deployment().tamper("ALTER TABLE users RENAME TO gone");
    send_canaries(&server).await;

    assert!(server.stop().success());

    assert!(collector.posts().is_empty() && receiver.posts().is_empty());
}

#[tokio::test]
async fn who_hangs_or_is_away_changes_nothing_for_clients() {
    let hanging = Receiver::that_hangs();
    // Nobody listens at port 1.
    for address in [hanging.address(), "127.0.0.1:1"] {
        let server = super::deployment()
            .set("AUTH_OTLP__ENDPOINT", format!("http://{address}"))
            .set("AUTH_SENTRY__DSN", format!("http://canarykey4711@{address}/42"))
            .set("AUTH_HTTP__GRACE", "1s")
            .serve();
        let client = Client::of(&server);
        let token = client.token_of_new("ann").await;
        if address == hanging.address() {
            hanging.wait_for_a_connection();
        } else {
            server.log().wait_for("a delivery that failed", |line| line["what"] == "a trace");
        }

        for _ in 0..100 {
            assert_eq!(client.me(&token).await.status, 200);
        }

        assert!(server.stop().success());
    }
}
