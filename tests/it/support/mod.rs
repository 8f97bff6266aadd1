//! What the tests share.

pub(crate) mod attempts;
pub(crate) mod browser;
pub(crate) mod client;
pub(crate) mod clock;
pub(crate) mod foreign;
pub(crate) mod front_end;
pub(crate) mod later;
pub(crate) mod ledger;
pub(crate) mod lock;
pub(crate) mod nginx;
pub(crate) mod operator;
#[cfg(postgres)]
pub(crate) mod postgres;
pub(crate) mod pyjwt;
pub(crate) mod python_service;
pub(crate) mod receiver;
pub(crate) mod runtime;
pub(crate) mod server;
pub(crate) mod sqlite;
pub(crate) mod vite;
#[cfg(postgres)]
pub(crate) mod way;
pub(crate) mod workspace;
