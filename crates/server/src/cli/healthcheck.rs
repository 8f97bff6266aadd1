//! `auth-api healthcheck`.
//!
//! One request and one status line do not need an HTTP client in the binary.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use settings::Http;

use super::{Exit, Failure, output};
use crate::tls;

/// Longer than a server that works takes, shorter than containers usually wait for a check.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks whoever listens at `address` whether they are ready.
pub(super) fn run(http: &Http) -> Result<(), Failure> {
    let address = reachable(http.address);
    let scheme = if http.tls.is_some() { "https" } else { "http" };
    let asked = match &http.tls {
        None => connect(address).and_then(|mut stream| ask(&mut stream, address)),
        Some(_) => connect(address).and_then(|stream| ask(&mut encrypt(stream, address)?, address)),
    };
    match asked {
        Ok(200) => output::line("ready"),
        Ok(status) => Err(Failure::new(
            Exit::Failed,
            format_args!("{scheme}://{address} is not ready: it answers {status}"),
        )),
        Err(error) => {
            Err(Failure::new(Exit::Failed, format_args!("{scheme}://{address} does not answer: {error}")))
        }
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Whoever listens there is believed, as without TLS: they get no secret, and all that they can say is whether they are
/// ready. The certificate is of the name that clients know and not of this address, and the files that it was read from
/// may have another one by now, which the server did not take because it is of no use: that is no reason to call a server
/// unwell that serves, and to have somebody start it anew, which it then would not.
fn encrypt(stream: TcpStream, address: SocketAddr) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let provider = tls::provider();
    let any = Arc::new(AnyCertificate(provider.clone()));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(any)
        .with_no_client_auth();
    let name = ServerName::IpAddress(address.ip().into());
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, stream))
}

/// Takes any certificate, from whoever has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn ask(stream: &mut (impl Read + Write), address: SocketAddr) -> io::Result<u16> {
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
        let status = ask(&mut connect(address).unwrap(), address);
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
