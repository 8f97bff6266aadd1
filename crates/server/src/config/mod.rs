//! What an operator chose, read once, checked whole.
//!
//! Settings come from the defaults, a file, `.env` and the environment, in this order. Whatever is wrong is
//! reported by the name of its key; a value, which may be a secret in the wrong place, is never repeated.

mod dotenv;
mod dsn;
mod edges;
pub mod keys;
mod local_url;
mod readers;
mod secret;
mod sources;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use actix_web::http::header::HeaderName;
use domain::{PasswordPolicy, SessionRules, SitePrefix};
use hasher_bcrypt::Engine;
use store_postgres::{OpenError, Plaintext};
use token_jwt::{GivenKeys, KeyPairAlgorithm, TokenType};
use zeroize::Zeroizing;

pub use self::dsn::Dsn;
pub use self::edges::EdgeFault;
use self::keys::{Edges, KEYS, Key, Setting};
pub(crate) use self::readers::{TRACES, lead_time};
pub use self::secret::{Secret, WeakSecret};
pub use self::sources::SetBy;
use self::sources::Sources;
use crate::clients::ConfiguredClients;
use crate::line_end;

/// What is wrong with the URL of a database to which production may connect in clear.
const UNENCRYPTED_DATABASE: &str = "names a server on a network and no sslmode, so users and password hashes may cross it \
     unencrypted; set sslmode=verify-full and sslrootcert in the URL, or sslmode=prefer or disable if nobody can listen \
     on that network";

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
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
        }
    }
}

/// The listener.
#[derive(Clone, Debug)]
pub struct Http {
    /// Where it listens.
    pub address: SocketAddr,
    /// How long a stop waits for requests in flight.
    pub grace: Duration,
    /// How long a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// How many connections there may be, unless the limit of open files decides.
    pub max_connections: Option<NonZero<usize>>,
    /// Who is believed about for whom they ask.
    pub trusted_proxies: api::TrustedProxies,
    /// What it speaks TLS with, if it does.
    pub tls: Option<Tls>,
    /// Where passwords are changed, if there is a page for it.
    pub change_password_page: Option<String>,
}

/// How much somebody may send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Whether there is a bound to anything.
    pub enabled: bool,
    /// How many requests within a minute.
    pub quotas: api::Quotas,
    /// How many wrong passwords in a row are compared for an account.
    pub failures: u32,
    /// How often an account may try to change its username within an hour.
    pub username_changes: NonZero<u32>,
}

impl Limits {
    /// Which IPv6 networks share what they may have, whether or not requests are limited.
    pub(crate) fn site_prefix(&self) -> SitePrefix {
        self.quotas.site_prefix
    }
}

/// Who may make an account.
#[derive(Clone, Copy, Debug)]
pub struct Signup {
    /// Whether anybody may; otherwise only operators.
    pub enabled: bool,
}

/// What TLS is spoken with.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The file with the certificate and its chain.
    pub cert_path: PathBuf,
    /// The file with its private key.
    pub key_path: PathBuf,
}

/// Where users are kept.
#[derive(Clone, Debug)]
pub struct Database {
    /// Which database.
    pub location: Location,
    /// How many pooled connections to `PostgreSQL` one server has at most.
    pub pool_size: NonZero<usize>,
    /// Whether a start migrates.
    pub migrate_on_start: bool,
}

/// Which database, and on what.
#[derive(Clone, Debug, PartialEq)]
pub enum Location {
    /// The file of an `SQLite` database.
    Sqlite(PathBuf),
    /// A database of `PostgreSQL`, or of what speaks its protocol.
    Postgres(store_postgres::Url),
}

/// How passwords are hashed.
#[derive(Clone, Debug)]
pub struct Hashing {
    /// The bcrypt cost of new hashes.
    pub cost: u32,
    /// What computes them.
    pub engine: Engine,
    /// Threads.
    pub workers: usize,
    /// How many clients' passwords may wait, and as much bulk work beside them.
    pub queue: usize,
    /// How long a client may wait for an answer.
    pub deadline: Duration,
}

impl Hashing {
    /// How many passwords can be handed over at once without one being refused.
    pub fn at_once(&self) -> usize {
        (self.workers * self.engine.lanes()).min(self.queue)
    }
}

/// What hashes passwords, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineName {
    /// Several at once in each thread.
    Lanes,
    /// The `bcrypt` crate.
    Reference,
}

/// What tokens say, and what signs them.
#[derive(Clone, Debug)]
pub struct Token {
    /// What signs them.
    pub algorithm: Algorithm,
    /// Where key files are.
    pub keys_dir: PathBuf,
    /// What signs and verifies in place of the key files, if it was given.
    pub given_keys: Option<GivenKeys>,
    /// The `typ`.
    pub token_type: TokenType,
    /// What signs them with HS256, if it was given.
    pub secret: Option<Secret>,
    /// The `iss`.
    pub issuer: String,
    /// Whether that follows from the listener.
    is_issuer_derived: bool,
    /// The `aud`, if there is one.
    pub audience: Option<String>,
    /// How long they hold.
    pub access_ttl: Duration,
    /// The `client_id`.
    pub client_id: String,
}

/// What tokens are signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// The secret, by which whoever verifies can sign too.
    Hs256,
    /// A key pair, whose public half anybody may have.
    KeyPair(KeyPairAlgorithm),
}

/// How long sessions live, and what their refresh tokens are made with.
#[derive(Clone, Debug)]
pub struct Session {
    /// The times.
    pub rules: SessionRules,
    /// What refresh tokens are made with, if it was given.
    pub refresh_key: Option<Secret>,
    /// What they were made with before.
    pub previous_refresh_key: Option<Secret>,
}

/// How the audit log is kept.
#[derive(Clone, Debug)]
pub struct Audit {
    /// For how long.
    pub keep: Duration,
    /// What it is sealed with, if that was given.
    pub key: Option<Secret>,
}

/// What the log shows.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    /// From which level on.
    pub level: tracing::Level,
    /// In which form.
    pub format: LogFormat,
}

/// The listener for operators.
#[derive(Clone, Debug)]
pub struct Ops {
    /// Where it listens, if it does.
    pub address: Option<SocketAddr>,
    /// The host names that it answers to besides those of loopback and IP addresses.
    pub hosts: Vec<String>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// For machines.
    Json,
}

impl Location {
    /// Whether and why production may connect to it in clear.
    pub(crate) fn plaintext(&self, environment: Environment) -> Option<Plaintext> {
        match (self, environment) {
            (Self::Postgres(url), Environment::Production) => url.plaintext(),
            _ => None,
        }
    }

    /// Reads the certificates that `sslrootcert` names, as a connection would.
    pub(crate) fn check_root_certificates(&self) -> Result<(), OpenError> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(url) => url.check_root_certificates(),
        }
    }

    /// Refuses one to which production may connect in clear, or warns where `option` chooses that.
    pub(crate) fn encrypted(
        self,
        option: &str,
        environment: Environment,
    ) -> Result<(Self, Option<Warning>), Problem> {
        match self.plaintext(environment) {
            Some(Plaintext::ByDefault) => Err(Problem::new(option, UNENCRYPTED_DATABASE)),
            Some(Plaintext::Chosen) => Ok((self, Some(Warning::unencrypted_database(option)))),
            None => Ok((self, None)),
        }
    }

    /// Refuses the path of a file, given as `argument`, with characters in it that are there by mistake.
    pub(crate) fn check_path(argument: &str, path: &Path) -> Result<(), Problem> {
        readers::plain_ends(&path.to_string_lossy()).map_err(|wrong| Problem::new(argument, wrong))
    }

    /// Reads the value of an option of the command line, where a password has no place.
    pub(crate) fn from_argument(option: &str, url: &str) -> Result<Self, Problem> {
        let location = readers::location(url).map_err(|wrong| Problem::new(option, wrong))?;
        match &location {
            Self::Postgres(url) if url.has_password() => Err(Problem::new(
                option,
                format!(
                    "has a password in it, which everybody on this machine can read in the list of processes; write the \
                     URL into a file of mode 600, and name that with {option}-file"
                ),
            )),
            _ => Ok(location),
        }
    }

    /// Reads the file that an option of the command line names, and tells whether others may do so too.
    pub(crate) fn from_file(option: &str, path: &Path) -> Result<(Self, Option<Warning>), Problem> {
        let read = sources::read_file(path);
        let (mut url, readable_by_others) =
            read.map_err(|error| Problem::new(option, format!("names a file that cannot be read: {error}")))?;
        line_end::cut(&mut url);
        if let Some(fault) = EdgeFault::of(&url) {
            return Err(Problem::new(option, format!("names a file whose URL {fault}")));
        }
        let location = readers::location(&url);
        let location =
            location.map_err(|wrong| Problem::new(option, format!("names a file whose URL {wrong}")))?;
        let warning = readable_by_others && matches!(&location, Self::Postgres(url) if url.has_password());
        Ok((location, warning.then(|| Warning::readable_by_others(&path.display().to_string()))))
    }
}

impl fmt::Display for Location {
    /// As its URL, without who connects.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(url) => url.fmt(f),
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
        Self::from_sources(Sources::read(file, Path::new(""), sources::environment()))
    }

    /// Reads all sources likewise, and tells what can be told of them even where they are no configuration.
    pub fn inspect(file: Option<&Path>) -> Inspected {
        Self::inspect_sources(Sources::read(file, Path::new(""), sources::environment()))
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
        let is_given = |problem: &Problem| problem.setting.starts_with(keys::TOKEN_PRIVATE_KEY.key.name);
        let has_unusable_key = loaded.as_ref().is_err_and(|problems| problems.iter().any(is_given));
        let token = token.filter(|_| !has_unusable_key);
        Inspected { loaded, missing, tls, token: token.zip(environment) }
    }

    /// Has the issuer name the port that the system chose, where the configuration leaves both open.
    pub(crate) fn listen_on(&mut self, address: SocketAddr) {
        if self.token.is_issuer_derived {
            self.token.issuer = local_url::of(address, self.http.tls.is_some());
        }
    }

    /// Who speaks TLS with clients. In production somebody does, whatever the issuer is called.
    pub(crate) fn encryption(&self) -> api::Encryption {
        if self.http.tls.is_some() {
            api::Encryption::Ours
        } else if is_https(&self.token.issuer) || self.environment == Environment::Production {
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
        let origins = reading.read(&keys::CORS_ORIGINS);
        let request_headers = reading.read(&keys::CORS_HEADERS);
        let signup = reading.read(&keys::SIGNUP_ENABLED).map(|enabled| Signup { enabled });
        let limits = reading.limits(environment);
        let database = reading.database(environment);
        let passwords = reading.read(&keys::PASSWORD_MIN_LENGTH);
        let hashing = reading.hashing();
        let token = reading.token(environment, http.as_ref());
        let session = reading.session();
        let audit_keep = reading.read(&keys::AUDIT_KEEP);
        let audit_key = reading.read(&keys::AUDIT_KEY);
        let log = reading.log(environment);
        let ops = reading.ops(http.as_ref());
        let otlp_endpoint = reading.read(&keys::OTLP_ENDPOINT);
        let sentry = reading.read(&keys::SENTRY_DSN);
        let clients = reading.read(&keys::INTROSPECTION_CLIENTS);
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
    pub(crate) fn changed_since(&self, before: &Self) -> Vec<&'static Key> {
        let text = |loaded: &Self, key: &Key| loaded.texts.get(key.name).map(|(text, _)| text.clone());
        let counts = |key: &&Key| !key.name.ends_with("_FILE");
        KEYS.into_iter().filter(counts).filter(|key| text(self, key) != text(before, key)).collect()
    }

    /// Files that are not there any more. Whoever loses one by mistake does not mean the defaults by it.
    pub(crate) fn lost_since(&self, before: &Self) -> Vec<Problem> {
        let lost = before.found.iter().filter(|file| !self.found.contains(file));
        let what =
            "was there before and is gone; leave an empty one if there is nothing to set, or start anew";
        lost.map(|file| Problem::new(*file, what)).collect()
    }

    /// Has these settings be as another configuration has them, as far as [`Self::changed_since`] goes.
    pub(crate) fn take(&mut self, keys: &[&Key], from: &Self) {
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

/// Takes one setting after the other and notes what is wrong.
struct Reading {
    sources: Sources,
    // What can be looked at further although another setting is wrong.
    environment: Option<Environment>,
    tls: Option<Tls>,
    token: Option<Token>,
}

impl Reading {
    fn http(&mut self) -> Option<Http> {
        let address = self.read(&keys::HTTP_ADDR);
        let behind_tls_proxy = self.read(&keys::HTTP_BEHIND_TLS_PROXY);
        let grace = self.read(&keys::HTTP_GRACE);
        let idle_timeout = self.read(&keys::HTTP_IDLE_TIMEOUT);
        let max_connections = self.read(&keys::HTTP_MAX_CONNECTIONS);
        let trusted_proxies = self.read(&keys::HTTP_TRUSTED_PROXIES);
        let client_ip_header = self.read(&keys::HTTP_CLIENT_IP_HEADER);
        if behind_tls_proxy == Some(true) && trusted_proxies == Some(api::TrustedProxies::default()) {
            self.sources.warnings.push(Warning(format!(
                "{} is not set, so all who come through the proxy are counted as one client, which will soon have sent \
                 too much; name the networks of your proxies",
                keys::HTTP_TRUSTED_PROXIES.key.name
            )));
        }
        let tls = self.tls();
        let change_password_page = self.read(&keys::HTTP_CHANGE_PASSWORD_PAGE);
        let address = address?;
        if !address.ip().to_canonical().is_loopback() && tls.is_none() && !behind_tls_proxy? {
            self.refuse(
                &keys::HTTP_ADDR.key,
                "is not a loopback address, and passwords would cross the network in clear; set AUTH_TLS__CERT_PATH \
                 and AUTH_TLS__KEY_PATH, or put a proxy that speaks TLS before it and set \
                 AUTH_HTTP__BEHIND_TLS_PROXY=true, or listen on 127.0.0.1",
            );
        }
        let trusted_proxies = trusted_proxies?.with_header(client_ip_header?);
        Some(Http {
            address,
            grace: grace?,
            idle_timeout: idle_timeout?,
            max_connections,
            trusted_proxies,
            tls,
            change_password_page: change_password_page?,
        })
    }

    fn warn_of_issuer(
        &mut self,
        environment: Option<Environment>,
        http: Option<&Http>,
        token: Option<&Token>,
    ) {
        let is_meant_for_tls =
            environment == Some(Environment::Production) || http.is_some_and(|http| http.tls.is_some());
        if is_meant_for_tls && token.is_some_and(|token| !is_https(&token.issuer)) {
            self.sources.warnings.push(Warning(format!(
                "{} is no https URL, so tokens and problems name another address than clients do, and browsers that keep \
                 the refresh token in a cookie cannot refresh; set it to the URL that clients know",
                keys::TOKEN_ISSUER.key.name
            )));
        }
    }

    fn limits(&mut self, environment: Option<Environment>) -> Option<Limits> {
        let enabled = self.read(&keys::LIMITS_ENABLED);
        let sign_ups = self.read(&keys::LIMITS_SIGNUPS);
        let log_ins = self.read(&keys::LIMITS_LOGINS);
        let refreshes = self.read(&keys::LIMITS_REFRESHES);
        let anonymous = self.read(&keys::LIMITS_ANONYMOUS);
        let session = self.read(&keys::LIMITS_SESSION);
        let account = self.read(&keys::LIMITS_ACCOUNT);
        let site_prefix = self.read(&keys::LIMITS_IPV6_PREFIX);
        let failures = self.read(&keys::LIMITS_FAILURES);
        let username_changes = self.read(&keys::LIMITS_USERNAME_CHANGES);
        let enabled = enabled?;
        if !enabled && environment == Some(Environment::Production) {
            self.refuse(
                &keys::LIMITS_ENABLED.key,
                "is for load tests, and AUTH_ENV is production, where anybody could try passwords without end; raise \
                 the limits that are too low instead",
            );
        }
        let quotas = api::Quotas {
            sign_ups: sign_ups?,
            log_ins: log_ins?,
            refreshes: refreshes?,
            anonymous: anonymous?,
            session: session?,
            account: account?,
            site_prefix: site_prefix?,
        };
        Some(Limits { enabled, quotas, failures: failures?, username_changes: username_changes? })
    }

    fn tls(&mut self) -> Option<Tls> {
        let (cert_path, key_path) = (self.read(&keys::TLS_CERT_PATH), self.read(&keys::TLS_KEY_PATH));
        if cert_path.is_some() && !self.is_set(&keys::TLS_KEY_PATH.key) {
            self.refuse(&keys::TLS_KEY_PATH.key, "is not set, and AUTH_TLS__CERT_PATH is; TLS needs both");
        }
        if key_path.is_some() && !self.is_set(&keys::TLS_CERT_PATH.key) {
            self.refuse(&keys::TLS_CERT_PATH.key, "is not set, and AUTH_TLS__KEY_PATH is; TLS needs both");
        }
        self.tls = cert_path.zip(key_path).map(|(cert_path, key_path)| Tls { cert_path, key_path });
        self.tls.clone()
    }

    /// The secrets that production asks for and nobody tried to give.
    fn missing_secrets(&self) -> Vec<Problem> {
        if self.environment != Some(Environment::Production) {
            return Vec::new();
        }
        let signs_with_secret = !matches!(self.token, Some(Token { algorithm: Algorithm::KeyPair(_), .. }));
        let signing = signs_with_secret.then_some(&keys::TOKEN_SECRET.key);
        let secrets = signing.into_iter().chain([&keys::SESSION_REFRESH_KEY.key]);
        let is_set = |key: &Key| {
            let from_file = format!("{}_FILE", key.name);
            self.sources.texts.contains_key(key.name)
                || self.sources.texts.contains_key(from_file.as_str())
                || self.sources.problems.iter().any(|problem| problem.setting == key.name)
        };
        let missing = secrets.filter(|key| !is_set(key));
        missing.map(|key| Problem::new(key.name, no_secret(key.name))).collect()
    }

    fn database(&mut self, environment: Option<Environment>) -> Option<Database> {
        let location = self.read(&keys::DATABASE_URL);
        let setting = &keys::DATABASE_URL.key;
        match environment.and_then(|environment| location.as_ref()?.plaintext(environment)) {
            Some(Plaintext::ByDefault) => self.refuse(setting, UNENCRYPTED_DATABASE),
            Some(Plaintext::Chosen) => {
                self.sources.warnings.push(Warning::unencrypted_database(setting.name));
            }
            None => {}
        }
        let pool_size = self.read(&keys::DATABASE_POOL_SIZE);
        // A file has one server. A database may have several, of which one must not change the schema under the others
        // unless somebody means it to.
        let is_file = !matches!(location, Some(Location::Postgres(_)));
        let migrate_on_start = self.read_or(&keys::DATABASE_MIGRATE_ON_START, &is_file.to_string());
        Some(Database { location: location?, pool_size: pool_size?, migrate_on_start: migrate_on_start? })
    }

    fn hashing(&mut self) -> Option<Hashing> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let cost = self.read(&keys::PASSWORD_BCRYPT_COST);
        let engine = self.read(&keys::HASHING_ENGINE);
        let lanes = self.read(&keys::HASHING_LANES);
        // Beyond the cores they would only take turns, each with passwords that wait for all the others.
        let workers = self.read_or(&keys::HASHING_WORKERS, &cores.to_string()).map(|some| some.min(cores));
        let queue = self.read_or(&keys::HASHING_QUEUE, &(64 * workers.unwrap_or(cores)).to_string());
        let deadline = self.read(&keys::HASHING_DEADLINE);
        let engine = match engine? {
            EngineName::Lanes => Engine::Lanes(lanes?),
            EngineName::Reference => Engine::Reference,
        };
        Some(Hashing { cost: cost?, engine, workers: workers?, queue: queue?, deadline: deadline? })
    }

    fn token(&mut self, environment: Option<Environment>, http: Option<&Http>) -> Option<Token> {
        let algorithm = self.read(&keys::TOKEN_ALGORITHM);
        let keys_dir = self.read(&keys::TOKEN_KEYS_DIR);
        let given_keys = self.given_keys(algorithm);
        let token_type = self.read(&keys::TOKEN_TYPE);
        let secret = self.read(&keys::TOKEN_SECRET);
        let is_issuer_derived =
            environment != Some(Environment::Production) && !self.is_set(&keys::TOKEN_ISSUER.key);
        let default = match http {
            Some(http) if is_issuer_derived => local_url::of(http.address, http.tls.is_some()),
            _ => local_url::IN_PRODUCTION.to_owned(),
        };
        let issuer = self.read_or(&keys::TOKEN_ISSUER, &default);
        let audience = self.read(&keys::TOKEN_AUDIENCE);
        let access_ttl = self.read(&keys::TOKEN_ACCESS_TTL);
        let client_id = self.read(&keys::TOKEN_CLIENT_ID);
        let (token_type, audience) = (token_type?, audience?);
        if audience.is_none() && token_type == TokenType::AccessToken {
            self.refuse(
                &keys::TOKEN_AUDIENCE.key,
                "is empty, which an at+jwt cannot be (RFC 9068); name an audience or set AUTH_TOKEN__TYPE=JWT",
            );
        }
        Some(Token {
            algorithm: algorithm?,
            keys_dir: keys_dir?,
            given_keys,
            token_type,
            secret,
            issuer: issuer?,
            is_issuer_derived,
            audience,
            access_ttl: access_ttl?,
            client_id: client_id?,
        })
    }

    fn given_keys(&mut self, algorithm: Option<Algorithm>) -> Option<GivenKeys> {
        let signing = self.read(&keys::TOKEN_PRIVATE_KEY);
        let verifying = self.read(&keys::TOKEN_PRIVATE_KEY_PREVIOUS);
        let key = &keys::TOKEN_PRIVATE_KEY.key;
        let Some(signing) = signing else {
            // If it was given and is no good, that is said already.
            if verifying.is_some() && !self.sources.texts.contains_key(key.name) {
                self.refuse(
                    &keys::TOKEN_PRIVATE_KEY_PREVIOUS.key,
                    "only verifies, and AUTH_TOKEN__PRIVATE_KEY, which signs, is not set",
                );
            }
            return None;
        };
        match algorithm? {
            Algorithm::Hs256 => self.refuse(
                key,
                "signs nothing where AUTH_TOKEN__ALGORITHM is HS256; set that to EdDSA, ES256 or RS256, or take this \
                 away",
            ),
            Algorithm::KeyPair(algorithm) if algorithm != signing.algorithm() => {
                let (is, must_be) = (signing.algorithm().as_str(), algorithm.as_str());
                self.refuse(key, &format!("is a key of {is}, and AUTH_TOKEN__ALGORITHM is {must_be}"));
            }
            Algorithm::KeyPair(_) => {}
        }
        if verifying.as_ref().is_some_and(|verifying| verifying.id() == signing.id()) {
            self.refuse(&keys::TOKEN_PRIVATE_KEY_PREVIOUS.key, "is the same key as AUTH_TOKEN__PRIVATE_KEY");
        }
        Some(GivenKeys { signing, verifying })
    }

    fn session(&mut self) -> Option<Session> {
        let idle_ttl = self.read(&keys::SESSION_IDLE_TTL);
        let absolute_ttl = self.read(&keys::SESSION_ABSOLUTE_TTL);
        let grace = self.read(&keys::SESSION_GRACE);
        let refresh_key = self.read(&keys::SESSION_REFRESH_KEY);
        let previous_refresh_key = self.read(&keys::SESSION_REFRESH_KEY_PREVIOUS);
        let rules = SessionRules { idle_ttl: idle_ttl?, absolute_ttl: absolute_ttl?, grace: grace? };
        Some(Session { rules, refresh_key, previous_refresh_key })
    }

    fn log(&mut self, environment: Option<Environment>) -> Option<Log> {
        let level = self.read(&keys::LOG_LEVEL);
        let format = match environment {
            Some(Environment::Production) => "json",
            Some(Environment::Development) | None => "pretty",
        };
        let format = self.read_or(&keys::LOG_FORMAT, format);
        Some(Log { level: level?, format: format? })
    }

    fn ops(&mut self, http: Option<&Http>) -> Option<Ops> {
        let hosts = self.read(&keys::OPS_HOSTS);
        let address = self.read(&keys::OPS_ADDR)?;
        // Port 0 is another port each time.
        let is_taken = |address: SocketAddr| {
            address.port() != 0 && http.is_some_and(|http| http.address.port() == address.port())
        };
        if address.is_some_and(is_taken) {
            self.refuse(
                &keys::OPS_ADDR.key,
                "has the port of AUTH_HTTP__ADDR; what it shows is kept from the public, so take another one",
            );
        }
        Some(Ops { address, hosts: hosts? })
    }

    /// Reads a setting whose default follows from something else.
    fn read_or<T>(&mut self, setting: &'static Setting<T>, default: &str) -> Option<T> {
        let default = || (Zeroizing::new(default.to_owned()), SetBy::Default);
        self.sources.texts.entry(setting.key.name).or_insert_with(default);
        self.read(setting)
    }

    /// `None` if it has no text, or if it is wrong, which is noted.
    fn read<T>(&mut self, setting: &'static Setting<T>) -> Option<T> {
        debug_assert!(Key::named(setting.key.name).is_some(), "a setting that is not in the table");
        let (text, _) = self.sources.texts.get(setting.key.name)?;
        let judged = match setting.key.edges {
            Edges::Bare => text,
            Edges::Trimmed => text.trim(),
        };
        let read = match EdgeFault::of(judged) {
            Some(fault) => Err(fault.to_string()),
            None => (setting.read)(text),
        };
        read.map_err(|wrong| self.refuse(&setting.key, &wrong)).ok()
    }

    fn is_set(&self, key: &'static Key) -> bool {
        self.sources.texts.contains_key(key.name)
    }

    fn refuse(&mut self, key: &'static Key, what: &str) {
        let set_by = match self.sources.texts.get(key.name) {
            Some((_, set_by @ (SetBy::File(_) | SetBy::DotEnv))) => format!("in {set_by} "),
            Some((_, SetBy::NamedFile)) => format!("in the file that {}_FILE names ", key.name),
            _ => String::new(),
        };
        self.sources.problems.push(Problem::new(key.name, format!("{set_by}{what}")));
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
pub(crate) fn no_secret(name: &str) -> String {
    format!(
        "is not set, and production makes none; make one with `openssl rand -base64 48`, put it into a file of mode 600 \
         and name that in {name}_FILE"
    )
}

fn is_https(url: &str) -> bool {
    url.starts_with("https://")
}

impl Warning {
    fn unencrypted_database(setting: &str) -> Self {
        Self(format!(
            "{setting} says sslmode=disable or prefer for a server on a network, so users and password hashes may cross \
             it unencrypted; say sslmode=verify-full with sslrootcert unless nobody can listen on that network"
        ))
    }

    pub(crate) fn readable_by_others(file: &str) -> Self {
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
