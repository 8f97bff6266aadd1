//! The listener of clients, and the pages that may ask it.

use std::net::SocketAddr;
use std::num::NonZero;
use std::time::Duration;

use actix_web::http::header::HeaderName;

use super::keys::{DefaultValue, Key, Setting};
use super::reading::Reading;
use super::{Tls, Warning, readers};

/// The listener.
#[derive(Clone, Debug)]
pub struct Http {
    /// Where it listens.
    pub address: SocketAddr,
    /// How long a stop waits for requests in flight.
    pub grace: Duration,
    /// How long a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// How many connections there may be, unless the limit of open files decides.
    pub max_connections: Option<NonZero<usize>>,
    /// Who is believed about for whom they ask.
    pub trusted_proxies: api::TrustedProxies,
    /// What it speaks TLS with, if it does.
    pub tls: Option<Tls>,
    /// Where passwords are changed, if there is a page for it.
    pub change_password_page: Option<String>,
}

pub(crate) static HTTP_ADDR: Setting<SocketAddr> = Setting {
    key: Key::text("AUTH_HTTP__ADDR", DefaultValue::Text("127.0.0.1:8000"), "address and port to listen on"),
    read: readers::address,
};

pub(crate) static HTTP_BEHIND_TLS_PROXY: Setting<bool> = Setting {
    key: Key::flag(
        "AUTH_HTTP__BEHIND_TLS_PROXY",
        DefaultValue::Text("false"),
        "allows plain HTTP on an address other than loopback, because a proxy before it speaks TLS",
    ),
    read: readers::flag,
};

pub(crate) static HTTP_TRUSTED_PROXIES: Setting<api::TrustedProxies> = Setting {
    key: Key::text(
        "AUTH_HTTP__TRUSTED_PROXIES",
        DefaultValue::Text(""),
        "networks of the proxies that are believed about the client's address, with commas between them",
    )
    .live()
    .trimmed(),
    read: readers::trusted_proxies,
};

pub(crate) static HTTP_CLIENT_IP_HEADER: Setting<api::ClientIpHeader> = Setting {
    key: Key::text(
        "AUTH_HTTP__CLIENT_IP_HEADER",
        DefaultValue::Text("x-forwarded-for"),
        "the header in which trusted proxies name the client: x-forwarded-for, forwarded or x-real-ip",
    )
    .live(),
    read: readers::client_ip_header,
};

pub(crate) static HTTP_GRACE: Setting<Duration> = Setting {
    key: Key::text(
        "AUTH_HTTP__GRACE",
        DefaultValue::Text("20s"),
        "how long a stop waits for requests that have begun",
    ),
    read: readers::grace,
};

pub(crate) static HTTP_CHANGE_PASSWORD_PAGE: Setting<Option<String>> = Setting {
    key: Key::text(
        "AUTH_HTTP__CHANGE_PASSWORD_PAGE",
        DefaultValue::Text(""),
        "page that /.well-known/change-password redirects to; empty for none",
    ),
    read: readers::change_password_page,
};

pub(crate) static HTTP_IDLE_TIMEOUT: Setting<Duration> = Setting {
    key: Key::text(
        "AUTH_HTTP__IDLE_TIMEOUT",
        DefaultValue::Text("75s"),
        "how long a connection may wait for its next request; longer than your load balancer keeps it",
    ),
    read: readers::idle_timeout,
};

pub(crate) static HTTP_MAX_CONNECTIONS: Setting<NonZero<usize>> = Setting {
    key: Key::number(
        "AUTH_HTTP__MAX_CONNECTIONS",
        DefaultValue::Depends("8192, or fewer if the limit of open files demands it"),
        "connections of clients that may be open at once",
    ),
    read: readers::max_connections,
};

pub(crate) static CORS_ORIGINS: Setting<Vec<api::Origin>> = Setting {
    key: Key::text(
        "AUTH_CORS__ORIGINS",
        DefaultValue::Text(""),
        "origins whose pages may ask from a browser, with commas between them",
    )
    .live()
    .trimmed(),
    read: readers::origins,
};

pub(crate) static CORS_HEADERS: Setting<Vec<HeaderName>> = Setting {
    key: Key::text(
        "AUTH_CORS__HEADERS",
        DefaultValue::Text(""),
        "headers that these pages may send beside the usual ones, with commas between them",
    )
    .live()
    .trimmed(),
    read: readers::header_names,
};

impl Reading {
    pub(crate) fn http(&mut self) -> Option<Http> {
        let address = self.read(&HTTP_ADDR);
        let behind_tls_proxy = self.read(&HTTP_BEHIND_TLS_PROXY);
        let grace = self.read(&HTTP_GRACE);
        let idle_timeout = self.read(&HTTP_IDLE_TIMEOUT);
        let max_connections = self.read(&HTTP_MAX_CONNECTIONS);
        let trusted_proxies = self.read(&HTTP_TRUSTED_PROXIES);
        let client_ip_header = self.read(&HTTP_CLIENT_IP_HEADER);
        if behind_tls_proxy == Some(true) && trusted_proxies == Some(api::TrustedProxies::default()) {
            self.sources.warnings.push(Warning(format!(
                "{} is not set, so all who come through the proxy are counted as one client, which will soon have sent \
                 too much; name the networks of your proxies",
                HTTP_TRUSTED_PROXIES.key.name
            )));
        }
        let tls = self.tls();
        let change_password_page = self.read(&HTTP_CHANGE_PASSWORD_PAGE);
        let address = address?;
        if !address.ip().to_canonical().is_loopback() && tls.is_none() && !behind_tls_proxy? {
            self.refuse(
                &HTTP_ADDR.key,
                "is not a loopback address, and passwords would cross the network in clear; set AUTH_TLS__CERT_PATH \
                 and AUTH_TLS__KEY_PATH, or put a proxy that speaks TLS before it and set \
                 AUTH_HTTP__BEHIND_TLS_PROXY=true, or listen on 127.0.0.1",
            );
        }
        let trusted_proxies = trusted_proxies?.with_header(client_ip_header?);
        Some(Http {
            address,
            grace: grace?,
            idle_timeout: idle_timeout?,
            max_connections,
            trusted_proxies,
            tls,
            change_password_page: change_password_page?,
        })
    }
}
