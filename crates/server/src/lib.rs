//! The binary `auth-api`, as a library: configuration, command line, wiring, start and stop.

pub mod config;
