//! Certificate revocation lists (RFC 5280 5): read once, kept with an index of their entries, and grouped by issuer.
//!
//! A list is believed only when its signature was checked against its issuer's key, which is known when a path is; until
//! then it is bytes that were read without trust. A list that cannot be used is an error with a name and changes
//! nothing in the set.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use rustls::pki_types::SignatureVerificationAlgorithm;

use super::Malformed;
use super::certificate::{Certificate, Signed};
use super::der::{self, Reader};
use super::extensions::{authority_key_id, extension};
use super::name::{Canonical, Name};
use super::ocsp::OcspSet;
use super::points::{ALL_REASONS, PointName};
use super::refused::RevocationReason;

/// The largest list, in bytes.
pub const MAX_CRL_BYTES: usize = 64 * 1024 * 1024;

/// Why a list cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// Not a CRL as RFC 5280 and DER have it.
    #[error("the CRL cannot be read: {0}")]
    Malformed(#[from] Malformed),
    /// Longer than [`MAX_CRL_BYTES`].
    #[error("the CRL is larger than {MAX_CRL_BYTES} bytes")]
    TooLarge,
    /// It speaks for other issuers too (RFC 5280 5.2.5): such lists are not supported.
    #[error("the CRL is indirect; only an issuer's own CRLs are taken")]
    Indirect,
    /// It is about attribute certificates.
    #[error("the CRL is about attribute certificates")]
    AttributeCertificates,
    /// A critical extension, of the list or of an entry, that nobody here knows.
    #[error("a critical extension of the CRL is unknown")]
    UnknownCriticalExtension,
    /// It does not say when the next one comes.
    #[error("the CRL has no next update")]
    NoNextUpdate,
    /// It has no number, so that nobody can tell it from an older one.
    #[error("the CRL has no number")]
    NoNumber,
    /// An older list than the one in use.
    #[error("the CRL is older than the one in use")]
    Older,
    /// Its signature is not by the key of the issuer that it names.
    #[error("the CRL's signature is not its issuer's")]
    Forged,
}

/// A list's entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// Where the serial number's content is.
    start: u32,
    length: u8,
    /// `None`: removeFromCRL.
    reason: Option<RevocationReason>,
    when: i64,
}

/// What a list is about, for comparison with a distribution point (RFC 5280 5.2.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    /// Any of these names is its point's; none means all points.
    pub(crate) names: Vec<Canonical>,
    pub(crate) only_users: bool,
    pub(crate) only_authorities: bool,
    pub(crate) reasons: u16,
}

/// What is large of a list: its bytes and the index of its entries. Several lists of the same bytes may share it.
#[derive(Debug)]
pub struct CrlBody {
    der: Box<[u8]>,
    // INVARIANT: sorted by serial number.
    entries: Vec<Entry>,
}

/// One list.
#[derive(Debug)]
pub struct Crl {
    body: Arc<CrlBody>,
    digest: [u8; 32],
    issuer: Box<[u8]>,
    issuer_canonical: Canonical,
    this_update: i64,
    next_update: i64,
    number: Vec<u8>,
    /// The number of the complete list that a delta builds on.
    base: Option<Vec<u8>>,
    scope: Scope,
    key_id: Option<Box<[u8]>>,
    /// The key (a whole SubjectPublicKeyInfo) that the signature was checked with. The check of a long list is worth
    /// remembering.
    verified_by: OnceLock<Box<[u8]>>,
}

impl Crl {
    /// Reads a list. Its signature is checked when it is used.
    ///
    /// # Errors
    /// [`CrlError`] if it is none that can be used.
    pub fn from_der(bytes: &[u8]) -> Result<Self, CrlError> {
        if bytes.len() > MAX_CRL_BYTES {
            return Err(CrlError::TooLarge);
        }
        let signed = Signed::read(bytes)?;
        let mut tbs = Reader::new(signed.content);
        // Version 2: those before it have no number.
        if tbs.optional(der::INTEGER)? != Some(&[1]) {
            return Err(Malformed("the list is not of version 2").into());
        }
        if tbs.value(der::SEQUENCE)? != signed.algorithm {
            return Err(Malformed("the two signature algorithms differ").into());
        }
        let issuer = Name::read(tbs.element(der::SEQUENCE)?.whole)?;
        if issuer.is_empty() {
            return Err(Malformed("the issuer has no name").into());
        }
        let this_update = der::time(tbs.any()?)?;
        if !matches!(tbs.peek(), Some(0x17 | 0x18)) {
            return Err(CrlError::NoNextUpdate);
        }
        let next_update = der::time(tbs.any()?)?;
        let entries = match tbs.optional(der::SEQUENCE)? {
            None => Vec::new(),
            Some(list) => entries(list, bytes)?,
        };
        let explicit = tbs.optional(der::constructed(0))?.ok_or(CrlError::NoNumber)?;
        tbs.end()?;
        let extensions = ListExtensions::read(explicit, issuer)?;
        Ok(Self {
            digest: crate::fingerprint(bytes),
            issuer: issuer.der().into(),
            issuer_canonical: issuer.canonical(),
            this_update,
            next_update,
            number: extensions.number.ok_or(CrlError::NoNumber)?,
            base: extensions.base,
            scope: extensions.scope,
            key_id: extensions.key_id.map(Into::into),
            body: Arc::new(CrlBody { der: bytes.into(), entries }),
            verified_by: OnceLock::new(),
        })
    }

    /// What is large of it.
    #[must_use]
    pub const fn body(&self) -> &Arc<CrlBody> {
        &self.body
    }

    /// The same list, sharing what is large if `body` is of the same bytes. Whether its signature was checked is each
    /// one's own: another listener may believe in another CA of the same name.
    #[must_use]
    pub fn sharing(self, body: Arc<CrlBody>) -> Self {
        if self.body.der == body.der { Self { body, ..self } } else { self }
    }

    /// When the next list is due, seconds since 1970.
    #[must_use]
    pub const fn next_update(&self) -> i64 {
        self.next_update
    }

    /// When it was issued, seconds since 1970.
    #[must_use]
    pub const fn this_update(&self) -> i64 {
        self.this_update
    }

    /// How long its DER is, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.body.der.len()
    }

    /// How many certificates it lists.
    #[must_use]
    pub fn len(&self) -> usize {
        self.body.entries.len()
    }

    /// Does it list none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.body.entries.is_empty()
    }

    /// Does it only list changes to another list?
    #[must_use]
    pub const fn is_delta(&self) -> bool {
        self.base.is_some()
    }

    /// Who issued it, safe for a terminal.
    #[must_use]
    pub fn issuer_name(&self) -> String {
        self.issuer().map(Name::display).unwrap_or_default()
    }

    /// SHA-256 of its DER.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The list's number, hexadecimal.
    #[must_use]
    pub fn number_hex(&self) -> String {
        crate::hex(&self.number)
    }

    /// Was its signature checked against its issuer's key?
    #[must_use]
    pub fn is_proved(&self) -> bool {
        self.verified_by.get().is_some()
    }

    /// Does it speak of the same certificates as `other`: of the same issuer, the same points, and both complete or
    /// both deltas?
    #[must_use]
    pub fn replaces(&self, other: &Self) -> bool {
        self.issuer_canonical == other.issuer_canonical
            && self.scope == other.scope
            && self.is_delta() == other.is_delta()
    }

    /// Is this CA's certificate one of its issuer's, by the name?
    #[must_use]
    pub fn is_issued_by(&self, certificate: &[u8]) -> bool {
        Certificate::read_any(certificate).is_ok_and(|issuer| self.issuer().is_ok_and(|name| name.same(issuer.subject)))
    }

    /// Checks the signature before the list is used, against those of `authorities` (certificates of CAs that are
    /// believed in) that have its issuer's name; `None` if there is none, and then it is checked when a path shows its
    /// issuer's key. The check of a long list takes a while: here it is not in a handshake's way.
    ///
    /// # Errors
    /// [`CrlError::Forged`] if none of them signed it, although there are some. A CA that changes its key has to be among
    /// `authorities` with the new one.
    pub fn prove<'a>(
        &self,
        authorities: impl IntoIterator<Item = &'a [u8]>,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> Result<Option<()>, CrlError> {
        let signed = self.signed()?;
        let mut named = false;
        for authority in authorities {
            let Ok(authority) = Certificate::read_any(authority) else { continue };
            if !self.issuer()?.same(authority.subject) {
                continue;
            }
            let key = authority.key;
            let may_sign = authority.extensions.key_usage.is_none_or(|usage| usage.signs_crls());
            let algorithm = algorithms.iter().find(|algorithm| {
                algorithm.signature_alg_id().as_ref() == signed.algorithm
                    && algorithm.public_key_alg_id().as_ref() == key.algorithm
            });
            let signs = may_sign
                && key.check().is_ok()
                && algorithm.is_some_and(|algorithm| {
                    algorithm.verify_signature(key.key, signed.message, signed.signature).is_ok()
                });
            if signs {
                self.verified_by(key.whole);
                return Ok(Some(()));
            }
            named = true;
        }
        if named { Err(CrlError::Forged) } else { Ok(None) }
    }

    pub(super) fn issuer(&self) -> Result<Name<'_>, Malformed> {
        Name::read(&self.issuer)
    }

    pub(super) fn signed(&self) -> Result<Signed<'_>, Malformed> {
        Signed::read(&self.body.der)
    }

    pub(super) const fn scope(&self) -> &Scope {
        &self.scope
    }

    pub(super) fn was_verified_by(&self, key: &[u8]) -> bool {
        self.verified_by.get().is_some_and(|known| **known == *key)
    }

    pub(super) fn verified_by(&self, key: &[u8]) {
        // A second key that fits as well is checked anew each time.
        let _: Result<(), _> = self.verified_by.set(key.into());
    }

    /// Does this delta bring `complete` up to date? (RFC 5280 5.2.4)
    pub(super) fn builds_on(&self, complete: &Self) -> bool {
        self.base
            .as_ref()
            .is_some_and(|base| !is_less(&complete.number, base) && is_less(&complete.number, &self.number))
            && self.scope == complete.scope
            && self.key_id == complete.key_id
    }

    pub(super) fn is_newer_than(&self, other: &Self) -> bool {
        is_less(&other.number, &self.number)
    }

    /// What it says of a serial number: nothing, that it is removed, or since when and why it is revoked.
    pub(super) fn entry(&self, serial: &[u8]) -> Option<Option<(i64, RevocationReason)>> {
        let at = self.body.entries.binary_search_by(|entry| serial_of(&self.body.der, entry).cmp(serial)).ok()?;
        let entry = self.body.entries.get(at)?;
        Some(entry.reason.map(|reason| (entry.when, reason)))
    }
}

fn serial_of<'a>(der: &'a [u8], entry: &Entry) -> &'a [u8] {
    let start = entry.start as usize;
    der.get(start..start + usize::from(entry.length)).unwrap_or_default()
}

/// Compares INTEGER contents that are not negative.
fn is_less(a: &[u8], b: &[u8]) -> bool {
    let (a, b) = (a.strip_prefix(&[0]).unwrap_or(a), b.strip_prefix(&[0]).unwrap_or(b));
    (a.len(), a) < (b.len(), b)
}

fn entries(list: &[u8], whole: &[u8]) -> Result<Vec<Entry>, CrlError> {
    let mut reader = Reader::new(list);
    let mut all = Vec::new();
    if reader.is_empty() {
        return Err(Malformed("the list of entries is there and empty").into());
    }
    while !reader.is_empty() {
        let mut entry = reader.inside(der::SEQUENCE)?;
        let serial = entry.value(der::INTEGER)?;
        der::check_integer(serial)?;
        let when = der::time(entry.any()?)?;
        let reason = match entry.optional(der::SEQUENCE)? {
            None => Some(RevocationReason::Unspecified),
            Some(extensions) => entry_reason(extensions)?,
        };
        entry.end()?;
        // Both are parts of one slice.
        let start = serial.as_ptr().addr().saturating_sub(whole.as_ptr().addr());
        let start = u32::try_from(start).map_err(|_| CrlError::TooLarge)?;
        let length = u8::try_from(serial.len()).map_err(|_| Malformed("a serial number is too long"))?;
        all.push(Entry { start, length, reason, when });
    }
    all.sort_by(|a, b| serial_of(whole, a).cmp(serial_of(whole, b)));
    all.dedup_by(|later, earlier| {
        let same = serial_of(whole, later) == serial_of(whole, earlier);
        // Listed twice: revoked if either says so.
        if same && earlier.reason.is_none() {
            *earlier = *later;
        }
        same
    });
    Ok(all)
}

fn entry_reason(extensions: &[u8]) -> Result<Option<RevocationReason>, CrlError> {
    let mut reason = Some(RevocationReason::Unspecified);
    let mut list = Reader::new(extensions);
    while !list.is_empty() {
        let (oid, critical, value) = extension(&mut list)?;
        match oid {
            [0x55, 0x1d, 21] => {
                let mut value = Reader::new(value);
                let code = value.value(der::ENUMERATED)?;
                value.end()?;
                reason = match code {
                    // removeFromCRL.
                    [8] => None,
                    _ => {
                        let reason = RevocationReason::from_code(code);
                        Some(reason.ok_or(Malformed("a reason is none that there is"))?)
                    }
                };
            }
            // certificateIssuer: the entry is about somebody else's certificate.
            [0x55, 0x1d, 29] => return Err(CrlError::Indirect),
            _ if critical => return Err(CrlError::UnknownCriticalExtension),
            _ => {}
        }
    }
    Ok(reason)
}

struct ListExtensions<'a> {
    number: Option<Vec<u8>>,
    base: Option<Vec<u8>>,
    key_id: Option<&'a [u8]>,
    scope: Scope,
}

impl<'a> ListExtensions<'a> {
    fn read(explicit: &'a [u8], issuer: Name<'_>) -> Result<Self, CrlError> {
        let mut found = Self {
            number: None,
            base: None,
            key_id: None,
            scope: Scope { names: Vec::new(), only_users: false, only_authorities: false, reasons: ALL_REASONS },
        };
        let mut list = der::only(explicit, der::SEQUENCE)?;
        let mut seen: Vec<&[u8]> = Vec::new();
        while !list.is_empty() {
            let (oid, critical, value) = extension(&mut list)?;
            if seen.contains(&oid) || seen.len() > 32 {
                return Err(Malformed("an extension of the list comes twice, or there are too many").into());
            }
            seen.push(oid);
            match oid {
                [0x55, 0x1d, 20] if critical => return Err(Malformed("the list's number is critical").into()),
                [0x55, 0x1d, 20] => found.number = Some(number(value)?),
                [0x55, 0x1d, 27] => found.base = Some(number(value)?),
                [0x55, 0x1d, 28] => found.scope = scope(value, issuer)?,
                [0x55, 0x1d, 35] => found.key_id = authority_key_id(value)?,
                _ if critical => return Err(CrlError::UnknownCriticalExtension),
                _ => {}
            }
        }
        Ok(found)
    }
}

fn number(value: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut reader = Reader::new(value);
    let number = reader.value(der::INTEGER)?;
    reader.end()?;
    der::check_integer(number)?;
    if number.first().is_some_and(|first| first & 0x80 != 0) || number.len() > 21 {
        return Err(Malformed("a list's number is negative or too long"));
    }
    Ok(number.to_vec())
}

fn scope(value: &[u8], issuer: Name<'_>) -> Result<Scope, CrlError> {
    let mut fields = der::only(value, der::SEQUENCE)?;
    let names = match fields.optional(der::constructed(0))? {
        None => Vec::new(),
        Some(explicit) => PointName::read(explicit)?.comparable(issuer)?,
    };
    let only_users = fields.default_false(der::context(1))?;
    let only_authorities = fields.default_false(der::context(2))?;
    let reasons = match fields.optional(der::context(3))? {
        None => ALL_REASONS,
        Some(bits) => der::named_bits(bits)? & ALL_REASONS,
    };
    let indirect = fields.default_false(der::context(4))?;
    let only_attributes = fields.default_false(der::context(5))?;
    fields.end()?;
    if indirect {
        return Err(CrlError::Indirect);
    }
    if only_attributes {
        return Err(CrlError::AttributeCertificates);
    }
    Ok(Scope { names, only_users, only_authorities, reasons })
}

type ByIssuer = HashMap<Canonical, Vec<Arc<Crl>>>;

/// The lists in use, and what responders have said. Cheap to clone; a change makes a new set, and what cannot be used
/// changes nothing.
#[derive(Debug, Clone, Default)]
pub struct CrlSet {
    sources: BTreeMap<String, Arc<Crl>>,
    /// Per source, the last list that was proved, or the first that came, as long as the one in `sources` is not proved:
    /// whoever can write the file, but not sign, clears nobody.
    before: BTreeMap<String, Arc<Crl>>,
    by_issuer: Arc<ByIssuer>,
    answers: OcspSet,
    version: [u8; 32],
}

impl CrlSet {
    /// The set with the list that `source` (a file, a URL) brought, in place of what it brought before. As long as the
    /// new list's signature is not checked, the old one of the same kind is kept beside it.
    ///
    /// # Errors
    /// [`CrlError::Older`] if the source had a newer list of the same issuer and scope: a replayed list must not bring
    /// a revoked certificate back.
    pub fn with(&self, source: &str, crl: impl Into<Arc<Crl>>) -> Result<Self, CrlError> {
        let crl = crl.into();
        let (mut sources, mut before) = (self.sources.clone(), self.before.clone());
        if let Some(old) = self.sources.get(source) {
            let same = crl.replaces(old);
            if same && old.is_proved() && old.is_newer_than(&crl) {
                return Err(CrlError::Older);
            }
            if !same || crl.is_proved() {
                before.remove(source);
            } else if old.is_proved() || !before.contains_key(source) {
                before.insert(source.to_owned(), Arc::clone(old));
            }
        }
        sources.insert(source.to_owned(), crl);
        Ok(Self::of(sources, before, self.answers.clone()))
    }

    /// The set without what `source` brought. For sources that the operator takes away.
    #[must_use]
    pub fn without(&self, source: &str) -> Self {
        let (mut sources, mut before) = (self.sources.clone(), self.before.clone());
        sources.remove(source);
        before.remove(source);
        Self::of(sources, before, self.answers.clone())
    }

    /// The list that a source brought.
    #[must_use]
    pub fn get(&self, source: &str) -> Option<&Arc<Crl>> {
        self.sources.get(source)
    }

    /// Every source and its list.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Crl)> {
        self.sources.iter().map(|(source, crl)| (source.as_str(), &**crl))
    }

    /// The set with these answers in place of those it had.
    #[must_use]
    pub fn with_answers(&self, answers: OcspSet) -> Self {
        Self::of(self.sources.clone(), self.before.clone(), answers)
    }

    /// What responders have said.
    #[must_use]
    pub const fn answers(&self) -> &OcspSet {
        &self.answers
    }

    /// Differs between sets of different lists, and of answers that refuse others.
    #[must_use]
    pub const fn version(&self) -> &[u8; 32] {
        &self.version
    }

    fn of(sources: BTreeMap<String, Arc<Crl>>, before: BTreeMap<String, Arc<Crl>>, answers: OcspSet) -> Self {
        let mut by_issuer: ByIssuer = ByIssuer::new();
        let mut digests = Vec::with_capacity(sources.len() * 32 + 32);
        digests.extend_from_slice(answers.version());
        for crl in sources.values().chain(before.values()) {
            digests.extend_from_slice(&crl.digest);
            let list = by_issuer.entry(crl.issuer_canonical.clone()).or_default();
            // The same list from two places is one.
            if !list.iter().any(|known| known.digest == crl.digest) {
                list.push(Arc::clone(crl));
            }
        }
        for list in by_issuer.values_mut() {
            list.sort_by_key(|crl| std::cmp::Reverse(crl.this_update));
        }
        Self { sources, before, by_issuer: Arc::new(by_issuer), answers, version: crate::fingerprint(&digests) }
    }

    /// The lists of an issuer, the newest first.
    pub(super) fn of_issuer(&self, issuer: Name<'_>) -> &[Arc<Crl>] {
        self.by_issuer.get(&issuer.canonical()).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }
}
