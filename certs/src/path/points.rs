//! Distribution points of CRLs (RFC 5280 4.2.1.13 and 5.2.5): which list speaks of which certificate.

use super::certificate::Certificate;
use super::der::{self, Reader};
use super::name::{self, Canonical, Name};
use super::{MAX_ITEMS, Malformed};

/// The longest URL that is fetched from, in bytes.
const MAX_URL: usize = 2048;

/// Every reason that a CRL can give: bits 1 to 8 of `ReasonFlags`.
pub(crate) const ALL_REASONS: u16 = 0x7f80;

/// A `DistributionPointName`.
#[derive(Debug, Clone)]
pub(crate) enum PointName<'a> {
    /// `GeneralNames`, each as tag and value.
    Full(Vec<(u8, &'a [u8])>),
    /// A relative name below the CRL issuer's.
    Relative(&'a [u8]),
}

/// One point.
#[derive(Debug, Clone)]
pub(crate) struct DistributionPoint<'a> {
    pub(crate) name: Option<PointName<'a>>,
    /// Named bits.
    pub(crate) reasons: u16,
    /// Somebody else issues the CRL.
    pub(crate) indirect: bool,
}

/// Reads a cRLDistributionPoints or freshestCRL.
pub(crate) fn read(value: &[u8]) -> Result<Vec<DistributionPoint<'_>>, Malformed> {
    let mut list = der::only(value, der::SEQUENCE)?;
    let mut all = Vec::new();
    while !list.is_empty() {
        if all.len() >= MAX_ITEMS {
            return Err(Malformed("there are too many distribution points"));
        }
        let mut point = list.inside(der::SEQUENCE)?;
        let name = point.optional(der::constructed(0))?.map(PointName::read).transpose()?;
        let reasons = match point.optional(der::context(1))? {
            None => ALL_REASONS,
            Some(bits) => der::named_bits(bits)? & ALL_REASONS,
        };
        let indirect = point.optional(der::constructed(2))?.is_some();
        point.end()?;
        if name.is_none() && !indirect {
            return Err(Malformed("a distribution point says nothing"));
        }
        all.push(DistributionPoint { name, reasons, indirect });
    }
    if all.is_empty() { Err(Malformed("there are no distribution points")) } else { Ok(all) }
}

/// Where a certificate says that its issuer's CRLs are fetched, the deltas (freshestCRL) included: the URLs of scheme
/// `http` in its distribution points, those of other issuers (indirect CRLs) left out. LDAP is not spoken.
///
/// # Errors
/// [`Malformed`] if it is no certificate.
pub fn crl_urls(certificate: &[u8]) -> Result<Vec<String>, Malformed> {
    let read = Certificate::read_any(certificate)?;
    let points = read.extensions.distribution_points.iter().chain(&read.extensions.freshest);
    let names = points.filter(|point| !point.indirect).filter_map(|point| match &point.name {
        Some(PointName::Full(names)) => Some(names),
        _ => None,
    });
    Ok(http_urls(names.flatten().copied()))
}

/// The URLs of scheme `http` among general names, each once.
pub(super) fn http_urls<'a>(names: impl Iterator<Item = (u8, &'a [u8])>) -> Vec<String> {
    const URI: u8 = der::context(6);
    let texts = names.filter(|(tag, _)| *tag == URI).filter_map(|(_, value)| std::str::from_utf8(value).ok());
    let is_http = |url: &&str| url.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("http://"));
    let mut urls: Vec<String> = Vec::new();
    for url in texts.filter(is_http) {
        if url.len() <= MAX_URL && !urls.iter().any(|known| known == url) {
            urls.push(url.to_owned());
        }
    }
    urls
}

impl<'a> PointName<'a> {
    /// Reads the content of the `[0]` element.
    pub(crate) fn read(explicit: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(explicit);
        let tlv = reader.any()?;
        reader.end()?;
        if tlv.tag == der::constructed(1) {
            return Ok(Self::Relative(tlv.value));
        }
        if tlv.tag != der::constructed(0) {
            return Err(Malformed("the name of a distribution point is of no kind that there is"));
        }
        let mut names = Reader::new(tlv.value);
        let mut all = Vec::new();
        while !names.is_empty() {
            if all.len() >= MAX_ITEMS {
                return Err(Malformed("a distribution point has too many names"));
            }
            let one = names.any()?;
            all.push((one.tag, one.value));
        }
        if all.is_empty() { Err(Malformed("a distribution point has no name")) } else { Ok(Self::Full(all)) }
    }

    /// Each name in a form that can be compared; relative ones are completed by `issuer`.
    pub(crate) fn comparable(&self, issuer: Name<'_>) -> Result<Vec<Canonical>, Malformed> {
        match self {
            Self::Relative(rdn) => Ok(vec![name::canonical_below(issuer, rdn)?]),
            Self::Full(names) => names
                .iter()
                .map(|(tag, value)| {
                    if *tag == der::constructed(4) {
                        Ok(Name::read(value)?.canonical())
                    } else {
                        Ok(vec![vec![*tag], value.to_vec()])
                    }
                })
                .collect(),
        }
    }
}
