//! What people do with the running binary. What comes to the database they do on every database, and such a journey
//! begins with `super::deployment()`.

use crate::support::server::Deployment;

mod accounts;
mod audit;
mod backends;
mod certificates;
mod command_line;
mod connections;
mod dashboards;
mod default_issuer;
mod example_page;
mod file_owners;
mod given_keys;
mod hashing;
mod http;
mod import;
mod keys;
mod ledger;
mod limits;
mod log;
mod migrations;
mod moving_house;
mod names;
mod operators;
mod other_origins;
mod own_account;
mod pages;
mod proxies;
mod sessions;
mod settings_that_change;
mod start_and_stop;
mod telling_others;
mod throttle;
mod tls;
mod users;

/// An empty folder, and in it a database on SQLite.
fn deployment() -> Deployment {
    Deployment::new()
}

/// The same, where no migration was applied.
fn unmigrated() -> Deployment {
    Deployment::new()
}
