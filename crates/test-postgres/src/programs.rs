//! Where PostgreSQL's programs are. A build script reads this file too.

use std::path::{Path, PathBuf};

/// Where Debian keeps them, which are not on the path: one folder for each version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The folder of `initdb`, `pg_ctl` and `postgres`: of the newest version, if there are several.
pub(crate) fn programs() -> Option<PathBuf> {
    let path = variable("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("initdb"));
    // The path may lead to links; what initdb needs is beside what they point to.
    let linked = on_path.filter_map(|program| program.canonicalize().ok());
    let on_path = linked.filter_map(|program| program.parent().map(Path::to_owned));
    let mut of_debian: Vec<PathBuf> = Path::new(DEBIAN)
        .read_dir()
        .map(|versions| versions.flatten().map(|version| version.path().join("bin")).collect())
        .unwrap_or_default();
    of_debian.sort_by_key(|folder| {
        let version = folder.parent().and_then(Path::file_name);
        version.and_then(|version| version.to_str()?.parse::<u32>().ok())
    });
    let is_whole = |folder: &PathBuf| {
        ["initdb", "pg_ctl", "postgres"].iter().all(|program| folder.join(program).is_file())
    };
    on_path.chain(of_debian.into_iter().rev()).find(is_whole)
}

#[expect(clippy::disallowed_methods, reason = "whoever calls says by it what is installed")]
pub(crate) fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}
