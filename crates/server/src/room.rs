//! How many connections there is room for: by the files and sockets that the system lets this process have open, and by
//! the memory that there is.

use rustix::process::{Resource, getrlimit, setrlimit};
use tracing::{info, warn};

use crate::memory;
use crate::wiring::StoreLoad;

/// What is always open: the standard streams, two listeners, what the runtimes and signals need, and for a moment a file
/// that is read again and a name that is looked up.
const OWN: u64 = 32;

/// For each thread that serves.
const OF_A_WORKER: u64 = 4;

/// For each connection to an SQLite file: the file, its log and the log's index.
const OF_A_FILE: u64 = 3;

/// Besides the readers: the writer, the one that looks what others changed, and one for a check.
const FILES: u64 = 3;

/// For each connection to PostgreSQL, which may be given up while another one tells the server so.
const OF_A_CONNECTION: u64 = 2;

/// For each of those who are told of requests or errors: a connection, and a look-up of where it goes.
const OF_AN_OUTBOX: u64 = 2;

/// However much there is of everything.
const MOST: u64 = 8192;

/// What a connection takes at its worst, in bytes, with TLS and a request that is not sent to its end or an answer that is
/// not taken. One that waits takes a tenth of it.
const WEIGHT: u64 = 96 * 1024;

/// Of the memory, one part in so many may be the connections'.
const OF_MEMORY: u64 = 4;

/// However few descriptors there are.
const FEWEST: u64 = 8;

/// Of all connections, one part in so many may be one client network's. An IPv6 site has four such parts, which must not be
/// all of them.
const NETWORKS: usize = 8;

/// What is open besides the connections of clients.
pub(crate) struct Others {
    /// Threads that serve.
    pub(crate) workers: usize,
    /// What the store may have open.
    pub(crate) store: StoreLoad,
    /// Connections that operators may have.
    pub(crate) operators: usize,
    /// Others who are told of requests or errors.
    pub(crate) outboxes: usize,
}

/// Raises the limit as far as it goes, and says how many connections fit.
pub(crate) fn limits(others: &Others) -> api::Limits {
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
    let others = others.count();
    let connections = connections(descriptors, memory::limit(), others);
    let limits = api::Limits { connections, per_network: connections.div_ceil(NETWORKS) };
    let needed = others + limits.open() as u64;
    if let Some(limit) = descriptors.filter(|limit| *limit < needed) {
        warn!(limit, needed, "too few files may be open for all that may be at once: raise `ulimit -n`");
    }
    limits
}

impl Others {
    fn count(&self) -> u64 {
        let store = match &self.store {
            StoreLoad::Sqlite(load) => OF_A_FILE * (FILES + load.readers as u64),
            // And one that looks what others changed.
            StoreLoad::Postgres(load) => OF_A_CONNECTION * (1 + load.most as u64),
        };
        let workers = OF_A_WORKER * self.workers as u64;
        OWN + workers + store + self.operators as u64 + OF_AN_OUTBOX * self.outboxes as u64
    }
}

/// How many connections there may be of so many descriptors, if they are bounded, of which others need some, in so many
/// bytes of memory.
fn connections(descriptors: Option<u64>, memory: u64, others: u64) -> usize {
    let left = descriptors.map_or(u64::MAX, |descriptors| descriptors.saturating_sub(others));
    let heavy = memory / OF_MEMORY / WEIGHT;
    // An eighth more are open for a moment.
    let connections = (left / 9).saturating_mul(8).min(heavy).clamp(FEWEST, MOST);
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
    fn connections_leave_room_for_all_else_and_are_bounded_where_descriptors_are_not() {
        const MUCH: u64 = 4 << 30;
        assert_eq!(connections(None, MUCH, 40), 8192);
        assert_eq!(connections(Some(1_048_576), MUCH, 40), 8192);
        assert_eq!(connections(Some(1024), MUCH, 40), 872);
        assert_eq!(connections(Some(64), MUCH, 40), 16);
        assert_eq!(connections(Some(8), MUCH, 40), 8);
        assert_eq!(connections(None, 512 << 20, 40), 1365);
        assert_eq!(connections(Some(1024), 64 << 20, 40), 170);
        assert_eq!(connections(None, 0, 40), 8);
        for (descriptors, others) in (64..4096).flat_map(|some| [(some, 40), (some + 256, 288)]) {
            let connections = connections(Some(descriptors), MUCH, others);
            let open = api::Limits { connections, per_network: 1 }.open() as u64;
            assert!(open + others <= descriptors, "{descriptors} {others}");
        }
    }

    #[test]
    fn what_is_configured_is_left_room_for() {
        let few = || Others { workers: 2, store: sqlite(4), operators: 0, outboxes: 0 };
        let least = few().count();

        assert_eq!(Others { operators: 64, ..few() }.count(), least + 64);
        assert_eq!(Others { workers: 64, ..few() }.count(), least + 62 * OF_A_WORKER);
        assert!(Others { outboxes: 2, ..few() }.count() > least + 2);
        // Each of them may be told of by another that the server is to stop what it does.
        assert!(Others { store: postgres(16), ..few() }.count() >= 32 + 34);
        assert!(Others { store: postgres(100), ..few() }.count() > 200);
    }
}
