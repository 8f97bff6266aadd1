//! Which adapter stands behind which port, and the order in which they go up and come down.

#[cfg(test)]
mod tests;

use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use domain::ports::{
    AuditLog, Clock, Contents, Entropy, Finisher, PortError, Ports, Readiness, SessionRepo, Throttle,
    UserRepo,
};
use domain::{AuditKey, Auth, Maintenance, Rules, ThrottleRules};
use hasher_bcrypt::BcryptHasher;
use settings::{Config, Location, Secret};
use store_postgres::PostgresStore;
use store_sqlite::SqliteStore;
use telemetry::audit_lines::{self, AuditLines};
use telemetry::metrics::CountedAttempts;
use thiserror::Error;
use token_jwt::{JwtIssuer, MacRefreshTokens, Profile};
use tokio::runtime::{self, Handle, Runtime};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use crate::metrics::LastCount;
use crate::secrets::{AuditSecret, SecretError, Secrets};
use crate::signing_keys::{self, KeysError};
use crate::system::{SystemClock, SystemEntropy, SystemTimer};

/// The store waits for its disk, or for its server, on threads of its own; two are enough to keep one writer and some
/// readers busy, and idle ones cost memory.
const STORE_THREADS: usize = 2;

/// How long what is left of the runtime may take once the store is closed and nobody waits for it any more.
pub(crate) const LAST_THREADS: Duration = Duration::from_secs(1);

/// How often attempts that were only counted are kept. A crash loses as much of them.
const FLUSH_EVERY: Duration = Duration::from_secs(10);

/// How often to look whether the deletion of a large account left audit events to blank.
const BLANK_EVERY: Duration = Duration::from_secs(10);

/// How often what is over is removed.
const PURGE_EVERY: Duration = Duration::from_hours(1);

/// How often live sessions are counted, which takes a look at all of them.
const COUNT_EVERY: Duration = Duration::from_mins(1);

/// What is going to be asked of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    ReadWrite,
    ReadOnly,
}

/// How much the hashing threads of a server give way to its requests, as nice(2) counts it.
const NICENESS: i32 = 10;

/// A server: the use cases of requests on their adapters.
pub(crate) struct Application {
    pub(crate) auth: Auth,
    maintenance: Maintenance,
    /// For whoever puts other keys into it.
    pub(crate) tokens: Arc<JwtIssuer>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    /// Multi-threaded and apart from actix's workers, on which no future of the store may be dropped.
    pub(crate) runtime: Runtime,
    /// For whoever looks how busy they are.
    pub(crate) hasher: Arc<BcryptHasher>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) attempts: Arc<CountedAttempts>,
    pub(crate) live_sessions: Arc<LastCount>,
    tasks: TaskTracker,
    /// The background tasks.
    housekeeping: Vec<JoinHandle<()>>,
}

/// A store, whatever it is on.
pub(crate) trait Store: UserRepo + SessionRepo + Throttle + AuditLog + Readiness + Contents {
    /// How busy it is.
    fn load(&self) -> StoreLoad;

    /// Lets go of the database, when nobody asks for anything any more.
    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// How busy a store is, whatever it is on.
pub(crate) enum StoreLoad {
    Sqlite(store_sqlite::Load),
    Postgres(store_postgres::Load),
}

impl Store for SqliteStore {
    fn load(&self) -> StoreLoad {
        StoreLoad::Sqlite(self.load())
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.close())
    }
}

impl Store for PostgresStore {
    fn load(&self) -> StoreLoad {
        StoreLoad::Postgres(self.load())
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.close())
    }
}

/// Sees work through on the store's runtime; a stop waits for it.
pub(crate) struct Tracked {
    pub(crate) tasks: TaskTracker,
    pub(crate) runtime: Handle,
}

impl Finisher for Tracked {
    fn finish(&self, work: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.tasks.spawn_on(work, &self.runtime);
    }
}

/// Why the use cases do not stand.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("cannot start the store's threads")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Sqlite(#[from] store_sqlite::OpenError),
    #[error(transparent)]
    Postgres(#[from] store_postgres::OpenError),
    #[error("cannot start hashing passwords")]
    Hasher(#[from] hasher_bcrypt::StartError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error("cannot make refresh tokens")]
    Secrecy(#[from] token_jwt::WeakSecret),
    #[error("cannot sign tokens")]
    Tokens(#[from] token_jwt::SelfTestError),
}

/// Work was still going on when the time for it was over.
#[derive(Debug, Error)]
#[error("gave up on store operations that did not end in time")]
pub(crate) struct Unfinished;

impl Application {
    /// Puts everything up: the store first, since it is what most often cannot.
    pub(crate) fn start(config: &Config) -> Result<Self, StartError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let secrets = Secrets::take(config, &*entropy)?;
        let keys = signing_keys::ring(config, secrets.signing.as_ref(), &*clock)?;

        let runtime = runtime()?;
        let tasks = TaskTracker::new();
        let audit_key = AuditKey::new(secrets.audit.expose());
        let key = SealingKey::known(audit_key.clone());
        let store = open(&config.database, Access::ReadWrite, key, &runtime, &tasks, &clock)?;
        let hasher = hasher(config, NICENESS, &clock, &entropy)?;
        let attempts = Arc::new(CountedAttempts::new(AuditLines::new(audit_key)));

        let profile = Profile {
            issuer: config.token.issuer.clone(),
            audience: config.token.audience.clone(),
            token_type: config.token.token_type,
            client_id: config.token.client_id.clone(),
            max_lifetime: config.token.access_ttl,
        };
        let previous = config.session.previous_refresh_key.as_ref().map(Secret::expose);
        let refresh_tokens = MacRefreshTokens::new(secrets.refresh.expose(), previous)?;
        let tokens = Arc::new(JwtIssuer::new(keys, profile, clock.clone(), entropy.clone())?);

        let ports = Ports {
            users: store.clone(),
            sessions: store.clone(),
            throttle: store.clone(),
            readiness: store.clone(),
            hasher: hasher.clone(),
            tokens: tokens.clone(),
            refresh_tokens: Arc::new(refresh_tokens),
            clients: Arc::new(config.clients.clone()),
            audit_log: store.clone(),
            audit_stream: attempts.clone(),
            finisher: Arc::new(Tracked { tasks: tasks.clone(), runtime: runtime.handle().clone() }),
            clock: clock.clone(),
            timer: Arc::new(SystemTimer),
            entropy: entropy.clone(),
        };
        let rules = Rules {
            open_to_sign_up: config.signup.enabled,
            passwords: config.passwords,
            access_ttl: config.token.access_ttl,
            sessions: config.session.rules,
            audit_keep: config.audit.keep,
            throttle: config
                .limits
                .enabled
                .then_some(ThrottleRules { most_failures: config.limits.failures }),
            username_changes: config.limits.enabled.then_some(config.limits.username_changes),
        };
        let auth = Auth::new(ports, rules);
        let maintenance = auth.maintenance();
        let live_sessions = Arc::<LastCount>::default();
        let housekeeping = vec![
            runtime.spawn(purge(maintenance.clone())),
            runtime.spawn(flush_audit_aggregates(maintenance.clone())),
            runtime.spawn(blank_deleted(maintenance.clone())),
            runtime.spawn(count_sessions(maintenance.clone(), live_sessions.clone())),
        ];
        Ok(Self {
            auth,
            maintenance,
            tokens,
            clock,
            entropy,
            runtime,
            hasher,
            store,
            attempts,
            live_sessions,
            tasks,
            housekeeping,
        })
    }

    /// Takes everything down once nobody asks for anything any more: lets the store finish within `patience`
    /// what callers may have stopped waiting for, then the hasher what it has begun, then closes the store.
    pub(crate) fn stop(self, patience: Duration) -> Result<(), Unfinished> {
        // A batch that has begun is the store's, which finishes it.
        self.housekeeping.iter().for_each(JoinHandle::abort);
        self.tasks.close();
        let last_things = async {
            self.tasks.wait().await;
            flush_once(&self.maintenance).await;
            tell_head(&self.maintenance).await;
        };
        let waited = self.runtime.block_on(async { tokio::time::timeout(patience, last_things).await });
        drop((self.auth, self.maintenance, self.hasher));
        self.runtime.block_on(self.store.close());
        self.runtime.shutdown_timeout(LAST_THREADS);
        waited.map_err(|_| Unfinished)
    }
}

/// The key that a store seals events with.
pub(crate) struct SealingKey {
    pub(crate) key: AuditKey,
    is_known: bool,
}

impl SealingKey {
    pub(crate) fn known(key: AuditKey) -> Self {
        Self { key, is_known: true }
    }

    /// A key of nobody, for look-ups that need none. Nothing is sealed with it.
    pub(crate) fn unknown(entropy: &dyn Entropy) -> Self {
        let random = Zeroizing::new([entropy.draw(), entropy.draw()]);
        Self { key: AuditKey::new(random.as_flattened()), is_known: false }
    }
}

pub(crate) fn hasher(
    config: &Config,
    niceness: i32,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
) -> Result<Arc<BcryptHasher>, StartError> {
    let settings::Hashing { cost, engine, workers, queue, deadline } = config.hashing;
    let site_prefix = config.limits.site_prefix();
    let hashing = hasher_bcrypt::Settings { cost, engine, workers, queue, deadline, niceness, site_prefix };
    Ok(Arc::new(BcryptHasher::start(hashing, clock.clone(), entropy.clone())?))
}

/// Databases, and no use cases on them.
pub(crate) struct Databases {
    pub(crate) runtime: Runtime,
    tasks: TaskTracker,
    audit_key: AuditKey,
    clock: Arc<dyn Clock>,
}

impl Databases {
    /// What any of them needs.
    pub(crate) fn prepare(config: &Config) -> Result<Self, StartError> {
        let audit_key = AuditSecret::take(config, &SystemEntropy)?.key();
        let clock = Arc::new(SystemClock::new());
        Ok(Self { runtime: runtime()?, tasks: TaskTracker::new(), audit_key, clock })
    }

    pub(crate) fn open(
        &self,
        database: &settings::Database,
        access: Access,
    ) -> Result<Arc<dyn Store>, StartError> {
        let key = SealingKey::known(self.audit_key.clone());
        open(database, access, key, &self.runtime, &self.tasks, &self.clock)
    }

    /// Lets go of these, once nobody asks for anything any more.
    pub(crate) fn close(self, stores: impl IntoIterator<Item = Arc<dyn Store>>) {
        self.tasks.close();
        self.runtime.block_on(async {
            self.tasks.wait().await;
            for store in stores {
                store.close().await;
            }
        });
        self.runtime.shutdown_timeout(LAST_THREADS);
    }
}

pub(crate) fn runtime() -> Result<Runtime, StartError> {
    runtime::Builder::new_multi_thread()
        .worker_threads(STORE_THREADS)
        .thread_name("store")
        .enable_all()
        .build()
        .map_err(StartError::Runtime)
}

/// Opens the database, on whatever it is.
pub(crate) fn open(
    database: &settings::Database,
    access: Access,
    SealingKey { key, is_known }: SealingKey,
    runtime: &Runtime,
    tasks: &TaskTracker,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn Store>, StartError> {
    let (runtime, tasks, clock) = (runtime.handle().clone(), tasks.clone(), clock.clone());
    let migrate = database.migrate_on_start;
    Ok(match &database.location {
        Location::Sqlite(path) => {
            let access = match access {
                Access::ReadWrite => store_sqlite::Access::ReadWrite,
                Access::ReadOnly => store_sqlite::Access::ReadOnly,
            };
            let settings = store_sqlite::Settings { access, migrate, ..store_sqlite::Settings::new(path) };
            Arc::new(SqliteStore::open(&settings, key, runtime, tasks, clock)?)
        }
        Location::Postgres(url) => {
            let access = match access {
                Access::ReadWrite => store_postgres::Access::ReadWrite,
                Access::ReadOnly => store_postgres::Access::ReadOnly,
            };
            let (url, pool_size) = (url.clone(), database.pool_size);
            let settings = store_postgres::Settings { url, access, pool_size, migrate, seal: is_known };
            Arc::new(PostgresStore::open(&settings, key, runtime, tasks, clock)?)
        }
    })
}

/// Removes what is over and tells how far the audit log has come, at the start and then every hour. What fails is
/// tried again the next time.
async fn purge(maintenance: Maintenance) {
    loop {
        tell_head(&maintenance).await;
        match maintenance.purge().await {
            Ok(0) => {}
            Ok(count) => info!(count, "removed what is over"),
            Err(error) => warn!(cause = cause(&error), "cannot remove what is over"),
        }
        match maintenance.purge_audit_log().await {
            Ok(Ok(0)) => {}
            Ok(Ok(count)) => info!(count, "removed what the audit log has kept for long enough"),
            Ok(Err(tampering)) => {
                error!(cause = %tampering, "the audit log does not hold, so nothing old is removed from it");
            }
            Err(error) => warn!(cause = cause(&error), "cannot remove old events from the audit log"),
        }
        tokio::time::sleep(PURGE_EVERY).await;
    }
}

async fn count_sessions(maintenance: Maintenance, counted: Arc<LastCount>) {
    loop {
        let count = maintenance.count_live_sessions().await;
        if let Err(error) = &count {
            warn!(cause = cause(error), "cannot count the live sessions");
        }
        counted.set(count.ok());
        tokio::time::sleep(COUNT_EVERY).await;
    }
}

async fn flush_audit_aggregates(maintenance: Maintenance) {
    loop {
        tokio::time::sleep(FLUSH_EVERY).await;
        flush_once(&maintenance).await;
    }
}

/// Blanks what deletions of large accounts have left, batch by batch. What a crash interrupts goes on at the next start.
async fn blank_deleted(maintenance: Maintenance) {
    loop {
        if let Err(error) = maintenance.blank_deleted().await {
            warn!(cause = cause(&error), "cannot blank the audit events of a deleted account");
        }
        tokio::time::sleep(BLANK_EVERY).await;
    }
}

async fn flush_once(maintenance: &Maintenance) {
    if let Err(error) = maintenance.flush_audit_aggregates().await {
        warn!(cause = cause(&error), "cannot write counted audit events");
    }
}

async fn tell_head(maintenance: &Maintenance) {
    match maintenance.audit_head().await {
        Ok(head) => audit_lines::tell_head(head),
        Err(error) => warn!(cause = cause(&error), "cannot read the audit log"),
    }
}

pub(crate) fn cause(error: &PortError) -> Option<String> {
    error.source().map(ToString::to_string)
}
