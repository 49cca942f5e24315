//! What a listener takes certificates for: devices, users or patients, and never two of them.
//!
//! The purpose decides which path holds (policies) and how the proved leaf is read. A certificate that stands for another
//! purpose is refused by name, even where one CA issues for all of them: a SPIFFE ID makes a device's certificate, HPKI's
//! policies or an hcRole a user's.

use std::fmt;

use policy::{DeviceId, Patient, Refusal};
use rustls::pki_types::{SignatureVerificationAlgorithm, UnixTime};
use x509_cert::der::asn1::ObjectIdentifier;

use crate::hpki::{self, HpkiError};
use crate::leaf::Leaf;
use crate::path::{self, LeafFacts, Malformed, PolicySettings, Purpose, Settings};
use crate::verifier::PeerRefused;
use crate::{IdentityError, TrustDomain};

/// The beginning of every SPIFFE ID (SPIFFE-ID 2), in whatever case.
const SPIFFE: &[u8] = b"spiffe://";

/// What a listener takes certificates for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peers {
    /// Devices by their SPIFFE ID in this trust domain.
    Devices(TrustDomain),
    /// Users by HPKI.
    Users {
        /// Whether test cards are taken as well.
        test_cards: bool,
    },
    /// Patients.
    Patients {
        /// Where a certificate names its holder.
        id: PatientField,
        /// Certificate policies of which the path must have one; where there is none, any path will do.
        policies: Vec<PolicyOid>,
    },
}

impl From<TrustDomain> for Peers {
    fn from(domain: TrustDomain) -> Self {
        Self::Devices(domain)
    }
}

/// The object identifier of a certificate policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyOid(ObjectIdentifier);

impl PolicyOid {
    /// Reads the dotted form, such as `1.2.392.200149.8.5.1.3.30`; none if it is not in it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        ObjectIdentifier::new(text).ok().map(Self)
    }
}

/// Where a patient's certificate names its holder. There must be exactly one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatientField {
    /// serialNumber of the subject.
    SubjectSerialNumber,
    /// commonName of the subject, for CAs that put a number there.
    SubjectCommonName,
    /// The e-mail address of the subjectAltName.
    SanEmail,
    /// The URI of the subjectAltName.
    SanUri,
}

impl PatientField {
    /// Every field.
    pub const ALL: [Self; 4] = [Self::SubjectSerialNumber, Self::SubjectCommonName, Self::SanEmail, Self::SanUri];

    /// The name in a configuration.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::SubjectSerialNumber => "subject-serial-number",
            Self::SubjectCommonName => "subject-common-name",
            Self::SanEmail => "san-email",
            Self::SanUri => "san-uri",
        }
    }
}

/// The holder of a user's certificate: a number, and at which issuer it counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Holder {
    /// SHA-256 of the issuer's name (DER), as the holder's certificate has it.
    pub issuer: [u8; 32],
    /// The subject's serialNumber.
    pub number: String,
}

impl Holder {
    /// The issuer as 64 hexadecimal digits.
    #[must_use]
    pub fn issuer_hex(&self) -> String {
        crate::hex(&self.issuer)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "number `{}` of issuer `{}`", self.number.escape_debug(), self.issuer_hex())
    }
}

/// Whom a proved certificate names. What that counts for, the registry says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PeerIdentity {
    /// A device.
    Device(DeviceId),
    /// A user.
    User {
        /// Who.
        holder: Holder,
        /// The qualifications, as the certificate spells them, in its order.
        qualifications: Vec<String>,
    },
    /// A patient.
    Patient(Patient),
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(device) => write!(f, "device `{device}`"),
            Self::User { holder, .. } => holder.fmt(f),
            Self::Patient(patient) => write!(f, "patient `{}`", patient.to_string().escape_debug()),
        }
    }
}

/// SHA-256 of the name (DER) of a certificate's subject: as an issuer, it is known by this.
///
/// # Errors
/// [`Malformed`] if the bytes are no certificate.
pub fn subject_hash(certificate: &[u8]) -> Result<[u8; 32], Malformed> {
    path::name_hashes(certificate).map(|(subject, _)| subject)
}

impl Peers {
    /// The purpose's name in a configuration.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Devices(_) => "devices",
            Self::Users { .. } => "users",
            Self::Patients { .. } => "patients",
        }
    }

    /// Which paths hold for the purpose. Nobody looks at revocation yet.
    #[must_use]
    pub fn settings(&self, algorithms: &'static [&'static dyn SignatureVerificationAlgorithm]) -> Settings {
        let policies = match self {
            Self::Devices(_) => PolicySettings::default(),
            Self::Users { test_cards } => hpki::policy_settings(*test_cards),
            Self::Patients { policies, .. } if policies.is_empty() => PolicySettings::default(),
            Self::Patients { policies, .. } => PolicySettings {
                accepted: policies.iter().map(|policy| policy.0.as_bytes().to_vec()).collect(),
                explicit: true,
                inhibit_mapping: true,
                inhibit_any: true,
            },
        };
        Settings { policies, ..Settings::new(Purpose::ClientAuth, algorithms) }
    }

    /// Reads the leaf of a path that holds under [`Peers::settings`], and the end of its validity.
    ///
    /// # Errors
    /// [`PeerRefused`] if it names nobody, or stands for another purpose.
    pub fn read(&self, leaf: &[u8]) -> Result<(PeerIdentity, UnixTime), PeerRefused> {
        match self {
            Self::Devices(domain) => {
                let read = Leaf::read(leaf)?;
                let device = read.device(domain)?;
                // Whoever issued it meant a person's: no device has a qualification.
                refuse(of_user(&facts(leaf)?))?;
                Ok((PeerIdentity::Device(device), read.not_after()))
            }
            Self::Users { .. } => {
                let facts = facts(leaf)?;
                refuse(of_device(&facts))?;
                let end = end(&facts);
                let user = hpki::user_in(facts)?;
                Ok((PeerIdentity::User { holder: user.holder, qualifications: user.qualifications }, end))
            }
            Self::Patients { id, .. } => {
                let facts = facts(leaf)?;
                refuse(of_device(&facts).or(of_user(&facts)))?;
                if !facts.signs_data {
                    let why = "the key usage does not include `digitalSignature`";
                    return Err(PeerRefused::new(Refusal::CertificatePurpose, why));
                }
                Ok((PeerIdentity::Patient(patient(&facts, *id)?), end(&facts)))
            }
        }
    }
}

fn facts(leaf: &[u8]) -> Result<LeafFacts<'_>, PeerRefused> {
    let unread = |malformed: Malformed| PeerRefused::new(Refusal::CertificateMalformed, malformed.0);
    path::read_leaf(leaf).map_err(unread)
}

fn end(facts: &LeafFacts<'_>) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(facts.not_after).unwrap_or(0)))
}

/// Whose it is, if it is a device's: it has a SPIFFE ID of any trust domain.
pub(crate) fn of_device(facts: &LeafFacts<'_>) -> Option<&'static str> {
    let is_spiffe = |uri: &&[u8]| uri.get(..SPIFFE.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SPIFFE));
    facts.uris.iter().any(is_spiffe).then_some("a device's: it has a SPIFFE ID")
}

/// Whose it is, if it is a user's.
pub(crate) fn of_user(facts: &LeafFacts<'_>) -> Option<&'static str> {
    hpki::is_card(facts).then_some("a user's: it is a card of HPKI")
}

fn refuse(somebody_else: Option<&'static str>) -> Result<(), PeerRefused> {
    somebody_else.map_or(Ok(()), |whose| {
        Err(PeerRefused::new(Refusal::CertificatePurpose, format!("the certificate is {whose}")))
    })
}

fn patient(facts: &LeafFacts<'_>, field: PatientField) -> Result<Patient, PeerRefused> {
    let one = |all: &[&[u8]]| match all {
        [one] => std::str::from_utf8(one).ok().map(str::to_owned),
        _ => None,
    };
    let id = match field {
        PatientField::SubjectSerialNumber => facts.serial_number.clone(),
        PatientField::SubjectCommonName => facts.common_name.clone(),
        PatientField::SanEmail => one(&facts.emails),
        PatientField::SanUri => one(&facts.uris),
    };
    let issuer = crate::fingerprint(facts.issuer);
    id.and_then(|id| Patient::new(&issuer, &id).ok()).ok_or_else(|| {
        let detail = format!("the certificate names no patient: it has not exactly one `{}`", field.label());
        PeerRefused::new(Refusal::CertificateIdentity, detail)
    })
}

impl From<HpkiError> for PeerRefused {
    fn from(error: HpkiError) -> Self {
        let refusal = match error {
            HpkiError::Malformed(_) => Refusal::CertificateMalformed,
            HpkiError::SignaturePolicy => Refusal::CertificatePolicy,
            HpkiError::KeyUsage => Refusal::CertificatePurpose,
            HpkiError::NoRole | HpkiError::NoNumber => Refusal::CertificateIdentity,
        };
        Self::new(refusal, error.to_string())
    }
}

impl From<IdentityError> for PeerRefused {
    fn from(error: IdentityError) -> Self {
        Self::new(error.refusal(), error.to_string())
    }
}

#[cfg(test)]
mod tests;
