//! What the tests of the use cases share: a person, a time, and ports that panic when they are touched.

use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;

use crate::ports::{
    Finisher, MockAuditLog, MockAuditStream, MockClients, MockClock, MockEntropy, MockHasher, MockReadiness,
    MockRefreshTokens, MockSessionRepo, MockThrottle, MockTimer, MockTokenIssuer, MockUserRepo, PortError,
    Ports,
};
use crate::{
    AccessToken, Account, Action, Admin, AdminPorts, Attempt, Auth, Generation, Lineage, Nonce, Origin,
    Outcome, Password, PasswordHash, PasswordPolicy, Rules, Session, SessionId, SessionRules, Subject,
    ThrottleRules, User, UserId, Username,
};

pub(crate) const SESSION_RULES: SessionRules = SessionRules {
    idle_ttl: Duration::from_hours(14 * 24),
    absolute_ttl: Duration::from_hours(90 * 24),
    grace: Duration::from_secs(10),
};

pub(crate) const AUDIT_KEEP: Duration = Duration::from_hours(400 * 24);

/// Ports for a test that overrides the ones it is about. Only the time and chance may be asked, and events be kept.
pub(crate) fn ports() -> Ports {
    let mut clock = MockClock::new();
    clock.expect_now().returning(noon);
    clock.expect_monotonic().returning(|| Duration::ZERO);
    let mut entropy = MockEntropy::new();
    entropy.expect_draw().returning(|| [0; 16]);
    let mut audit_log = MockAuditLog::new();
    audit_log.expect_append().returning(|_| Ok(()));
    Ports {
        users: Arc::new(MockUserRepo::new()),
        sessions: Arc::new(MockSessionRepo::new()),
        throttle: Arc::new(MockThrottle::new()),
        readiness: Arc::new(MockReadiness::new()),
        hasher: Arc::new(MockHasher::new()),
        tokens: Arc::new(MockTokenIssuer::new()),
        refresh_tokens: Arc::new(MockRefreshTokens::new()),
        clients: Arc::new(MockClients::new()),
        audit_log: Arc::new(audit_log),
        audit_stream: Arc::new(MockAuditStream::new()),
        finisher: Arc::new(Spawning),
        clock: Arc::new(clock),
        timer: Arc::new(MockTimer::new()),
        entropy: Arc::new(entropy),
    }
}

/// Sees work through on the test's own runtime.
struct Spawning;

impl Finisher for Spawning {
    fn finish(&self, work: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tokio::spawn(work);
    }
}

pub(crate) fn auth(ports: Ports) -> Auth {
    Auth::new(ports, rules())
}

/// The use cases of an operator.
pub(crate) fn admin(ports: Ports) -> Admin {
    let Ports { users, sessions, throttle, audit_log, audit_stream, finisher, clock, entropy, .. } = ports;
    let ports = AdminPorts { users, sessions, throttle, audit_log, audit_stream, finisher, clock, entropy };
    Admin::new(ports, rules().passwords)
}

/// Use cases that count wrong passwords.
pub(crate) fn auth_that_counts(ports: Ports) -> Auth {
    Auth::new(ports, Rules { throttle: Some(ThrottleRules { most_failures: 100 }), ..rules() })
}

pub(crate) fn rules() -> Rules {
    Rules {
        open_to_sign_up: true,
        passwords: PasswordPolicy::new(8).unwrap(),
        access_ttl: Duration::from_mins(15),
        sessions: SESSION_RULES,
        audit_keep: AUDIT_KEEP,
        throttle: None,
        username_changes: None,
    }
}

/// What those who listen were told.
pub(crate) struct Events(Arc<Mutex<Vec<(Action, Outcome, Subject)>>>);

impl Events {
    pub(crate) fn taken(&self) -> Vec<(Action, Outcome, Subject)> {
        self.0.lock().unwrap().drain(..).collect()
    }
}

/// Whoever listens to attempts, and what they will have been told.
pub(crate) fn audit_stream() -> (Arc<MockAuditStream>, Events) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let mut stream = MockAuditStream::new();
    let told = events.clone();
    stream.expect_publish().returning(move |event| {
        told.lock().unwrap().push((event.attempt.action, event.outcome, event.attempt.subject));
    });
    (Arc::new(stream), Events(events))
}

/// Somebody's attempt at noon.
pub(crate) fn attempt() -> Attempt {
    let subject = Subject::User(ann().user.id);
    Attempt { action: Action::LogIn, subject, origin: origin(), at: noon(), salt: [0; 16] }
}

pub(crate) fn origin() -> Origin {
    Origin::Request { address: Ipv4Addr::LOCALHOST.into(), request_id: "r-1".to_owned(), user_agent: None }
}

pub(crate) fn noon() -> Timestamp {
    "2026-11-22T12:00:00.123456Z".parse().unwrap()
}

pub(crate) fn username(text: &str) -> Username {
    Username::parse(text).unwrap()
}

pub(crate) fn password(text: &str) -> Password {
    Password::parse(text).unwrap()
}

pub(crate) fn hash(text: &str) -> PasswordHash {
    PasswordHash::new(text.to_owned())
}

pub(crate) fn ann() -> Account {
    Account {
        user: User { id: UserId(7), name: username("Ann"), created_at: noon(), updated_at: noon() },
        password_hash: hash("kept"),
        credentials_epoch: 3,
        disabled_at: None,
    }
}

/// A session of ann's, as it is after one refresh at noon.
pub(crate) fn session() -> Session {
    Session {
        id: SessionId::from_bytes([5; 16]),
        user: ann().user.id,
        nonce: Nonce([6; 16]),
        lineage: Lineage { generation: Generation::FIRST.next(), superseded: vec![noon()], ..Lineage::new() },
        created_at: noon(),
        last_used_at: noon(),
        expires_at: SESSION_RULES.expiry(noon(), SESSION_RULES.end(noon())),
        ends_at: SESSION_RULES.end(noon()),
        ended_at: None,
        address: None,
        user_agent: None,
    }
}

/// An issuer of tokens that say of which generation they are, and of refresh tokens that do.
pub(crate) fn token_ports() -> (Arc<MockTokenIssuer>, Arc<MockRefreshTokens>) {
    let mut tokens = MockTokenIssuer::new();
    tokens.expect_issue().returning(|grant| {
        Ok(AccessToken { text: format!("access {}", grant.generation).into(), lifetime: grant.lifetime })
    });
    let mut refresh_tokens = MockRefreshTokens::new();
    refresh_tokens.expect_write().returning(|claim, _| format!("refresh {}", claim.generation).into());
    (Arc::new(tokens), Arc::new(refresh_tokens))
}

pub(crate) fn broken() -> PortError {
    PortError::Failed("told to fail".into())
}
