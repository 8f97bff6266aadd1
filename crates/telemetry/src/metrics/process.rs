//! What the process takes of the machine, as Linux tells it. Elsewhere nothing is known of it.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What a look at the process showed; what could not be seen is missing.
#[derive(Debug, Default)]
pub struct Process {
    /// The memory it uses, in bytes.
    pub resident_bytes: Option<u64>,
    /// Its threads.
    pub threads: Option<u64>,
    /// Its open files.
    pub open_files: Option<u64>,
    /// How many files it may open.
    pub most_open_files: Option<u64>,
    /// The processor time it has used.
    pub processor_time: Option<Duration>,
}

impl Process {
    /// Looks now.
    pub fn look() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let spent = clock_gettime(ClockId::ProcessCPUTime);
        let spent = u64::try_from(spent.tv_sec).ok().zip(u32::try_from(spent.tv_nsec).ok());
        Self {
            resident_bytes: number_after(&status, "VmRSS:").map(|kibibytes| kibibytes * 1024),
            threads: number_after(&status, "Threads:"),
            // The one that is open for the look is among them.
            open_files: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|files| files.count().saturating_sub(1) as u64),
            most_open_files: number_after(&limits, "Max open files"),
            processor_time: spent.map(|(seconds, nanoseconds)| Duration::new(seconds, nanoseconds)),
        }
    }
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_look_shows_what_the_process_takes() {
        let before = Process::look();
        let held: Vec<_> = (0..50).map(|_| tempfile::tempfile().unwrap()).collect();
        let after = Process::look();
        drop(held);

        assert!(before.resident_bytes > Some(100_000), "{before:?}");
        assert!(before.threads > Some(0), "{before:?}");
        assert!(before.open_files < before.most_open_files, "{before:?}");
        // Other tests of this process open and close files too.
        assert!(after.open_files.unwrap() >= 50, "{after:?}");
        assert!(after.processor_time > Some(Duration::ZERO), "{after:?}");
    }
}
