//! Ranges of addresses.

use std::fmt;
use std::net::IpAddr;

/// Addresses that begin with the same bits (CIDR, RFC 4632).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    length: u8,
}

/// The range cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{address}/{length}` is not a range of addresses: the length is at most {}, and no bit behind it may be set", if address.is_ipv4() { 32 } else { 128 })]
pub struct InvalidNetwork {
    /// Its first address.
    pub address: IpAddr,
    /// How many bits all its addresses have in common.
    pub length: u8,
}

impl Network {
    /// A range by its first address and the number of bits that all its addresses have in common.
    ///
    /// # Errors
    /// [`InvalidNetwork`] if the length is more than an address has, or bits behind it are set.
    pub fn new(address: IpAddr, length: u8) -> Result<Self, InvalidNetwork> {
        match masked(address, length) {
            Some(first) if first == address => Ok(Self { address, length }),
            _ => Err(InvalidNetwork { address, length }),
        }
    }

    /// One address.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        Self { address, length: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Its first address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits all its addresses have in common.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.length
    }

    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.length) == Some(self.address)
    }

    /// Whether an address is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

/// An address without the bits behind the first `length`. `None` if it has not as many.
pub(crate) fn masked(address: IpAddr, length: u8) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(address) => {
            let rest = 32_u32.checked_sub(u32::from(length))?;
            let mask = u32::MAX.checked_shl(rest).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let rest = 128_u32.checked_sub(u32::from(length))?;
            let mask = u128::MAX.checked_shl(rest).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    })
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
