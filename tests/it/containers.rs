//! What the files for containers leave to be forgotten: a setting, a package, an image's name.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use settings::keys::KEYS;

use crate::support::workspace;

const COMPOSE: &str = include_str!("../../docker/compose.yaml");
const DOCKERFILE: &str = include_str!("../../docker/Dockerfile");

/// Those that the image decides, and those that name files of which the container has none.
const NOT_FROM_OUTSIDE: [&str; 6] = [
    "AUTH_HTTP__ADDR",
    "AUTH_HTTP__BEHIND_TLS_PROXY",
    "AUTH_OPS__ADDR",
    "AUTH_OPS__HOSTS",
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
fn every_service_bounds_its_log() {
    let files = [
        COMPOSE,
        include_str!("../../docker/compose.postgres.yaml"),
        include_str!("../../docker/compose.monitoring.yaml"),
    ];
    for file in files {
        let images = file.lines().filter(|line| line.trim_start().starts_with("image: ")).count();
        let bounded = file.lines().filter(|line| line.trim() == "logging: *logging").count();

        assert_eq!(bounded, images, "{file}");
        assert!(
            file.contains("x-logging: &logging\n  driver: json-file\n  options:\n    max-size: "),
            "{file}"
        );
        assert!(file.contains("    max-file: "), "{file}");
    }
    let unit = include_str!("../../docker/auth-api.service");
    assert!(unit.contains("\nLogRateLimitBurst=") && unit.contains("\nLogRateLimitIntervalSec="));
}

#[test]
fn prometheus_asks_by_a_name_that_the_image_answers_to() {
    let scraped = include_str!("../../docker/prometheus/prometheus.yml");
    let name = DOCKERFILE.split_once("AUTH_OPS__HOSTS=").unwrap().1.split([' ', '\n']).next().unwrap();

    assert!(scraped.contains(&format!("targets: [{name}:")), "{scraped}");
}

#[test]
fn migrate_gives_the_image_what_a_server_outside_of_it_left_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for ours in ["auth.db", "auth.db-wal", "auth.db-shm", "token-secret", "refresh-key"] {
        write(&format!("data/{ours}"), "");
    }
    write("data/keys/.lock", "");
    write("data/keys/a b.pem", "");
    for foreign in ["data/notes.txt", "data/keys/notes.txt", "data/else/where.db"] {
        write(foreign, "");
    }
    // Only root may do what these stand for.
    for stub in ["chown", "setpriv"] {
        write(&format!("bin/{stub}"), &format!("#!/bin/sh\nprintf '%s\\n' \"{stub} $*\" >> calls\n"));
        let stub = folder.path().join("bin").join(stub);
        fs::set_permissions(stub, fs::Permissions::from_mode(0o755)).unwrap();
    }

    let done = migrate_in(folder.path());

    assert!(done, "{:?}", fs::read_to_string(folder.path().join("calls")));
    let calls = fs::read_to_string(folder.path().join("calls")).unwrap();
    let (given, after): (Vec<_>, Vec<_>) = calls
        .lines()
        .map(|call| call.strip_prefix("chown --no-dereference 10001:10001 ").ok_or(call))
        .partition(Result::is_ok);
    let given: BTreeSet<&str> = given.into_iter().flatten().collect();
    let expected = [
        "data",
        "data/auth.db",
        "data/auth.db-shm",
        "data/auth.db-wal",
        "data/keys",
        "data/keys/.lock",
        "data/keys/a b.pem",
        "data/refresh-key",
        "data/token-secret",
    ];
    assert_eq!(given, BTreeSet::from(expected));
    let setpriv = "setpriv --reuid 10001 --regid 10001 --clear-groups auth-api migrate up";
    assert_eq!(after, [Err(setpriv)]);
    assert!(DOCKERFILE.contains("USER 10001:10001"));
}

/// Runs what the service `migrate` runs, with the programs in `bin` before all others, and tells whether that went well.
fn migrate_in(folder: &Path) -> bool {
    let indented = COMPOSE.split_once("      - -euc\n      - |\n").unwrap().1;
    let lines = indented.lines().map_while(|line| line.strip_prefix("        "));
    // As Compose reads it.
    let script = lines.collect::<Vec<_>>().join("\n").replace("$$", "$");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-euc", &script, "migrate", "up"]).current_dir(folder);
    let path = format!("{}:/usr/bin:/bin", folder.join("bin").display());
    shell.env("PATH", path).status().unwrap().success()
}

#[test]
fn the_secrets_of_a_server_outside_of_containers_are_used_on_and_nothing_is_written_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let make_env = || {
        let script = path("docker/make-env");
        fs::create_dir_all(script.parent().unwrap()).unwrap();
        fs::write(&script, include_str!("../../docker/make-env")).unwrap();
        let done = Command::new("/bin/sh").arg(script).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        fs::read_to_string(path(".env")).unwrap()
    };
    let names = |text: &str| -> Vec<String> {
        let settings = text.lines().filter_map(|line| line.split_once('='));
        settings.map(|(name, value)| format!("{name} {}", value.len())).collect()
    };

    let made = make_env();

    let passwords = ["POSTGRES_PASSWORD 44", "GRAFANA_PASSWORD 44"];
    let secrets = ["AUTH_ENV 10", "AUTH_TOKEN__SECRET 44", "AUTH_SESSION__REFRESH_KEY 44"];
    assert_eq!(names(&made), [&secrets[..], &passwords].concat());
    assert_eq!(fs::metadata(path(".env")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(make_env(), made);

    // Whoever has a file of their own gets what is lacking, behind a last line that has no end.
    fs::write(path(".env"), "AUTH_LOG__LEVEL=debug\nGRAFANA_PASSWORD=mine").unwrap();
    assert_eq!(names(&make_env()), ["AUTH_LOG__LEVEL 5", "GRAFANA_PASSWORD 4", "POSTGRES_PASSWORD 44"]);

    // What the container took over only root can see.
    fs::remove_file(path(".env")).unwrap();
    fs::create_dir(path("data")).unwrap();
    fs::set_permissions(path("data"), fs::Permissions::from_mode(0o600)).unwrap();
    let mut shell = Command::new("/bin/sh");
    if fs::metadata(folder.path()).unwrap().uid() == 0 {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        shell.uid(65534).gid(65534);
    }
    let refused = shell.arg(path("docker/make-env")).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("sudo make docker-env"), "{refused:?}");
    assert!(!refused.status.success() && !path(".env").exists(), "{refused:?}");
    fs::set_permissions(path("data"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(path("data/token-secret"), "a-secret\n").unwrap();
    fs::write(path("data/refresh-key"), "a-key\n").unwrap();
    let kept = make_env();
    assert!(kept.contains("\nAUTH_TOKEN__SECRET=a-secret\nAUTH_SESSION__REFRESH_KEY=a-key\n"), "{kept}");
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
