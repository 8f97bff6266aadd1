//! What the files for containers leave to be forgotten: a setting, a package, an image's name.

use std::collections::BTreeSet;

use server::config::keys::KEYS;

use crate::support::workspace;

const COMPOSE: &str = include_str!("../../docker/compose.yaml");
const DOCKERFILE: &str = include_str!("../../docker/Dockerfile");

/// Those that the image decides, and those that name files of which the container has none.
const NOT_FROM_OUTSIDE: [&str; 5] = [
    "AUTH_HTTP__ADDR",
    "AUTH_HTTP__BEHIND_TLS_PROXY",
    "AUTH_OPS__ADDR",
    "AUTH_TLS__CERT_PATH",
    "AUTH_TLS__KEY_PATH",
];

#[test]
fn every_setting_of_dotenv_reaches_the_container_by_its_name() {
    let passed_on: BTreeSet<&str> = COMPOSE
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.strip_suffix(':'))
        .filter(|name| name.starts_with("AUTH_"))
        .collect();

    let expected: BTreeSet<&str> = KEYS
        .iter()
        .map(|key| key.name)
        .filter(|name| !name.ends_with("_FILE") && !NOT_FROM_OUTSIDE.contains(name))
        .collect();
    assert_eq!(passed_on, expected);
}

#[test]
fn the_layer_of_dependencies_knows_every_package() {
    let metadata = workspace::metadata();
    for package in metadata.workspace_packages() {
        let folder = package.manifest_path.parent().unwrap();
        let package = folder.strip_prefix(&metadata.workspace_root).unwrap();
        let copied = format!("COPY {package}/Cargo.toml {package}/");
        assert!(DOCKERFILE.lines().any(|line| line == copied), "docker/Dockerfile lacks `{copied}`");
    }
}
