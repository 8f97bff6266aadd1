//! Who is told of requests besides the log.

use std::time::Duration;

use crate::middleware::trace_context::Trace;

/// Is told of every request when its answer goes out, or when its client went away before. It must not keep the request
/// waiting.
pub trait Observer: Send + Sync {
    /// A request has ended.
    fn ended(&self, exchange: &Exchange<'_>);
}

/// A request and its answer, as far as they concern others: nothing in it is of a client's choosing but the identifiers
/// of the trace.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// The method, `OTHER` for one that nobody knows.
    pub method: &'static str,
    /// The template of the path; nothing for a path that nobody serves.
    pub route: Option<&'a str>,
    /// The status; 499 stands for a client that went away.
    pub status: u16,
    /// The code of the problem, if it was one.
    pub code: Option<&'static str>,
    /// The trace that it belongs to.
    pub trace: Trace,
    /// How long it took.
    pub took: Duration,
}
