//! The binary `auth-api`, as a library: command line, wiring, start and stop.
//!
//! Promises that a server which starts is one that is safe to run as it is configured, that it stops without
//! losing what it began, and that nothing it prints holds a secret. Refuses to know what a request looks like
//! and what a use case does.
//!
//! Start reading at `cli`, which everything begins with; then the crate `settings`, `wiring` and `lifecycle`.

mod causes;
mod cli;
mod connection_limits;
mod console;
mod hardening;
mod lifecycle;
mod metrics;
mod reload;
pub mod secrets;
mod signals;
mod signing_keys;
mod system;
mod tls;
mod wiring;

pub use cli::run;
