//! The issuer of a server that is given none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// In production, where it has to be named: what it was before anybody could depend on the listener.
pub(super) const IN_PRODUCTION: &str = "http://localhost:8000";

/// The URL by which a browser on this machine finds a listener.
pub(super) fn of(address: SocketAddr, is_tls: bool) -> String {
    let (scheme, default_port) = if is_tls { ("https", 443) } else { ("http", 80) };
    let ip = address.ip().to_canonical();
    let localhost: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let host = match ip {
        ip if ip.is_unspecified() || localhost.contains(&ip) => "localhost".to_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    // Browsers leave out the port that the scheme has anyway.
    if address.port() == default_port {
        format!("{scheme}://{host}")
    } else {
        format!("{scheme}://{host}:{}", address.port())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn issuer_follows_from_the_listener() {
        for (address, is_tls, url) in [
            ("127.0.0.1:8000", false, "http://localhost:8000"),
            ("127.0.0.1:18200", false, "http://localhost:18200"),
            ("[::1]:18200", false, "http://localhost:18200"),
            ("[::ffff:127.0.0.1]:18200", false, "http://localhost:18200"),
            ("0.0.0.0:18200", false, "http://localhost:18200"),
            ("[::]:18200", true, "https://localhost:18200"),
            ("127.0.0.2:18200", false, "http://127.0.0.2:18200"),
            ("192.0.2.7:18200", true, "https://192.0.2.7:18200"),
            ("[2001:db8::7]:18200", true, "https://[2001:db8::7]:18200"),
            ("127.0.0.1:80", false, "http://localhost"),
            ("127.0.0.1:443", true, "https://localhost"),
            ("127.0.0.1:443", false, "http://localhost:443"),
        ] {
            assert_eq!(super::of(address.parse().unwrap(), is_tls), url, "{address}");
        }
    }
}
