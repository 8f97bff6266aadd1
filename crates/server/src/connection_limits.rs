//! How many client connections there may be: a setting, or as many as the limit of open files allows.

use std::num::NonZero;

use rustix::process::{Resource, getrlimit, setrlimit};
use tracing::{info, warn};

use crate::wiring::StoreLoad;

/// Descriptors that are always open: the standard streams, two listeners, what the runtimes and signals need, and for a
/// moment a file that is read again and a name that is looked up.
const FDS_ALWAYS_OPEN: u64 = 32;

/// For each thread that serves.
const FDS_PER_WORKER: u64 = 4;

/// For each connection to an SQLite file: the file, its log and the log's index.
const FDS_PER_SQLITE_CONN: u64 = 3;

/// Besides the readers: the writer, the one that looks for changes of others, and one for a check.
const OTHER_SQLITE_CONNS: u64 = 3;

/// For each connection to PostgreSQL, which may be given up while another one tells the server so.
const FDS_PER_PG_CONN: u64 = 2;

/// For each exporter: a connection, and a look-up of its address.
const FDS_PER_EXPORTER: u64 = 2;

/// How many connections there may be unless the setting says otherwise. In the worst case each takes 96 KiB.
const DEFAULT_MAX: u64 = 8192;

/// However few descriptors there are.
const MIN: u64 = 8;

/// The share of all connections that one client network may have. An IPv6 site has four such shares, which must not be
/// all of them.
const NETWORKS: usize = 8;

/// What needs descriptors besides client connections.
pub(crate) struct ReservedFds {
    /// Threads that serve.
    pub(crate) workers: usize,
    /// What the store may have open.
    pub(crate) store: StoreLoad,
    /// Connections to the ops listener.
    pub(crate) operators: usize,
    /// Exporters of traces and errors.
    pub(crate) exporters: usize,
}

/// Raises the limit of open files as far as it goes, and applies the setting or the default.
pub(crate) fn limits(max_connections: Option<NonZero<usize>>, reserved: &ReservedFds) -> api::Limits {
    let limit = getrlimit(Resource::Nofile);
    let mut descriptors = limit.current;
    if limit.current != limit.maximum {
        let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => {
                info!(from = limit.current, to = limit.maximum, "raised the limit of open files");
                descriptors = limit.maximum;
            }
            Err(error) => {
                warn!(cause = %error, limit = limit.current, "cannot raise the limit of open files");
            }
        }
    }
    let reserved = reserved.count();
    let connections = max_connections.map_or_else(|| default_limit(descriptors, reserved), NonZero::get);
    let limits = api::Limits { connections, per_network: connections.div_ceil(NETWORKS) };
    let needed = reserved + limits.open() as u64;
    if let Some(limit) = descriptors.filter(|limit| *limit < needed) {
        warn!(
            limit,
            needed, "too few files may be open: raise `ulimit -n`, or lower AUTH_HTTP__MAX_CONNECTIONS"
        );
    }
    limits
}

impl ReservedFds {
    fn count(&self) -> u64 {
        let store = match &self.store {
            StoreLoad::Sqlite(load) => FDS_PER_SQLITE_CONN * (OTHER_SQLITE_CONNS + load.readers as u64),
            // And one that looks for changes of others.
            StoreLoad::Postgres(load) => FDS_PER_PG_CONN * (1 + load.most as u64),
        };
        let workers = FDS_PER_WORKER * self.workers as u64;
        let exporters = FDS_PER_EXPORTER * self.exporters as u64;
        FDS_ALWAYS_OPEN + workers + store + self.operators as u64 + exporters
    }
}

/// How many connections so many descriptors allow, if they are bounded, of which some are reserved.
fn default_limit(descriptors: Option<u64>, reserved: u64) -> usize {
    let left = descriptors.map_or(u64::MAX, |descriptors| descriptors.saturating_sub(reserved));
    // An eighth more are open for a moment.
    let connections = (left / 9).saturating_mul(8).clamp(MIN, DEFAULT_MAX);
    usize::try_from(connections).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use domain::Durations;

    use super::*;

    fn sqlite(readers: usize) -> StoreLoad {
        StoreLoad::Sqlite(store_sqlite::Load {
            writes_waiting: 0,
            writes: 0,
            batches: Durations::new(&[]).distribution(),
            queries_waiting: 0,
            readers,
            readers_busy: 0,
        })
    }

    fn postgres(most: usize) -> StoreLoad {
        StoreLoad::Postgres(store_postgres::Load { connections: 0, idle: 0, most, waiting: 0 })
    }

    #[test]
    fn default_limit_leaves_reserved_descriptors() {
        assert_eq!(default_limit(None, 40), 8192);
        assert_eq!(default_limit(Some(1_048_576), 40), 8192);
        assert_eq!(default_limit(Some(1024), 40), 872);
        assert_eq!(default_limit(Some(64), 40), 16);
        assert_eq!(default_limit(Some(8), 40), 8);
        for (descriptors, reserved) in (64..4096).flat_map(|some| [(some, 40), (some + 256, 288)]) {
            let connections = default_limit(Some(descriptors), reserved);
            let open = api::Limits { connections, per_network: 1 }.open() as u64;
            assert!(open + reserved <= descriptors, "{descriptors} {reserved}");
        }
    }

    #[test]
    fn setting_is_the_limit_and_one_network_has_an_eighth() {
        let reserved = ReservedFds { workers: 2, store: sqlite(4), operators: 0, exporters: 0 };

        let limits = limits(NonZero::new(100), &reserved);

        assert_eq!((limits.connections, limits.per_network), (100, 13));
    }

    #[test]
    fn configured_parts_reserve_descriptors() {
        let few = || ReservedFds { workers: 2, store: sqlite(4), operators: 0, exporters: 0 };
        let least = few().count();

        assert_eq!(ReservedFds { operators: 64, ..few() }.count(), least + 64);
        assert_eq!(ReservedFds { workers: 64, ..few() }.count(), least + 62 * FDS_PER_WORKER);
        assert!(ReservedFds { exporters: 2, ..few() }.count() > least + 2);
        // For each of them another connection may tell the server to cancel what it does.
        assert!(ReservedFds { store: postgres(16), ..few() }.count() >= 32 + 34);
        assert!(ReservedFds { store: postgres(100), ..few() }.count() > 200);
    }
}
