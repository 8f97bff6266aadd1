//! What happens to every request before its handler, and to every answer after it.

pub(crate) mod cors;
pub(crate) mod rate_limit;
pub(crate) mod request_scope;
pub(crate) mod trace_context;
