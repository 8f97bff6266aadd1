//! `auth-api healthcheck`.
//!
//! One request and one status line do not need an HTTP client in the binary.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::{Exit, Failure, output};

/// Longer than a server that works takes, shorter than containers usually wait for a check.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks whoever listens at `address` whether they are ready.
pub(super) fn run(address: SocketAddr) -> Result<(), Failure> {
    let address = reachable(address);
    match ask(address) {
        Ok(200) => output::line("ready"),
        Ok(status) => Err(Failure::new(
            Exit::Failed,
            format_args!("http://{address} is not ready: it answers {status}"),
        )),
        Err(error) => {
            Err(Failure::new(Exit::Failed, format_args!("http://{address} does not answer: {error}")))
        }
    }
}

fn ask(address: SocketAddr) -> io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /health/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    // The status stands in the first twelve bytes (RFC 9112, section 4).
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    let status = str::from_utf8(&start).ok().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.parse().ok());
    status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "that is not HTTP"))
}

/// An address that listens everywhere is not one to connect to.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn status_of(answer: &'static str) -> io::Result<u16> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let request: Vec<String> = BufReader::new(&stream)
                .lines()
                .map(Result::unwrap)
                .take_while(|line| !line.is_empty())
                .collect();
            stream.write_all(answer.as_bytes()).unwrap();
            request
        });
        let status = ask(address);
        assert_eq!(server.join().unwrap()[0], "GET /health/ready HTTP/1.1");
        status
    }

    #[test]
    fn the_status_is_read_and_nothing_else_is_taken_for_one() {
        assert_eq!(status_of("HTTP/1.1 200 OK\r\n\r\n").unwrap(), 200);
        assert_eq!(status_of("HTTP/1.1 503 Service Unavailable\r\n\r\n").unwrap(), 503);
        assert!(status_of("SSH-2.0-OpenSSH_9.2\r\n").is_err());
        assert!(status_of("").is_err());
    }

    #[test]
    fn a_listener_on_every_address_is_asked_on_loopback() {
        let asked = |address: &str| reachable(address.parse().unwrap()).to_string();

        assert_eq!(asked("0.0.0.0:8000"), "127.0.0.1:8000");
        assert_eq!(asked("[::]:8000"), "[::1]:8000");
        assert_eq!(asked("192.0.2.1:80"), "192.0.2.1:80");
    }
}
