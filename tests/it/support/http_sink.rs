//! Somebody on the network who takes what the server sends to others.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// Far longer than anything takes here; a test that waits as long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server of HTTP that keeps what it was sent, or one that takes connections and says nothing.
pub(crate) struct Receiver {
    address: String,
    taken: Arc<Taken>,
}

#[derive(Default)]
struct Taken {
    posts: Mutex<Vec<Post>>,
    connections: Mutex<Vec<TcpStream>>,
    grown: Condvar,
}

/// What was sent.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) path: String,
    /// The head as it came, in lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Receiver {
    /// One that takes everything.
    pub(crate) fn start() -> Self {
        Self::start_with(|stream, taken| {
            while let Some(post) = read(stream) {
                taken.posts.lock().unwrap().push(post);
                taken.grown.notify_all();
                if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
                    return;
                }
            }
        })
    }

    /// One that takes connections, and never answers.
    pub(crate) fn that_hangs() -> Self {
        Self::start_with(|stream, taken| {
            taken.connections.lock().unwrap().push(stream.try_clone().unwrap());
            taken.grown.notify_all();
        })
    }

    fn start_with(serve: fn(&mut TcpStream, &Taken)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let taken = Arc::new(Taken::default());
        let keeping = taken.clone();
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let keeping = keeping.clone();
                thread::spawn(move || serve(&mut stream, &keeping));
            }
        });
        Self { address, taken }
    }

    /// Its host and port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// All that came so far.
    pub(crate) fn posts(&self) -> Vec<Post> {
        self.taken.posts.lock().unwrap().clone()
    }

    /// Waits until somebody is connected who will not be answered.
    pub(crate) fn wait_for_a_connection(&self) {
        let connections = self.taken.connections.lock().unwrap();
        let none = |connections: &mut Vec<TcpStream>| connections.is_empty();
        let waited = self.taken.grown.wait_timeout_while(connections, PATIENCE, none).unwrap();
        assert!(!waited.1.timed_out(), "nobody connects");
    }
}

fn read(stream: &mut TcpStream) -> Option<Post> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let path = head.split(' ').nth(1)?.to_owned();
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).ok()?;
    Some(Post { path, head, body })
}
