//! Two absences that hold the design together: the domain knows no framework, and no adapter another one.

use std::collections::{BTreeSet, HashMap};

use cargo_metadata::{DependencyKind, Metadata, Package, PackageId};

/// The crates that are no adapters. Whatever else there is, or comes, is one.
const OTHERS: [&str; 8] =
    ["domain", "api", "settings", "telemetry", "server", "tests", "bench", "test-postgres"];

/// Libraries that an adapter may use as it uses those of others. They know no crate of this workspace.
const LIBRARIES: [&str; 2] = ["bcrypt-lanes", "pem-blocks"];

const FRAMEWORKS: [&str; 10] = [
    "tokio",
    "actix-web",
    "actix-http",
    "diesel",
    "diesel-async",
    "bcrypt",
    "jsonwebtoken",
    "config",
    "tracing",
    "libsqlite3-sys",
];

#[test]
fn the_domain_depends_on_no_other_crate_of_ours_and_on_no_framework() {
    let house = House::survey();

    let reached = house.reached_from("domain");

    let forbidden: Vec<_> =
        reached.iter().filter(|name| house.is_ours(name) || FRAMEWORKS.contains(&name.as_str())).collect();
    assert_eq!(forbidden, Vec::<&String>::new());
    // Or the walk goes nowhere and proves nothing.
    assert!(reached.contains("zxcvbn") && house.reached_from("server").contains("diesel"));
}

#[test]
fn no_adapter_depends_on_another_and_none_on_the_http_surface() {
    let house = House::survey();

    let is_adapter = |name: &&str| !OTHERS.contains(name) && !LIBRARIES.contains(name);
    let adapters: Vec<_> = house.crates().into_iter().filter(is_adapter).collect();
    assert!(adapters.contains(&"store-sqlite"), "{adapters:?}");
    for adapter in adapters {
        let reached = house.reached_from(adapter);
        let ours: Vec<_> = reached.iter().filter(|name| house.is_ours(name)).collect();
        let ours: Vec<_> = ours.into_iter().filter(|name| !LIBRARIES.contains(&name.as_str())).collect();
        assert_eq!(ours, ["domain"], "{adapter}");
    }
    for library in LIBRARIES {
        let known: Vec<_> =
            house.reached_from(library).into_iter().filter(|name| house.is_ours(name)).collect();
        assert_eq!(known, Vec::<String>::new(), "{library}");
    }
}

#[test]
fn both_stores_depend_on_diesel_async() {
    let house = House::survey();

    for store in ["store-sqlite", "store-postgres"] {
        let package = house.metadata.workspace_packages().into_iter().find(|it| it.name.as_str() == store);
        let named = package.unwrap().dependencies.iter().find(|it| it.name == "diesel-async").unwrap();
        assert_eq!(named.kind, DependencyKind::Normal, "{store}");
    }
}

#[test]
fn log_level_holds_for_every_crate_that_logs() {
    let house = House::survey();
    let crates = house.metadata.workspace_root.join("crates");

    for package in house.metadata.workspace_packages() {
        let logs = package.dependencies.iter().any(|it| it.name == "tracing");
        if logs && package.manifest_path.starts_with(&crates) {
            let target = package.name.replace('-', "_");
            assert!(telemetry::logging::OURS.contains(&target.as_str()), "{target}");
        }
    }
}

#[test]
fn only_the_server_and_telemetry_depend_on_the_settings() {
    let house = House::survey();

    let mut dependants: Vec<_> = house
        .crates()
        .into_iter()
        .filter(|name| *name != "tests" && house.reached_from(name).contains("settings"))
        .collect();

    dependants.sort_unstable();
    assert_eq!(dependants, ["server", "telemetry"]);
}

#[test]
fn the_http_surface_knows_the_domain_and_no_adapter() {
    let house = House::survey();

    let ours: Vec<_> = house.reached_from("api").into_iter().filter(|name| house.is_ours(name)).collect();

    assert_eq!(ours, ["domain"]);
}

#[test]
fn a_folder_is_named_like_its_crate() {
    let house = House::survey();
    let crates = house.metadata.workspace_root.join("crates");

    for package in house.metadata.workspace_packages() {
        let folder = package.manifest_path.parent().unwrap();
        if folder.starts_with(&crates) {
            assert_eq!(folder.file_name(), Some(package.name.as_str()));
        }
    }
}

struct House {
    metadata: Metadata,
}

impl House {
    fn survey() -> Self {
        Self { metadata: crate::support::workspace::metadata() }
    }

    fn crates(&self) -> Vec<&str> {
        self.metadata.workspace_packages().into_iter().map(|package| package.name.as_str()).collect()
    }

    fn is_ours(&self, name: &str) -> bool {
        self.crates().contains(&name)
    }

    /// The names of everything that `package` is built with, at any depth, itself left out. What only its
    /// tests use may be anything.
    fn reached_from(&self, package: &str) -> BTreeSet<String> {
        let packages: HashMap<&PackageId, &Package> =
            self.metadata.packages.iter().map(|package| (&package.id, package)).collect();
        let graph = self.metadata.resolve.as_ref().unwrap();
        let start = self.metadata.workspace_packages().into_iter().find(|it| it.name.as_str() == package);
        let mut waiting = vec![&start.expect("a crate of this workspace").id];
        let mut seen = BTreeSet::new();
        while let Some(id) = waiting.pop() {
            let node = graph.nodes.iter().find(|node| node.id == *id).unwrap();
            for dependency in &node.deps {
                let built = dependency.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development);
                if built && seen.insert(packages[&dependency.pkg].name.to_string()) {
                    waiting.push(&dependency.pkg);
                }
            }
        }
        seen
    }
}
