//! Cargo builds a package's binary for its integration tests only. This one is there so that `cargo nextest run
//! --workspace` builds the `auth-api` that the end-to-end tests in the package `tests` start.

use std::process::Command;

#[test]
fn the_binary_names_itself_and_its_version() {
    let output = Command::new(env!("CARGO_BIN_EXE_auth-api")).arg("--version").output().unwrap();

    let version = concat!("auth-api ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), version);
}
