//! What the tests share.

mod clock;
pub(crate) mod sqlite;
