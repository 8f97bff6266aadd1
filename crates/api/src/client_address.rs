//! The client's address, from the one place that may say it: the TCP peer, or whom a trusted proxy names.
//!
//! Anybody can send `Forwarded` (RFC 7239) or `X-Forwarded-For`, so they count only where the peer is a proxy that the
//! operator named. Each proxy appends the address it was asked from, so the list is read from its end, for as long as
//! what stands there is a trusted proxy too; who comes before the first that is not could be made up. Where the list
//! cannot be read any further, the last proxy that could is taken for the client: nobody gets out of a limit by a
//! header that makes no sense.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use actix_web::HttpMessage;
use actix_web::HttpRequest;
use actix_web::dev::ServiceRequest;
use actix_web::http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue, X_FORWARDED_FOR};
use ipnet::IpNet;

/// The networks whose machines are believed when they say for whom they ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

/// What was found out when the request came in.
#[derive(Clone, Copy)]
struct ClientAddress(IpAddr);

impl TrustedProxies {
    /// None are trusted if there are no networks.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self(networks.into_iter().collect())
    }

    /// Whether the machine with this address is one.
    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// For whom a peer asks, which is itself unless it is trusted.
    fn client_of(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.contain(peer) {
            return peer;
        }
        match (self.walk(peer, headers, &FORWARDED), self.walk(peer, headers, &X_FORWARDED_FOR)) {
            (None, None) => peer,
            (Some(client), None) | (None, Some(client)) => client,
            // A proxy that writes one of the two lets the other through as the client wrote it, and nothing tells which.
            (Some(one), Some(other)) => {
                if one == other {
                    one
                } else {
                    peer
                }
            }
        }
    }

    /// The last in the list that is no trusted proxy, if there is this header.
    fn walk(&self, peer: IpAddr, headers: &HeaderMap, name: &HeaderName) -> Option<IpAddr> {
        let lines: Vec<&HeaderValue> = headers.get_all(name).collect();
        if lines.is_empty() {
            return None;
        }
        let mut last = peer;
        for line in lines.into_iter().rev() {
            let Ok(line) = line.to_str() else { return Some(last) };
            for element in elements(line).into_iter().rev() {
                let node = if *name == FORWARDED { node_of(element) } else { Some(element) };
                let Some(address) = node.and_then(address_of) else { return Some(last) };
                last = address;
                if !self.contain(address) {
                    return Some(last);
                }
            }
        }
        Some(last)
    }
}

/// The parts between the commas that are not within quotes. An empty one, which a list may have (RFC 9110, section
/// 5.6.1), is none.
fn elements(line: &str) -> Vec<&str> {
    split(line, ',').into_iter().map(str::trim).filter(|element| !element.is_empty()).collect()
}

/// The parts between separators that are not within a quoted string (RFC 9110, section 5.6.4).
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(|c| {
        let ends = !quoted && c == separator;
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        ends
    })
    .collect()
}

/// The only `for` of an element of `Forwarded`.
fn node_of(element: &str) -> Option<&str> {
    let mut nodes = split(element, ';').into_iter().filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    });
    let (Some(only), None) = (nodes.next(), nodes.next()) else { return None };
    match only.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"'),
        None => Some(only),
    }
}

/// An address, with or without a port. Names such as `unknown` and `_hidden` are none.
fn address_of(node: &str) -> Option<IpAddr> {
    let bracketed = || node.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || node.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address = node.parse().ok().or_else(bracketed).or_else(with_port)?;
    Some(address.to_canonical())
}

/// Finds out who sent a request, and has [`of`] know it.
#[expect(clippy::disallowed_methods, reason = "this is the module that may ask")]
pub(crate) fn find_out(request: &ServiceRequest, proxies: &TrustedProxies) -> IpAddr {
    // Where there is no peer, as on a socket that is no TCP socket, everybody is the same nobody.
    let peer = request.peer_addr().map_or(Ipv6Addr::UNSPECIFIED.into(), |peer| peer.ip().to_canonical());
    let client = proxies.client_of(peer, request.headers());
    request.extensions_mut().insert(ClientAddress(client));
    client
}

/// The address of whoever sent this request.
pub(crate) fn of(request: &HttpRequest) -> IpAddr {
    request.extensions().get().map_or(Ipv6Addr::UNSPECIFIED.into(), |ClientAddress(address)| *address)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    const PROXIES: [&str; 3] = ["10.0.0.0/8", "192.0.2.1/32", "2001:db8:ffff::/48"];

    /// Who is found out for a peer and headers, with some proxies trusted.
    fn found(peer: &str, headers: &[(&str, &str)]) -> String {
        let proxies = TrustedProxies::new(PROXIES.iter().map(|network| network.parse().unwrap()));
        let mut request = TestRequest::default().peer_addr(peer.parse().unwrap());
        for header in headers {
            request = request.append_header(*header);
        }
        let request = request.to_srv_request();
        let client = find_out(&request, &proxies);
        assert_eq!(of(request.request()), client);
        client.to_string()
    }

    #[test]
    fn an_ipv4_address_in_ipv6_clothes_is_an_ipv4_address() {
        assert_eq!(found("[::ffff:198.51.100.7]:4711", &[]), "198.51.100.7");
        assert_eq!(
            found("[::ffff:10.0.0.1]:4711", &[("x-forwarded-for", "::ffff:198.51.100.7")]),
            "198.51.100.7"
        );
    }

    #[test]
    fn headers_of_a_stranger_say_nothing() {
        let headers = [
            ("X-Forwarded-For", "198.51.100.1"),
            ("Forwarded", "for=198.51.100.1"),
            ("X-Real-IP", "198.51.100.1"),
        ];

        assert_eq!(found("203.0.113.9:4711", &headers), "203.0.113.9");
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_so_are_those_behind_it_up_to_the_first_stranger() {
        for (list, client) in [
            ("198.51.100.7", "198.51.100.7"),
            ("198.51.100.7:61234", "198.51.100.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:61234", "2001:db8::7"),
            ("198.51.100.7, 10.1.2.3", "198.51.100.7"),
            ("198.51.100.7,10.1.2.3, 192.0.2.1,2001:db8:ffff::1", "198.51.100.7"),
            // What a client made up comes before what the proxy added.
            ("127.0.0.1, 198.51.100.7", "198.51.100.7"),
            ("10.9.9.9, 198.51.100.7, 10.1.2.3", "198.51.100.7"),
            // Somebody within, who asks through the proxy.
            ("10.1.2.3", "10.1.2.3"),
            (" , 198.51.100.7, ,", "198.51.100.7"),
        ] {
            assert_eq!(found("10.0.0.1:4711", &[("x-forwarded-for", list)]), client, "{list}");
        }
    }

    #[test]
    fn what_comes_in_several_lines_is_one_list() {
        let lines = [("x-forwarded-for", "203.0.113.1, 198.51.100.7"), ("x-forwarded-for", "10.1.2.3")];

        assert_eq!(found("10.0.0.1:4711", &lines), "198.51.100.7");
    }

    #[test]
    fn forwarded_is_read_as_its_specification_writes_it() {
        for (list, client) in [
            ("for=198.51.100.7", "198.51.100.7"),
            ("For=\"198.51.100.7:61234\"", "198.51.100.7"),
            ("for=\"[2001:db8::7]:61234\"", "2001:db8::7"),
            ("proto=https;for=198.51.100.7;by=10.0.0.1", "198.51.100.7"),
            ("for=203.0.113.1, for=198.51.100.7;proto=https , for=10.1.2.3", "198.51.100.7"),
            // Commas and semicolons within quotes separate nothing.
            ("for=203.0.113.1;by=\"_a,for=203.0.113.2;\\\"\", for=198.51.100.7", "198.51.100.7"),
        ] {
            assert_eq!(found("10.0.0.1:4711", &[("forwarded", list)]), client, "{list}");
        }
    }

    #[test]
    fn where_the_list_cannot_be_read_the_last_proxy_that_could_be_is_counted() {
        for (name, list, client) in [
            ("x-forwarded-for", "", "10.0.0.1"),
            ("x-forwarded-for", "a", "10.0.0.1"),
            ("x-forwarded-for", "unknown", "10.0.0.1"),
            ("x-forwarded-for", "198.51.100.7, 999.1.1.1", "10.0.0.1"),
            ("x-forwarded-for", "198.51.100.7, not one, 10.1.2.3", "10.1.2.3"),
            ("x-forwarded-for", "198.51.100.7 10.1.2.3", "10.0.0.1"),
            ("x-forwarded-for", "\"198.51.100.7\"", "10.0.0.1"),
            ("forwarded", "for=unknown", "10.0.0.1"),
            ("forwarded", "for=_hidden, for=10.1.2.3", "10.1.2.3"),
            ("forwarded", "proto=https", "10.0.0.1"),
            ("forwarded", "for=198.51.100.7;for=203.0.113.1", "10.0.0.1"),
            ("forwarded", "for=\"198.51.100.7", "10.0.0.1"),
            ("forwarded", "198.51.100.7", "10.0.0.1"),
        ] {
            assert_eq!(found("10.0.0.1:4711", &[(name, list)]), client, "{name}: {list}");
        }
    }

    #[test]
    fn two_headers_count_only_if_they_say_the_same() {
        let both = |forwarded, other| {
            found("10.0.0.1:4711", &[("forwarded", forwarded), ("x-forwarded-for", other)])
        };

        assert_eq!(both("for=198.51.100.7", "198.51.100.7"), "198.51.100.7");
        assert_eq!(both("for=127.0.0.1", "198.51.100.7"), "10.0.0.1");
        assert_eq!(both("for=198.51.100.7", "127.0.0.1"), "10.0.0.1");
    }
}
