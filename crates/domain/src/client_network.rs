//! Whom requests are counted for when no account says who somebody is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The network that a client sends from: an IPv4 address, or the /64 of an IPv6 address, within which a host
/// gives itself as many addresses as it likes (RFC 4291, section 2.5.1; RFC 8981).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientNetwork(IpAddr);

/// The site that IPv6 networks belong to (RFC 6177): what a provider assigns to one customer, a /48 unless an operator says
/// otherwise. A customer has as many /64 networks as they like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientSite(Ipv6Addr);

/// How many leading bits of an IPv6 address make a site, 32 to 64. Under 64 each network is a site of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SitePrefix(u8);

/// How many times as much a site may have as one network.
pub const NETWORKS_PER_SITE: u32 = 4;

impl SitePrefix {
    /// A prefix of this length, if it is one that may be configured.
    pub const fn new(bits: u8) -> Option<Self> {
        if bits >= 32 && bits <= 64 { Some(Self(bits)) } else { None }
    }
}

impl Default for SitePrefix {
    fn default() -> Self {
        Self(48)
    }
}

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

    /// The site that it belongs to; an IPv4 address belongs to none.
    pub fn site(self, SitePrefix(bits): SitePrefix) -> Option<ClientSite> {
        match self.0 {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                Some(ClientSite(Ipv6Addr::from_bits(address.to_bits() & mask)))
            }
        }
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
    fn ipv6_networks_of_one_site_share_its_prefix() {
        let site = |address, bits| of(address).site(SitePrefix::new(bits).unwrap());

        assert_eq!(site("2001:db8:0:1::1", 48), site("2001:db8:0:ffff::1", 48));
        assert_ne!(site("2001:db8:0:1::1", 48), site("2001:db8:1:1::1", 48));
        assert_eq!(site("2001:db8:0:1::1", 32), site("2001:db8:1:1::1", 32));
        assert_ne!(site("2001:db8:0:1::1", 64), site("2001:db8:0:2::1", 64));
        assert_eq!(site("192.0.2.7", 48), None);
        assert_eq!(site("::ffff:192.0.2.7", 48), None);
        assert_eq!([31, 65].map(SitePrefix::new), [None, None]);
        assert_eq!(SitePrefix::new(48), Some(SitePrefix::default()));
    }

    #[test]
    fn ipv6_addresses_share_their_first_half() {
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
        assert_eq!(of("2001:db8:0:1::7").first_address().to_string(), "2001:db8:0:1::");
    }
}
