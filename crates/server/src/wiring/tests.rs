use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::thread;

use actix_web::rt::System;
use api::{Api, Choices, Live, Serving, Traffic};
use async_trait::async_trait;
use domain::{PasswordPolicy, SessionRules};
use hasher_bcrypt::Engine;
use settings::ConfiguredClients;
use token_jwt::{KeyRing, TokenType};

use super::*;

const HOUR: Duration = Duration::from_hours(1);

/// Panics whenever it is asked.
struct Broken;

#[async_trait]
impl Readiness for Broken {
    async fn check(&self) -> Result<(), PortError> {
        panic!("a port panics, as it is meant to")
    }
}

fn auth_that_is_broken(runtime: &Runtime, folder: &std::path::Path, clock: &Arc<dyn Clock>) -> Auth {
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let (tasks, key) = (TaskTracker::new(), || AuditKey::new(b"a key of this test and of nothing else"));
    let settings = store_sqlite::Settings::new(folder.join("auth.db"));
    let (handle, time) = (runtime.handle().clone(), clock.clone());
    let store = SqliteStore::open(&settings, key(), handle.clone(), tasks.clone(), time).unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let hashing = hasher_bcrypt::Settings {
        cost: hasher_bcrypt::MIN_COST,
        engine: Engine::Reference,
        workers: 1,
        queue: 1,
        deadline: HOUR,
        niceness: 0,
        site_prefix: domain::SitePrefix::default(),
    };
    let profile = Profile {
        issuer: "http://localhost".to_owned(),
        audience: None,
        token_type: TokenType::AccessToken,
        client_id: "auth-api".to_owned(),
        max_lifetime: HOUR,
    };
    let ring = KeyRing::hs256(&[7; 32]).unwrap();
    let ports = Ports {
        users: store.clone(),
        sessions: store.clone(),
        throttle: store.clone(),
        readiness: Arc::new(Broken),
        hasher: Arc::new(BcryptHasher::start(hashing, clock.clone(), entropy.clone()).unwrap()),
        tokens: Arc::new(JwtIssuer::new(ring, profile, clock.clone(), entropy.clone()).unwrap()),
        refresh_tokens: Arc::new(MacRefreshTokens::new(&[8; 32], None).unwrap()),
        clients: Arc::new(ConfiguredClients::default()),
        audit_log: store,
        audit_stream: Arc::new(CountedAttempts::new(AuditLines::new(key()))),
        finisher: Arc::new(Tracked { tasks, runtime: handle }),
        clock: clock.clone(),
        timer: Arc::new(SystemTimer),
        entropy,
    };
    let rules = Rules {
        open_to_sign_up: true,
        passwords: PasswordPolicy::new(8).unwrap(),
        access_ttl: HOUR,
        sessions: SessionRules { idle_ttl: HOUR, absolute_ttl: HOUR, grace: Duration::ZERO },
        audit_keep: HOUR,
        throttle: None,
        username_changes: None,
    };
    Auth::new(ports, rules)
}

#[test]
fn a_port_that_panics_is_500_and_the_connection_and_the_server_go_on() {
    let (folder, runtime) = (tempfile::tempdir().unwrap(), runtime().unwrap());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let traffic = Arc::new(Traffic::default());
    let api = Api {
        auth: auth_that_is_broken(&runtime, folder.path(), &clock),
        clock: clock.clone(),
        entropy: Arc::new(SystemEntropy),
        traffic: traffic.clone(),
        repeated: Arc::default(),
        observer: None,
        settings: api::Settings {
            issuer: "http://localhost".to_owned(),
            docs: false,
            clients: false,
            change_password_page: None,
            encryption: api::Encryption::None,
        },
        live: Live::new(Choices::default(), clock),
    };
    let limits = api::Limits { connections: 8, per_network: 8 };
    let serving = Serving { workers: 1, grace: Duration::ZERO, limits, idle_timeout: HOUR, tls: None };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (started, handles) = channel();
    let served = thread::spawn(move || {
        System::new().block_on(async {
            let server = api::listen(api, listener, serving).unwrap();
            started.send(server.handle()).unwrap();
            server.await.unwrap();
        });
    });
    let handle = handles.recv().unwrap();

    let mut stream = TcpStream::connect(address).unwrap();
    let ask = "GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n";
    let last = "GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all([ask, ask, last].concat().as_bytes()).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();

    let of = |status: &str| answers.matches(&format!("HTTP/1.1 {status} ")).count();
    assert_eq!((of("500"), of("200")), (2, 1), "{answers}");
    assert_eq!(answers.matches(r#""code":"internal""#).count(), 2, "{answers}");
    assert_eq!(answers.matches("x-request-id: ").count(), 3, "{answers}");
    assert_eq!(traffic.in_flight(), 0);
    drop(handle.stop(false));
    served.join().unwrap();
}
