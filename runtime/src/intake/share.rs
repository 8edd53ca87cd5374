//! Share: what one address may hold of the door at once, so that a stranger cannot turn every genuine sender away.
//!
//! Requests and body bytes count until the signature is found good: from then on the source's `rate` speaks for
//! them, and a provider that sends all its events from one address is not held back by its own success.
//! Connections count as long as they are open, except behind a proxy, where all of them have one address.
//!
//! A connection keeps its address at hand, so that its requests count without looking it up.
//!
//! Not here: what all addresses together may hold (`budget`).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::budget::{Full, Room};
use super::{Options, Refused};
use crate::words::limits::{
    ADDRESS_SHARE_MIN, ADDRESS_SHARE_PARTS, BODIES_IN_FLIGHT_BYTES_MAX, IPV6_NETWORK_BITS,
};

/// A quarter of the whole, and no less than a handful as long as the whole has that.
pub(super) fn share_of(whole: usize) -> usize {
    (whole / ADDRESS_SHARE_PARTS).max(ADDRESS_SHARE_MIN.min(whole))
}

/// The addresses that hold something. Cheap to clone.
///
/// An address is in the table while it has a connection or a request, so the table is as bounded as those.
#[derive(Clone)]
pub(super) struct Shares {
    addresses: Arc<Mutex<HashMap<IpAddr, Weak<Address>>>>,
    max: Share,
}

/// The most that one address may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) connections: usize,
    pub(super) requests: usize,
    pub(super) body_bytes: usize,
}

impl Share {
    pub(super) fn new(options: &Options) -> Share {
        Share {
            connections: share_of(options.connections_max),
            requests: share_of(options.requests_max),
            // A body of the largest size always fits.
            body_bytes: share_of(BODIES_IN_FLIGHT_BYTES_MAX).max(options.body_bytes_max),
        }
    }
}

impl Shares {
    pub(super) fn new(max: Share) -> Shares {
        Shares { addresses: Arc::default(), max }
    }

    pub(super) fn of(&self, address: IpAddr) -> Arc<Address> {
        let network = network(address);
        let mut addresses = self.lock();
        if let Some(known) = addresses.get(&network).and_then(Weak::upgrade) {
            return known;
        }
        let address = Arc::new(Address::new(self.clone(), network));
        addresses.insert(network, Arc::downgrade(&address));
        address
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Weak<Address>>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one address holds.
pub(super) struct Address {
    shares: Shares,
    network: IpAddr,
    connections: Room,
    requests: Room,
    body_bytes: Room,
}

impl Address {
    fn new(shares: Shares, network: IpAddr) -> Address {
        let Share { connections, requests, body_bytes } = shares.max;
        Address {
            shares,
            network,
            connections: Room::new(connections),
            requests: Room::new(requests),
            body_bytes: Room::new(body_bytes),
        }
    }

    /// # Errors
    /// The address has its share of connections already.
    pub(super) fn connect(self: Arc<Self>) -> Result<Connected, Refused> {
        let max = self.connections.max();
        self.connections.take(1).map_err(|Full| Refused::ConnectionsShare(max))?;
        Ok(Connected { address: self })
    }

    /// # Errors
    /// The address has its share of requests already.
    pub(super) fn request(self: Arc<Self>) -> Result<Stranger, Refused> {
        let max = self.requests.max();
        self.requests.take(1).map_err(|Full| Refused::Share { max, what: "requests" })?;
        Ok(Stranger { address: self, body_bytes: 0 })
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        let mut addresses = self.shares.lock();
        // Between the last holder's going and this, a new one may have come.
        if addresses.get(&self.network).is_some_and(|left| left.strong_count() == 0) {
            addresses.remove(&self.network);
        }
    }
}

/// An open connection: one of its address's.
pub(super) struct Connected {
    address: Arc<Address>,
}

impl Connected {
    pub(super) fn address(&self) -> Arc<Address> {
        Arc::clone(&self.address)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.address.connections.give_back(1);
    }
}

/// What a request holds of its address's share, until its signature is found good.
pub(super) struct Stranger {
    address: Arc<Address>,
    body_bytes: usize,
}

impl Stranger {
    pub(super) fn take_body_bytes(&mut self, bytes: usize) -> Result<(), Refused> {
        let room = &self.address.body_bytes;
        let max = room.max();
        room.take(bytes).map_err(|Full| Refused::Share { max, what: "body bytes" })?;
        self.body_bytes += bytes;
        Ok(())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.address.requests.give_back(1);
        self.address.body_bytes.give_back(self.body_bytes);
    }
}

/// Whoever has one IPv6 address has its whole network. An IPv4 address may come dressed as an IPv6 one, where the
/// listener takes both.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let mask = u128::MAX << (Ipv6Addr::BITS - IPV6_NETWORK_BITS);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Each of the three has this much.
    fn shares(max: usize) -> Shares {
        Shares::new(Share { connections: max, requests: max, body_bytes: max })
    }

    fn addresses(shares: &Shares) -> usize {
        shares.lock().len()
    }

    fn refused<T>(result: Result<T, Refused>) -> Option<&'static str> {
        result.err().map(|refused| refused.row().reason)
    }

    #[test]
    fn a_quarter_and_a_handful_where_that_is_less() {
        let shares = [(0, 0), (1, 1), (8, 8), (16, 16), (64, 16), (100, 25), (1024, 256), (4096, 1024)];
        for (whole, share) in shares {
            assert_eq!(share_of(whole), share, "{whole}");
        }
    }

    #[test]
    fn an_address_has_its_share_and_the_others_have_theirs() {
        let shares = shares(3);
        let of = |text| shares.of(address(text));
        let over = Some("too-much-from-one-address");
        let held = [(); 3].map(|()| of("192.0.2.1").request().unwrap());
        assert_eq!(refused(of("192.0.2.1").request()), over);
        let mut other = of("192.0.2.2").request().unwrap();
        assert_eq!((refused(other.take_body_bytes(3)), refused(other.take_body_bytes(1))), (None, over));
        drop(held);
        let mut first = of("192.0.2.1").request().unwrap();
        assert_eq!(refused(first.take_body_bytes(usize::MAX)), over);
        let connected = [(); 3].map(|()| of("192.0.2.1").connect().unwrap());
        assert_eq!(refused(of("192.0.2.1").connect()), Some("connections-from-one-address"));
        drop(connected);
        assert_eq!(refused(of("192.0.2.1").connect()), None);
    }

    #[test]
    fn an_address_that_holds_nothing_is_forgotten() {
        let shares = shares(2);
        let connected = shares.of(address("192.0.2.1")).connect().unwrap();
        let request = connected.address().request().unwrap();
        assert_eq!(addresses(&shares), 1);
        drop(connected);
        assert_eq!(addresses(&shares), 1, "its request is still there");
        assert!(Arc::ptr_eq(&request.address, &shares.of(address("192.0.2.1"))));
        let mut other = shares.of(address("192.0.2.2")).request().unwrap();
        assert!(other.take_body_bytes(9).is_err());
        drop((request, other));
        assert_eq!(addresses(&shares), 0);
    }

    #[test]
    fn an_ipv6_network_is_one_address_and_a_mapped_address_is_the_ipv4_one() {
        let same = |a, b| network(address(a)) == network(address(b));
        assert!(same("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!same("::ffff:192.0.2.1", "::ffff:192.0.2.2"));
    }

    proptest! {
        /// However it is taken and given back, no address has more than its share, and in the end nothing is left.
        #[test]
        fn never_more_than_a_share(takes in prop::collection::vec((0u8..4, 0usize..12, any::<bool>()), 0..100)) {
            let shares = shares(10);
            let mut holders = Vec::new();
            for (last, amount, gives_back) in takes {
                if let Ok(mut stranger) = shares.of(IpAddr::from([192, 0, 2, last])).request() {
                    let _ = stranger.take_body_bytes(amount);
                    holders.push(stranger);
                }
                if gives_back && !holders.is_empty() {
                    holders.swap_remove(amount % holders.len());
                }
                for held in shares.lock().values().filter_map(Weak::upgrade) {
                    let mine = holders.iter().filter(|holder| Arc::ptr_eq(&holder.address, &held));
                    let (requests, bytes) = mine.fold((0, 0), |sum, one| (sum.0 + 1, sum.1 + one.body_bytes));
                    prop_assert!(requests <= 10 && bytes <= 10);
                    prop_assert_eq!((held.requests.held(), held.body_bytes.held()), (requests, bytes));
                }
            }
            drop(holders);
            prop_assert_eq!(addresses(&shares), 0);
        }
    }
}
