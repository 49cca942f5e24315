//! General names in a subjectAltName (RFC 5280 4.2.1.6), and the name of the peer that is looked for in them
//! (RFC 6125, RFC 9525).

use std::net::IpAddr;

use super::der::{self, Reader};
use super::name::Name;
use super::{MAX_NAMES, Malformed};

pub(crate) const EMAIL: u8 = der::context(1);
pub(crate) const DNS: u8 = der::context(2);
pub(crate) const DIRECTORY: u8 = der::constructed(4);
pub(crate) const URI: u8 = der::context(6);
pub(crate) const IP: u8 = der::context(7);

/// Who a server must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerName {
    /// A host name, without a final dot.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

/// Checks the content of a subjectAltName's sequence. Kinds that nobody here reads may hold anything.
pub(crate) fn check(content: Reader<'_>) -> Result<&[u8], Malformed> {
    let mut reader = content;
    let mut count = 0;
    while !reader.is_empty() {
        let name = reader.any()?;
        count += 1;
        if count > MAX_NAMES {
            return Err(Malformed("the subjectAltName has too many names"));
        }
        match name.tag {
            DIRECTORY => drop(Name::read(name.value)?),
            IP if !matches!(name.value.len(), 4 | 16) => return Err(Malformed("an IP name is not an address")),
            DNS | EMAIL | URI if !name.value.is_ascii() => return Err(Malformed("a name is not ASCII")),
            _ => {}
        }
    }
    if count == 0 {
        return Err(Malformed("the subjectAltName is empty"));
    }
    Ok(content.rest())
}

/// Walks the names that [`check`] passed.
pub(crate) fn each(content: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut reader = Reader::new(content);
    std::iter::from_fn(move || reader.any().ok().map(|name| (name.tag, name.value)))
}

/// Does one of the names stand for the peer? Common names never do.
pub(crate) fn stands_for(content: &[u8], peer: &PeerName) -> bool {
    each(content).any(|(tag, value)| match peer {
        PeerName::Dns(host) => tag == DNS && dns_matches(value, host.as_bytes()),
        PeerName::Ip(IpAddr::V4(address)) => tag == IP && value == address.octets(),
        PeerName::Ip(IpAddr::V6(address)) => tag == IP && value == address.octets(),
    })
}

/// A wildcard stands for exactly one label, the first, and only below two more.
fn dns_matches(presented: &[u8], host: &[u8]) -> bool {
    if !is_host_name(host) {
        return false;
    }
    match presented.strip_prefix(b"*.") {
        None => is_host_name(presented) && presented.eq_ignore_ascii_case(host),
        Some(base) => {
            let below = host.iter().position(|byte| *byte == b'.').and_then(|dot| host.get(dot + 1..));
            is_host_name(base) && base.contains(&b'.') && below.is_some_and(|below| below.eq_ignore_ascii_case(base))
        }
    }
}

/// Letters, digits and hyphens in labels of 1 to 63 (RFC 1123 2.1); the last is not a number, which would be an
/// address.
pub(crate) fn is_host_name(text: &[u8]) -> bool {
    let label = |label: &[u8]| {
        (1..=63).contains(&label.len())
            && label.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
            && label.first() != Some(&b'-')
            && label.last() != Some(&b'-')
    };
    let last_is_number = text.rsplit(|byte| *byte == b'.').next().is_some_and(|l| l.iter().all(u8::is_ascii_digit));
    text.len() <= 253 && !last_is_number && text.split(|byte| *byte == b'.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_one_label() {
        let yes = |presented: &str, host: &str| assert!(dns_matches(presented.as_bytes(), host.as_bytes()), "{host}");
        let no = |presented: &str, host: &str| assert!(!dns_matches(presented.as_bytes(), host.as_bytes()), "{host}");
        yes("a.example.com", "A.Example.COM");
        yes("*.example.com", "a.example.com");
        no("*.example.com", "example.com");
        no("*.example.com", "a.b.example.com");
        no("a*.example.com", "ab.example.com");
        no("a.*.com", "a.example.com");
        no("*.com", "example.com");
        no("*", "com");
        no("a\0.example.com", "a");
        no("8.8.8.8", "8.8.8.8");
        no("a.example.com.", "a.example.com");
        no("a_b.example.com", "a_b.example.com");
    }
}
