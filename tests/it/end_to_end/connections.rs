//! What becomes of clients that are slow. How long each thing may take is tried where the time can be moved; here one
//! of them waits for it.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::tls::{Pair, speak};
use crate::support::server::{Deployment, Server};

const OPERATORS: &str = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
const REQUEST: &str = "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";

/// The head of a login whose body is to come in chunks.
const CHUNKED: &str = "POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                       Transfer-Encoding: chunked\r\n\r\n";

/// How long it takes until the other side hangs up on whoever goes on sending these bytes, one every five seconds,
/// and what it says.
#[expect(clippy::disallowed_methods, reason = "what is cut is cut by time that passes")]
fn drip(stream: &mut TcpStream, bytes: &[u8]) -> (Duration, String) {
    let begun = Instant::now();
    let mut said = Vec::new();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    for byte in bytes {
        // Whoever has hung up may not take it.
        _ = stream.write_all(&[*byte]);
        match stream.read_to_end(&mut said) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            _ => return (begun.elapsed(), String::from_utf8_lossy(&said).into_owned()),
        }
    }
    panic!("nobody hung up");
}

fn assert_cut(took: Duration) {
    assert!(took >= Duration::from_secs(9) && took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn the_head_of_a_second_request_half_a_handshake_and_half_a_body_are_cut_and_others_notice_nothing() {
    let server = Server::start();
    let pair = Pair::of("localhost");
    let encrypted = pair.put_into(Deployment::new()).serve();

    let (second, operators, handshake, body) = std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            stream.write_all(REQUEST.as_bytes()).unwrap();
            assert_ne!(stream.read(&mut [0; 4096]).unwrap(), 0);
            drip(&mut stream, REQUEST.as_bytes())
        });
        let operators = scope.spawn(|| {
            let mut stream = TcpStream::connect(server.ops_address()).unwrap();
            stream.write_all(OPERATORS.as_bytes()).unwrap();
            assert_ne!(stream.read(&mut [0; 4096]).unwrap(), 0);
            drip(&mut stream, OPERATORS.as_bytes())
        });
        let handshake = scope.spawn(|| {
            let mut stream = TcpStream::connect(encrypted.address()).unwrap();
            // The beginning of a record that would hold a greeting of 512 bytes.
            drip(&mut stream, &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc])
        });
        let body = scope.spawn(|| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            stream.write_all(CHUNKED.as_bytes()).unwrap();
            drip(&mut stream, b"1\r\n{\r\n1\r\n")
        });
        let meanwhile = speak(&encrypted, &pair.client(), REQUEST).unwrap();
        assert!(meanwhile.answer.starts_with("HTTP/1.1 200 "), "{}", meanwhile.answer);
        (second.join().unwrap(), operators.join().unwrap(), handshake.join().unwrap(), body.join().unwrap())
    });

    for second in [second, operators] {
        assert_cut(second.0);
        assert!(second.1.contains("HTTP/1.1 408 "), "{}", second.1);
    }
    assert_cut(body.0);
    assert!(body.1.starts_with("HTTP/1.1 408 "), "{}", body.1);
    assert_eq!(body.1.matches("HTTP/1.1 ").count(), 1, "{}", body.1);
    assert!(body.1.contains("connection: close"), "{}", body.1);
    assert_cut(handshake.0);
    assert!(!handshake.1.contains("HTTP"), "{}", handshake.1);
}
