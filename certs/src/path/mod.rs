//! Certification paths (RFC 5280 6): bytes, anchors, revocation lists and the time in; a path or a refusal out.
//!
//! Nothing here reads files, sockets or clocks, and no input costs more than the [`Limits`]: certificates are read
//! once, signatures and name comparisons come out of a budget, and the policies are a graph whose size the certificates
//! bound (RFC 9618). Signatures are checked by the algorithms of the TLS profile, with aws-lc-rs.
//!
//! What is read is what was signed: [`der`] hands out slices of the input and never encodes anew.

mod anchor;
pub(crate) mod certificate;
mod constraints;
mod crl;
mod crl_file;
pub(crate) mod der;
mod extensions;
mod facts;
mod name;
pub(crate) mod names;
mod ocsp;
mod points;
mod policy;
mod refused;
mod revocation;
mod search;

use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm};

pub(crate) use der::{Reader, SEQUENCE, SET, constructed, only};
pub(crate) use ocsp::{Asked, Basic, Said};

pub use anchor::TrustAnchor;
pub use crl::{Crl, CrlBody, CrlError, CrlSet, MAX_CRL_BYTES};
pub use crl_file::{CrlFileError, read_crls};
pub use facts::Description;
pub use names::PeerName;
pub use ocsp::{
    MAX_OCSP_BYTES, OCSP_CLOCK_TOLERANCE, OcspAnswer, OcspError, OcspId, OcspSet, OcspStatus, OcspTarget, ocsp_urls,
};
pub use points::crl_urls;
pub use policy::PolicySettings;
pub use refused::{PathRefusal, PathRefused, RevocationReason};
pub use revocation::{RevocationMode, RevocationSettings};

use certificate::{Certificate, Unread};
use search::{Role, Search};

/// The most items that one extension lists.
const MAX_ITEMS: usize = 128;

/// The most names in a subjectAltName, and subtrees in a list of name constraints.
const MAX_NAMES: usize = 2048;

/// What is wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// What a certificate is to be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// `id-kp-clientAuth`: a device, a user or an operator.
    ClientAuth,
    /// `id-kp-serverAuth`: a backend.
    ServerAuth,
}

impl Purpose {
    /// The OID's content (RFC 5280 4.2.1.12).
    const fn oid(self) -> &'static [u8] {
        match self {
            Self::ClientAuth => &[0x2b, 6, 1, 5, 5, 7, 3, 2],
            Self::ServerAuth => &[0x2b, 6, 1, 5, 5, 7, 3, 1],
        }
    }
}

/// Bounds of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// One certificate, in bytes.
    pub certificate_bytes: usize,
    /// Certificates presented, the leaf included.
    pub certificates: usize,
    /// CAs between the leaf and the anchor, those that rename nobody (self-issued) not counted.
    pub depth: usize,
    /// Signature checks, those of CRLs included.
    pub signatures: usize,
    /// Comparisons of a name with a constraint.
    pub comparisons: usize,
    /// Steps of the search.
    pub steps: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            certificate_bytes: 64 * 1024,
            certificates: 16,
            depth: 8,
            signatures: 48,
            comparisons: 100_000,
            steps: 400,
        }
    }
}

/// How to judge.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What for.
    pub purpose: Purpose,
    /// Signature algorithms that are believed in.
    pub algorithms: &'static [&'static dyn SignatureVerificationAlgorithm],
    /// Certificate policies.
    pub policies: PolicySettings,
    /// Revocation.
    pub revocation: RevocationSettings,
    /// A CA's certificate may be the leaf.
    pub authority_as_leaf: bool,
    /// Bounds of the work.
    pub limits: Limits,
}

impl Settings {
    /// Any policy, no look at revocation, and no CA as leaf.
    #[must_use]
    pub fn new(purpose: Purpose, algorithms: &'static [&'static dyn SignatureVerificationAlgorithm]) -> Self {
        Self {
            purpose,
            algorithms,
            policies: PolicySettings::default(),
            revocation: RevocationSettings::default(),
            authority_as_leaf: false,
            limits: Limits::default(),
        }
    }
}

/// A path that holds. Only [`validate`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidPath {
    since: i64,
    until: i64,
    anchor: usize,
    issuers: Vec<CertificateDer<'static>>,
    policies: Vec<Vec<u8>>,
}

impl ValidPath {
    /// The first and the last second in which the same input gives the same path: bounded by the validity of every
    /// certificate and by the updates of every CRL that was used. Seconds since 1970.
    #[must_use]
    pub const fn validity(&self) -> (i64, i64) {
        (self.since, self.until)
    }

    /// The index of the anchor that it leads to.
    #[must_use]
    pub const fn anchor(&self) -> usize {
        self.anchor
    }

    /// The CAs between the leaf and the anchor, the leaf's issuer first.
    #[must_use]
    pub fn issuers(&self) -> &[CertificateDer<'static>] {
        &self.issuers
    }

    /// The accepted policies that hold along the path; the content of `anyPolicy` where all do.
    #[must_use]
    pub fn policies(&self) -> &[Vec<u8>] {
        &self.policies
    }
}

/// Looks for a path from `leaf` over any of `others` to one of `anchors` that holds at `now` (seconds since 1970).
/// Certificates among `others` that cannot be read are in no path.
///
/// `peer` is whom the leaf must name; without it the caller reads the names.
///
/// # Errors
/// [`PathRefused`]: of all that stands in the way, what came nearest to a path.
pub fn validate(
    leaf: &[u8],
    others: &[&[u8]],
    anchors: &[TrustAnchor],
    crls: &CrlSet,
    settings: &Settings,
    peer: Option<&PeerName>,
    now: i64,
) -> Result<ValidPath, PathRefused> {
    let bare = |refusal| PathRefused { refusal, subject: String::new() };
    let unread = |unread: Unread| match unread {
        Unread::Malformed(malformed) => bare(PathRefusal::Malformed(malformed)),
        Unread::TooLarge => bare(PathRefusal::TooLarge),
    };
    let limits = &settings.limits;
    if others.len() >= limits.certificates {
        return Err(bare(PathRefusal::TooMany));
    }
    let mut pool = vec![Certificate::read(leaf, limits).map_err(unread)?];
    let mut spoilt = None;
    for other in others {
        if pool.iter().any(|known| known.der == *other) {
            continue;
        }
        match Certificate::read(other, limits) {
            Ok(certificate) => pool.push(certificate),
            Err(error) => spoilt = spoilt.or(Some(unread(error))),
        }
    }
    let mut search = Search::new(&pool, anchors, crls, settings, now);
    let found = search.find(0, Role::Leaf { peer }, 0).map_err(|refused| match spoilt {
        // What could not be read may have been the missing issuer.
        Some(spoilt) if refused.refusal == PathRefusal::UnknownIssuer => spoilt,
        _ => refused,
    })?;
    let issuers = found.issuers.iter().filter_map(|index| pool.get(*index));
    Ok(ValidPath {
        since: found.since,
        until: found.until,
        anchor: found.anchor,
        issuers: issuers.map(|issuer| CertificateDer::from(issuer.der.to_vec())).collect(),
        policies: found.policies,
    })
}

/// The algorithm identifier's content and the key of a certificate.
pub(crate) fn public_key(certificate: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let key = Certificate::read_any(certificate)?.key;
    Ok((key.algorithm, key.key))
}

/// A certificate's SubjectPublicKeyInfo.
pub(crate) fn public_key_info(certificate: &[u8]) -> Result<&[u8], Malformed> {
    Ok(Certificate::read_any(certificate)?.key.whole)
}

/// An end entity's certificate, and the one behind it in a chain if that is its issuer's, by the name.
pub(crate) fn leaf_and_issuer<'a>(
    leaf: &'a [u8],
    next: Option<&'a [u8]>,
) -> Result<(Certificate<'a>, Option<Certificate<'a>>), Malformed> {
    let leaf = Certificate::read_any(leaf)?;
    let issuer = next.map(Certificate::read_any).transpose()?.filter(|next| next.subject.same(leaf.issuer));
    Ok((leaf, issuer))
}

/// What a leaf says of its holder, for readers of other modules.
pub(crate) struct LeafFacts<'a> {
    /// The issuer's whole name.
    pub(crate) issuer: &'a [u8],
    /// Seconds since 1970.
    pub(crate) not_after: i64,
    pub(crate) policies: Vec<&'a [u8]>,
    /// The key usage is there and has digitalSignature.
    pub(crate) signs_data: bool,
    pub(crate) directory_attributes: Option<&'a [u8]>,
    /// Attributes of the subject.
    pub(crate) common_name: Option<String>,
    pub(crate) serial_number: Option<String>,
    /// The directory names among the alternative names, escaped for a terminal.
    pub(crate) alternative_names: Vec<String>,
    /// The e-mail addresses among them; ASCII, and so are the URIs.
    pub(crate) emails: Vec<&'a [u8]>,
    pub(crate) uris: Vec<&'a [u8]>,
}

/// SHA-256 of the subject's name, and of the issuer's.
pub(crate) fn name_hashes(certificate: &[u8]) -> Result<([u8; 32], [u8; 32]), Malformed> {
    let read = Certificate::read_any(certificate)?;
    Ok((crate::fingerprint(read.subject.der()), crate::fingerprint(read.issuer.der())))
}

/// Reads a leaf.
pub(crate) fn read_leaf(der: &[u8]) -> Result<LeafFacts<'_>, Malformed> {
    let leaf = Certificate::read_any(der)?;
    let of_kind = |wanted: u8| {
        let names = leaf.extensions.alternative_names.map(names::each).into_iter().flatten();
        names.filter(move |(tag, _)| *tag == wanted).map(|(_, value)| value)
    };
    Ok(LeafFacts {
        issuer: leaf.issuer.der(),
        not_after: leaf.not_after,
        emails: of_kind(names::EMAIL).collect(),
        uris: of_kind(names::URI).collect(),
        signs_data: leaf.extensions.key_usage.is_some_and(|usage| usage.signs_data()),
        directory_attributes: leaf.extensions.directory_attributes,
        common_name: leaf.subject.attribute(&[0x55, 0x04, 0x03]),
        serial_number: leaf.subject.attribute(&[0x55, 0x04, 0x05]),
        alternative_names: of_kind(names::DIRECTORY)
            .map(|value| Ok(name::Name::read(value)?.display()))
            .collect::<Result<_, Malformed>>()?,
        policies: leaf.extensions.policies.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests;
