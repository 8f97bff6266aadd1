//! Deadlines, with time that passes when nothing else is to be done.

mod bodies;
mod panics;
mod room;

use std::future::{Future, Ready, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use actix_http::{HttpService, KeepAlive};
use actix_service::{IntoServiceFactory, Service, ServiceFactory, map_config};
use actix_web::body::{BoxBody, MessageBody as _};
use actix_web::dev::{AppConfig, Payload, ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::test::TestRequest;
use actix_web::{App, FromRequest, HttpRequest, HttpResponse, web};
use domain::SitePrefix;
use futures_util::{StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use super::acceptor::Lobby;
use super::connection::{Connection, STRIDE};
use super::connection_limit::{Limits, Rank, Seat, Seats};
use super::connection_state::{Deadlines, Exchange, Stage};
use super::maybe_tls::Wire;
use super::{AnswerBody, now};
use crate::LINGER;
use crate::client_address::TrustedProxies;
use crate::http_metrics::Traffic;
use crate::middleware::request_scope::see_through;

const SECOND: Duration = Duration::from_secs(1);
const GET: &[u8] = b"GET /quick HTTP/1.1\r\nhost: x\r\n\r\n";
/// The head of a request whose body is to come.
const CHUNKED: &str = "POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";

fn nobody_else() -> Limits {
    Limits { connections: 8, per_network: 8 }
}

fn seat() -> Seat {
    Seats::new(nobody_else(), Arc::default())
        .take("192.0.2.1".parse().unwrap(), &TrustedProxies::default(), SitePrefix::default())
        .unwrap()
}

async fn echo(body: web::Bytes) -> HttpResponse {
    HttpResponse::Ok().body(body)
}

async fn slow_echo(_: web::Bytes) -> &'static str {
    slow().await
}

async fn slow() -> &'static str {
    tokio::time::sleep(SECOND * 60).await;
    "at last"
}

async fn late(body: web::Payload) -> HttpResponse {
    tokio::time::sleep(SECOND).await;
    HttpResponse::Ok().body(body.to_bytes().await.unwrap())
}

async fn panic() -> &'static str {
    panic!("a handler panics, as it is meant to")
}

/// What cannot be taken from any request.
struct Untakable;

impl FromRequest for Untakable {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(_: &HttpRequest, _: &mut Payload) -> Self::Future {
        panic!("an extractor panics, as it is meant to")
    }
}

async fn untakable(_: Untakable) -> &'static str {
    "never"
}

async fn half() -> HttpResponse {
    let parts = stream::iter(0..2).map(|part| {
        assert_eq!(part, 0, "a body panics, as it is meant to");
        Ok::<_, actix_web::Error>(web::Bytes::from_static(b"half"))
    });
    HttpResponse::Ok().streaming(parts)
}

/// What the edge is to a connection, without the rest of it.
async fn edge(
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<AnswerBody>, actix_web::Error> {
    let exchange = Exchange::of(&request);
    let mut in_flight = exchange.begin(&mut request).await;
    if request.path() == "/refused" {
        in_flight.come_to_rest().await;
        let answer = request.into_response(HttpResponse::TooManyRequests().body("quick"));
        return Ok(answer
            .map_into_boxed_body()
            .map_body(|head, body| AnswerBody::new(head, body, in_flight)));
    }
    let served = see_through(&exchange, next.call(request)).await?;
    in_flight.come_to_rest().await;
    Ok(served.map_body(|head, body| AnswerBody::new(head, body, in_flight)))
}

/// The other end of a connection that is served.
fn connect_by(seat: Seat, room: usize) -> (DuplexStream, JoinHandle<()>) {
    let (client, ours) = duplex(room);
    let connection = Connection::new(ours, seat, Deadlines::IN_FORCE);
    let app = App::new()
        .wrap(from_fn(edge))
        .route("/quick", web::get().to(|| async { "quick" }))
        .route("/slow", web::get().to(slow))
        .route("/large", web::get().to(|| async { "x".repeat(1 << 20) }))
        .route("/panic", web::get().to(panic))
        .route("/panic", web::post().to(panic))
        .route("/untakable", web::get().to(untakable))
        .route("/half", web::get().to(half))
        .route("/echo", web::post().to(echo))
        .route("/late", web::post().to(late))
        .route("/slow", web::post().to(slow_echo))
        .route("/quick", web::post().to(|| async { "quick" }))
        .into_factory();
    let app = actix_service::ServiceFactoryExt::map_err(app, |error| error.error_response());
    let http = HttpService::build()
        .keep_alive(KeepAlive::Os)
        .client_request_timeout(Duration::ZERO)
        .client_disconnect_timeout(SECOND)
        .h1_allow_half_closed(false)
        .on_connect_ext(|connection: &Connection<DuplexStream>, data| _ = data.insert(connection.exchange()))
        .h1(map_config(app, |()| AppConfig::default()));
    let served = spawn_local(async move {
        let http = http.new_service(()).await.unwrap();
        _ = http.call((connection, None)).await;
    });
    (client, served)
}

fn connect() -> (DuplexStream, JoinHandle<()>) {
    connect_by(seat(), 64 * 1024)
}

/// Sends a byte every five seconds for as long as anybody takes them.
async fn drip(client: &mut DuplexStream, bytes: &[u8]) {
    for byte in bytes {
        if client.write_all(&[*byte]).await.is_err() {
            return;
        }
        tokio::time::sleep(SECOND * 5).await;
    }
}

async fn answer(client: &mut DuplexStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"quick") {
        assert_ne!(client.read_buf(&mut bytes).await.unwrap(), 0, "{}", String::from_utf8_lossy(&bytes));
    }
    String::from_utf8(bytes).unwrap()
}

async fn rest(client: &mut DuplexStream) -> String {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

/// How many whole seconds it took.
async fn seconds<T>(work: impl Future<Output = T>) -> (u64, T) {
    let begun = now();
    let done = work.await;
    (begun.elapsed().as_secs(), done)
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_cut_after_ten_seconds() {
    LocalSet::new()
        .run_until(async {
            let (mut client, _served) = connect();

            assert_eq!(seconds(rest(&mut client)).await, (10, String::new()));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_byte_by_byte_is_cut_after_ten_seconds_on_every_request() {
    LocalSet::new()
        .run_until(async {
            let (mut client, served) = connect();
            for _ in 0..3 {
                client.write_all(GET).await.unwrap();
                assert!(answer(&mut client).await.starts_with("HTTP/1.1 200"));
                tokio::time::sleep(SECOND * 60).await;
            }

            let (took, ()) = seconds(async {
                tokio::select! { () = drip(&mut client, GET) => panic!(), _ = served => {} }
            })
            .await;

            assert_eq!(took, 10);
            assert!(rest(&mut client).await.starts_with("HTTP/1.1 408 "));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_head_without_end_is_refused_before_much_of_it_is_kept() {
    for before in ["", "GET /quick HTTP/1.1\r\nhost: x\r\n\r\n"] {
        LocalSet::new()
            .run_until(async {
                let (mut client, _served) = connect();
                let head = format!("{before}GET /quick HTTP/1.1\r\nx: {}", "x".repeat(50 * 1024));
                client.write_all(head.as_bytes()).await.unwrap();

                let (took, said) = seconds(rest(&mut client)).await;

                assert!(took <= 1 && said.contains("HTTP/1.1 431 "), "{took} {said}");
                assert_eq!(said.contains("HTTP/1.1 200 "), !before.is_empty(), "{said}");
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_is_read_to_its_end_however_large_and_requests_however_many() {
    LocalSet::new()
        .run_until(async {
            let (client, _served) = connect_by(seat(), 4096);
            let (mut reads, mut writes) = tokio::io::split(client);
            let body = format!("{}quick", "x".repeat(100 * 1024));
            let post =
                format!("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let last = "GET /quick HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            let late = post.replacen("echo", "late", 1);
            let all = format!("{post}{late}{}{last}", String::from_utf8_lossy(GET).repeat(2000));

            let mut said = String::new();
            let (written, read) =
                tokio::join!(writes.write_all(all.as_bytes()), reads.read_to_string(&mut said));

            assert!(written.is_ok() && read.is_ok());
            assert_eq!(said.matches("HTTP/1.1 200 ").count(), 2003);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_behind_a_request_is_kept_from_the_parser_until_the_answer_is_sent() {
    let exchange = Exchange::new(Deadlines::IN_FORCE, Arc::default());
    assert_eq!(exchange.release(&mut [GET, GET].concat()), GET.len());
    assert!(!exchange.wants_more());

    let exchange = Exchange::new(Deadlines::IN_FORCE, Arc::default());
    let head = b"POST / HTTP/1.1\r\nhost: x\r\n\r\n";
    assert_eq!(exchange.release(&mut [head.as_slice(), b"body"].concat()), head.len());
}

#[tokio::test(start_paused = true)]
async fn requests_that_come_at_once_are_answered_and_then_silence_is_no_slow_head() {
    let sent = "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nquick".repeat(2);
    LocalSet::new()
        .run_until(async {
            let (mut client, _served) = connect();
            client.write_all(sent.as_bytes()).await.unwrap();

            let (took, said) = seconds(rest(&mut client)).await;

            assert_eq!((took, said.matches("HTTP/1.1 200 ").count()), (75, 2), "{said}");
            assert!(!said.contains(" 408 "), "{said}");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn chunked_request_is_the_last_of_its_connection() {
    let get = str::from_utf8(GET).unwrap();
    for end in ["0\r\n\r\n", "0\r\nx: y\r\n\r\n", "0\r\n\n", "0\n\r\n", "0;x=y\r\n\r\n"] {
        for behind in [String::new(), get.to_owned(), get.repeat(2), get.repeat(100)] {
            LocalSet::new()
                .run_until(async {
                    let (mut client, _served) = connect();
                    let sent = format!("{CHUNKED}5\r\nquick\r\n{end}{behind}");
                    client.write_all(sent.as_bytes()).await.unwrap();

                    let (took, said) = seconds(rest(&mut client)).await;

                    assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{end:?} {said}");
                    // The bare line feeds are taken for the beginning of trailers, which do not come to their end.
                    let closes = said.contains("connection: close") || said.starts_with("HTTP/1.1 408 ");
                    assert!(closes, "{end:?} {said}");
                    assert!(took <= 16, "{took} {end:?}");
                })
                .await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn unwanted_upgrade_is_ignored_and_keeps_the_connection() {
    let upgrades = [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQBAAAAAAIAAAAA\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        "Connection: keep-alive, upgrade\r\nUpgrade: TLS/1.0, h2c\r\n",
        "Connection: upgrade\r\n",
        "Upgrade: websocket\r\n",
    ];
    LocalSet::new()
        .run_until(async {
            let (mut client, _served) = connect();
            for upgrade in upgrades {
                let get = format!("GET /quick HTTP/1.1\r\nhost: x\r\n{upgrade}\r\n");
                let post =
                    format!("POST /echo HTTP/1.1\r\nhost: x\r\n{upgrade}content-length: 5\r\n\r\nquick");
                for request in [get, post] {
                    client.write_all(request.as_bytes()).await.unwrap();

                    let (took, said) = seconds(answer(&mut client)).await;

                    assert!(said.starts_with("HTTP/1.1 200 ") && said.ends_with("quick"), "{upgrade} {said}");
                    assert!(!said.contains("upgrade"), "{said}");
                    assert_eq!(took, 0, "{upgrade}");
                }
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn unwanted_upgrade_of_a_request_that_closes_is_ignored() {
    LocalSet::new()
        .run_until(async {
            let (mut client, _served) = connect();
            let get = "GET /quick HTTP/1.1\r\nhost: x\r\nConnection: upgrade, close\r\nUpgrade: h2c\r\n\r\n";
            client.write_all(get.as_bytes()).await.unwrap();

            let (_, said) = seconds(rest(&mut client)).await;

            assert!(said.starts_with("HTTP/1.1 200 ") && said.contains("connection: close"), "{said}");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_head_without_end_behind_a_body_that_nobody_read_is_not_kept() {
    LocalSet::new()
        .run_until(async {
            let (mut client, _served) = connect();
            client.write_all(CHUNKED.replace("echo", "quick").as_bytes()).await.unwrap();
            assert!(answer(&mut client).await.contains("connection: close"));
            let head = format!("0\r\n\r\nGET /quick HTTP/1.1\r\nx: {}", "x".repeat(50 * 1024));
            client.write_all(head.as_bytes()).await.unwrap();

            let (took, said) = seconds(rest(&mut client)).await;

            assert!(took <= 1 && said.is_empty(), "{took} {said}");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_part_of_a_head_behind_a_whole_one_is_cut_after_ten_seconds() {
    let post = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nquick".as_slice();
    for first in [GET, post] {
        LocalSet::new()
            .run_until(async {
                let (mut client, _served) = connect();
                client.write_all(&[first, b"GET /q"].concat()).await.unwrap();
                assert!(answer(&mut client).await.starts_with("HTTP/1.1 200"));

                let (took, rest) = seconds(rest(&mut client)).await;

                assert_eq!(took, 10);
                assert!(rest.starts_with("HTTP/1.1 408 "), "{rest}");
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_kept_is_closed_after_75_seconds() {
    let post = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nquick".as_slice();
    for first in [GET, post] {
        LocalSet::new()
            .run_until(async {
                let (mut client, _served) = connect();
                client.write_all(first).await.unwrap();
                answer(&mut client).await;

                assert_eq!(seconds(rest(&mut client)).await, (75, String::new()));
            })
            .await;
    }
}

#[tokio::test]
async fn accepted_connection_sends_without_delay() {
    let lobby = Lobby::new(nobody_else(), None, None, Arc::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();

    let (connection, _) = lobby.admit(stream).unwrap();

    let Wire::Plain(stream) = &connection.stream else { panic!("TLS without a certificate") };
    assert!(stream.nodelay().unwrap());
}

#[tokio::test]
async fn idle_timeout_is_the_configured_one() {
    let idle = Duration::from_mins(10);
    let lobby = Lobby::new(nobody_else(), None, None, Arc::default()).with_idle_timeout(idle);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();

    let (connection, _) = lobby.admit(stream).unwrap();

    connection.exchange.enter(Stage::Idle);
    let due = connection.exchange.due().unwrap().duration_since(now());
    assert!(due > Duration::from_mins(9) && due <= idle, "{due:?}");
}

#[tokio::test(start_paused = true)]
async fn tenth_429_within_a_minute_is_the_last() {
    let exchange = Exchange::new(Deadlines::IN_FORCE, Arc::default());
    let nine = || (0..9).filter(|_| exchange.note_rate_limited()).count();

    assert_eq!(nine(), 0);
    tokio::time::advance(Duration::from_mins(1)).await;
    assert_eq!(nine(), 0);
    tokio::time::advance(Duration::from_secs(59)).await;
    assert!(exchange.note_rate_limited());
}
