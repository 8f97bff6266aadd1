//! The text format of Prometheus, and what can be counted without asking an adapter.

mod attempts;
mod exposition;
mod process;

pub use self::attempts::CountedAttempts;
pub use self::exposition::{Exposition, Family, Labels, seconds};
pub use self::process::Process;
