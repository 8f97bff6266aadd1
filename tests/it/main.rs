//! Everything that needs a real database or a running server, in one binary.
//!
//! `laws` are what every store must obey, run once for each; `support` is what the tests share.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test says no")]

mod architecture;
mod common_passwords;
mod journeys;
mod settings;
mod support;

// Another database is another module of this form. The path keeps it from being sought in a folder of its own.
#[path = "."]
mod sqlite {
    mod laws;

    pub(crate) use crate::support::sqlite::fresh;
}
