//! Ranges of addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Addresses that begin with the same bits (CIDR, RFC 4632).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    length: u8,
}

/// The text is no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseNetworkError {
    /// It has another form.
    #[error("it must be a range of addresses, such as `10.64.0.0/24`")]
    Form,
    /// The range cannot be.
    #[error(transparent)]
    Invalid(#[from] InvalidNetwork),
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

/// An address and a length, or an address alone.
impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, ParseNetworkError> {
        let address = |text: &str| text.parse::<IpAddr>().map_err(|_| ParseNetworkError::Form);
        let Some((first, length)) = text.split_once('/') else { return address(text).map(Self::host) };
        let is_number = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
        let length = length.parse().ok().filter(|_| is_number).ok_or(ParseNetworkError::Form)?;
        Ok(Self::new(address(first)?, length)?)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_as_it_is_written() {
        for text in ["10.64.0.0/10", "10.64.3.7/32", "0.0.0.0/0", "fd64::/48", "fd64::1/128"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        assert_eq!("10.64.3.7".parse(), Ok(Network::host([10, 64, 3, 7].into())));
        for text in
            ["", "10.64.0.0/", "/8", "10.64.0/10", "10.64.0.0/+9", "10.64.0.0/300", "10.64.0.0/10/10", "fd64::/x"]
        {
            assert_eq!(text.parse::<Network>(), Err(ParseNetworkError::Form), "{text}");
        }
        for text in ["10.64.0.1/10", "10.64.0.0/33", "fd64::1/64", "fd64::/129"] {
            assert!(matches!(text.parse::<Network>(), Err(ParseNetworkError::Invalid(_))), "{text}");
        }
    }
}
