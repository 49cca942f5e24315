//! Who owns which inner address. The owner of the longest range that holds an address owns it: a peer may not send from
//! an address that another's narrower range holds (C13).

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::network::{Network, masked};

/// Ranges and their owners.
#[derive(Debug)]
pub(crate) struct Owners<Owner> {
    /// By length, and by first address. There are few lengths, so that a search is few lookups.
    v4: BTreeMap<u8, HashMap<IpAddr, Owner>>,
    v6: BTreeMap<u8, HashMap<IpAddr, Owner>>,
}

impl<Owner: Copy> Default for Owners<Owner> {
    fn default() -> Self {
        Self { v4: BTreeMap::new(), v6: BTreeMap::new() }
    }
}

impl<Owner: Copy> Owners<Owner> {
    /// The owner of an address.
    pub(crate) fn of(&self, address: IpAddr) -> Option<Owner> {
        let family = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        family.iter().rev().find_map(|(length, ranges)| ranges.get(&masked(address, *length)?).copied())
    }

    /// The ranges that have an address in common with this one, and their owners.
    pub(crate) fn overlapping(&self, range: Network) -> impl Iterator<Item = (Network, Owner)> + '_ {
        let family = if range.address().is_ipv4() { &self.v4 } else { &self.v6 };
        let wider = family.range(..=range.length()).filter_map(move |(length, ranges)| {
            let first = masked(range.address(), *length)?;
            let owner = *ranges.get(&first)?;
            Some((Network::new(first, *length).ok()?, owner))
        });
        let narrower = family.range(range.length().saturating_add(1)..).flat_map(move |(length, ranges)| {
            ranges.iter().filter_map(move |(first, owner)| {
                (range.contains(*first)).then(|| Some((Network::new(*first, *length).ok()?, *owner))).flatten()
            })
        });
        wider.chain(narrower)
    }

    /// Enters a range.
    pub(crate) fn insert(&mut self, range: Network, owner: Owner) {
        let family = if range.address().is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        family.entry(range.length()).or_default().insert(range.address(), owner);
    }

    /// Removes a range.
    pub(crate) fn remove(&mut self, range: Network) {
        let family = if range.address().is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        if let Some(ranges) = family.get_mut(&range.length()) {
            ranges.remove(&range.address());
            if ranges.is_empty() {
                family.remove(&range.length());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> Network {
        let (address, length) = text.split_once('/').unwrap();
        Network::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
    }

    #[test]
    fn the_longest_range_owns() {
        let mut owners = Owners::default();
        owners.insert(network("10.0.0.0/8"), 1);
        owners.insert(network("10.1.2.0/24"), 2);
        owners.insert(network("10.1.2.3/32"), 3);
        owners.insert(network("fd00::/8"), 4);
        assert_eq!(owners.of("10.9.9.9".parse().unwrap()), Some(1));
        assert_eq!(owners.of("10.1.2.9".parse().unwrap()), Some(2));
        assert_eq!(owners.of("10.1.2.3".parse().unwrap()), Some(3));
        assert_eq!(owners.of("fd00::1".parse().unwrap()), Some(4));
        assert_eq!(owners.of("11.0.0.1".parse().unwrap()), None);
        assert_eq!(owners.of("::ffff:10.1.2.3".parse().unwrap()), None, "a mapped address is not an IPv4 address");
        assert_eq!(owners.overlapping(network("10.1.0.0/16")).count(), 3);
        assert_eq!(owners.overlapping(network("11.0.0.0/8")).count(), 0);
        owners.remove(network("10.1.2.3/32"));
        assert_eq!(owners.of("10.1.2.3".parse().unwrap()), Some(2));
    }

    #[test]
    fn ranges_are_exact() {
        assert!(Network::new("10.0.0.1".parse().unwrap(), 24).is_err());
        assert!(Network::new("10.0.0.0".parse().unwrap(), 33).is_err());
        assert!(Network::new("::".parse().unwrap(), 0).is_ok());
    }

    proptest! {
        /// As a search through all ranges does.
        #[test]
        fn agrees_with_a_plain_search(ranges in prop::collection::vec((any::<u16>(), 0_u8..=32), 0..30), asked: u16) {
            let mut owners = Owners::default();
            let mut plain = Vec::new();
            for (number, (bits, length)) in ranges.into_iter().enumerate() {
                let first = masked(std::net::Ipv4Addr::from_bits(u32::from(bits)).into(), length).unwrap();
                let range = Network::new(first, length).unwrap();
                plain.retain(|(other, _)| *other != range);
                plain.push((range, number));
                owners.insert(range, number);
            }
            let asked = std::net::Ipv4Addr::from_bits(u32::from(asked)).into();
            let expected = plain.iter().filter(|(range, _)| range.contains(asked)).max_by_key(|(range, _)| range.length());
            prop_assert_eq!(owners.of(asked), expected.map(|(_, number)| *number));
        }
    }
}
