//! Finds PostgreSQL, so that the tests that need one are there where there is one.

use std::path::{Path, PathBuf};

/// Where Debian keeps its programs, which are not on the path: one folder for each version.
const DEBIAN: &str = "/usr/lib/postgresql";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(postgres)");
    for variable in ["PATH", "TEST_POSTGRES_URL"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    println!("cargo::rerun-if-changed={DEBIAN}");
    println!("cargo::rerun-if-changed=build.rs");

    let programs = programs();
    if let Some(folder) = &programs {
        println!("cargo::rustc-env=POSTGRES_PROGRAMS={}", folder.display());
    }
    if programs.is_some() || variable("TEST_POSTGRES_URL").is_some() {
        println!("cargo::rustc-cfg=postgres");
    } else {
        println!(
            "cargo::warning=there is no PostgreSQL, so what needs one is skipped (apt install postgresql)"
        );
    }
}

/// The folder of `initdb`, `pg_ctl` and `postgres`: of the newest version, if there are several.
fn programs() -> Option<PathBuf> {
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

#[expect(clippy::disallowed_methods, reason = "a build script has nobody else to ask")]
fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}
