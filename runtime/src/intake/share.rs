//! Share: what one address may hold of the door at once, so that a stranger cannot turn every genuine sender away.
//!
//! Requests and body bytes count until the signature is found good: from then on the source's `rate` speaks for
//! them, and a provider that sends all its events from one address is not held back by its own success.
//! Connections count as long as they are open, except behind a proxy, where all of them have one address.
//!
//! Not here: what all addresses together may hold (the semaphores of `Intake`, and `budget`).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::words::limits::{ADDRESS_SHARE_MIN, ADDRESS_SHARE_PARTS, IPV6_NETWORK_BITS};

/// A quarter of the whole, and no less than a handful as long as the whole has that.
pub(super) fn share_of(whole: usize) -> usize {
    (whole / ADDRESS_SHARE_PARTS).max(ADDRESS_SHARE_MIN.min(whole))
}

/// What each address holds of one kind. Cheap to clone.
///
/// An address is in the table while it holds something, so the table is as bounded as what there is to hold.
#[derive(Clone)]
pub(super) struct Shares {
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
    max: usize,
}

/// An address has its share already.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Over;

impl Shares {
    /// `max`: for one address.
    pub(super) fn new(max: usize) -> Shares {
        Shares { held: Arc::default(), max }
    }

    #[cfg(test)]
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Holds nothing yet.
    pub(super) fn of(&self, address: IpAddr) -> Share {
        Share { shares: self.clone(), network: network(address), amount: 0 }
    }

    fn take(&self, network: IpAddr, amount: usize) -> Result<(), Over> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let now = held.get(&network).copied().unwrap_or(0);
        let then = now.checked_add(amount).filter(|then| *then <= self.max).ok_or(Over)?;
        held.insert(network, then);
        Ok(())
    }

    fn give_back(&self, network: IpAddr, amount: usize) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let left = held.get(&network).map_or(0, |now| now.saturating_sub(amount));
        if left == 0 {
            held.remove(&network);
        } else {
            held.insert(network, left);
        }
    }
}

/// What one holder has taken of its address's share. Given back when dropped.
pub(super) struct Share {
    shares: Shares,
    network: IpAddr,
    amount: usize,
}

impl Share {
    pub(super) fn take(&mut self, amount: usize) -> Result<(), Over> {
        if amount > 0 {
            self.shares.take(self.network, amount)?;
            self.amount += amount;
        }
        Ok(())
    }

    pub(super) fn max(&self) -> usize {
        self.shares.max
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.amount > 0 {
            self.shares.give_back(self.network, self.amount);
        }
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

    fn addresses(shares: &Shares) -> usize {
        shares.held.lock().unwrap().len()
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
        let shares = Shares::new(3);
        let [mut first, mut second] = [shares.of(address("192.0.2.1")), shares.of(address("192.0.2.1"))];
        assert_eq!((first.take(2), second.take(2), second.take(1)), (Ok(()), Err(Over), Ok(())));
        assert_eq!(shares.of(address("192.0.2.2")).take(3), Ok(()));
        drop(first);
        assert_eq!((second.take(2), second.take(usize::MAX)), (Ok(()), Err(Over)));
    }

    #[test]
    fn an_address_with_nothing_in_flight_is_forgotten() {
        let shares = Shares::new(2);
        let [mut first, mut second] = [shares.of(address("192.0.2.1")), shares.of(address("192.0.2.1"))];
        assert_eq!((first.take(0), addresses(&shares)), (Ok(()), 0));
        first.take(1).unwrap();
        second.take(1).unwrap();
        drop(first);
        assert_eq!(addresses(&shares), 1);
        assert_eq!(shares.of(address("192.0.2.2")).take(9), Err(Over));
        drop(second);
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
            let shares = Shares::new(10);
            let mut holders = Vec::new();
            for (last, amount, gives_back) in takes {
                let mut share = shares.of(IpAddr::from([192, 0, 2, last]));
                let _ = share.take(amount);
                holders.push(share);
                if gives_back {
                    holders.swap_remove(amount % holders.len());
                }
                prop_assert!(shares.held.lock().unwrap().values().all(|held| (1..=10).contains(held)));
            }
            drop(holders);
            prop_assert_eq!(addresses(&shares), 0);
        }
    }
}
