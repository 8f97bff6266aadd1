//! What the tests share.

mod clock;
pub(crate) mod server;
pub(crate) mod sqlite;
