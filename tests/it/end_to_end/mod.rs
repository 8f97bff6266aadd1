//! What people do with the running binary. What comes to the database they do on every database, and such a journey
//! begins with `super::deployment()`.

use crate::support::server::Deployment;

mod audit;
mod backup_restore;
mod certificates;
mod cli_users;
mod command_line;
mod config_reload;
mod connections;
mod cors;
mod crash_consistency;
mod dashboards;
mod default_issuer;
mod file_owners;
mod hashing;
mod http;
mod import;
mod introspection;
mod keys;
mod limits;
mod log;
mod migrations;
mod names;
mod ops_listener;
mod pages;
mod proxies;
mod readme_example;
mod self_service;
mod sessions;
mod sign_up_and_login;
mod start_and_stop;
mod static_keys;
mod telemetry_export;
mod throttle;
mod tls;

/// An empty folder, and in it a database on SQLite.
fn deployment() -> Deployment {
    Deployment::new()
}

/// The same, where no migration was applied.
fn unmigrated() -> Deployment {
    Deployment::new()
}
