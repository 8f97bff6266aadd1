//! Whom requests are counted for when no account says who somebody is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The network that a client sends from: an IPv4 address, or the /64 of an IPv6 address, within which a host
/// gives itself as many addresses as it likes (RFC 4291, section 2.5.1; RFC 8981).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientNetwork(IpAddr);

impl ClientNetwork {
    /// This machine's own.
    pub const LOCALHOST: Self = Self(IpAddr::V4(Ipv4Addr::LOCALHOST));

    /// The network of this address.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        })
    }

    /// Its first address, of which it is the network.
    pub fn first_address(self) -> IpAddr {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> ClientNetwork {
        ClientNetwork::of(address.parse().unwrap())
    }

    #[test]
    fn an_ipv4_address_is_a_network_of_its_own_in_either_spelling() {
        assert_eq!(of("192.0.2.7"), of("::ffff:192.0.2.7"));
        assert_ne!(of("192.0.2.7"), of("192.0.2.8"));
    }

    #[test]
    fn ipv6_addresses_share_their_first_half() {
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
        assert_eq!(of("2001:db8:0:1::7").first_address().to_string(), "2001:db8:0:1::");
    }
}
