//! What the tests share.

pub(crate) mod audit_fixtures;
#[cfg(postgres)]
pub(crate) mod blackhole_proxy;
pub(crate) mod browser;
pub(crate) mod cli;
pub(crate) mod client;
pub(crate) mod clock;
pub(crate) mod consistency_checker;
pub(crate) mod dev_proxy;
pub(crate) mod external_tools;
pub(crate) mod future_migration;
pub(crate) mod http_sink;
pub(crate) mod lock;
pub(crate) mod nginx;
#[cfg(postgres)]
pub(crate) mod postgres;
pub(crate) mod pyjwt;
pub(crate) mod python_service;
pub(crate) mod runtime;
pub(crate) mod server;
pub(crate) mod sqlite;
pub(crate) mod vite;
pub(crate) mod workspace;
