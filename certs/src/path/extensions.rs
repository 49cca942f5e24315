//! A certificate's extensions (RFC 5280 4.2). Those that path validation knows are read in full; an unknown one that is
//! critical is remembered, since such a certificate may be in no path.

use super::constraints::NameConstraints;
use super::der::{self, Reader};
use super::points::{self, DistributionPoint};
use super::{MAX_ITEMS, Malformed, names};

/// `anyPolicy`.
pub(crate) const ANY_POLICY: &[u8] = &[0x55, 0x1d, 0x20, 0x00];

pub(crate) const ANY_EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];

const MAX_EXTENSIONS: usize = 64;

/// The named bits of keyUsage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyUsage(u16);

impl KeyUsage {
    pub(crate) const fn signs_data(self) -> bool {
        self.0 & 0x8000 != 0
    }
    pub(crate) const fn signs_certificates(self) -> bool {
        self.0 & 0x0400 != 0
    }
    pub(crate) const fn signs_crls(self) -> bool {
        self.0 & 0x0200 != 0
    }

    /// The bits by their names (RFC 5280 4.2.1.3).
    pub(crate) fn names(self) -> Vec<&'static str> {
        const NAMES: [&str; 9] = [
            "digitalSignature",
            "contentCommitment",
            "keyEncipherment",
            "dataEncipherment",
            "keyAgreement",
            "keyCertSign",
            "cRLSign",
            "encipherOnly",
            "decipherOnly",
        ];
        NAMES.iter().enumerate().filter(|(bit, _)| self.0 & (0x8000 >> bit) != 0).map(|(_, name)| *name).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BasicConstraints {
    pub(crate) authority: bool,
    pub(crate) path_length: Option<u32>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PolicyConstraints {
    pub(crate) require_explicit: Option<u32>,
    pub(crate) inhibit_mapping: Option<u32>,
}

/// A policy of the issuer's domain, and one of the subject's.
pub(crate) type Mapping<'a> = (&'a [u8], &'a [u8]);

/// What the extensions say. Object identifiers are their contents.
#[derive(Debug, Clone, Default)]
pub(crate) struct Extensions<'a> {
    pub(crate) basic_constraints: Option<BasicConstraints>,
    pub(crate) key_usage: Option<KeyUsage>,
    pub(crate) extended_key_usage: Option<Vec<&'a [u8]>>,
    /// The content of the subjectAltName's sequence, every name of a known kind being well-formed.
    pub(crate) alternative_names: Option<&'a [u8]>,
    pub(crate) alternative_names_critical: bool,
    pub(crate) name_constraints: Option<NameConstraints<'a>>,
    /// The value of nameConstraints.
    pub(crate) name_constraints_der: Option<&'a [u8]>,
    pub(crate) policies: Option<Vec<&'a [u8]>>,
    pub(crate) policy_mappings: Vec<Mapping<'a>>,
    pub(crate) policy_constraints: PolicyConstraints,
    pub(crate) inhibit_any_policy: Option<u32>,
    pub(crate) authority_key_id: Option<&'a [u8]>,
    pub(crate) subject_key_id: Option<&'a [u8]>,
    pub(crate) distribution_points: Vec<DistributionPoint<'a>>,
    /// Where delta CRLs are.
    pub(crate) freshest: Vec<DistributionPoint<'a>>,
    /// The locations of OCSP responders in authorityInfoAccess, each as tag and value.
    pub(crate) responders: Vec<(u8, &'a [u8])>,
    /// id-pkix-ocsp-nocheck: nobody need look whether this responder's certificate was revoked (RFC 6960 4.2.2.2.1).
    pub(crate) no_check: bool,
    /// The value of subjectDirectoryAttributes.
    pub(crate) directory_attributes: Option<&'a [u8]>,
    /// An extension that is critical and that nobody here knows.
    pub(crate) unknown_critical: Option<&'a [u8]>,
}

impl<'a> Extensions<'a> {
    /// Reads the content of the `[3]` element.
    pub(crate) fn read(explicit: &'a [u8]) -> Result<Self, Malformed> {
        let mut found = Self::default();
        let mut seen: Vec<&[u8]> = Vec::new();
        let mut list = der::only(explicit, der::SEQUENCE)?;
        if list.is_empty() {
            return Err(Malformed("the list of extensions is empty"));
        }
        while !list.is_empty() {
            let (oid, critical, value) = extension(&mut list)?;
            if seen.contains(&oid) {
                return Err(Malformed("an extension comes twice"));
            }
            if seen.len() >= MAX_EXTENSIONS {
                return Err(Malformed("there are too many extensions"));
            }
            seen.push(oid);
            found.one(oid, critical, value)?;
        }
        Ok(found)
    }

    fn one(&mut self, oid: &'a [u8], critical: bool, value: &'a [u8]) -> Result<(), Malformed> {
        match oid {
            [0x55, 0x1d, 9] => self.directory_attributes = Some(value),
            [0x55, 0x1d, 14] => {
                not_critical(critical)?;
                let mut outer = Reader::new(value);
                self.subject_key_id = Some(outer.value(der::OCTET_STRING)?);
                outer.end()?;
            }
            [0x55, 0x1d, 15] => {
                let mut outer = Reader::new(value);
                self.key_usage = Some(KeyUsage(der::named_bits(outer.value(der::BIT_STRING)?)?));
                outer.end()?;
            }
            [0x55, 0x1d, 17] => {
                let content = der::only(value, der::SEQUENCE)?;
                self.alternative_names = Some(names::check(content)?);
                self.alternative_names_critical = critical;
            }
            [0x55, 0x1d, 19] => self.basic_constraints = Some(basic_constraints(value)?),
            [0x55, 0x1d, 30] => {
                self.name_constraints = Some(NameConstraints::read(value)?);
                self.name_constraints_der = Some(value);
            }
            [0x55, 0x1d, 31] => self.distribution_points = points::read(value)?,
            [0x55, 0x1d, 32] => self.policies = Some(policies(value)?),
            [0x55, 0x1d, 33] => self.policy_mappings = mappings(value)?,
            [0x55, 0x1d, 35] => {
                not_critical(critical)?;
                self.authority_key_id = authority_key_id(value)?;
            }
            [0x55, 0x1d, 36] => self.policy_constraints = policy_constraints(value)?,
            [0x55, 0x1d, 37] => self.extended_key_usage = Some(key_purposes(value)?),
            [0x55, 0x1d, 46] => {
                not_critical(critical)?;
                self.freshest = points::read(value)?;
            }
            [0x55, 0x1d, 54] => {
                let mut outer = Reader::new(value);
                self.inhibit_any_policy = Some(der::small(outer.value(der::INTEGER)?)?);
                outer.end()?;
            }
            // authorityInfoAccess, subjectInfoAccess: where to look, never what to believe.
            [0x2b, 6, 1, 5, 5, 7, 1, 1] => {
                not_critical(critical)?;
                self.responders = access(value)?;
            }
            [0x2b, 6, 1, 5, 5, 7, 1, 11] => {
                not_critical(critical)?;
                access(value)?;
            }
            [0x2b, 6, 1, 5, 5, 7, 48, 1, 5] => self.no_check = true,
            _ if critical => self.unknown_critical = self.unknown_critical.or(Some(oid)),
            _ => {}
        }
        Ok(())
    }

    /// May the key be used for this purpose (an OID's content)? Absent means yes. `any` says whether
    /// anyExtendedKeyUsage is taken for it.
    pub(crate) fn serves(&self, purpose: &[u8], any: bool) -> bool {
        self.extended_key_usage.as_ref().is_none_or(|usages| {
            usages.iter().any(|usage| *usage == purpose || (any && *usage == ANY_EXTENDED_KEY_USAGE))
        })
    }
}

/// One `Extension`: OID, criticality, value.
pub(crate) fn extension<'a>(list: &mut Reader<'a>) -> Result<(&'a [u8], bool, &'a [u8]), Malformed> {
    let mut extension = list.inside(der::SEQUENCE)?;
    let oid = extension.oid()?;
    let critical = extension.default_false(der::BOOLEAN)?;
    let value = extension.value(der::OCTET_STRING)?;
    extension.end()?;
    Ok((oid, critical, value))
}

const fn not_critical(critical: bool) -> Result<(), Malformed> {
    if critical { Err(Malformed("an extension is critical that must not be")) } else { Ok(()) }
}

fn basic_constraints(value: &[u8]) -> Result<BasicConstraints, Malformed> {
    let mut fields = der::only(value, der::SEQUENCE)?;
    let authority = fields.default_false(der::BOOLEAN)?;
    let path_length = fields.optional(der::INTEGER)?.map(der::small).transpose()?;
    fields.end()?;
    Ok(BasicConstraints { authority, path_length })
}

/// The key identifier of an authorityKeyIdentifier; the other two fields only help to find an issuer.
pub(crate) fn authority_key_id(value: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    let mut fields = der::only(value, der::SEQUENCE)?;
    let id = fields.optional(der::context(0))?;
    fields.optional(der::constructed(1))?;
    fields.optional(der::context(2))?;
    fields.end()?;
    Ok(id)
}

fn list<'a, T>(
    value: &'a [u8],
    mut one: impl FnMut(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let mut reader = der::only(value, der::SEQUENCE)?;
    let mut all = Vec::new();
    while !reader.is_empty() {
        if all.len() >= MAX_ITEMS {
            return Err(Malformed("an extension lists too many things"));
        }
        all.push(one(&mut reader)?);
    }
    if all.is_empty() { Err(Malformed("an extension lists nothing")) } else { Ok(all) }
}

fn key_purposes(value: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
    list(value, Reader::oid)
}

/// The policies of a certificatePolicies. Qualifiers are for readers; they are not looked at.
fn policies(value: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
    let mut all = list(value, |reader| {
        let mut information = reader.inside(der::SEQUENCE)?;
        let policy = information.oid()?;
        information.optional(der::SEQUENCE)?;
        information.end()?;
        Ok(policy)
    })?;
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    if all.len() == count { Ok(all) } else { Err(Malformed("a policy comes twice")) }
}

fn mappings(value: &[u8]) -> Result<Vec<Mapping<'_>>, Malformed> {
    list(value, |reader| {
        let mut mapping = reader.inside(der::SEQUENCE)?;
        let pair = (mapping.oid()?, mapping.oid()?);
        mapping.end()?;
        Ok(pair)
    })
}

fn policy_constraints(value: &[u8]) -> Result<PolicyConstraints, Malformed> {
    let mut fields = der::only(value, der::SEQUENCE)?;
    if fields.is_empty() {
        return Err(Malformed("the policy constraints are empty"));
    }
    let require_explicit = fields.optional(der::context(0))?.map(der::small).transpose()?;
    let inhibit_mapping = fields.optional(der::context(1))?.map(der::small).transpose()?;
    fields.end()?;
    Ok(PolicyConstraints { require_explicit, inhibit_mapping })
}

/// The locations by the method `id-ad-ocsp`.
fn access(value: &[u8]) -> Result<Vec<(u8, &[u8])>, Malformed> {
    const OCSP: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1];
    let all = list(value, |reader| {
        let mut description = reader.inside(der::SEQUENCE)?;
        let method = description.oid()?;
        let location = description.any()?;
        description.end()?;
        Ok((method, (location.tag, location.value)))
    })?;
    Ok(all.into_iter().filter(|(method, _)| *method == OCSP).map(|(_, location)| location).collect())
}
