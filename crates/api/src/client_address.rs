//! The client's address, from the one place that may say it: the TCP peer. No header is believed, since
//! anyone can send one.

use std::net::{IpAddr, Ipv6Addr};

use actix_web::HttpRequest;
use actix_web::dev::ServiceRequest;

/// The address of whoever sent this request.
#[expect(clippy::disallowed_methods, reason = "this is the module that may ask")]
pub(crate) fn of(request: &HttpRequest) -> IpAddr {
    canonical(request.peer_addr().map(|peer| peer.ip()))
}

/// The same, before the request has been routed.
#[expect(clippy::disallowed_methods, reason = "this is the module that may ask")]
pub(crate) fn of_unrouted(request: &ServiceRequest) -> IpAddr {
    canonical(request.peer_addr().map(|peer| peer.ip()))
}

/// An IPv4 address is one address, however the listener sees it. Where there is no peer, as on a socket that
/// is no TCP socket, everybody is the same nobody.
fn canonical(peer: Option<IpAddr>) -> IpAddr {
    peer.map_or(Ipv6Addr::UNSPECIFIED.into(), |address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn an_ipv4_address_in_ipv6_clothes_is_an_ipv4_address() {
        let request = TestRequest::default().peer_addr("[::ffff:192.0.2.7]:4711".parse().unwrap());

        assert_eq!(of(&request.to_http_request()).to_string(), "192.0.2.7");
    }

    #[test]
    fn headers_say_nothing_of_the_address() {
        let request = TestRequest::default()
            .peer_addr("192.0.2.7:4711".parse().unwrap())
            .insert_header(("X-Forwarded-For", "198.51.100.1"))
            .insert_header(("Forwarded", "for=198.51.100.1"))
            .insert_header(("X-Real-IP", "198.51.100.1"));

        assert_eq!(of(&request.to_http_request()).to_string(), "192.0.2.7");
    }
}
