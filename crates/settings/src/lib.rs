//! What an operator chose, read once, checked whole.
//!
//! Settings come from the defaults, a file, `.env` and the environment, in this order. Whatever is wrong is
//! reported by the name of its key; a value, which may be a secret in the wrong place, is never repeated.

mod audit;
mod database;
mod dotenv;
mod dsn;
mod edges;
mod hashing;
mod http;
mod introspection_clients;
pub mod keys;
mod limits;
pub mod line_end;
mod local_url;
mod observability;
mod readers;
mod reading;
mod secret;
mod sessions;
mod source;
mod tls;
mod tokens;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use actix_web::http::header::HeaderName;
use domain::PasswordPolicy;
use zeroize::Zeroizing;

pub use self::audit::Audit;
pub use self::database::{Database, Location};
pub use self::dsn::Dsn;
pub use self::edges::{EdgeFault, End};
pub use self::hashing::{EngineName, Hashing};
pub use self::http::Http;
pub use self::introspection_clients::{ConfiguredClients, InvalidClients};
pub use self::limits::{Limits, Signup};
pub use self::observability::{Log, LogFormat, Ops};
pub use self::readers::{TRACES, lead_time};
pub use self::secret::{Secret, WeakSecret};
pub use self::sessions::Session;
pub use self::source::SetBy;
pub use self::tls::Tls;
pub use self::tokens::{Algorithm, Token};

use self::keys::{KEYS, Key};
use self::reading::Reading;
use self::source::Sources;

/// Everything that can be chosen.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whose machine this is.
    pub environment: Environment,
    /// The listener.
    pub http: Http,
    /// Pages of which other origins may ask.
    pub origins: Vec<api::Origin>,
    /// Which headers these pages may send beside the usual ones.
    pub request_headers: Vec<HeaderName>,
    /// Who may make an account.
    pub signup: Signup,
    /// How much somebody may send.
    pub limits: Limits,
    /// Where users are kept.
    pub database: Database,
    /// Which passwords may be chosen.
    pub passwords: PasswordPolicy,
    /// How passwords are hashed.
    pub hashing: Hashing,
    /// What tokens say, and what signs them.
    pub token: Token,
    /// How long sessions live, and what their refresh tokens are made with.
    pub session: Session,
    /// How the audit log is kept.
    pub audit: Audit,
    /// What the log shows.
    pub log: Log,
    /// The listener for operators.
    pub ops: Ops,
    /// The collector of OpenTelemetry that traces are sent to, if they are.
    pub otlp_endpoint: Option<String>,
    /// Where error reports are sent, if they are.
    pub sentry: Option<Dsn>,
    /// The backends that may ask about tokens.
    pub clients: ConfiguredClients,
    /// Whether the documentation is served.
    pub docs: bool,
}

/// Whose machine this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// A developer's: what is missing is made.
    Development,
    /// One that people rely on: what is missing is refused.
    Production,
}

impl Environment {
    /// As `AUTH_ENV` names it, and as others are told of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
        }
    }
}

/// What the sources are good for, so that all that is wrong can be said at once.
pub struct Inspected {
    /// The configuration, if it can be used.
    pub loaded: Result<Loaded, Vec<Problem>>,
    /// The secrets that a server lacks.
    pub missing: Vec<Problem>,
    /// What TLS is to be spoken with, if that can be read.
    pub tls: Option<Tls>,
    /// What tokens are to say, if that can be read, and where.
    pub token: Option<(Token, Environment)>,
}

/// A configuration that holds, and how it came about.
pub struct Loaded {
    /// The choices.
    pub config: Config,
    /// Every key, with what is in force.
    pub effective: Vec<Effective>,
    /// What should be looked at, although it holds.
    pub warnings: Vec<Warning>,
    /// Every key's text, secrets too.
    texts: Texts,
    /// The files that need not be there and were.
    found: Vec<&'static str>,
}

type Texts = BTreeMap<&'static str, (Zeroizing<String>, SetBy)>;

/// A key and what is in force for it.
#[derive(Debug)]
pub struct Effective {
    /// The key.
    pub key: &'static Key,
    /// Its value as text, unless it has none, or it is a secret.
    pub value: Option<String>,
    /// Whether that is shown to nobody.
    pub is_secret: bool,
    /// Who set it.
    pub set_by: SetBy,
}

/// What is wrong with one setting: begins with its name, and never holds its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    setting: String,
    what: String,
}

/// Something an operator should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(String);

impl Config {
    /// Reads all sources as they are in the working directory; `file` is one that must be there.
    pub fn load(file: Option<&Path>) -> Result<Loaded, Vec<Problem>> {
        Self::from_sources(Sources::read(file, Path::new(""), source::environment()))
    }

    /// Reads all sources likewise, and tells what can be told of them even where they are no configuration.
    pub fn inspect(file: Option<&Path>) -> Inspected {
        Self::inspect_sources(Sources::read(file, Path::new(""), source::environment()))
    }

    fn from_sources(sources: Sources) -> Result<Loaded, Vec<Problem>> {
        Self::inspect_sources(sources).loaded
    }

    fn inspect_sources(sources: Sources) -> Inspected {
        let mut reading = Reading { sources, environment: None, tls: None, token: None };
        let config = Self::read(&mut reading);
        let missing = reading.missing_secrets();
        let Reading { sources, environment, tls, token } = reading;
        let loaded = match (config, sources) {
            (Some(config), Sources { texts, problems, warnings, found }) if problems.is_empty() => {
                let effective = KEYS.into_iter().map(|key| Effective::of(key, texts.get(key.name))).collect();
                Ok(Loaded { config, effective, warnings, texts, found })
            }
            (_, sources) => Err(sources.problems),
        };
        // A key that was given and cannot be used is reported already, and nobody wants those of the folder.
        let is_given = |problem: &Problem| problem.setting.starts_with(tokens::TOKEN_PRIVATE_KEY.key.name);
        let has_unusable_key = loaded.as_ref().is_err_and(|problems| problems.iter().any(is_given));
        let token = token.filter(|_| !has_unusable_key);
        Inspected { loaded, missing, tls, token: token.zip(environment) }
    }

    /// Has the issuer name the port that the system chose, where the configuration leaves both open.
    pub fn listen_on(&mut self, address: SocketAddr) {
        if self.token.is_issuer_derived {
            self.token.issuer = local_url::of(address, self.http.tls.is_some());
        }
    }

    /// Who speaks TLS with clients. In production somebody does, whatever the issuer is called.
    pub fn encryption(&self) -> api::Encryption {
        if self.http.tls.is_some() {
            api::Encryption::Ours
        } else if tokens::is_https(&self.token.issuer) || self.environment == Environment::Production {
            api::Encryption::Another
        } else {
            api::Encryption::None
        }
    }

    /// What of it may change while a server serves.
    pub fn live(&self) -> api::Choices {
        api::Choices {
            origins: self.origins.clone(),
            request_headers: self.request_headers.clone(),
            trusted_proxies: self.http.trusted_proxies.clone(),
            quotas: self.limits.enabled.then_some(self.limits.quotas),
            site_prefix: self.limits.site_prefix(),
        }
    }

    /// Reads every key before it gives up on any, so that all that is wrong is reported at once.
    fn read(reading: &mut Reading) -> Option<Self> {
        let environment = reading.read(&keys::ENV);
        let http = reading.http();
        let origins = reading.read(&http::CORS_ORIGINS);
        let request_headers = reading.read(&http::CORS_HEADERS);
        let signup = reading.read(&limits::SIGNUP_ENABLED).map(|enabled| Signup { enabled });
        let limits = reading.limits(environment);
        let database = reading.database(environment);
        let passwords = reading.read(&hashing::PASSWORD_MIN_LENGTH);
        let hashing = reading.hashing();
        let token = reading.token(environment, http.as_ref());
        let session = reading.session();
        let audit_keep = reading.read(&audit::AUDIT_KEEP);
        let audit_key = reading.read(&audit::AUDIT_KEY);
        let log = reading.log(environment);
        let ops = reading.ops(http.as_ref());
        let otlp_endpoint = reading.read(&observability::OTLP_ENDPOINT);
        let sentry = reading.read(&observability::SENTRY_DSN);
        let clients = reading.read(&introspection_clients::INTROSPECTION_CLIENTS);
        let docs = reading.read(&keys::DOCS_ENABLED);
        reading.warn_of_issuer(environment, http.as_ref(), token.as_ref());
        reading.environment = environment;
        reading.token.clone_from(&token);
        Some(Self {
            environment: environment?,
            http: http?,
            origins: origins?,
            request_headers: request_headers?,
            signup: signup?,
            limits: limits?,
            database: database?,
            passwords: passwords?,
            hashing: hashing?,
            token: token?,
            session: session?,
            audit: Audit { keep: audit_keep?, key: audit_key },
            log: log?,
            ops: ops?,
            otlp_endpoint,
            sentry,
            clients: clients?,
            docs: docs?,
        })
    }
}

impl Loaded {
    /// The settings whose values are others than they were. One that is read from a file counts by what is in it.
    pub fn changed_since(&self, before: &Self) -> Vec<&'static Key> {
        let text = |loaded: &Self, key: &Key| loaded.texts.get(key.name).map(|(text, _)| text.clone());
        let counts = |key: &&Key| !key.name.ends_with("_FILE");
        KEYS.into_iter().filter(counts).filter(|key| text(self, key) != text(before, key)).collect()
    }

    /// Files that are not there any more. Whoever loses one by mistake does not mean the defaults by it.
    pub fn lost_since(&self, before: &Self) -> Vec<Problem> {
        let lost = before.found.iter().filter(|file| !self.found.contains(file));
        let what =
            "was there before and is gone; leave an empty one if there is nothing to set, or start anew";
        lost.map(|file| Problem::new(*file, what)).collect()
    }

    /// Has these settings be as another configuration has them, as far as [`Self::changed_since`] goes.
    pub fn take(&mut self, keys: &[&Key], from: &Self) {
        for key in keys {
            match from.texts.get(key.name) {
                Some(text) => _ = self.texts.insert(key.name, text.clone()),
                None => _ = self.texts.remove(key.name),
            }
        }
        self.found.clone_from(&from.found);
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, effective, warnings, found, texts: _ } = self;
        f.debug_struct("Loaded")
            .field("config", config)
            .field("effective", effective)
            .field("warnings", warnings)
            .field("found", found)
            .finish_non_exhaustive()
    }
}

impl Effective {
    fn of(key: &'static Key, text: Option<&(Zeroizing<String>, SetBy)>) -> Self {
        let set_by = text.map_or(SetBy::Default, |(_, set_by)| set_by.clone());
        let is_secret = text.map_or(key.is_secret, |(text, _)| key.hides(text));
        let shown = text.filter(|_| !is_secret);
        Self { key, value: shown.map(|(text, _)| text.as_str().to_owned()), is_secret, set_by }
    }

    /// Whether somebody set it.
    pub fn is_set(&self) -> bool {
        self.set_by != SetBy::Default
    }
}

impl Problem {
    fn new(setting: impl Into<String>, what: impl Into<String>) -> Self {
        Self { setting: setting.into(), what: what.into() }
    }
}

/// What is wrong with a secret that production lacks, as the end of a sentence that begins with the setting's name.
pub fn no_secret(name: &str) -> String {
    format!(
        "is not set, and production makes none; make one with `openssl rand -base64 48`, put it into a file of mode 600 \
         and name that in {name}_FILE"
    )
}

impl Warning {
    fn unencrypted_database(setting: &str) -> Self {
        Self(format!(
            "{setting} says sslmode=disable or prefer for a server on a network, so users and password hashes may cross \
             it unencrypted; say sslmode=verify-full with sslrootcert unless nobody can listen on that network"
        ))
    }

    /// Says that a file with a secret in it is open to others.
    pub fn readable_by_others(file: &str) -> Self {
        Self(format!("{file} holds a secret and is open to others on this machine; chmod 600 it"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.setting, self.what)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
