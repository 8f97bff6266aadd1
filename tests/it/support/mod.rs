//! What the tests share.

pub(crate) mod attempts;
pub(crate) mod browser;
pub(crate) mod client;
mod clock;
pub(crate) mod foreign;
pub(crate) mod lock;
pub(crate) mod pyjwt;
pub(crate) mod server;
pub(crate) mod sqlite;
pub(crate) mod workspace;
