//! How much memory there is for this process.

use std::fs;
use std::path::Path;

/// Where the kernel shows control groups.
const GROUPS: &str = "/sys/fs/cgroup";

/// What the machine has, in bytes, or what the control groups of this process leave of it (cgroup v2), as those of
/// containers and of systemd's units do.
pub(crate) fn limit() -> u64 {
    let system = rustix::system::sysinfo();
    let has = system.totalram.saturating_mul(system.mem_unit.into());
    let group = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    group_of(&group).and_then(|group| least(Path::new(GROUPS), group)).map_or(has, |allowed| allowed.min(has))
}

/// The only group in the unified hierarchy.
fn group_of(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::/"))
}

/// The least that a group and those around it may take, if any of them is bounded.
fn least(groups: &Path, group: &str) -> Option<u64> {
    let bound = |folder: &Path| fs::read_to_string(folder.join("memory.max")).ok()?.trim().parse().ok();
    let own = groups.join(group);
    own.ancestors().take_while(|folder| folder.starts_with(groups)).filter_map(bound).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_bound_around_a_process_counts() {
        let groups = tempfile::tempdir().unwrap();
        let set = |group: &str, bound: &str| {
            fs::create_dir_all(groups.path().join(group)).unwrap();
            fs::write(groups.path().join(group).join("memory.max"), bound).unwrap();
        };
        set("system.slice/auth-api.service", "536870912\n");
        set("system.slice/other.service", "max\n");
        let least = |group| least(groups.path(), group);

        assert_eq!(least("system.slice/auth-api.service"), Some(536_870_912));
        assert_eq!(least("system.slice/other.service"), None);
        set("system.slice", "268435456\n");
        assert_eq!(least("system.slice/auth-api.service"), Some(268_435_456));
        assert_eq!(least("system.slice/other.service"), Some(268_435_456));
        // A container sees itself at the top.
        set("", "1048576\n");
        assert_eq!(least(""), Some(1_048_576));
    }

    #[test]
    fn the_group_of_a_process_is_the_one_without_a_number() {
        assert_eq!(
            group_of("1:cpu:/x\n0::/system.slice/auth-api.service\n"),
            Some("system.slice/auth-api.service")
        );
        assert_eq!(group_of("0::/\n"), Some(""));
        assert_eq!(group_of("1:memory:/x\n"), None);
    }
}
