//! Deadlines, with time that passes when nothing else is to be done.

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

#[tokio::test(start_paused = true)]
async fn a_body_that_comes_byte_by_byte_is_answered_after_fifteen_seconds() {
    LocalSet::new()
        .run_until(async {
            let (mut client, _served) = connect();
            let head = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n";
            client.write_all(head).await.unwrap();

            let (took, rest) = seconds(async {
                drip(&mut client, b"abc").await;
                rest(&mut client).await
            })
            .await;

            assert!(rest.starts_with("HTTP/1.1 408 "), "{rest}");
            // And a second for what the client may still be sending.
            assert_eq!(took, 16);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_is_waited_for_however_its_head_is_written() {
    let padded = format!("POST /echo HTTP/1.1\r\nhost:{}x\r\ncontent-length: 99\r\n\r\n", " ".repeat(200));
    let bare = "\r\nPOST /echo HTTP/1.1\nhost:x\ncontent-length:99\n\n";
    for head in [CHUNKED, &padded, bare] {
        LocalSet::new()
            .run_until(async {
                let (mut client, _served) = connect();
                client.write_all(head.as_bytes()).await.unwrap();

                let mut status = [0; 12];
                let (took, _) = seconds(client.read_exact(&mut status)).await;

                assert_eq!((took, &status), (15, b"HTTP/1.1 408"), "{head}");
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_takes_too_long_is_answered_for_after_ten_seconds() {
    for request in [
        "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n",
        "POST /slow HTTP/1.1\r\nhost:x\r\ncontent-length:5\r\n\r\nquick",
        "POST /slow HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nquick\r\n0\r\n\r\n",
        // A body that nobody asks for has come as well.
        "GET /slow HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nquick",
    ] {
        LocalSet::new()
            .run_until(async {
                let (mut client, _served) = connect();
                client.write_all(request.as_bytes()).await.unwrap();

                let mut status = [0; 12];
                let (took, _) = seconds(client.read_exact(&mut status)).await;

                assert_eq!((took, &status), (10, b"HTTP/1.1 503"), "{request}");
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_reads_is_the_last_that_is_sent() {
    let known = "POST /quick HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n";
    for head in [known, &CHUNKED.replace("echo", "quick")] {
        LocalSet::new()
            .run_until(async {
                let (mut client, _served) = connect();
                client.write_all(head.as_bytes()).await.unwrap();

                assert!(answer(&mut client).await.contains("connection: close"), "{head}");
                // And a second for what the client may still be sending.
                assert_eq!(seconds(rest(&mut client)).await, (1, String::new()), "{head}");
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_take_its_answer_is_cut() {
    LocalSet::new()
        .run_until(async {
            let (mut client, served) = connect_by(seat(), 1024);
            client.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();

            let (took, ()) = seconds(async {
                let mut bytes = [0; 32];
                let sip = async {
                    loop {
                        client.read_exact(&mut bytes).await.unwrap();
                        tokio::time::sleep(SECOND).await;
                    }
                };
                tokio::select! { () = sip => {}, _ = served => {} }
            })
            .await;

            assert_eq!(took, 30);
        })
        .await;
}

#[tokio::test]
async fn a_large_answer_is_handed_over_in_pieces() {
    let mut request = TestRequest::default().to_srv_request();
    let in_flight = Exchange::of(&request).begin(&mut request).await;
    let mut answer = HttpResponse::Ok().finish();
    let large = BoxBody::new("x".repeat(3 * STRIDE + 1));
    let mut body = pin!(AnswerBody::new(answer.head_mut(), large, in_flight));

    let mut lengths = Vec::new();
    while let Some(piece) = poll_fn(|context| body.as_mut().poll_next(context)).await {
        lengths.push(piece.unwrap().len());
    }

    assert_eq!(lengths, [STRIDE, STRIDE, STRIDE, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_its_answer_slowly_gets_all_of_it() {
    LocalSet::new()
        .run_until(async {
            let (mut client, _served) = connect_by(seat(), 64 * 1024);
            client.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();

            let mut piece = vec![0; 32 * 1024];
            let (took, length) = seconds(async {
                let mut length = 0;
                loop {
                    match client.read(&mut piece).await.unwrap() {
                        0 => break length,
                        read => length += read,
                    }
                    tokio::time::sleep(SECOND * 10).await;
                }
            })
            .await;

            assert!(took > 60 && length > 1 << 20, "{took} {length}");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_makes_room_and_who_is_served_does_not() {
    LocalSet::new()
        .run_until(async {
            let seats = Seats::new(Limits { connections: 3, per_network: 3 }, Arc::default());
            let take =
                |n: u8| seats.take([192, 0, 2, n].into(), &TrustedProxies::default(), SitePrefix::default());
            let (mut silent, silent_served) = connect_by(take(1).unwrap(), 4096);
            let (mut idle, idle_served) = connect_by(take(2).unwrap(), 4096);
            let (mut busy, busy_served) = connect_by(take(3).unwrap(), 4096);
            idle.write_all(GET).await.unwrap();
            answer(&mut idle).await;
            busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            tokio::time::sleep(SECOND).await;

            let _fourth = connect_by(take(4).unwrap(), 4096);
            silent_served.await.unwrap();
            assert_eq!(rest(&mut silent).await, "");
            assert!(!idle_served.is_finished());

            // The fourth has said nothing yet, and so it goes before the one that was served.
            let mut fifth = connect_by(take(5).unwrap(), 4096).0;
            fifth.write_all(GET).await.unwrap();
            answer(&mut fifth).await;
            let mut sixth = connect_by(take(6).unwrap(), 4096).0;
            idle_served.await.unwrap();
            assert_eq!(rest(&mut idle).await, "");

            assert!(!busy_served.is_finished());
            sixth.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            fifth.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            tokio::time::sleep(SECOND).await;
            assert!(take(7).is_none());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn who_has_not_sent_all_of_a_request_makes_room() {
    let padded = format!("POST /echo HTTP/1.1\r\nhost:{}x\r\ncontent-length: 99\r\n\r\n", " ".repeat(200));
    for (sent, said) in
        [("GET /quick HT", "HTTP/1.1 408 "), (CHUNKED, "HTTP/1.1 408 "), (&padded, "HTTP/1.1 408 ")]
    {
        LocalSet::new()
            .run_until(async {
                let seats = Seats::new(Limits { connections: 1, per_network: 1 }, Arc::default());
                let take = |n: u8| {
                    seats.take([192, 0, 2, n].into(), &TrustedProxies::default(), SitePrefix::default())
                };
                let (mut slow, _served) = connect_by(take(1).unwrap(), 4096);
                slow.write_all(sent.as_bytes()).await.unwrap();
                tokio::time::sleep(SECOND).await;

                let other = take(2);

                assert!(other.is_some(), "{sent}");
                // And a second for what the client may still be sending.
                let (took, rest) = seconds(rest(&mut slow)).await;
                assert!(took <= 1 && rest.starts_with(said), "{took} {rest}");
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_take_an_answer_makes_room_and_who_has_taken_it_does_not() {
    LocalSet::new()
        .run_until(async {
            let seats = Seats::new(Limits { connections: 2, per_network: 2 }, Arc::default());
            let take =
                |n: u8| seats.take([192, 0, 2, n].into(), &TrustedProxies::default(), SitePrefix::default());
            let large = b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n";
            let slow = b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n";
            let (mut takes, takes_served) = connect_by(take(1).unwrap(), 1024);
            takes.write_all(large).await.unwrap();
            tokio::time::sleep(SECOND).await;
            takes.read_exact(&mut vec![0; 1 << 20]).await.unwrap();
            takes.write_all(slow).await.unwrap();
            let (mut stuck, stuck_served) = connect_by(take(2).unwrap(), 1024);
            stuck.write_all(large).await.unwrap();
            tokio::time::sleep(SECOND).await;

            let (mut third, _served) = connect_by(take(3).unwrap(), 1024);

            assert_eq!(seconds(stuck_served).await.0, 0);
            third.write_all(slow).await.unwrap();
            tokio::time::sleep(SECOND).await;
            assert!(take(4).is_none() && !takes_served.is_finished());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn who_is_sent_away_in_the_moment_of_asking_is_answered_first() {
    LocalSet::new()
        .run_until(async {
            let seats = Seats::new(Limits { connections: 1, per_network: 1 }, Arc::default());
            let (mut client, _served) = connect_by(
                seats.take([192, 0, 2, 1].into(), &TrustedProxies::default(), SitePrefix::default()).unwrap(),
                4096,
            );
            client.write_all(GET).await.unwrap();
            answer(&mut client).await;

            // The connection has not seen this yet when another one takes its seat.
            client.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            let _other =
                seats.take([192, 0, 2, 2].into(), &TrustedProxies::default(), SitePrefix::default()).unwrap();

            let (took, rest) = seconds(rest(&mut client)).await;
            assert!(rest.starts_with("HTTP/1.1 503 "), "{rest}");
            assert_eq!(took, 10);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_network_has_no_more_than_its_share_and_a_proxy_has_all() {
    let proxies = TrustedProxies::new(["198.51.100.0/24".parse().unwrap()]).unwrap();
    let seats = Seats::new(Limits { connections: 8, per_network: 2 }, Arc::default());
    let take = |address: &str| seats.take(address.parse().unwrap(), &proxies, SitePrefix::default()).unwrap();
    let waker = Waker::noop();

    let (first, second) = (take("2001:db8::1"), take("2001:db8::2"));
    let other = take("192.0.2.1");
    let third = take("2001:db8::3");

    let is_to_go = |seat: &Seat| seat.standing().is_to_go(waker);
    assert!(is_to_go(&first) != is_to_go(&second) && !is_to_go(&third) && !is_to_go(&other));
    let by_proxy: Vec<Seat> = (0..5).map(|_| take("::ffff:198.51.100.7")).collect();
    assert!(by_proxy.iter().all(|seat| !is_to_go(seat)));
}

#[tokio::test(start_paused = true)]
async fn ipv6_site_has_the_connections_of_four_networks() {
    let seats = Seats::new(Limits { connections: 64, per_network: 2 }, Arc::default());
    let take = |address: &str| {
        seats.take(address.parse().unwrap(), &TrustedProxies::default(), SitePrefix::default()).unwrap()
    };
    let is_to_go = |seat: &Seat| seat.standing().is_to_go(Waker::noop());

    let of_site: Vec<Seat> = (0..8).map(|number| take(&format!("2001:db8:0:{number}::1"))).collect();
    let others = [take("2001:db8:1::1"), take("192.0.2.1")];
    assert!(of_site.iter().chain(&others).all(|seat| !is_to_go(seat)));
    let ninth = take("2001:db8:0:8::1");

    assert_eq!(of_site.iter().filter(|seat| is_to_go(seat)).count(), 1);
    assert!(!is_to_go(&ninth) && others.iter().all(|seat| !is_to_go(seat)));
    drop((of_site, others, ninth));
    assert!(seats.is_empty());
}

#[tokio::test(start_paused = true)]
async fn whoever_is_cut_is_counted_by_the_reason_and_whoever_was_served_is_not() {
    LocalSet::new()
        .run_until(async {
            let endless = format!("GET / HTTP/1.1\r\nx:{}", "x".repeat(40_000));
            let large = "GET /large HTTP/1.1\r\nhost: x\r\n\r\n";
            let quick = str::from_utf8(GET).unwrap();
            for (sent, reason) in [
                (quick, None),
                ("", Some("silent")),
                ("GET", Some("slow_head")),
                (&endless, Some("large_head")),
                (large, Some("untaken_answer")),
            ] {
                let traffic = Arc::new(Traffic::default());
                let seats = Seats::new(nobody_else(), traffic.clone());
                let seat = seats
                    .take([192, 0, 2, 1].into(), &TrustedProxies::default(), SitePrefix::default())
                    .unwrap();
                let (mut client, served) = connect_by(seat, 1024);

                assert_eq!(traffic.connections(), 1);
                _ = client.write_all(sent.as_bytes()).await;
                served.await.unwrap();

                assert_eq!(traffic.connections(), 0);
                let counts: Vec<_> = traffic.cut().filter(|(_, count)| *count > 0).collect();
                assert_eq!(counts, reason.map(|reason| (reason, 1)).as_slice(), "{sent:.40}");
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn whoever_makes_room_and_whoever_finds_none_is_counted() {
    let traffic = Arc::new(Traffic::default());
    let seats = Seats::new(Limits { connections: 1, per_network: 1 }, traffic.clone());
    let take = |n: u8| seats.take([192, 0, 2, n].into(), &TrustedProxies::default(), SitePrefix::default());

    let _first = take(1).unwrap();
    let second = take(2).unwrap();
    second.standing().set(Rank::Busy, now());
    assert!(take(3).is_none());

    let counts: Vec<_> = traffic.cut().filter(|(_, count)| *count > 0).collect();
    assert_eq!(
        (traffic.connections(), counts.as_slice()),
        (2, [("no_room", 1), ("to_make_room", 1)].as_slice())
    );
}

#[tokio::test(start_paused = true)]
async fn seats_that_are_given_up_are_free() {
    let seats = Seats::new(Limits { connections: 2, per_network: 1 }, Arc::default());
    for _ in 0..1000 {
        let seat = seats
            .take("192.0.2.1".parse().unwrap(), &TrustedProxies::default(), SitePrefix::default())
            .unwrap();
        assert!(!seat.standing().is_to_go(Waker::noop()));
    }
    assert!(seats.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_handler_or_an_extractor_that_panics_is_500_and_the_connection_goes_on() {
    LocalSet::new()
        .run_until(async {
            let (mut client, _served) = connect();
            for path in ["/panic", "/untakable"] {
                client.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
                client.write_all(GET).await.unwrap();

                let answers = answer(&mut client).await;

                assert!(
                    answers.starts_with("HTTP/1.1 500 ") && answers.contains("HTTP/1.1 200 "),
                    "{answers}"
                );
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_before_the_body_was_read_is_the_last_that_is_answered() {
    LocalSet::new()
        .run_until(async {
            let (mut client, served) = connect();
            let request = CHUNKED.replace("/echo", "/panic") + "5\r\nhello\r\n0\r\n\r\n";
            client.write_all(request.as_bytes()).await.unwrap();
            client.write_all(GET).await.unwrap();

            let (took, answers) = seconds(rest(&mut client)).await;

            assert!(answers.starts_with("HTTP/1.1 500 "), "{answers}");
            assert_eq!((answers.matches("HTTP/1.1 ").count(), took), (1, LINGER.as_secs()), "{answers}");
            served.await.unwrap();
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn whose_body_nobody_reads_keeps_the_connection_if_all_of_it_comes() {
    LocalSet::new()
        .run_until(async {
            let (mut client, _served) = connect();
            let post = |length: usize| {
                format!("POST /refused HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n")
            };
            for (path, status) in [("refused", 429), ("refused", 429), ("quick", 200), ("refused", 429)] {
                let request = post(5).replace("refused", path) + "hello";
                client.write_all(request.as_bytes()).await.unwrap();
                assert!(answer(&mut client).await.starts_with(&format!("HTTP/1.1 {status} ")));
            }
            // Whose does not come, or is more than anybody would read, loses it.
            client.write_all(post(5).as_bytes()).await.unwrap();
            let (took, answered) = seconds(rest(&mut client)).await;
            assert!(answered.starts_with("HTTP/1.1 429 ") && answered.contains("connection: close"));
            assert_eq!(took, 2 * LINGER.as_secs());
            let (mut client, _served) = connect();
            client.write_all(post(17 * 1024).as_bytes()).await.unwrap();
            let (took, answered) = seconds(rest(&mut client)).await;
            assert!(answered.starts_with("HTTP/1.1 429 ") && answered.contains("connection: close"));
            assert_eq!(took, LINGER.as_secs());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_panics_ends_its_connection_and_no_other_and_leaves_its_seat() {
    LocalSet::new()
        .run_until(async {
            let seats = Seats::new(nobody_else(), Arc::default());
            let take = || {
                seats.take([192, 0, 2, 1].into(), &TrustedProxies::default(), SitePrefix::default()).unwrap()
            };
            let (mut other, other_served) = connect_by(take(), 4096);
            let (mut client, served) = connect_by(take(), 4096);
            client.write_all(b"GET /half HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();

            assert!(served.await.unwrap_err().is_panic());
            // Chunks that end without the last one, so nobody takes it for an answer that is whole.
            assert!(!rest(&mut client).await.contains("\r\n0\r\n"));
            other.write_all(GET).await.unwrap();
            assert!(answer(&mut other).await.starts_with("HTTP/1.1 200 "));

            drop(other);
            other_served.await.unwrap();
            assert!(seats.is_empty());
        })
        .await;
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
