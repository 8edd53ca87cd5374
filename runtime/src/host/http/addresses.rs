//! Which resolved addresses may be dialled: global ones, and private ones that the operator granted by network.
//!
//! The table is the whole of IANA's special-purpose registries (IPv4 and IPv6, as of 2026) plus the forms that
//! carry an IPv4 address inside an IPv6 one: whoever can name `64:ff9b::7f00:1` behind a NAT64 reaches 127.0.0.1.
//! And one address that looks public: Azure's host answers on it, for this machine alone
//! (<https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16>). Ranges that some of the registry calls reachable (192.0.0.9, 2001:20::/28 ...) are refused with the rest of
//! their block: no webhook's answer goes there.

use std::net::IpAddr;

use ipnet::IpNet;

/// Networks that are not the public internet, with the word for them in a refusal.
const SPECIAL: &[(&str, &str)] = &[
    ("0.0.0.0/8", "this host"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "carrier-grade NAT"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local, cloud metadata"),
    ("168.63.129.16/32", "cloud metadata"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "protocol assignments"),
    ("192.0.2.0/24", "documentation"),
    ("192.88.99.0/24", "6to4 relay"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "benchmarks"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/96", "this host, loopback, embedded IPv4"),
    ("::ffff:0:0/96", "embedded IPv4"),
    ("::ffff:0:0:0/96", "translated IPv4"),
    ("64:ff9b::/96", "NAT64"),
    ("64:ff9b:1::/48", "NAT64"),
    ("100::/64", "discard"),
    ("100:0:0:1::/64", "dummy prefix"),
    ("2001::/23", "protocol assignments, Teredo"),
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "6to4"),
    ("3fff::/20", "documentation"),
    ("5f00::/16", "segment routing"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
];

/// The table, parsed once for each handler, and the networks granted to it.
#[derive(Clone, Debug)]
pub(super) struct Vetting {
    special: Vec<(IpNet, &'static str)>,
    granted: Vec<IpNet>,
}

/// Why an address is not dialled.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Forbidden {
    pub(super) address: IpAddr,
    pub(super) why: &'static str,
}

impl Vetting {
    pub(super) fn new(granted: &[IpNet]) -> Vetting {
        let special = SPECIAL
            .iter()
            .map(|(network, why)| (network.parse().expect("a constant, and a test parses all of them"), *why))
            .collect();
        Vetting { special, granted: granted.to_vec() }
    }

    /// One forbidden address among several refuses them all: a mixed answer is an attack or a mistake.
    pub(super) fn vet(&self, addresses: impl IntoIterator<Item = IpAddr>) -> Result<(), Forbidden> {
        addresses.into_iter().try_for_each(|address| self.vet_one(address))
    }

    fn vet_one(&self, address: IpAddr) -> Result<(), Forbidden> {
        // An IPv4 address in IPv6 clothes is judged as what it is.
        let address = address.to_canonical();
        if self.granted.iter().any(|network| network.contains(&address)) {
            return Ok(());
        }
        match self.special.iter().find(|(network, _)| network.contains(&address)) {
            Some((_, why)) => Err(Forbidden { address, why }),
            // Only 2000::/3 is handed out as global unicast; whatever else appears there one day can wait.
            None if is_unassigned(address) => Err(Forbidden { address, why: "not global unicast" }),
            None => Ok(()),
        }
    }
}

fn is_unassigned(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.segments()[0] & 0xe000 != 0x2000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vet(address: &str, granted: &[&str]) -> Result<(), Forbidden> {
        let granted: Vec<IpNet> = granted.iter().map(|n| n.parse().unwrap()).collect();
        Vetting::new(&granted).vet([address.parse().unwrap()])
    }

    #[test]
    fn every_special_network_is_refused_from_its_first_address_to_its_last() {
        let vetting = Vetting::new(&[]);
        assert_eq!(vetting.special.len(), 32);
        for (network, _) in &vetting.special {
            for address in [network.network(), network.broadcast()] {
                assert!(vetting.vet([address]).is_err(), "{address} of {network}");
            }
        }
    }

    #[test]
    fn addresses_beside_the_special_networks_are_dialled() {
        let global = [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.15",
            "168.63.129.17",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.88.98.255",
            "192.88.100.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "198.51.101.0",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "2001:200::1",
            "2001:db7:ffff::1",
            "2001:db9::1",
            "2003::1",
            "2606:4700::1111",
            "3ffe:ffff::1",
        ];
        for address in global {
            assert_eq!(vet(address, &[]), Ok(()), "{address}");
        }
    }

    #[test]
    fn an_ipv4_address_inside_an_ipv6_one_is_refused() {
        let disguised = [
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "::1",
            "::",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a00:1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "::ffff:0:127.0.0.1",
            "fe80::1",
            "fd00:ec2::254",
            "fec0::1",
            "ff02::1",
            "4000::1",
            "1::1",
        ];
        for address in disguised {
            assert!(vet(address, &[]).is_err(), "{address}");
        }
        // In the same clothes a global one is just itself.
        assert_eq!(vet("::ffff:1.1.1.1", &[]), Ok(()));
    }

    #[test]
    fn a_granted_network_opens_itself_only() {
        assert_eq!(vet("127.0.0.1", &["127.0.0.0/8"]), Ok(()));
        assert_eq!(vet("::ffff:127.0.0.1", &["127.0.0.0/8"]), Ok(()));
        assert_eq!(vet("fd12::1", &["fd12::/16"]), Ok(()));
        let forbidden = vet("10.0.0.1", &["127.0.0.0/8", "192.168.0.0/16"]).unwrap_err();
        assert_eq!(forbidden.why, "private");
        assert!(vet("::1", &["127.0.0.0/8"]).is_err());
    }

    #[test]
    fn one_forbidden_address_refuses_the_answer() {
        let vetting = Vetting::new(&[]);
        let mixed = ["1.1.1.1".parse().unwrap(), "10.0.0.1".parse().unwrap()];
        assert!(vetting.vet(mixed).is_err());
    }

    proptest! {
        /// std calls fewer addresses special than we do, never more.
        #[test]
        fn what_std_calls_private_is_refused(bits in any::<u32>()) {
            let v4 = std::net::Ipv4Addr::from(bits);
            let special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_broadcast()
                || v4.is_documentation() || v4.is_unspecified() || v4.is_multicast();
            if special {
                prop_assert!(Vetting::new(&[]).vet([IpAddr::V4(v4)]).is_err());
                prop_assert!(Vetting::new(&[]).vet([IpAddr::V6(v4.to_ipv6_mapped())]).is_err());
            }
        }

        #[test]
        fn only_global_unicast_of_ipv6_is_dialled(bits in any::<u128>()) {
            let v6 = std::net::Ipv6Addr::from(bits);
            if Vetting::new(&[]).vet([IpAddr::V6(v6)]).is_ok() {
                prop_assert!(v6.to_ipv4_mapped().is_some() || v6.segments()[0] >> 13 == 1);
            }
        }
    }
}
