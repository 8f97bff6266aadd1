//! Finds the end of a request head, and what the head says about the bytes behind it.
//!
//! `httparse` parses the head here and once more inside actix, so both see the same request. A head that is not valid
//! goes to actix as it came, which answers 400.

use std::io::Write as _;

use httparse::{EMPTY_HEADER, Header, Request, Status};

/// The most header fields that actix parses.
const MAX_HEADERS: usize = 96;

/// What a buffer begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// The head is not complete.
    Partial,
    /// The bytes are no head of HTTP/1.
    Invalid,
    Complete(RequestHead),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct RequestHead {
    /// How many bytes of the buffer the head takes.
    pub(super) length: usize,
    pub(super) body: BodyLength,
    /// The same head without an `Upgrade`, if the client asked for one. A server may ignore that (RFC 9110, section
    /// 7.8), but actix would answer `Connection: upgrade` and close.
    pub(super) without_upgrade: Option<Vec<u8>>,
}

/// How the end of a body is found (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyLength {
    /// After this many bytes.
    Known(u64),
    /// By a transfer coding, which only actix decodes.
    Chunked,
}

/// Parses the head that the buffer begins with.
pub(super) fn scan(buffer: &[u8]) -> Scan {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut request = Request::new(&mut headers);
    match request.parse(buffer) {
        Ok(Status::Partial) => Scan::Partial,
        Err(_) => Scan::Invalid,
        Ok(Status::Complete(length)) => Scan::Complete(RequestHead {
            length,
            body: body_length(request.headers),
            without_upgrade: asks_for_upgrade(request.headers).then(|| without_upgrade(&request)),
        }),
    }
}

/// A length that actix refuses counts as none: the connection ends with its answer.
fn body_length(headers: &[Header<'_>]) -> BodyLength {
    if headers.iter().any(|header| header.name.eq_ignore_ascii_case("transfer-encoding")) {
        return BodyLength::Chunked;
    }
    let length = headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| str::from_utf8(header.value.trim_ascii()).ok()?.parse().ok());
    BodyLength::Known(length.unwrap_or(0))
}

fn asks_for_upgrade(headers: &[Header<'_>]) -> bool {
    headers.iter().any(|header| is_upgrade(header) || options(header).any(is_upgrade_option))
}

fn is_upgrade(header: &Header<'_>) -> bool {
    header.name.eq_ignore_ascii_case("upgrade")
}

fn is_upgrade_option(option: &[u8]) -> bool {
    option.eq_ignore_ascii_case(b"upgrade")
}

/// The options of a `Connection` header (RFC 9110, section 7.6.1); none of another one.
fn options<'a>(header: &Header<'a>) -> impl Iterator<Item = &'a [u8]> {
    let is_connection = header.name.eq_ignore_ascii_case("connection");
    let value = if is_connection { header.value } else { &[] };
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

fn without_upgrade(request: &Request<'_, '_>) -> Vec<u8> {
    let mut head = Vec::new();
    let (method, path) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    // Writing to a vector does not fail.
    _ = write!(head, "{method} {path} HTTP/1.{}\r\n", request.version.unwrap_or_default());
    for header in request.headers.iter().filter(|header| !is_upgrade(header)) {
        let is_connection = header.name.eq_ignore_ascii_case("connection");
        let rest: Vec<&[u8]> = options(header).filter(|option| !is_upgrade_option(option)).collect();
        let value = if is_connection { rest.join(&b", "[..]) } else { header.value.to_vec() };
        if is_connection && value.is_empty() {
            continue;
        }
        head.extend_from_slice(header.name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(&value);
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(buffer: &str) -> RequestHead {
        match scan(buffer.as_bytes()) {
            Scan::Complete(head) => head,
            other => panic!("{other:?} of {buffer:?}"),
        }
    }

    #[test]
    fn head_ends_at_its_empty_line() {
        for head in [
            "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\nHost: x\n\n",
            "\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
        ] {
            assert_eq!(complete(&format!("{head}GET /")).length, head.len(), "{head:?}");
            for end in 0..head.len() {
                assert_eq!(scan(&head.as_bytes()[..end]), Scan::Partial, "{head:?} {end}");
            }
        }
    }

    #[test]
    fn bytes_that_are_no_head_are_invalid() {
        for bytes in
            ["\0", "GET  / HTTP/1.1\r\n\r\n", "GET / HTTP/2.0\r\n\r\n", "GET / HTTP/1.1\r\n: x\r\n\r\n"]
        {
            assert_eq!(scan(bytes.as_bytes()), Scan::Invalid, "{bytes:?}");
        }
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
        assert_eq!(scan(many.as_bytes()), Scan::Invalid);
    }

    #[test]
    fn body_ends_by_length_or_transfer_coding() {
        for (headers, body) in [
            ("", BodyLength::Known(0)),
            ("content-length: 17\r\n", BodyLength::Known(17)),
            ("Content-Length:  17 \r\n", BodyLength::Known(17)),
            ("Content-Length: x\r\n", BodyLength::Known(0)),
            ("Transfer-Encoding: chunked\r\n", BodyLength::Chunked),
            ("Content-Length: 17\r\ntransfer-encoding: gzip\r\n", BodyLength::Chunked),
        ] {
            assert_eq!(complete(&format!("POST / HTTP/1.1\r\n{headers}\r\n")).body, body, "{headers:?}");
        }
    }

    #[test]
    fn upgrade_is_removed_with_its_connection_option() {
        let upgraded = |headers: &str| {
            let head = complete(&format!("GET /a?b HTTP/1.1\r\nHost: x\r\n{headers}\r\n"));
            head.without_upgrade.map(|head| String::from_utf8(head).unwrap())
        };
        let expected = |rest: &str| Some(format!("GET /a?b HTTP/1.1\r\nHost: x\r\n{rest}\r\n"));

        assert_eq!(
            upgraded("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n"),
            expected("Connection: HTTP2-Settings\r\nHTTP2-Settings: AAM\r\n")
        );
        assert_eq!(
            upgraded("upgrade: websocket\r\nconnection: keep-alive,UPGRADE , close\r\n"),
            expected("connection: keep-alive, close\r\n")
        );
        assert_eq!(upgraded("Connection: upgrade\r\n"), expected(""));
        assert_eq!(upgraded("Upgrade: h2c\r\n"), expected(""));
        assert_eq!(upgraded("Connection: close\r\nUpgrade-Insecure-Requests: 1\r\n"), None);
        assert_eq!(upgraded("Keep-Alive: upgrade\r\n"), None);
    }
}
