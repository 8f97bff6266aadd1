//! What may change while the server serves.

use std::sync::Arc;

use actix_web::http::header::{HeaderMap, HeaderName};
use domain::SitePrefix;
use domain::ports::Clock;
use parking_lot::RwLock;

use crate::client_address::TrustedProxies;
use crate::middleware::cors::{CrossOrigin, Origin};
use crate::middleware::rate_limit::{Limits, Quotas};
use crate::refused_origins::RefusedOrigins;

/// The choices that an operator may change without a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choices {
    /// Pages of which other origins may ask.
    pub origins: Vec<Origin>,
    /// Which headers these pages may send beside the usual ones.
    pub request_headers: Vec<HeaderName>,
    /// Who is believed about for whom they ask.
    pub trusted_proxies: TrustedProxies,
    /// How many requests somebody may send; without quotas, as many as they like.
    pub quotas: Option<Quotas>,
    /// Which IPv6 networks have their connections counted together.
    pub site_prefix: SitePrefix,
}

/// The choices in force, for everybody who has a clone.
#[derive(Clone)]
pub struct Live {
    current: Arc<RwLock<Arc<Current>>>,
    clock: Arc<dyn Clock>,
    pub(crate) refused_origins: Arc<RefusedOrigins>,
}

/// The choices that one request is served by.
pub(crate) struct Current {
    pub(crate) cross_origin: CrossOrigin,
    pub(crate) trusted_proxies: TrustedProxies,
    pub(crate) limits: Option<Arc<Limits>>,
    pub(crate) site_prefix: SitePrefix,
}

impl Current {
    /// Whether the page that asks is of an origin that the operator named.
    pub(crate) fn admits(&self, headers: &HeaderMap) -> bool {
        self.cross_origin.admission(headers).is_granted()
    }

    fn new(choices: Choices, limits: Option<Arc<Limits>>) -> Self {
        let Choices { origins, request_headers, trusted_proxies, site_prefix, quotas: _ } = choices;
        let cross_origin = CrossOrigin::new(origins, &request_headers);
        Self { cross_origin, trusted_proxies, limits, site_prefix }
    }
}

impl Live {
    /// Puts choices in force.
    pub fn new(choices: Choices, clock: Arc<dyn Clock>) -> Self {
        let limits = choices.quotas.map(|quotas| Arc::new(Limits::new(quotas, &clock)));
        let current = Arc::new(RwLock::new(Arc::new(Current::new(choices, limits))));
        let refused_origins = Arc::new(RefusedOrigins::new(clock.clone()));
        Self { current, clock, refused_origins }
    }

    /// Puts other choices in force, for requests from now on. What was counted goes on being counted unless the
    /// quotas are others.
    pub fn change(&self, choices: Choices) {
        let before = self.current();
        let limits = choices.quotas.map(|quotas| match &before.limits {
            Some(limits) if limits.quotas() == quotas => limits.clone(),
            _ => Arc::new(Limits::new(quotas, &self.clock)),
        });
        let current = Current::new(choices, limits);
        *self.current.write() = Arc::new(current);
    }

    pub(crate) fn current(&self) -> Arc<Current> {
        self.current.read().clone()
    }
}
