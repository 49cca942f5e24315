//! One certificate, read strictly and without copying (RFC 5280 4.1).

use super::der::{self, Reader};
use super::extensions::Extensions;
use super::name::Name;
use super::{Limits, Malformed};

const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const CURVES: [&[u8]; 3] = [
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
    &[0x2b, 0x81, 0x04, 0x00, 0x22],
    &[0x2b, 0x81, 0x04, 0x00, 0x23],
];

/// The smallest RSA modulus, in bits (CRYPTREC LS-0003: 112-bit security).
pub(crate) const MIN_RSA_BITS: usize = 2048;

/// Signed bytes: the outer shape of certificates and CRLs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signed<'a> {
    /// What is signed, tag and length included.
    pub(crate) message: &'a [u8],
    /// The content of `message`.
    pub(crate) content: &'a [u8],
    /// The content of the `AlgorithmIdentifier`.
    pub(crate) algorithm: &'a [u8],
    pub(crate) signature: &'a [u8],
}

impl<'a> Signed<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut outer = der::only(bytes, der::SEQUENCE)?;
        let message = outer.element(der::SEQUENCE)?;
        let algorithm = outer.value(der::SEQUENCE)?;
        let signature = der::octets(outer.value(der::BIT_STRING)?)?;
        outer.end()?;
        Ok(Self { message: message.whole, content: message.value, algorithm, signature })
    }
}

/// A `SubjectPublicKeyInfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PublicKey<'a> {
    /// The whole element.
    pub(crate) whole: &'a [u8],
    /// The content of the `AlgorithmIdentifier`.
    pub(crate) algorithm: &'a [u8],
    pub(crate) key: &'a [u8],
}

/// What is wrong with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyFault {
    Weak(&'static str),
    Malformed(Malformed),
}

impl<'a> PublicKey<'a> {
    pub(crate) fn read(whole: &'a [u8]) -> Result<Self, Malformed> {
        let mut spki = der::only(whole, der::SEQUENCE)?;
        let algorithm = spki.value(der::SEQUENCE)?;
        let mut identifier = Reader::new(algorithm);
        identifier.oid()?;
        let key = der::octets(spki.value(der::BIT_STRING)?)?;
        spki.end()?;
        Ok(Self { whole, algorithm, key })
    }

    /// Is it of a kind and length that the gateway believes in?
    pub(crate) fn check(&self) -> Result<(), KeyFault> {
        let mut identifier = Reader::new(self.algorithm);
        let kind = identifier.oid().map_err(KeyFault::Malformed)?;
        match kind {
            RSA_ENCRYPTION => match rsa_bits(self.key).map_err(KeyFault::Malformed)? {
                bits if bits < MIN_RSA_BITS => Err(KeyFault::Weak("an RSA key of less than 2048 bits")),
                bits if bits > 8192 => Err(KeyFault::Weak("an RSA key of more than 8192 bits")),
                bits if bits % 8 != 0 => Err(KeyFault::Weak("an RSA key of an odd length")),
                _ => Ok(()),
            },
            EC_PUBLIC_KEY => match identifier.oid() {
                Ok(curve) if CURVES.contains(&curve) => Ok(()),
                Ok(_) => Err(KeyFault::Weak("a curve other than P-256, P-384 and P-521")),
                Err(_) => Err(KeyFault::Weak("a curve without a name")),
            },
            ED25519 if identifier.is_empty() && self.key.len() == 32 => Ok(()),
            ED25519 => Err(KeyFault::Malformed(Malformed("an Ed25519 key has another form"))),
            _ => Err(KeyFault::Weak("a kind of key other than RSA, ECDSA and Ed25519")),
        }
    }
}

fn rsa_bits(key: &[u8]) -> Result<usize, Malformed> {
    let mut key = der::only(key, der::SEQUENCE)?;
    let modulus = key.value(der::INTEGER)?;
    der::check_integer(modulus)?;
    der::check_integer(key.value(der::INTEGER)?)?;
    key.end()?;
    let magnitude = modulus.strip_prefix(&[0]).unwrap_or(modulus);
    let leading = magnitude.first().map_or(0, |first| first.leading_zeros() as usize);
    Ok((magnitude.len() * 8).saturating_sub(leading))
}

/// A certificate.
#[derive(Debug, Clone)]
pub(crate) struct Certificate<'a> {
    pub(crate) der: &'a [u8],
    pub(crate) signed: Signed<'a>,
    /// An INTEGER's content.
    pub(crate) serial: &'a [u8],
    pub(crate) issuer: Name<'a>,
    pub(crate) subject: Name<'a>,
    /// Seconds since 1970; the moments belong to the validity.
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    pub(crate) key: PublicKey<'a>,
    /// Is it of version 3?
    pub(crate) v3: bool,
    pub(crate) extensions: Extensions<'a>,
}

/// Why bytes are no certificate to work with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    Malformed(Malformed),
    TooLarge,
}

impl From<Malformed> for Unread {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl<'a> Certificate<'a> {
    pub(crate) fn read(bytes: &'a [u8], limits: &Limits) -> Result<Self, Unread> {
        if bytes.len() > limits.certificate_bytes {
            return Err(Unread::TooLarge);
        }
        let read = Self::read_any(bytes)?;
        if read.serial == [0] {
            return Err(Malformed("the serial number is zero").into());
        }
        Ok(read)
    }

    /// Reads without a limit, and takes the serial number 0, which some roots have.
    pub(crate) fn read_any(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let signed = Signed::read(bytes)?;
        let mut tbs = Reader::new(signed.content);
        let version = match tbs.optional(der::constructed(0))? {
            None => 0,
            Some(explicit) => match explicit {
                [der::INTEGER, 1, version @ 1..=2] => *version,
                _ => return Err(Malformed("the version is none that there is")),
            },
        };
        let serial = tbs.value(der::INTEGER)?;
        check_serial(serial)?;
        if tbs.value(der::SEQUENCE)? != signed.algorithm {
            return Err(Malformed("the two signature algorithms differ"));
        }
        let issuer = Name::read(tbs.element(der::SEQUENCE)?.whole)?;
        if issuer.is_empty() {
            return Err(Malformed("the issuer has no name"));
        }
        let mut validity = tbs.inside(der::SEQUENCE)?;
        let not_before = der::time(validity.any()?)?;
        let not_after = der::time(validity.any()?)?;
        validity.end()?;
        let subject = Name::read(tbs.element(der::SEQUENCE)?.whole)?;
        let key = PublicKey::read(tbs.element(der::SEQUENCE)?.whole)?;
        for unique in [1, 2] {
            if tbs.optional(der::context(unique))?.is_some() && version == 0 {
                return Err(Malformed("a certificate of version 1 has unique identifiers"));
            }
        }
        let extensions = match tbs.optional(der::constructed(3))? {
            None => Extensions::default(),
            Some(_) if version != 2 => return Err(Malformed("a certificate before version 3 has extensions")),
            Some(explicit) => Extensions::read(explicit)?,
        };
        tbs.end()?;
        let read = Self {
            der: bytes,
            signed,
            serial,
            issuer,
            subject,
            not_before,
            not_after,
            key,
            v3: version == 2,
            extensions,
        };
        read.check_together()?;
        Ok(read)
    }

    /// What RFC 5280 4.2.1 says of fields that depend on each other.
    fn check_together(&self) -> Result<(), Malformed> {
        // A CA without a name is nobody's issuer, for no issuer is without one.
        if self.is_authority() {
            return Ok(());
        }
        if self.extensions.name_constraints.is_some() {
            return Err(Malformed("a certificate that is not a CA's has name constraints"));
        }
        if self.subject.is_empty() && !self.extensions.alternative_names_critical {
            return Err(Malformed("neither the subject nor a critical subjectAltName names anybody"));
        }
        Ok(())
    }

    /// Do the basic constraints say CA?
    pub(crate) fn is_authority(&self) -> bool {
        self.extensions.basic_constraints.is_some_and(|constraints| constraints.authority)
    }

    pub(crate) fn is_self_issued(&self) -> bool {
        self.issuer.same(self.subject)
    }
}

/// At most 20 octets (RFC 5280 4.1.2.2). Negative numbers are tolerated, as it asks: they only tell
/// certificates apart.
fn check_serial(serial: &[u8]) -> Result<(), Malformed> {
    der::check_integer(serial)?;
    if serial.strip_prefix(&[0]).unwrap_or(serial).len() > 20 {
        return Err(Malformed("the serial number is longer than 20 octets"));
    }
    Ok(())
}
