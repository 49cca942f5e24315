//! Name constraints (RFC 5280 4.2.1.10).

use super::certificate::Certificate;
use super::der::{self, Reader};
use super::name::Name;
use super::names::{self, DIRECTORY, DNS, EMAIL, IP, URI};
use super::{MAX_NAMES, Malformed};

/// A `GeneralSubtree`'s base.
#[derive(Debug, Clone, Copy)]
struct Subtree<'a> {
    tag: u8,
    value: &'a [u8],
}

/// One CA's constraints.
#[derive(Debug, Clone)]
pub(crate) struct NameConstraints<'a> {
    permitted: Vec<Subtree<'a>>,
    excluded: Vec<Subtree<'a>>,
}

/// Why a certificate may not have its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NameFault {
    NotPermitted(String),
    /// More comparisons than the budget has.
    Budget,
}

impl<'a> NameConstraints<'a> {
    pub(crate) fn read(value: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = der::only(value, der::SEQUENCE)?;
        let permitted = subtrees(fields.optional(der::constructed(0))?)?;
        let excluded = subtrees(fields.optional(der::constructed(1))?)?;
        fields.end()?;
        if permitted.is_empty() && excluded.is_empty() {
            return Err(Malformed("the name constraints are empty"));
        }
        Ok(Self { permitted, excluded })
    }

    /// Checks every name of a certificate below.
    pub(crate) fn check(&self, certificate: &Certificate<'_>, budget: &mut usize) -> Result<(), NameFault> {
        if !certificate.subject.is_empty() {
            self.check_one(DIRECTORY, certificate.subject.der(), budget)?;
        }
        let mut has_email = false;
        if let Some(content) = certificate.extensions.alternative_names {
            for (tag, value) in names::each(content) {
                has_email |= tag == EMAIL;
                self.check_one(tag, value, budget)?;
            }
        }
        if !has_email && self.concerns(EMAIL) {
            for email in certificate.subject.emails() {
                self.check_one(EMAIL, email, budget)?;
            }
        }
        Ok(())
    }

    fn concerns(&self, tag: u8) -> bool {
        self.permitted.iter().chain(&self.excluded).any(|subtree| subtree.tag == tag)
    }

    fn check_one(&self, tag: u8, value: &[u8], budget: &mut usize) -> Result<(), NameFault> {
        if !self.concerns(tag) {
            return Ok(());
        }
        let cost = self.permitted.len() + self.excluded.len();
        *budget = budget.checked_sub(cost).ok_or(NameFault::Budget)?;
        let refused = || NameFault::NotPermitted(display(tag, value));
        // A name that cannot be compared is within nothing, and is kept out of everything.
        if !comparable(tag, value) {
            return Err(refused());
        }
        if self.excluded.iter().any(|base| base.tag == tag && touches(tag, value, base.value)) {
            return Err(refused());
        }
        let mut of_kind = self.permitted.iter().filter(|base| base.tag == tag).peekable();
        if of_kind.peek().is_none() || of_kind.any(|base| within(tag, value, base.value)) {
            Ok(())
        } else {
            Err(refused())
        }
    }
}

fn subtrees(list: Option<&[u8]>) -> Result<Vec<Subtree<'_>>, Malformed> {
    let Some(list) = list else { return Ok(Vec::new()) };
    let mut reader = Reader::new(list);
    let mut all = Vec::new();
    while !reader.is_empty() {
        if all.len() >= MAX_NAMES {
            return Err(Malformed("there are too many name constraints"));
        }
        let mut subtree = reader.inside(der::SEQUENCE)?;
        let base = subtree.any()?;
        // The minimum is 0, which DER leaves out, and there is no maximum (RFC 5280 4.2.1.10).
        subtree.end()?;
        check_base(base.tag, base.value)?;
        all.push(Subtree { tag: base.tag, value: base.value });
    }
    if all.is_empty() { Err(Malformed("a list of name constraints is empty")) } else { Ok(all) }
}

fn check_base(tag: u8, value: &[u8]) -> Result<(), Malformed> {
    const BAD: Malformed = Malformed("a name constraint cannot be read");
    let good = match tag {
        // A leading dot is no part of a DNS constraint, as it is of others.
        DNS => value.is_empty() || names::is_host_name(value),
        // An empty host would permit all and exclude all; nobody means it.
        URI => is_domain(value),
        EMAIL if value.contains(&b'@') => comparable(tag, value),
        EMAIL => is_domain(value),
        IP => {
            let (_, mask) = value.split_at(value.len() / 2);
            matches!(value.len(), 8 | 32) && is_prefix_mask(mask)
        }
        DIRECTORY => return Name::read(value).map(drop),
        _ => true,
    };
    if good { Ok(()) } else { Err(BAD) }
}

/// A host, or a dot and what all its hosts end with.
fn is_domain(value: &[u8]) -> bool {
    names::is_host_name(value.strip_prefix(b".").unwrap_or(value))
}

fn is_prefix_mask(mask: &[u8]) -> bool {
    let ones: u32 = mask.iter().map(|byte| byte.leading_ones()).sum();
    let total: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    let mut after = mask.iter().skip_while(|byte| **byte == 0xff);
    ones == total && after.next().is_none_or(|byte| byte.leading_ones() == byte.count_ones()) && after.all(|b| *b == 0)
}

fn comparable(tag: u8, value: &[u8]) -> bool {
    match tag {
        DNS => names::is_host_name(value.strip_prefix(b"*.").unwrap_or(value)),
        URI => uri_host(value).is_some(),
        EMAIL => split_mailbox(value).is_some_and(|(local, host)| !local.is_empty() && names::is_host_name(host)),
        IP | DIRECTORY => true,
        // Constrained, and of a kind that cannot be compared.
        _ => false,
    }
}

/// Is every peer that the name stands for within the base?
fn within(tag: u8, value: &[u8], base: &[u8]) -> bool {
    match tag {
        // Whatever stands for the asterisk is within the base if the rest is.
        DNS => dns_within(value.strip_prefix(b"*.").unwrap_or(value), base),
        URI => uri_host(value).is_some_and(|host| domain_within(host, base)),
        EMAIL => email_within(value, base),
        IP => ip_within(value, base),
        DIRECTORY => match (Name::read(value), Name::read(base)) {
            (Ok(name), Ok(base)) => name.is_within(base),
            _ => false,
        },
        _ => false,
    }
}

/// Is any peer that the name stands for within the base?
fn touches(tag: u8, value: &[u8], base: &[u8]) -> bool {
    if within(tag, value, base) {
        return true;
    }
    match value.strip_prefix(b"*.") {
        // `*.example.com` stands for `a.example.com` too.
        Some(rest) if tag == DNS => base
            .iter()
            .position(|byte| *byte == b'.')
            .and_then(|dot| base.get(dot + 1..))
            .is_some_and(|parent| parent.eq_ignore_ascii_case(rest)),
        _ => false,
    }
}

/// The same host, or one below it.
fn dns_within(host: &[u8], base: &[u8]) -> bool {
    base.is_empty() || host.eq_ignore_ascii_case(base) || is_below(host, base)
}

/// The same host; or, where the base begins with a dot, one that ends with it.
fn domain_within(host: &[u8], base: &[u8]) -> bool {
    match base.strip_prefix(b".") {
        Some(domain) => is_below(host, domain),
        None => host.eq_ignore_ascii_case(base),
    }
}

fn is_below(host: &[u8], domain: &[u8]) -> bool {
    host.len()
        .checked_sub(domain.len())
        .and_then(|at| host.split_at_checked(at))
        .is_some_and(|(front, back)| front.len() > 1 && front.ends_with(b".") && back.eq_ignore_ascii_case(domain))
}

/// A quoted local part may hold another `@`. Which one counts is read in two ways, so such a mailbox is none.
fn split_mailbox(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = value.split(|byte| *byte == b'@');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(local), Some(host), None) => Some((local, host)),
        _ => None,
    }
}

fn email_within(value: &[u8], base: &[u8]) -> bool {
    let Some((local, host)) = split_mailbox(value) else { return false };
    match split_mailbox(base) {
        // The local part is the host's own business: its case counts.
        Some((base_local, base_host)) => local == base_local && host.eq_ignore_ascii_case(base_host),
        None => domain_within(host, base),
    }
}

fn ip_within(value: &[u8], base: &[u8]) -> bool {
    let (network, mask) = base.split_at(base.len() / 2);
    value.len() == network.len()
        && value.iter().zip(network).zip(mask).all(|((byte, network), mask)| byte & mask == network & mask)
}

/// The host of a URI with an authority (RFC 3986 3.2). Without a host name there is nothing to compare.
fn uri_host(uri: &[u8]) -> Option<&[u8]> {
    let colon = uri.iter().position(|byte| *byte == b':')?;
    let rest = uri.get(colon + 1..)?.strip_prefix(b"//")?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let authority = rest.get(..end)?;
    let host_port = match authority.iter().rposition(|byte| *byte == b'@') {
        Some(at) => authority.get(at + 1..)?,
        None => authority,
    };
    let host = match host_port.iter().position(|byte| *byte == b':') {
        Some(colon) if host_port.get(colon + 1..)?.iter().all(u8::is_ascii_digit) => host_port.get(..colon)?,
        Some(_) => return None,
        None => host_port,
    };
    names::is_host_name(host).then_some(host)
}

fn display(tag: u8, value: &[u8]) -> String {
    match tag {
        DIRECTORY => Name::read(value).map_or_else(|_| "?".to_owned(), Name::display),
        IP => match (<[u8; 4]>::try_from(value), <[u8; 16]>::try_from(value)) {
            (Ok(v4), _) => std::net::IpAddr::from(v4).to_string(),
            (_, Ok(v6)) => std::net::IpAddr::from(v6).to_string(),
            _ => "?".to_owned(),
        },
        DNS | EMAIL | URI => value.get(..value.len().min(256)).unwrap_or_default().escape_ascii().to_string(),
        _ => "a name of another kind".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_what_is_below_them() {
        assert!(dns_within(b"a.Example.com", b"example.COM") && dns_within(b"example.com", b"example.com"));
        assert!(!dns_within(b"badexample.com", b"example.com") && dns_within(b"x", b""));
        assert!(domain_within(b"a.b.example.com", b".example.com") && !domain_within(b"example.com", b".example.com"));
        assert!(!domain_within(b"a.example.com", b"example.com"));
        assert!(touches(DNS, b"*.example.com", b"a.example.com") && !within(DNS, b"*.example.com", b"a.example.com"));
        assert!(!touches(DNS, b"*.example.com", b"a.b.example.com"));
    }

    /// RUSTSEC-2026-0098.
    #[test]
    fn a_uri_has_one_host_or_none() {
        let host = |uri: &'static str| uri_host(uri.as_bytes()).map(|host| std::str::from_utf8(host).unwrap());
        assert_eq!(host("spiffe://sekisho.example/site/a/device/b"), Some("sekisho.example"));
        assert_eq!(host("https://a@evil.example:443/x?y#z"), Some("evil.example"));
        assert_eq!(host("https://good.example@evil.example"), Some("evil.example"));
        assert_eq!(host("https://good.example\\@evil.example"), Some("evil.example"));
        for none in ["", "urn:a:b", "mailto:a@b", "https:///x", "https://[::1]/", "https://127.0.0.1/", "https://a:b/"]
        {
            assert_eq!(host(none), None, "{none}");
        }
    }

    #[test]
    fn masks_are_prefixes() {
        for good in [&[255, 255, 0, 0][..], &[0; 4], &[255; 4], &[255, 254, 0, 0]] {
            assert!(is_prefix_mask(good), "{good:?}");
        }
        for bad in [&[255, 0, 255, 0][..], &[0, 1, 0, 0], &[255, 253, 0, 0], &[254, 128, 0, 0]] {
            assert!(!is_prefix_mask(bad), "{bad:?}");
        }
        assert!(ip_within(&[10, 1, 2, 3], &[10, 1, 0, 0, 255, 255, 0, 0]));
        assert!(!ip_within(&[10, 2, 2, 3], &[10, 1, 0, 0, 255, 255, 0, 0]));
        assert!(!ip_within(&[0; 16], &[0; 8]));
    }

    #[test]
    fn mailboxes_keep_the_case_of_their_local_part() {
        assert!(email_within(b"a@Example.com", b"a@example.com") && !email_within(b"A@example.com", b"a@example.com"));
        assert!(email_within(b"x@a.example.com", b".example.com") && email_within(b"x@example.com", b"example.com"));
        assert!(!email_within(b"x@a.example.com", b"example.com"));
    }
}
