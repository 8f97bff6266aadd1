//! TLS of our own.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, date_time_ymd};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use crate::support::server::{Deployment, Server};

const REQUEST: &str = "GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// A certificate and its key, in PEM.
pub(super) struct Pair {
    cert: String,
    key: String,
}

/// What came of speaking to a server.
pub(super) struct Spoken {
    pub(super) answer: String,
    version: Option<ProtocolVersion>,
    alpn: Option<Vec<u8>>,
}

impl Pair {
    /// One for this name, valid for long.
    pub(super) fn of(name: &str) -> Self {
        Self::made(name, |_| {})
    }

    fn made(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut parameters);
        let cert = parameters.self_signed(&key).unwrap();
        Self { cert: cert.pem(), key: key.serialize_pem() }
    }

    /// Has a deployment speak TLS with it.
    pub(super) fn put_into(&self, deployment: Deployment) -> Deployment {
        self.replace(&deployment);
        deployment.set("AUTH_TLS__CERT_PATH", "cert.pem").set("AUTH_TLS__KEY_PATH", "key.pem")
    }

    fn replace(&self, deployment: &Deployment) {
        let key = deployment.write("key.pem", &self.key);
        fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
        deployment.write("cert.pem", &self.cert);
    }

    /// A client that trusts it and nothing else, and would rather speak HTTP/2.
    pub(super) fn client(&self) -> Arc<ClientConfig> {
        self.client_of(&[&TLS13, &TLS12])
    }

    fn client_of(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        Self::trusted_by(&self.cert, versions)
    }

    /// A client that trusts what is certified by this certificate, in PEM, and nothing else.
    pub(super) fn trusted(cert: &str) -> Arc<ClientConfig> {
        Self::trusted_by(cert, &[&TLS13, &TLS12])
    }

    fn trusted_by(cert: &str, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

/// Says this to a server that is called localhost, and reads until all of one answer is there.
pub(super) fn speak(server: &Server, client: &Arc<ClientConfig>, text: &str) -> io::Result<Spoken> {
    let stream = TcpStream::connect(server.address())?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(client.clone(), name).unwrap(), stream);
    stream.write_all(text.as_bytes())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes)? {
            0 => break,
            length => answer.extend_from_slice(&bytes[..length]),
        }
    }
    Ok(Spoken {
        answer: String::from_utf8(answer).unwrap(),
        version: stream.conn.protocol_version(),
        alpn: stream.conn.alpn_protocol().map(<[u8]>::to_vec),
    })
}

/// What a server says to these bytes before it hangs up.
fn exchange(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // Whether it hangs up politely is not the point.
    _ = stream.read_to_end(&mut answer);
    answer
}

/// How a client of TLS 1.1 or 1.2, which say 2 and 3 on the wire, begins (RFC 5246, section 7.4.1.2).
fn greeting(minor: u8) -> Vec<u8> {
    let version = [0x03, minor];
    let no_session = [0x00];
    let suite = [0x00, 0x02, 0xc0, 0x2b];
    let no_compression = [0x01, 0x00];
    let signatures = [0x00, 0x0d, 0x00, 0x06, 0x00, 0x04, 0x04, 0x03, 0x05, 0x03];
    let groups = [0x00, 0x0a, 0x00, 0x04, 0x00, 0x02, 0x00, 0x17];
    let body =
        [&version[..], &[7; 32], &no_session, &suite, &no_compression, &[0x00, 18], &signatures, &groups]
            .concat();
    let length = u8::try_from(body.len()).unwrap();
    [&[0x16, 0x03, 0x01, 0x00, length + 4, 0x01, 0x00, 0x00, length], &body[..]].concat()
}

#[test]
fn the_newest_two_versions_are_spoken_with_http_1_inside_and_browsers_are_told_to_stay() {
    let pair = Pair::of("localhost");
    let server = pair.put_into(Deployment::new()).serve();
    assert!(server.base_url().starts_with("https://"));

    for (version, expected) in [(&TLS13, ProtocolVersion::TLSv1_3), (&TLS12, ProtocolVersion::TLSv1_2)] {
        let spoken = speak(&server, &pair.client_of(&[version]), REQUEST).unwrap();

        assert_eq!(spoken.version, Some(expected));
        assert_eq!(spoken.alpn.as_deref(), Some(b"http/1.1".as_slice()));
        assert!(spoken.answer.starts_with("HTTP/1.1 200 "), "{}", spoken.answer);
        let head = spoken.answer.to_lowercase();
        assert!(head.contains("strict-transport-security: max-age=31536000\r\n"), "{head}");
    }
    assert!(server.stop().success());
}

#[test]
fn who_speaks_http_or_an_old_version_is_refused_and_does_no_harm() {
    let pair = Pair::of("localhost");
    let server = pair.put_into(Deployment::new()).serve();

    // The same greeting is taken up, with a handshake record, if it is of TLS 1.2, and of TLS 1.1 there is an alert that
    // is fatal: protocol_version (RFC 5246, section 7.2).
    assert_eq!(exchange(&server, &greeting(2)), [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 70]);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(&greeting(3)).unwrap();
    let mut kind = [0];
    stream.read_exact(&mut kind).unwrap();
    assert_eq!(kind, [0x16]);

    let answer = exchange(&server, REQUEST.as_bytes());
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");

    let after = speak(&server, &pair.client(), REQUEST).unwrap();
    assert!(after.answer.starts_with("HTTP/1.1 200 "), "{}", after.answer);
}

#[test]
fn a_certificate_that_is_replaced_is_served_without_a_restart_and_one_that_cannot_be_used_is_not() {
    let first = Pair::made("localhost", |parameters| parameters.not_after = date_time_ymd(2100, 1, 2));
    let second = Pair::of("localhost");
    let server = first.put_into(Deployment::new()).serve();
    assert!(speak(&server, &first.client(), REQUEST).is_ok());

    second.replace(server.deployment());
    server.hang_up();
    server.log().wait_for("the other certificate", |line| line["asked"] == true && line["ends"].is_string());
    assert!(speak(&server, &second.client(), REQUEST).is_ok());
    assert!(speak(&server, &first.client(), REQUEST).is_err());

    let bad = Pair { cert: first.cert.clone(), key: second.key.clone() };
    bad.replace(server.deployment());
    let stays =
        server.log().wait_for("a refusal", |line| line["message"] == "the certificate stays as it was");
    assert!(stays["cause"].as_str().unwrap().contains("of another key"), "{stays}");
    assert!(speak(&server, &second.client(), REQUEST).is_ok());

    first.replace(server.deployment());
    server.log().wait_for_all("the first certificate once more", 2, |line| {
        line["message"] == "read the certificate" && line["ends"] == "2100-01-02T00:00:00Z"
    });
    assert!(speak(&server, &first.client(), REQUEST).is_ok());
}

#[test]
fn when_the_certificate_that_is_served_ends_can_be_measured() {
    let ends = |year| {
        let pair = Pair::made("localhost", |parameters| parameters.not_after = date_time_ymd(year, 1, 2));
        let second = date_time_ymd(year, 1, 2).unix_timestamp();
        (pair, format!("\nauth_api_tls_certificate_expiry_timestamp_seconds {second}\n"))
    };
    let ((first, first_ends), (second, second_ends)) = (ends(2100), ends(2101));
    let server = first.put_into(Deployment::new()).serve();
    assert!(measurements(&server).contains(&first_ends), "{}", measurements(&server));

    second.replace(server.deployment());
    server.hang_up();
    server.log().wait_for_all("the other certificate", 2, |line| line["message"] == "read the certificate");

    assert!(measurements(&server).contains(&second_ends), "{}", measurements(&server));
    assert!(!measurements(&Server::start()).contains("auth_api_tls_"));
}

fn measurements(server: &Server) -> String {
    let mut stream = TcpStream::connect(server.ops_url().strip_prefix("http://").unwrap()).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_health_check_takes_what_is_served_also_while_the_files_are_half_replaced() {
    let (pair, other) = (Pair::of("auth.example"), Pair::of("auth.example"));
    let server = pair.put_into(Deployment::new()).serve();
    let asking = server.deployment().clone().set("AUTH_HTTP__ADDR", server.address());
    let checked = || asking.run(&["healthcheck"]);
    let ready = checked();
    assert_eq!((ready.code, ready.stdout.as_str()), (0, "ready\n"), "{ready:?}");

    server.deployment().write("cert.pem", &other.cert);
    server.log().wait_for("a refusal", |line| line["message"] == "the certificate stays as it was");

    let ready = checked();
    assert_eq!((ready.code, ready.stdout.as_str()), (0, "ready\n"), "{ready:?}");
    server.kill();
    assert_eq!(checked().code, 1);
}

#[test]
fn what_cannot_be_spoken_with_stops_the_start_and_is_named() {
    let pair = Pair::of("localhost");
    let refused = |deployment: &Deployment, word: &str| {
        for command in ["serve", "config"] {
            let arguments: &[&str] = if command == "serve" { &["serve"] } else { &["config", "check"] };
            let finished = deployment.run(arguments);
            assert_eq!(finished.code, 2, "{finished:?}");
            assert!(finished.stderr.contains(word), "{word}: {finished:?}");
        }
    };

    let good = || pair.put_into(Deployment::new());
    let both = good();
    assert_eq!(both.run(&["config", "check"]).code, 0);
    assert_eq!(both.set("AUTH_HTTP__ADDR", "0.0.0.0:0").run(&["config", "check"]).code, 0);
    refused(&Deployment::new().set("AUTH_TLS__CERT_PATH", "cert.pem"), "AUTH_TLS__KEY_PATH");
    refused(&Deployment::new().set("AUTH_TLS__KEY_PATH", "key.pem"), "AUTH_TLS__CERT_PATH");

    let another = good();
    another.write("key.pem", &Pair::of("localhost").key);
    refused(&another, "of another key");
    let swapped = good().set("AUTH_TLS__KEY_PATH", "cert.pem");
    refused(&swapped, "no private key");
    refused(&good().set("AUTH_TLS__CERT_PATH", "key.pem"), "no certificate");
    refused(
        &good().set("AUTH_TLS__CERT_PATH", "nowhere.pem"),
        "nowhere.pem, which AUTH_TLS__CERT_PATH names",
    );
    let old = Pair::made("localhost", |parameters| parameters.not_after = date_time_ymd(2020, 1, 1));
    refused(&old.put_into(Deployment::new()), "has expired");
    let early = Pair::made("localhost", |parameters| parameters.not_before = date_time_ymd(2200, 1, 1));
    refused(&early.put_into(Deployment::new()), "not valid before");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a certificate ends by the time that the server goes by")]
fn a_key_that_others_can_read_and_a_certificate_that_ends_soon_are_warned_of() {
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(5 * 24);
    let date = soon.to_string();
    let mut parts = date[..10].split('-').map(|part| part.parse::<u16>().unwrap());
    let (year, month, day) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let pair = Pair::made("localhost", |parameters| {
        parameters.not_after = date_time_ymd(year.into(), month.try_into().unwrap(), day.try_into().unwrap());
    });
    let deployment = pair.put_into(Deployment::new());
    fs::set_permissions(deployment.folder().join("key.pem"), fs::Permissions::from_mode(0o644)).unwrap();

    let server = deployment.serve();

    let is = |words: &'static str| {
        move |line: &serde_json::Value| line["message"].as_str().is_some_and(|text| text.contains(words))
    };
    server.log().wait_for("a warning of the key", is("AUTH_TLS__KEY_PATH"));
    server.log().wait_for("a warning of the end", is("ends soon"));
}
