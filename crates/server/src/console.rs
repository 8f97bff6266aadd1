//! What a command of an operator runs on.

use std::sync::Arc;
use std::time::Duration;

use domain::ports::{Clock, Entropy};
use domain::{Admin, AdminPorts};
use hasher_bcrypt::BcryptHasher;
use settings::Config;
use telemetry::audit_lines::AuditLines;
use telemetry::metrics::CountedAttempts;
use tokio::runtime::Runtime;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::secrets::AuditSecret;
use crate::system::{SystemClock, SystemEntropy};
use crate::wiring::{
    Access, LAST_THREADS, SealingKey, StartError, Store, Tracked, Unfinished, cause, hasher, open, runtime,
};

/// How much the hashing threads of a command give way, as nice(2) counts it: a server beside it goes first.
const NICENESS: i32 = 19;

/// The database, and the audit key where it is used.
pub(crate) struct Console {
    pub(crate) admin: Admin,
    pub(crate) runtime: Runtime,
    store: Arc<dyn Store>,
    tasks: TaskTracker,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

/// What a command does with the audit key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyUse {
    /// It records events, verifies them or looks for a name in them.
    Required,
    /// It lists what the database holds. On PostgreSQL, events of the last second are listed only with the key.
    Optional,
}

impl Console {
    pub(crate) fn open(config: &Config, access: Access, key_use: KeyUse) -> Result<Self, StartError> {
        let (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>) =
            (Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
        let secret = match key_use {
            KeyUse::Required => Some(AuditSecret::take(config, &*entropy)?),
            KeyUse::Optional => AuditSecret::find(config)?,
        };
        let key = match &secret {
            Some(secret) => SealingKey::known(secret.key()),
            None => SealingKey::unknown(&*entropy),
        };
        let (runtime, tasks) = (runtime()?, TaskTracker::new());
        let audit_stream = Arc::new(CountedAttempts::new(AuditLines::new(key.key.clone())));
        let store = open(&config.database, access, key, &runtime, &tasks, &clock)?;
        let ports = AdminPorts {
            users: store.clone(),
            sessions: store.clone(),
            throttle: store.clone(),
            audit_log: store.clone(),
            audit_stream,
            finisher: Arc::new(Tracked { tasks: tasks.clone(), runtime: runtime.handle().clone() }),
            clock: clock.clone(),
            entropy: entropy.clone(),
        };
        let admin = Admin::new(ports, config.passwords);
        Ok(Self { admin, runtime, store, tasks, clock, entropy })
    }

    /// Starts the hashing threads, for a command that sets passwords.
    pub(crate) fn hasher(&self, config: &Config) -> Result<Arc<BcryptHasher>, StartError> {
        hasher(config, NICENESS, &self.clock, &self.entropy)
    }

    /// Writes what was counted and closes the store.
    pub(crate) fn close(self, patience: Duration) -> Result<(), Unfinished> {
        self.tasks.close();
        let last_things = async {
            self.tasks.wait().await;
            if let Err(error) = self.admin.flush_audit_aggregates().await {
                warn!(cause = cause(&error), "cannot write counted audit events");
            }
        };
        let waited = self.runtime.block_on(async { tokio::time::timeout(patience, last_things).await });
        drop(self.admin);
        self.runtime.block_on(self.store.close());
        self.runtime.shutdown_timeout(LAST_THREADS);
        waited.map_err(|_| Unfinished)
    }
}
