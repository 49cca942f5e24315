//! Users by HPKI (保健医療福祉分野の公開鍵基盤): what an authentication certificate of Japan's public key infrastructure
//! for health care says of its holder.
//!
//! The path is [`path::validate`] with [`policy_settings`]; this module reads the leaf of a path
//! that holds. The national qualifications stand in `hcRole` (ISO 17090-2), an attribute of the
//! subjectDirectoryAttributes extension:
//!
//! ```text
//! Attribute   ::= SEQUENCE { type 1.0.17090.0.1, values SET OF HCActorData }
//! HCActorData ::= SET OF HCActor
//! HCActor     ::= SEQUENCE { codedData [0] EXPLICIT CodedData, regionalHCActorData [1] EXPLICIT … OPTIONAL }
//! CodedData   ::= SET { codingSchemeReference [0] EXPLICIT OBJECT IDENTIFIER,
//!                       codeDataValue [1] EXPLICIT NumericString OPTIONAL,
//!                       codeDataFreeText [2] EXPLICIT DirectoryString }
//! ```

mod roles;

use x509_cert::der::asn1::ObjectIdentifier;

use crate::path::{self, LeafFacts, Malformed, PolicySettings, Reader};
use crate::peers::Holder;

pub use roles::{QualifiedRole, ROLES, RoleTable};

/// `id-jhpki-cp` for authentication of persons: 1.2.392.100495.1.5.1.2.3.1.
pub const AUTHENTICATION_POLICY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.392.100495.1.5.1.2.3.1");

/// The authentication policy of MEDIS's test cards: 1.2.392.100495.1.5.1.2.0.1.
pub const AUTHENTICATION_TEST_POLICY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.392.100495.1.5.1.2.0.1");

/// `id-jhpki-cp`: the arc of all policies of HPKI.
const POLICY_ARC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.392.100495.1.5.1");

/// The arc of all signature policies. They forbid the use for authentication.
const SIGNATURE_ARC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.392.100495.1.5.1.1");

/// `id-hcpki-at-healthcareactor` (ISO 17090-2).
const HC_ROLE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.0.17090.0.1");

/// `id-jhpki-cdata`: the coding scheme of Japan's qualifications.
const JAPAN_CODES: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.392.100495.1.6.1.1");

/// The most roles in a certificate.
const MAX_ROLES: usize = 32;

/// The longest role, in bytes.
pub const MAX_ROLE_LENGTH: usize = 128;

/// The longest number of a holder, in bytes (RFC 5280 A.1, `ub-serial-number`).
pub const MAX_NUMBER_LENGTH: usize = 64;

const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;

/// Path settings for HPKI: valid for the authentication policy, which `anyPolicy` does not stand for. Test cards are
/// taken only if `test` says so.
#[must_use]
pub fn policy_settings(test: bool) -> PolicySettings {
    let mut accepted = vec![AUTHENTICATION_POLICY.as_bytes().to_vec()];
    if test {
        accepted.push(AUTHENTICATION_TEST_POLICY.as_bytes().to_vec());
    }
    PolicySettings { accepted, explicit: true, inhibit_mapping: true, inhibit_any: true }
}

/// What a certificate says of its holder. Worth believing only with a path that holds and a proof of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HpkiUser {
    /// Who the holder is: the issuer, and the holder's number there.
    pub holder: Holder,
    /// The subject's common name, in Latin letters.
    pub name: String,
    /// The names in the subjectAltName, in Japanese; for people to read.
    pub japanese_names: Vec<String>,
    /// The qualifications, as the certificate spells them, in its order.
    pub qualifications: Vec<String>,
}

/// Why a certificate stands for no HPKI user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HpkiError {
    /// Not a certificate, or not in the form that HPKI gives it.
    #[error("the certificate cannot be read: {0}")]
    Malformed(#[from] Malformed),
    /// Issued for signatures, which its policy keeps apart from authentication.
    #[error("the certificate is issued under a signature policy, which forbids authentication")]
    SignaturePolicy,
    /// The key usage is absent or lacks digitalSignature.
    #[error("the key usage does not include `digitalSignature`")]
    KeyUsage,
    /// There is no hcRole of Japan's coding scheme.
    #[error("the certificate has no hcRole")]
    NoRole,
    /// The subject has no serialNumber, so that nobody can be told apart, or one that is no number.
    #[error("the subject has no serialNumber of 1 to {MAX_NUMBER_LENGTH} characters")]
    NoNumber,
}

/// Reads the leaf of a path that holds under [`policy_settings`].
///
/// # Errors
/// [`HpkiError`] if it stands for no user.
pub fn user_of(leaf: &[u8]) -> Result<HpkiUser, HpkiError> {
    user_in(path::read_leaf(leaf)?)
}

pub(crate) fn user_in(leaf: LeafFacts<'_>) -> Result<HpkiUser, HpkiError> {
    if leaf.policies.iter().any(|policy| policy.starts_with(SIGNATURE_ARC.as_bytes())) {
        return Err(HpkiError::SignaturePolicy);
    }
    if !leaf.signs_data {
        return Err(HpkiError::KeyUsage);
    }
    let qualifications = match leaf.directory_attributes {
        Some(value) => qualifications(value)?,
        None => Vec::new(),
    };
    if qualifications.is_empty() {
        return Err(HpkiError::NoRole);
    }
    let number = leaf.serial_number.filter(|number| is_number(number)).ok_or(HpkiError::NoNumber)?;
    Ok(HpkiUser {
        holder: Holder { issuer: crate::fingerprint(leaf.issuer), number },
        name: leaf.common_name.unwrap_or_default(),
        japanese_names: leaf.alternative_names,
        qualifications,
    })
}

/// Could a holder have this number?
#[must_use]
pub fn is_number(text: &str) -> bool {
    (1..=MAX_NUMBER_LENGTH).contains(&text.len()) && !text.contains(char::is_control)
}

/// Is it a card of HPKI, whatever else it says? What cannot be read is taken for one: it opens no other door.
pub(crate) fn is_card(leaf: &LeafFacts<'_>) -> bool {
    let has_role =
        leaf.directory_attributes.is_some_and(|value| qualifications(value).map_or(true, |all| !all.is_empty()));
    has_role || leaf.policies.iter().any(|policy| policy.starts_with(POLICY_ARC.as_bytes()))
}

/// The qualifications in a subjectDirectoryAttributes' value. Other attributes and other coding schemes are passed over.
///
/// # Errors
/// [`Malformed`] if it is not in its form, or lists more than 32 roles.
pub fn qualifications(value: &[u8]) -> Result<Vec<String>, Malformed> {
    let mut found = Vec::new();
    let mut attributes = path::only(value, path::SEQUENCE)?;
    while !attributes.is_empty() {
        let mut attribute = attributes.inside(path::SEQUENCE)?;
        let kind = attribute.oid()?;
        let mut values = attribute.inside(path::SET)?;
        attribute.end()?;
        if kind != HC_ROLE.as_bytes() {
            continue;
        }
        // Two sets, one in the other: the attribute's values, and the actors of each.
        while !values.is_empty() {
            let mut actors = values.inside(path::SET)?;
            while !actors.is_empty() {
                let role = actor(actors.inside(path::SEQUENCE)?)?;
                if found.len() >= MAX_ROLES {
                    return Err(Malformed("there are too many roles"));
                }
                found.extend(role);
            }
        }
    }
    Ok(found)
}

fn actor(mut actor: Reader<'_>) -> Result<Option<String>, Malformed> {
    let mut explicit = actor.inside(path::constructed(0))?;
    let mut coded = explicit.inside(path::SET)?;
    explicit.end()?;
    // regionalHCActorData: not used in Japan.
    actor.optional(path::constructed(1))?;
    actor.end()?;
    let (mut scheme, mut text) = (None, None);
    // The fields of a SET come in any order in BER, and makers of cards took it at its word.
    while let Some(tag) = coded.peek() {
        let mut field = coded.inside(tag)?;
        if tag == path::constructed(0) && scheme.is_none() {
            scheme = Some(field.oid()?);
        } else if tag == path::constructed(1) {
            field.any()?;
        } else if tag == path::constructed(2) && text.is_none() {
            text = Some(field.any()?);
        } else {
            return Err(Malformed("the coded data has a field twice, or one that there is not"));
        }
        field.end()?;
    }
    let (Some(scheme), Some(text)) = (scheme, text) else { return Err(Malformed("the coded data is incomplete")) };
    if scheme != JAPAN_CODES.as_bytes() {
        return Ok(None);
    }
    if !matches!(text.tag, UTF8_STRING | PRINTABLE_STRING) || text.value.len() > MAX_ROLE_LENGTH {
        return Err(Malformed("a role is too long or no UTF8String"));
    }
    match std::str::from_utf8(text.value) {
        Ok(text) if !text.is_empty() && !text.contains(char::is_control) => Ok(Some(text.to_owned())),
        _ => Err(Malformed("a role is empty or no text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// A doctor's, byte by byte as the cards have it.
    fn doctor() -> Vec<u8> {
        let mut value = hex("30343032 0606288185420001 3128 3126 3024 A022 3120 A00C060A2A830886910F01060101 A2100C0E");
        value.extend_from_slice(b"Medical Doctor");
        value
    }

    #[test]
    fn a_doctor_is_read() {
        assert_eq!(qualifications(&doctor()).unwrap(), ["Medical Doctor"]);
        let table = RoleTable::default();
        let role = table.role("Medical Doctor").unwrap();
        assert_eq!((role.role.as_ref(), role.japanese.as_ref()), ("medical-doctor", "医師"));
        assert!(table.role("medical doctor").is_none() && table.role("").is_none());
    }

    /// Two actors, the second with the code value that Japan does not use, and one of another country's scheme.
    #[test]
    fn several_roles_are_a_list() {
        let wrap = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
        let doctor = hex("3024A0223120A00C060A2A830886910F01060101A2100C0E4D65646963616C20446F63746F72");
        let pharmacist = hex("3027A0253123A00C060A2A830886910F01060101A10512033132 33A20C0C0A506861726D6163697374");
        let foreign = hex("300E A00C 310A A003060155 A2030C0141");
        let actors = wrap(0x31, &[doctor, foreign, pharmacist].concat());
        let attribute = wrap(0x30, &[hex("0606288185420001"), wrap(0x31, &actors)].concat());
        assert_eq!(qualifications(&wrap(0x30, &attribute)).unwrap(), ["Medical Doctor", "Pharmacist"]);
        let other = wrap(0x30, &wrap(0x30, &[hex("0603550403"), wrap(0x31, &actors)].concat()));
        assert!(qualifications(&other).unwrap().is_empty());
    }

    #[test]
    fn every_name_of_the_table_is_a_role_name_once() {
        let mut roles: Vec<_> = ROLES.iter().map(|entry| entry.role.as_ref()).collect();
        assert!(roles.iter().all(|role| policy::RoleName::new(role).is_ok()));
        roles.sort_unstable();
        roles.dedup();
        assert_eq!(roles.len(), ROLES.len());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), at in 0_usize..54, with in any::<u8>()) {
            let _ = qualifications(&bytes);
            let mut changed = doctor();
            changed[at] = with;
            let _ = qualifications(&changed);
            let _ = user_of(&bytes);
        }
    }
}
