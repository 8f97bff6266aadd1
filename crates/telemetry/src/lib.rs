//! What operators see of a server: its log, its metrics, its traces and its error reports.
//!
//! Nothing here starts a thread or a connection while it is off. What leaves the machine holds no secret and nothing about a
//! client beyond what the module that sends it names.
//!
//! Start reading at [`logging`]; [`metrics`] has the text format, and the server fills it.

pub mod audit_lines;
mod buffered_writer;
pub mod error_reports;
pub mod logging;
pub mod metrics;
mod outbox;
pub mod traces;
