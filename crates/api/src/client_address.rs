//! The client's address: the TCP peer, or the address that a trusted proxy names.
//!
//! Every client can send `Forwarded` (RFC 7239), `X-Forwarded-For` or `X-Real-IP`, so one of them counts, the one that
//! the operator names, and only where the peer is a trusted proxy. Each proxy appends the address it was asked from, so
//! the list is read from its right end, for as long as the address there is a trusted proxy too. The entry at the right
//! end is the trusted proxy's own. What a client wrote stands left of it, and cannot make it unreadable.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use actix_web::HttpMessage;
use actix_web::HttpRequest;
use actix_web::dev::ServiceRequest;
use actix_web::http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue, X_FORWARDED_FOR};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The parts of the IPv4 address space that hosts have addresses from, multicast and reserved addresses left out.
const IPV4_UNICAST: [IpNet; 3] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 1)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(128, 0, 0, 0), 2)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 0, 0), 3)),
];

/// The addresses of the IPv6 Internet (RFC 4291, section 2.4).
const IPV6_GLOBAL: IpNet = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3));

/// The proxies that are believed when they say for which client they ask, and the header in which they say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    header: ClientIpHeader,
}

/// The header in which trusted proxies name the client. The others are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientIpHeader {
    /// `X-Forwarded-For`: addresses between commas, and no quoting.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// `X-Real-IP`: one address, which the proxy writes anew.
    XRealIp,
}

/// What was found out when the request came in.
#[derive(Clone, Copy)]
struct ClientAddress(IpAddr);

impl ClientIpHeader {
    /// Reads the name of a header, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        let known = [Self::XForwardedFor, Self::Forwarded, Self::XRealIp];
        known.into_iter().find(|header| header.name().as_str().eq_ignore_ascii_case(name))
    }

    fn name(self) -> HeaderName {
        match self {
            Self::XForwardedFor => X_FORWARDED_FOR,
            Self::Forwarded => FORWARDED,
            Self::XRealIp => X_REAL_IP,
        }
    }

    /// The right-most entry of a line, and what stands left of it.
    fn split_last(self, line: &[u8]) -> (&[u8], Option<&[u8]>) {
        let comma = match self {
            Self::Forwarded => last_unquoted(line, b','),
            Self::XForwardedFor | Self::XRealIp => line.iter().rposition(|byte| *byte == b','),
        };
        match comma {
            Some(comma) => (&line[comma + 1..], Some(&line[..comma])),
            None => (line, None),
        }
    }

    fn address_of(self, entry: &[u8]) -> Option<IpAddr> {
        match self {
            Self::Forwarded => node_of(entry).and_then(address_of),
            Self::XForwardedFor | Self::XRealIp => address_of(entry),
        }
    }
}

impl TrustedProxies {
    /// None are trusted if there are no networks. Networks of IPv4-mapped IPv6 addresses (`::ffff:10.0.0.0/104`) are the
    /// IPv4 networks that they map. `None` if the networks, alone or together, hold every client: a proxy that is every
    /// client would believe every client.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Option<Self> {
        let networks = IpNet::aggregate(&networks.into_iter().map(canonical).collect());
        let holds = |part: &IpNet| networks.iter().any(|network| network.contains(part));
        let holds_everybody = IPV4_UNICAST.iter().all(holds) || holds(&IPV6_GLOBAL);
        (!holds_everybody).then_some(Self { networks, ..Self::default() })
    }

    /// The same proxies, which name the client in this header.
    #[must_use]
    pub fn with_header(self, header: ClientIpHeader) -> Self {
        Self { header, ..self }
    }

    /// Whether this address is a trusted proxy's.
    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// The client for which a peer asks, which is the peer itself unless it is trusted.
    fn client_of(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer;
        let lines: Vec<&HeaderValue> = headers.get_all(self.header.name()).collect();
        for line in lines.into_iter().rev() {
            let mut rest = Some(line.as_bytes());
            while let (true, Some(line)) = (self.contain(client), rest) {
                let (entry, left) = self.header.split_last(line);
                rest = left;
                let entry = entry.trim_ascii();
                // A list may have empty entries, which do not count (RFC 9110, section 5.6.1).
                if entry.is_empty() {
                    continue;
                }
                // Beyond an entry that cannot be read nothing counts: it was written by the last client that can.
                let Some(address) = self.header.address_of(entry) else { return client };
                client = address;
            }
        }
        client
    }
}

/// The IPv4 network that a network of IPv4-mapped addresses stands for. One that has all of these among others is all
/// of IPv4.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(ipv6) = network else { return network };
    let mapped = Ipv6Net::new_assert(std::net::Ipv4Addr::UNSPECIFIED.to_ipv6_mapped(), 96);
    if ipv6.contains(&mapped) {
        return IpNet::V4(Ipv4Net::default());
    }
    let ipv4 = ipv6.network().to_ipv4_mapped().zip(ipv6.prefix_len().checked_sub(96));
    ipv4.and_then(|(address, length)| Ipv4Net::new(address, length).ok()).map_or(network, IpNet::V4)
}

/// The place of the last separator that is in no quoted string (RFC 9110, section 5.6.4), as read from the right: what a
/// client wrote further left cannot open a string that what a proxy appended would be in.
fn last_unquoted(line: &[u8], separator: u8) -> Option<usize> {
    let is_escaped = |place: usize| {
        let backslashes = line[..place].iter().rev().take_while(|byte| **byte == b'\\').count();
        backslashes % 2 == 1
    };
    let mut quoted = false;
    for (place, byte) in line.iter().enumerate().rev() {
        if *byte == b'"' && !(quoted && is_escaped(place)) {
            quoted = !quoted;
        } else if *byte == separator && !quoted {
            return Some(place);
        }
    }
    None
}

/// The only `for` of an element of `Forwarded`.
fn node_of(element: &[u8]) -> Option<&[u8]> {
    let mut node = None;
    let mut rest = Some(element);
    while let Some(left) = rest {
        let semicolon = last_unquoted(left, b';');
        let pair = semicolon.map_or(left, |semicolon| &left[semicolon + 1..]).trim_ascii();
        rest = semicolon.map(|semicolon| &left[..semicolon]);
        let value = pair.split_at_checked(4).filter(|(name, _)| name.eq_ignore_ascii_case(b"for="));
        if let Some((_, value)) = value
            && node.replace(value).is_some()
        {
            return None;
        }
    }
    let node = node?;
    match node.strip_prefix(b"\"") {
        Some(rest) => rest.strip_suffix(b"\""),
        None => Some(node),
    }
}

/// An address, with or without a port. Names such as `unknown` and `_hidden` are none.
fn address_of(node: &[u8]) -> Option<IpAddr> {
    let node = std::str::from_utf8(node).ok()?;
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

/// Whether a request came by a trusted proxy, whose connections are those of many clients.
#[expect(clippy::disallowed_methods, reason = "this is the module that may ask")]
pub(crate) fn is_by_proxy(request: &ServiceRequest, proxies: &TrustedProxies) -> bool {
    request.peer_addr().is_some_and(|peer| proxies.contain(peer.ip().to_canonical()))
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

    fn trusted(networks: &[&str]) -> Option<TrustedProxies> {
        TrustedProxies::new(networks.iter().map(|network| network.parse().unwrap()))
    }

    /// The client that is found for a peer and headers, with some proxies trusted that write this header.
    fn found_in(header: ClientIpHeader, peer: &str, headers: &[(&str, &[u8])]) -> String {
        let proxies = trusted(&PROXIES).unwrap().with_header(header);
        let mut request = TestRequest::default().peer_addr(peer.parse().unwrap());
        for (name, value) in headers {
            request = request.append_header((*name, HeaderValue::from_bytes(value).unwrap()));
        }
        let request = request.to_srv_request();
        let client = find_out(&request, &proxies);
        assert_eq!(of(request.request()), client);
        client.to_string()
    }

    /// The same by one line of the header that counts, from a proxy.
    fn named(header: ClientIpHeader, line: impl AsRef<[u8]>) -> String {
        let name = header.name();
        found_in(header, "10.0.0.1:4711", &[(name.as_str(), line.as_ref())])
    }

    #[test]
    fn an_ipv4_address_in_ipv6_clothes_is_an_ipv4_address() {
        let found = |peer, headers: &[_]| found_in(ClientIpHeader::XForwardedFor, peer, headers);

        assert_eq!(found("[::ffff:198.51.100.7]:4711", &[]), "198.51.100.7");
        let mapped: &[u8] = b"::ffff:198.51.100.7";
        assert_eq!(found("[::ffff:10.0.0.1]:4711", &[("x-forwarded-for", mapped)]), "198.51.100.7");
    }

    #[test]
    fn headers_of_a_stranger_say_nothing() {
        let headers: [(&str, &[u8]); 3] = [
            ("X-Forwarded-For", b"198.51.100.1"),
            ("Forwarded", b"for=198.51.100.1"),
            ("X-Real-IP", b"198.51.100.1"),
        ];

        for header in [ClientIpHeader::XForwardedFor, ClientIpHeader::Forwarded, ClientIpHeader::XRealIp] {
            assert_eq!(found_in(header, "203.0.113.9:4711", &headers), "203.0.113.9");
        }
    }

    #[test]
    fn one_header_counts_and_the_others_are_ignored() {
        let headers: [(&str, &[u8]); 3] = [
            ("X-Forwarded-For", b"198.51.100.1"),
            ("Forwarded", b"for=198.51.100.2"),
            ("X-Real-IP", b"198.51.100.3"),
        ];

        for (header, client) in [
            (ClientIpHeader::XForwardedFor, "198.51.100.1"),
            (ClientIpHeader::Forwarded, "198.51.100.2"),
            (ClientIpHeader::XRealIp, "198.51.100.3"),
        ] {
            assert_eq!(found_in(header, "10.0.0.1:4711", &headers), client);
            let others: Vec<_> = headers.into_iter().filter(|(name, _)| header.name() != *name).collect();
            assert_eq!(found_in(header, "10.0.0.1:4711", &others), "10.0.0.1");
        }
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
            assert_eq!(named(ClientIpHeader::XForwardedFor, list), client, "{list}");
        }
        assert_eq!(named(ClientIpHeader::XRealIp, "198.51.100.7"), "198.51.100.7");
    }

    #[test]
    fn what_comes_in_several_lines_is_one_list() {
        let found = |lines: [&'static str; 2]| {
            let lines = lines.map(|line| ("x-forwarded-for", line.as_bytes()));
            found_in(ClientIpHeader::XForwardedFor, "10.0.0.1:4711", &lines)
        };

        assert_eq!(found(["203.0.113.1, 198.51.100.7", "10.1.2.3"]), "198.51.100.7");
        assert_eq!(found(["\"", "198.51.100.7"]), "198.51.100.7");
        assert_eq!(found(["\"203.0.113.1", "198.51.100.7, 10.1.2.3"]), "198.51.100.7");
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
            ("for=203.0.113.1, for=198.51.100.7;by=\"_a,for=203.0.113.2;\\\"\"", "198.51.100.7"),
            ("for=203.0.113.1, for=198.51.100.7;by=\"_a,for=203.0.113.2;\\\\\"", "198.51.100.7"),
            ("for=203.0.113.1, by=\"a\\\",b\";for=198.51.100.7", "198.51.100.7"),
        ] {
            assert_eq!(named(ClientIpHeader::Forwarded, list), client, "{list}");
        }
    }

    /// What a client may send, and a proxy appends its address to.
    const BROKEN: [&[u8]; 12] = [
        b"",
        b"\"",
        b"for=\"",
        b"for=\"203.0.113.1",
        b"for=\"\\",
        b"\\",
        b"\\\"",
        b"unknown",
        b"_hidden, \"",
        b"\xff\xfe",
        b"a;b=\";",
        b",,\",,",
    ];

    #[test]
    fn broken_list_of_a_client_hides_no_address() {
        for broken in BROKEN {
            for separator in [",", ", ", " , "] {
                let shown = String::from_utf8_lossy(broken);
                let list = |entry: &str| [broken, separator.as_bytes(), entry.as_bytes()].concat();

                let plain = named(ClientIpHeader::XForwardedFor, list("198.51.100.7, 10.1.2.3"));
                let real = named(ClientIpHeader::XRealIp, list("198.51.100.7"));
                let standard = list("for=198.51.100.7;proto=https, for=\"10.1.2.3:80\"");
                let standard = named(ClientIpHeader::Forwarded, standard);

                assert_eq!([plain, real, standard], ["198.51.100.7"; 3], "{shown:?}{separator}");
            }
        }
    }

    #[test]
    fn where_the_list_cannot_be_read_the_last_proxy_that_could_be_is_counted() {
        let (plain, standard) = (ClientIpHeader::XForwardedFor, ClientIpHeader::Forwarded);
        for (header, list, client) in [
            (plain, "", "10.0.0.1"),
            (plain, "a", "10.0.0.1"),
            (plain, "unknown", "10.0.0.1"),
            (plain, "198.51.100.7, 999.1.1.1", "10.0.0.1"),
            (plain, "198.51.100.7, not one, 10.1.2.3", "10.1.2.3"),
            (plain, "198.51.100.7 10.1.2.3", "10.0.0.1"),
            (plain, "\"198.51.100.7\"", "10.0.0.1"),
            (standard, "for=unknown", "10.0.0.1"),
            (standard, "for=_hidden, for=10.1.2.3", "10.1.2.3"),
            (standard, "proto=https", "10.0.0.1"),
            (standard, "for=198.51.100.7;for=203.0.113.1", "10.0.0.1"),
            (standard, "for=\"198.51.100.7", "10.0.0.1"),
            (standard, "198.51.100.7", "10.0.0.1"),
        ] {
            assert_eq!(named(header, list), client, "{header:?}: {list}");
        }
    }

    #[test]
    fn mapped_ipv4_networks_are_ipv4_networks() {
        let proxies = trusted(&["::ffff:127.0.0.0/104", "::ffff:10.1.2.3/128"]).unwrap();

        assert!(proxies.contain("127.9.9.9".parse().unwrap()));
        assert!(proxies.contain("10.1.2.3".parse().unwrap()));
        assert!(!proxies.contain("10.1.2.4".parse().unwrap()));
        assert_eq!(proxies, trusted(&["127.0.0.0/8", "10.1.2.3/32"]).unwrap());
    }

    #[test]
    fn networks_that_hold_every_client_are_refused() {
        for networks in [
            &["0.0.0.0/0"][..],
            &["::/0"],
            &["::ffff:0:0/96"],
            &["::ffff:0:0/95"],
            &["::/64"],
            &["0.0.0.0/1", "128.0.0.0/1"],
            &["::ffff:0.0.0.0/97", "128.0.0.0/1"],
            &["::/1", "8000::/1"],
            &["10.0.0.0/8", "2000::/4", "3000::/4"],
            &["0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/3"],
        ] {
            assert_eq!(trusted(networks), None, "{networks:?}");
        }
        for networks in
            [&[][..], &["10.0.0.0/8"], &["0.0.0.0/1"], &["fd00::/8", "2001:db8::/32"], &["::1/128"]]
        {
            assert!(trusted(networks).is_some(), "{networks:?}");
        }
    }
}
