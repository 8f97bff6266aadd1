use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use domain::ports::Readiness as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use store_postgres::{OpenError, OpenProblem, Url, migrations};
use test_postgres::{Cluster, Durability, execute};
use tokio::runtime::Builder;
use tokio_util::task::TaskTracker;

use crate::support::clock::StillClock;
use crate::support::postgres::{open_on, or_skip};

/// A server that listens on 127.0.0.1, with a certificate for this name alone if it has one.
struct Server {
    cluster: Cluster,
    port: u16,
    folder: PathBuf,
}

#[test]
fn verify_full_takes_the_right_certificate_and_encrypts() {
    let Some(server) = Server::named("verify_full_takes_the_right_certificate", "localhost") else { return };

    assert!(server.encrypts(&format!("sslmode=verify-full&sslrootcert={}", server.ca())));
    assert!(server.encrypts(&format!("sslmode=verify-ca&sslrootcert={}", server.ca())));
    assert!(server.encrypts(&format!("sslmode=require&sslrootcert={}", server.ca())));
    assert!(server.encrypts("sslmode=require"));
    assert!(server.encrypts("sslmode=require&channel_binding=require"));
    assert!(server.encrypts("sslmode=prefer"));
    assert!(server.encrypts(""));
    assert!(!server.encrypts("sslmode=disable"));
}

#[test]
fn a_certificate_for_another_name_does_for_verify_ca_alone() {
    let Some(server) = Server::named("a_certificate_for_another_name", "db.example") else { return };

    assert_refused(&server.open(&format!("sslmode=verify-full&sslrootcert={}", server.ca())));
    assert!(server.encrypts(&format!("sslmode=verify-ca&sslrootcert={}", server.ca())));
}

#[test]
fn a_certificate_that_nobody_signed_whom_we_trust_is_refused() {
    let Some(server) = Server::named("a_certificate_that_nobody_signed", "localhost") else { return };
    let other = server.folder.join("other.pem");
    fs::write(&other, Authority::new().pem()).unwrap();
    let other = other.display();

    for mode in ["require", "verify-ca", "verify-full"] {
        assert_refused(&server.open(&format!("sslmode={mode}&sslrootcert={other}")));
    }
    assert_refused(&server.open("sslrootcert=system"));
    // As libpq has it, `prefer` prefers no encryption to a wrong certificate.
    assert!(!server.encrypts(&format!("sslmode=prefer&sslrootcert={other}")));
}

#[test]
fn a_self_signed_certificate_is_refused_unless_nobody_looks_at_it() {
    let test = "a_self_signed_certificate_is_refused";
    let (key, certificate) = self_signed("localhost");
    let Some(server) = Server::start(test, Some((&certificate, &key)), &Authority::new().pem()) else {
        return;
    };

    assert_refused(&server.open(&format!("sslmode=verify-full&sslrootcert={}", server.ca())));
    assert_refused(&server.open(&format!("sslmode=verify-ca&sslrootcert={}", server.ca())));
    assert!(server.encrypts("sslmode=require"));
}

#[test]
fn a_server_without_tls_does_for_prefer_and_disable_alone() {
    let Some(server) = Server::start("a_server_without_tls", None, &Authority::new().pem()) else { return };

    assert!(!server.encrypts(""));
    assert!(!server.encrypts("sslmode=prefer"));
    assert!(!server.encrypts("sslmode=disable"));
    assert_refused(&server.open("sslmode=require"));
    assert_refused(&server.open(&format!("sslmode=verify-full&sslrootcert={}", server.ca())));
}

#[test]
fn certificates_that_cannot_be_read_are_told_by_their_setting() {
    let Some(server) = Server::start("certificates_that_cannot_be_read", None, "no certificate") else {
        return;
    };

    for file in [server.ca(), "/no/such/file".to_owned()] {
        let refused = server.open(&format!("sslmode=verify-full&sslrootcert={file}")).unwrap_err();
        assert!(matches!(refused.problem, OpenProblem::RootCertificates(_)), "{refused:?}");
        assert!(refused.to_string().contains("sslrootcert"), "{refused}");
    }
}

#[test]
fn what_is_wrong_with_a_server_is_told_and_the_password_is_not() {
    let Some(server) = Server::start("what_is_wrong_with_a_server_is_told", None, "") else { return };
    let right = server.url("");

    let wrong = right.replace("hum@", "xcanaryx@");
    let refused = open(&wrong).unwrap_err();
    assert!(matches!(refused.problem, OpenProblem::Credentials(_)), "{refused:?}");
    assert!(!format!("{refused:?} {refused}").contains("canary"));

    let none = right.replace(":wide%20green%20rivers%20hum@", "@");
    assert!(matches!(open(&none).unwrap_err().problem, OpenProblem::NoPassword(_)));

    let admin = format!("{}&port={}", server.cluster.url("postgres"), server.port);
    for statement in [
        "CREATE ROLE few LOGIN PASSWORD 'hum' CONNECTION LIMIT 0",
        "CREATE ROLE shut NOLOGIN PASSWORD 'hum'",
        "CREATE ROLE other LOGIN PASSWORD 'hum'",
        "CREATE DATABASE closed",
        "REVOKE CONNECT ON DATABASE closed FROM PUBLIC",
        "CREATE DATABASE shut ALLOW_CONNECTIONS false",
        "GRANT USAGE ON SCHEMA public TO other",
    ] {
        execute(&admin, statement);
    }
    let by = |login: &str| right.replace("postgres:wide%20green%20rivers%20hum", login);
    for (wrong, told) in [
        (
            right.replace("@localhost", "@no.such.host.invalid"),
            "no server answers; the host's name is not known",
        ),
        (right.replace(&format!(":{}", server.port), ":1"), "no server answers; nothing listens there"),
        (right.replace("@localhost", "@%2Fno%2Fsuch%2Ffolder"), "there is no such socket"),
        (right.replace("/postgres?", "/elsewhere?"), "no database of this name"),
        (right.replace("postgres:wide", "nobody:wide"), "refuses this user or this password"),
        (by("shut:hum"), "because its role may not log in; `ALTER ROLE"),
        (by("few:hum"), "all connections of the server, of this user or of the pooler are taken"),
        (by("other:hum"), "may not read and write the table"),
        (by("other:hum").replace("/postgres?", "/shut?"), "ALLOW_CONNECTIONS true"),
        (by("other:hum").replace("/postgres?", "/closed?"), "`GRANT CONNECT ON DATABASE"),
    ] {
        let refused = open(&wrong).unwrap_err();
        assert!(refused.to_string().contains(told), "{wrong}: {refused}");
    }
}

#[test]
fn refusal_of_pg_hba_conf_names_the_line_that_is_missing() {
    let test = "refusal_of_pg_hba_conf_names_the_line_that_is_missing";
    let (key, certificate) = self_signed("localhost");
    let Some(server) = Server::start(test, Some((&certificate, &key)), "") else { return };
    let admin = format!("{}&port={}", server.cluster.url("postgres"), server.port);
    let login = "postgres:wide%20green%20rivers%20hum";
    for (lines, by, told) in [
        ("hostssl all all all scram-sha-256", login, "address without TLS; add one, or set sslmode=require"),
        ("host other all all trust", login, "here: pg_hba.conf has no line"),
        ("host all all all ident", login, "by the method that pg_hba.conf names"),
        ("host all all all trust", "nobody", "because there is no such role; make it with `CREATE ROLE"),
        ("host all all all gss", login, "authentication method that is not supported"),
    ] {
        // The admin comes by the socket.
        let file = format!("local all postgres trust\n{lines}\n");
        let path = execute(&admin, "SHOW hba_file")[0][0].clone();
        fs::write(path, file).unwrap();
        execute(&admin, "SELECT pg_reload_conf()");
        let url = server.url("sslmode=disable").replace(login, by);

        let refused = eventually(|| open(&url).err().map(|it| it.to_string()).filter(|it| it.contains(told)));
        assert!(refused, "{lines}: {:?}", open(&url));
    }
}

/// Whether something comes within five seconds, as a server takes a moment to read its files again.
fn eventually(look: impl Fn() -> Option<String>) -> bool {
    (0..50).any(|_| {
        look().is_some() || {
            std::thread::sleep(Duration::from_millis(100));
            false
        }
    })
}

#[test]
fn role_that_may_not_create_tables_is_told_what_to_grant() {
    let test = "role_that_may_not_create_tables_is_told_what_to_grant";
    let Some(server) = Server::start(test, None, "") else { return };
    let admin = format!("{}&port={}", server.cluster.url("postgres"), server.port);
    for statement in [
        "CREATE ROLE ann LOGIN PASSWORD 'hum'",
        "CREATE DATABASE fresh",
        "CREATE ROLE bob LOGIN PASSWORD 'hum'",
        "ALTER ROLE bob SET search_path = nowhere",
    ] {
        execute(&admin, statement);
    }
    let fresh = admin.replace("/postgres?", "/fresh?");
    execute(&fresh, "REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    let url = |login: &str| {
        let url = server.url("").replace("postgres:wide%20green%20rivers%20hum", login);
        Url::parse(&url.replace("/postgres?", "/fresh?")).unwrap()
    };

    let refused = migrations::up(&url("ann:hum")).unwrap_err().to_string();
    assert!(refused.contains("`GRANT CREATE ON SCHEMA public TO"), "{refused}");
    let refused = migrations::up(&url("bob:hum")).unwrap_err().to_string();
    assert!(refused.contains("this user has no schema to work in"), "{refused}");

    execute(&fresh, "GRANT CREATE ON SCHEMA public TO ann");
    assert!(!migrations::up(&url("ann:hum")).unwrap().is_empty());
}

#[test]
fn what_answers_in_place_of_postgresql_is_told() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silence = format!("postgres://ann:hum@{}/auth?connect_timeout=2", silent.local_addr().unwrap());
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let page = format!("postgres://ann:hum@{}/auth?sslmode=disable", web.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in web.incoming().flatten() {
            _ = (&stream).read(&mut [0; 1024]);
            _ = io::Write::write_all(&mut &stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });

    let refused = open(&silence).unwrap_err();
    assert!(refused.to_string().contains("it is silent"), "{refused}");
    let refused = open(&page).unwrap_err();
    assert!(refused.to_string().contains("is no PostgreSQL server"), "{refused}");
}

#[test]
fn what_is_wrong_with_a_servers_certificate_is_told() {
    let Some(server) = Server::named("what_is_wrong_with_a_servers_certificate", "db.example") else {
        return;
    };
    let other = server.folder.join("other.pem");
    fs::write(&other, Authority::new().pem()).unwrap();

    for (options, told) in [
        (format!("sslmode=verify-full&sslrootcert={}", server.ca()), "its certificate is for another name"),
        (format!("sslmode=verify-ca&sslrootcert={}", other.display()), "is signed by none of those"),
    ] {
        let refused = server.open(&options).unwrap_err();
        assert!(refused.to_string().contains(told), "{refused}");
    }
    let none = Server::start("what_is_wrong_with_a_servers_certificate", None, "").unwrap();
    let refused = none.open("sslmode=require").unwrap_err();
    assert!(refused.to_string().contains("it speaks none; set `ssl = on` there"), "{refused}");
}

#[test]
fn root_certificates_that_are_not_understood_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (Authority::new().pem(), Authority::new().pem());
    let (key, _) = self_signed("localhost");
    let file = folder.path().join("ca.pem");
    for (text, told) in [
        (format!("{}{other}", one.trim_end()), "joins several lines"),
        (
            format!("{one}{}", other.replace("CERTIFICATE", "TRUSTED CERTIFICATE")),
            "openssl x509 -in FILE -out NEW",
        ),
        (format!("{one}{}", &other[..200]), "no END line"),
        (key.clone(), "has a private key and no certificate"),
        (format!("{one}{}", key.replace("PRIVATE KEY", "CERTIFICATE")), "certificate 2 that is damaged"),
        (String::new(), "is empty"),
    ] {
        fs::write(&file, &text).unwrap();

        assert_root_refused(&file.display().to_string(), told);
    }
    assert_root_refused(&folder.path().display().to_string(), "directory");
}

/// That nothing is asked of any server with such a file.
fn assert_root_refused(file: &str, told: &str) {
    let url = format!("postgres://ann:hum@127.0.0.1:1/auth?sslmode=verify-full&sslrootcert={file}");
    let OpenError { problem, .. } = open(&url).unwrap_err();
    let OpenProblem::RootCertificates(cause) = problem else { panic!("{problem:?}") };
    assert!(cause.to_string().contains(file) && cause.to_string().contains(told), "{told}: {cause}");
}

impl Server {
    /// One whose certificate is signed, and for this name.
    fn named(test: &str, name: &str) -> Option<Self> {
        let authority = Authority::new();
        let (key, certificate) = authority.sign(name);
        Self::start(test, Some((&certificate, &key)), &authority.pem())
    }

    fn start(test: &str, certificate: Option<(&str, &str)>, authority: &str) -> Option<Self> {
        let folder = Cluster::folder();
        let owner = fs::metadata(&folder).unwrap();
        let mut options = "-c listen_addresses=127.0.0.1".to_owned();
        let keep = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
            path.display().to_string()
        };
        keep("ca.pem", authority);
        if let Some((certificate, key)) = certificate {
            let (certificate, key) = (keep("server.pem", certificate), keep("server.key", key));
            _ = write!(options, " -c ssl=on -c ssl_cert_file={certificate} -c ssl_key_file={key}");
        }
        // PostgreSQL takes no port of the system's choice. This one was free, and is not soon given again.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        _ = write!(options, " -c port={port}");
        let cluster = or_skip(test, Cluster::start_in(folder.clone(), Durability::None, &options))?;
        let server = Self { cluster, port, folder };
        migrations::up(&Url::parse(&server.url("sslmode=disable")).unwrap()).unwrap();
        Some(server)
    }

    fn ca(&self) -> String {
        self.folder.join("ca.pem").display().to_string()
    }

    fn url(&self, options: &str) -> String {
        format!("postgres://postgres:wide%20green%20rivers%20hum@localhost:{}/postgres?{options}", self.port)
    }

    fn open(&self, options: &str) -> Result<(), OpenError> {
        open(&self.url(options))
    }

    /// Whether what is sent with these options is encrypted, by what the server knows of it.
    fn encrypts(&self, options: &str) -> bool {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let url = self.url(&format!("{options}&application_name={name}"));
        let store = open_on(&url, &runtime, TaskTracker::new(), Arc::new(StillClock::default())).unwrap();
        // The first connection of the pool.
        runtime.block_on(store.check()).unwrap();
        let admin = format!("{}&port={}", self.cluster.url("postgres"), self.port);
        let asked = format!(
            "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = '{name}'"
        );
        let answer = execute(&admin, &asked);
        drop(store);
        runtime.shutdown_background();
        assert_eq!(answer.len(), 1, "{options}");
        answer[0][0] == "t"
    }
}

fn open(url: &str) -> Result<(), OpenError> {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let opened = open_on(url, &runtime, TaskTracker::new(), Arc::new(StillClock::default())).map(drop);
    runtime.shutdown_background();
    opened
}

#[track_caller]
fn assert_refused(opened: &Result<(), OpenError>) {
    let Err(OpenError { problem: OpenProblem::Tls(_), .. }) = opened else { panic!("{opened:?}") };
}

/// Somebody who signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// The key and the certificate of a server.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (key.serialize_pem(), params.signed_by(&key, &self.0).unwrap().pem())
    }
}

fn self_signed(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
    (key.serialize_pem(), certificate.pem())
}
