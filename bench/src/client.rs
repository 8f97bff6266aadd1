//! A connection of HTTP/1.1, and no more of it than the server speaks.
//!
//! It takes two system calls for a request and copies nothing: what the client costs is taken from the server,
//! which runs on the same cores. A thread waits for each connection, so that a request goes out at the
//! microsecond in which it is due; the timers of a runtime tick in milliseconds.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use httparse::{EMPTY_HEADER, Header, Response, Status};

/// After this long no answer will come. The server promises one in less than ten seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// The most headers that an answer may have.
const HEADERS: usize = 32;

/// A connection that is opened again when the server has closed it.
pub(crate) struct Connection {
    address: SocketAddr,
    stream: TcpStream,
    received: Vec<u8>,
    is_closed: bool,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) head: &'a [u8],
    pub(crate) body: &'a [u8],
}

/// What the connection has to know of an answer's head.
struct Frame {
    status: u16,
    head: usize,
    body: usize,
    is_last: bool,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = connect(address)?;
        Ok(Self { address, stream, received: Vec::with_capacity(4096), is_closed: false })
    }

    /// Sends a request, a whole one, and waits for the answer.
    pub(crate) fn ask(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        if self.is_closed {
            self.stream = connect(self.address)?;
        }
        // Until the answer is there in full, nothing is known of what would come next.
        self.is_closed = true;
        self.stream.write_all(request)?;
        let Frame { status, head, body, is_last } = self.receive()?;
        self.is_closed = is_last;
        let (head, rest) = self.received.split_at(head);
        Ok(Answer { status, head, body: &rest[..body] })
    }

    fn receive(&mut self) -> io::Result<Frame> {
        self.received.clear();
        let mut chunk = [0; 4096];
        loop {
            let read = self.stream.read(&mut chunk)?;
            if read == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.received.extend_from_slice(&chunk[..read]);
            match frame(&self.received)? {
                Some(frame) if self.received.len() == frame.head + frame.body => return Ok(frame),
                Some(frame) if self.received.len() > frame.head + frame.body => {
                    return Err(invalid("more than one answer"));
                }
                _ => {}
            }
        }
    }
}

impl Answer<'_> {
    /// The value of a header, if it is there once and is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = [EMPTY_HEADER; HEADERS];
        let mut response = Response::new(&mut headers);
        response.parse(self.head).ok()?;
        value(response.headers, name)
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Where head and body end; nothing while the head is not there in full.
fn frame(received: &[u8]) -> io::Result<Option<Frame>> {
    let mut headers = [EMPTY_HEADER; HEADERS];
    let mut response = Response::new(&mut headers);
    let Status::Complete(head) = response.parse(received).map_err(invalid)? else { return Ok(None) };
    let length = value(response.headers, "content-length").and_then(|length| length.parse().ok());
    let body = length.ok_or_else(|| invalid("an answer that does not tell its length"))?;
    let is_last = value(response.headers, "connection").is_some_and(|it| it.eq_ignore_ascii_case("close"));
    Ok(Some(Frame { status: response.code.unwrap_or_default(), head, body, is_last }))
}

fn value<'a>(headers: &[Header<'a>], name: &str) -> Option<&'a str> {
    let mut values = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    let only = values.next()?;
    if values.next().is_some() { None } else { str::from_utf8(only.value).ok() }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Answers these, on one connection after the other, and closes each.
    fn server(connections: Vec<Vec<&'static str>>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for answers in connections {
                let (mut stream, _) = listener.accept().unwrap();
                for answer in answers {
                    _ = stream.read(&mut [0; 1024]).unwrap();
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            }
        });
        address
    }

    fn ask(connection: &mut Connection) -> io::Result<(u16, String)> {
        let answer = connection.ask(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")?;
        Ok((answer.status, String::from_utf8(answer.body.to_vec()).unwrap()))
    }

    #[test]
    fn answers_on_one_connection_do_not_mix() {
        let address = server(vec![vec![
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none",
            "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: 7\r\n\r\n",
        ]]);
        let mut connection = Connection::open(address).unwrap();

        assert_eq!(ask(&mut connection).unwrap(), (200, "one".to_owned()));
        let answer = connection.ask(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!((answer.status, answer.body, answer.header("retry-after")), (503, &b""[..], Some("7")));
        assert_eq!(answer.header("location"), None);
    }

    #[test]
    fn a_connection_that_is_said_to_close_is_opened_again() {
        let last = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\n1";
        let next = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n2";
        let address = server(vec![vec![last], vec![next]]);
        let mut connection = Connection::open(address).unwrap();

        assert_eq!(ask(&mut connection).unwrap().1, "1");
        assert_eq!(ask(&mut connection).unwrap().1, "2");
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for broken in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n12",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n1",
            "SSH-2.0\r\n\r\n",
        ] {
            let address = server(vec![vec![broken]]);
            let mut connection = Connection::open(address).unwrap();

            assert!(ask(&mut connection).is_err(), "{broken}");
        }
    }
}
