//! What Cargo knows of this workspace.

use std::process::Command;

use cargo_metadata::{Metadata, MetadataCommand};

/// The packages and what they depend on, on this machine alone: what other platforms would need has not been
/// downloaded.
pub(crate) fn metadata() -> Metadata {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let options = ["--offline", "--locked", "--filter-platform", &host()].map(str::to_owned);
    let metadata = MetadataCommand::new().manifest_path(manifest).other_options(options).exec();
    metadata.expect("cargo describes this workspace")
}

fn host() -> String {
    let version = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("rustc tells its host").to_owned()
}
