//! How many files and sockets the system lets this process have open, and how many connections that leaves room for.

use rustix::process::{Resource, getrlimit, setrlimit};
use tracing::{info, warn};

/// What is open besides connections: the database and its log, the runtimes' own, keys and certificates that are read
/// again.
const OTHERS: u64 = 32;

/// And for each thread that serves.
const OF_A_WORKER: u64 = 4;

/// Each connection has buffers of some 20 KiB, with TLS twice as much; what all of them need has to be there.
const MOST: u64 = 8192;

/// However few descriptors there are.
const FEWEST: u64 = 8;

/// Of all connections, one part in so many may be one client network's.
const NETWORKS: usize = 4;

/// Raises the limit as far as it goes, and says how many connections fit.
pub(crate) fn limits(workers: usize) -> api::Limits {
    let limit = getrlimit(Resource::Nofile);
    let mut descriptors = limit.current;
    if limit.current != limit.maximum {
        let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => {
                info!(from = limit.current, to = limit.maximum, "raised the limit of open files");
                descriptors = limit.maximum;
            }
            Err(error) => warn!(%error, limit = limit.current, "cannot raise the limit of open files"),
        }
    }
    let connections = connections(descriptors, workers);
    api::Limits { connections, per_network: connections.div_ceil(NETWORKS) }
}

/// How many connections there may be of so many descriptors, if they are bounded. An eighth more may be open for a
/// moment.
fn connections(descriptors: Option<u64>, workers: usize) -> usize {
    let others = others(workers);
    let left = descriptors.map_or(u64::MAX, |descriptors| descriptors.saturating_sub(others));
    let connections = (left / 9).saturating_mul(8).clamp(FEWEST, MOST);
    usize::try_from(connections).unwrap_or(usize::MAX)
}

fn others(workers: usize) -> u64 {
    OTHERS + OF_A_WORKER * workers as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_the_database_and_are_bounded_where_descriptors_are_not() {
        assert_eq!(connections(None, 2), 8192);
        assert_eq!(connections(Some(1_048_576), 2), 8192);
        assert_eq!(connections(Some(1024), 2), 872);
        assert_eq!(connections(Some(64), 2), 16);
        assert_eq!(connections(Some(8), 2), 8);
        for (descriptors, workers) in (64..4096).flat_map(|some| [(some, 2), (some + 256, 64)]) {
            let most = connections(Some(descriptors), workers) as u64;
            assert!(most + most.div_ceil(8) + others(workers) <= descriptors, "{descriptors} {workers}");
        }
    }
}
