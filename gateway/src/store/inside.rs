//! Ranges of addresses inside tunnels: how they are written, whose they are, and which are left to give (R14).

use std::collections::BTreeSet;
use std::net::IpAddr;

use gateway_tunnel::Network;
use policy::{DeviceId, SiteName};

use super::StoreError;

/// How ranges are written in a column.
pub(super) fn text(ranges: &[Network]) -> String {
    ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Reads a column.
pub(super) fn ranges(text: &str) -> sqlx::Result<Vec<Network>> {
    text.split_ascii_whitespace().map(super::table::parsed).collect()
}

/// Ranges in JSON: texts.
pub(super) mod texts {
    use gateway_tunnel::Network;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(ranges: &[Network], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(ranges.iter().map(ToString::to_string))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Network>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}

/// Out of what sites get ranges, and devices addresses, where nobody says which.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allotment {
    /// Out of what sites get ranges, none overlapping another.
    pub ranges: Vec<Network>,
    /// How many bits the IPv4 addresses of a site have in common.
    pub prefix_v4: u8,
    /// How many bits the IPv6 addresses of a site have in common.
    pub prefix_v6: u8,
    /// The gateway's own addresses inside: nobody gets them.
    pub own: Vec<IpAddr>,
}

impl Allotment {
    fn prefix(&self, of: &Network) -> u8 {
        let prefix = if of.address().is_ipv4() { self.prefix_v4 } else { self.prefix_v6 };
        prefix.max(of.length())
    }

    /// One range for each version of IP of which there are any: the first that overlaps none of `taken` and holds none of the
    /// gateway's own addresses. Nothing of a version of which none is left.
    pub(super) fn site(&self, taken: &[Network]) -> Vec<Network> {
        let mut found: Vec<Network> = Vec::new();
        for range in &self.ranges {
            if found.iter().any(|known| known.address().is_ipv4() == range.address().is_ipv4()) {
                continue;
            }
            let own: Vec<Network> = self.own.iter().copied().map(Network::host).collect();
            let not: Vec<Network> = taken.iter().chain(&own).filter(|one| one.overlaps(range)).copied().collect();
            found.extend(free(*range, self.prefix(range), &not));
        }
        found
    }

    /// One address for each version of IP of the site's ranges: the first that is nobody's, the first and the last of an IPv4 range
    /// aside, which some clients take for the network's and for broadcast.
    pub(super) fn device(&self, site: &[Network], taken: &[Network]) -> Vec<Network> {
        let mut found: Vec<Network> = Vec::new();
        for range in site {
            if found.iter().any(|known| known.address().is_ipv4() == range.address().is_ipv4()) {
                continue;
            }
            let whole = if range.address().is_ipv4() { 32 } else { 128 };
            let mut not: Vec<Network> = taken.iter().filter(|one| one.overlaps(range)).copied().collect();
            not.extend(self.own.iter().copied().map(Network::host));
            if range.length().saturating_add(1) < whole {
                not.push(Network::host(range.address()));
                not.extend(range.address().is_ipv4().then(|| Network::host(last(range))));
            }
            found.extend(free(*range, whole, &not));
        }
        found
    }
}

/// An address as a number, and a number as an address.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn address(number: u128, like: &Network) -> Option<IpAddr> {
    Some(if like.address().is_ipv4() {
        IpAddr::V4(u32::try_from(number).ok()?.into())
    } else {
        IpAddr::V6(number.into())
    })
}

/// How many bits an address has behind the range's.
fn rest(of: &Network) -> u32 {
    let whole: u32 = if of.address().is_ipv4() { 32 } else { 128 };
    whole.saturating_sub(u32::from(of.length()))
}

fn last_number(of: &Network) -> u128 {
    let behind = 1_u128.checked_shl(rest(of)).map_or(u128::MAX, |count| count.saturating_sub(1));
    number(of.address()) | behind
}

fn last(of: &Network) -> IpAddr {
    address(last_number(of), of).unwrap_or(of.address())
}

/// The first range of that length in `within` that overlaps none of `not`. Takes as many steps as `not` has ranges, whatever the
/// size of `within`.
fn free(within: Network, length: u8, not: &[Network]) -> Option<Network> {
    let not: BTreeSet<(u128, u128)> = not.iter().map(|one| (number(one.address()), last_number(one))).collect();
    let whole: u32 = if within.address().is_ipv4() { 32 } else { 128 };
    let size = 1_u128.checked_shl(whole.checked_sub(u32::from(length))?)?;
    let end = last_number(&within);
    let mut at = number(within.address());
    for (first, last) in not {
        if first > at.checked_add(size.checked_sub(1)?)? {
            break;
        }
        if last >= at {
            // On to the next range of this size behind it.
            at = (last & !size.checked_sub(1)?).checked_add(size)?;
        }
    }
    let fits = at.checked_add(size.checked_sub(1)?).is_some_and(|last| last <= end);
    fits.then(|| address(at, &within)).flatten().and_then(|first| Network::new(first, length).ok())
}

/// Refuses ranges of a site that overlap each other or another site's.
pub(super) fn check_site(
    name: &SiteName,
    ranges: &[Network],
    others: impl Iterator<Item = (SiteName, Vec<Network>)>,
) -> Result<(), StoreError> {
    let overlap = |range: &Network, other: &Network, owner: String| StoreError::Overlap {
        range: range.to_string(),
        other: other.to_string(),
        owner,
    };
    for (index, range) in ranges.iter().enumerate() {
        if let Some(other) = ranges.iter().take(index).find(|other| other.overlaps(range)) {
            return Err(overlap(range, other, format!("site `{name}` itself")));
        }
    }
    for (owner, theirs) in others.filter(|(owner, _)| owner != name) {
        for range in ranges {
            if let Some(other) = theirs.iter().find(|other| other.overlaps(range)) {
                return Err(overlap(range, other, format!("site `{owner}`")));
            }
        }
    }
    Ok(())
}

/// Refuses addresses of a device that are outside of its site's ranges, or overlap each other or another device's.
pub(super) fn check_device<'a>(
    id: &DeviceId,
    addresses: &[Network],
    site: &[Network],
    others: impl Iterator<Item = (DeviceId, &'a [Network])>,
) -> Result<(), StoreError> {
    for (index, range) in addresses.iter().enumerate() {
        if let Some(other) = addresses.iter().take(index).find(|other| other.overlaps(range)) {
            let owner = format!("device `{id}` itself");
            return Err(StoreError::Overlap { range: range.to_string(), other: other.to_string(), owner });
        }
        if !site.iter().any(|whole| whole.contains(range.address()) && whole.length() <= range.length()) {
            return Err(StoreError::Outside { range: range.to_string(), site: id.site.clone(), ranges: text(site) });
        }
    }
    for (owner, theirs) in others.filter(|(owner, _)| owner != id) {
        for range in addresses {
            if let Some(other) = theirs.iter().find(|other| other.overlaps(range)) {
                let owner = format!("device `{owner}`");
                return Err(StoreError::Overlap { range: range.to_string(), other: other.to_string(), owner });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nets(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn allotment(ranges: &[&str]) -> Allotment {
        let own = vec!["10.64.0.1".parse().unwrap(), "fd64::1".parse().unwrap()];
        Allotment { ranges: nets(ranges), prefix_v4: 24, prefix_v6: 64, own }
    }

    #[test]
    fn the_first_free_range_is_given_of_each_version() {
        let both = allotment(&["10.64.0.0/10", "fd64::/48"]);
        assert_eq!(both.site(&[]), nets(&["10.64.1.0/24", "fd64:0:0:1::/64"]), "the gateway's own are in the first");
        let taken = nets(&["10.64.0.0/23", "10.64.3.128/25", "10.64.2.0/28", "fd64:0:0:1::/64"]);
        assert_eq!(both.site(&taken), nets(&["10.64.4.0/24", "fd64:0:0:2::/64"]));
        assert_eq!(both.site(&nets(&["10.0.0.0/8"])), nets(&["fd64:0:0:1::/64"]), "none left of IPv4");
        let two = allotment(&["10.65.0.0/24", "10.66.0.0/23"]);
        assert_eq!(two.site(&nets(&["10.65.0.0/26"])), nets(&["10.66.0.0/24"]), "the next range follows");
        assert_eq!(two.site(&nets(&["10.65.0.0/26", "10.66.0.0/24", "10.66.1.9/32"])), []);
        assert_eq!(allotment(&["0.0.0.0/0", "::/0"]).site(&[]).len(), 2);
    }

    #[test]
    fn a_device_gets_an_address_of_each_version() {
        let plan = allotment(&[]);
        let site = nets(&["10.64.0.0/24", "fd64::/64"]);
        assert_eq!(plan.device(&site, &[]), nets(&["10.64.0.2", "fd64::2"]), "neither the first nor the gateway's own");
        assert_eq!(plan.device(&site, &nets(&["10.64.0.0/25", "fd64::2"])), nets(&["10.64.0.128", "fd64::3"]));
        assert_eq!(plan.device(&nets(&["10.65.0.0/30"]), &nets(&["10.65.0.1", "10.65.0.2"])), [], "not the last");
        assert_eq!(plan.device(&nets(&["10.65.0.0/31"]), &nets(&["10.65.0.0"])), nets(&["10.65.0.1"]));
        assert_eq!(plan.device(&nets(&["10.65.0.7/32"]), &[]), nets(&["10.65.0.7"]));
        assert_eq!(plan.device(&nets(&["255.255.255.0/24"]), &nets(&["255.255.255.0/25"])), nets(&["255.255.255.128"]));
    }

    proptest! {
        /// What is given is the first of its size that overlaps nothing: a search of all says the same.
        #[test]
        fn what_is_given_is_free_and_the_first(
            taken in proptest::collection::vec((0u8..=255, 0u8..=8), 0..40),
            length in 24u8..=32,
        ) {
            let within: Network = "10.9.8.0/24".parse().unwrap();
            let taken: Vec<Network> = taken
                .iter()
                .map(|(low, bits)| {
                    let low = u32::from(*low) >> bits << bits;
                    Network::new(IpAddr::V4((0x0a09_0800 | low).into()), 32 - bits).unwrap()
                })
                .collect();
            let all = (0..1u32 << (length - 24)).map(|n| 0x0a09_0800 | n << (32 - length));
            let all = all.map(|first| Network::new(IpAddr::V4(first.into()), length).unwrap());
            let expected = all.clone().find(|one| !taken.iter().any(|other| other.overlaps(one)));
            prop_assert_eq!(free(within, length, &taken), expected);
        }
    }
}
