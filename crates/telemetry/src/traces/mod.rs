//! Traces for a collector of OpenTelemetry: a span for each request, by OTLP over HTTP.
//!
//! By the semantic conventions for HTTP servers, but for what a client can choose: there is no path, no query and no
//! user agent in a span, and no address.

mod otlp;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use api::{Exchange, Observer, Trace};
use domain::ports::{Clock, Entropy};
use jiff::Timestamp;
use prost::Message as _;
use settings::{Environment, TRACES};

use self::otlp::{
    ExportTraceServiceRequest, KeyValue, Resource, ResourceSpans, Scope, ScopeSpans, Span, SpanKind, Status,
    StatusCode,
};
use crate::outbox::{Limits, Outbox, Recipient};

/// A server that answers tens of thousands of requests a second loses spans, as samplers would have it anyway.
const LIMITS: Limits = Limits { waiting: 4096, together: 512, delay: Duration::from_secs(1) };

/// What every export says of us.
#[derive(Clone, Copy, Debug)]
pub struct Emitter {
    /// Whose machine it is.
    pub environment: Environment,
    /// By which clients know us, `http` or `https`.
    pub scheme: &'static str,
}

/// Makes a span of each request that ends.
pub struct Traces {
    outbox: Outbox<Ended>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

/// A request that has ended.
struct Ended {
    trace: Trace,
    span: [u8; 8],
    method: &'static str,
    route: Option<String>,
    status: u16,
    code: Option<&'static str>,
    at: Timestamp,
    took: Duration,
}

impl Traces {
    /// Starts to export to the collector at `endpoint`, the URL that the paths of its signals are appended to.
    pub fn start(
        endpoint: &str,
        emitter: Emitter,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> io::Result<Self> {
        let mut collector = Recipient::new(format!("{}{TRACES}", endpoint.trim_end_matches('/')), Vec::new());
        let deliver = move |ended: Vec<Ended>| {
            let export = emitter.export(ended).encode_to_vec();
            collector.post("a trace", "application/x-protobuf", &export);
        };
        let outbox = Outbox::start("traces", LIMITS, clock.clone(), deliver)?;
        Ok(Self { outbox, clock, entropy })
    }

    /// Exports what is left.
    pub fn finish(&self, patience: Duration) {
        self.outbox.finish(patience);
    }
}

impl Observer for Traces {
    fn ended(&self, exchange: &Exchange<'_>) {
        if !exchange.trace.is_sampled {
            return;
        }
        let [span @ .., _, _, _, _, _, _, _, _] = self.entropy.draw();
        self.outbox.offer(Ended {
            trace: exchange.trace,
            // Zero is no identifier.
            span: u64::from_be_bytes(span).max(1).to_be_bytes(),
            method: exchange.method,
            route: exchange.route.map(str::to_owned),
            status: exchange.status,
            code: exchange.code,
            at: self.clock.now(),
            took: exchange.took,
        });
    }
}

impl Emitter {
    fn export(self, ended: Vec<Ended>) -> ExportTraceServiceRequest {
        let version = env!("CARGO_PKG_VERSION");
        let resource = Resource {
            attributes: vec![
                KeyValue::text("service.name", "auth-api"),
                KeyValue::text("service.version", version),
                KeyValue::text("deployment.environment.name", self.environment.as_str()),
            ],
        };
        let scope = Scope { name: "auth-api".to_owned(), version: version.to_owned() };
        let spans = ended.into_iter().map(|ended| self.span(ended)).collect();
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
        let resource_spans = vec![ResourceSpans { resource: Some(resource), scope_spans }];
        ExportTraceServiceRequest { resource_spans }
    }

    fn span(self, ended: Ended) -> Span {
        let Ended { trace, span, method, route, status, code, at, took } = ended;
        // What the conventions call a method that nobody knows.
        let is_known = method != "OTHER";
        let mut attributes = vec![
            KeyValue::text("http.request.method", if is_known { method } else { "_OTHER" }),
            KeyValue::text("url.scheme", self.scheme),
        ];
        let mut name = if is_known { method } else { "HTTP" }.to_owned();
        if let Some(route) = route {
            name = format!("{name} {route}");
            attributes.push(KeyValue::text("http.route", route));
        }
        // A client that went away before it was answered has no status.
        let is_answered = status != 499;
        if is_answered {
            attributes.push(KeyValue::number("http.response.status_code", status.into()));
        }
        // What a client does wrong is no error of the server's.
        let is_error = status >= 500;
        if is_error || !is_answered {
            let kind = if is_answered { code.map(str::to_owned) } else { Some("client_gone".to_owned()) };
            attributes.push(KeyValue::text("error.type", kind.unwrap_or_else(|| status.to_string())));
        }
        let end = u64::try_from(at.as_nanosecond()).unwrap_or_default();
        let code = if is_error { StatusCode::Error } else { StatusCode::Unset };
        Span {
            trace_id: trace.id.to_bytes().to_vec(),
            span_id: span.to_vec(),
            parent_span_id: trace.parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
            name,
            kind: SpanKind::Server.into(),
            start_time_unix_nano: end.saturating_sub(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)),
            end_time_unix_nano: end,
            attributes,
            status: Some(Status { code: code.into() }),
            flags: if trace.parent.is_some() { 0x301 } else { 0x101 },
        }
    }
}
