//! Private keys under a passphrase: PKCS#8 `EncryptedPrivateKeyInfo` with PBES2 (RFC 5958, RFC 8018 6.2).
//!
//! AES-256-CBC under a key from PBKDF2 with HMAC-SHA-256 is what is written. What is read is the same with any of
//! SHA-256, SHA-384 and SHA-512, so that a key that `openssl pkcs8 -topk8` wrote again is still opened.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2;

use super::der;
use crate::path::Malformed;
use crate::path::der as read;
use crate::pem;

/// What a passphrase must at least have, in bytes: it stands between a stolen file and the root of trust.
pub const MIN_PASSPHRASE: usize = 12;

/// Rounds of PBKDF2 for a key that a person's passphrase protects.
pub const ROUNDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(599_999);

/// A file may not make its reader work for longer than some seconds.
const MAX_ROUNDS: u32 = 10_000_000;

const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d];
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c];
const HMAC_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x09];
const HMAC_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x0a];
const HMAC_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x0b];
const AES256_CBC: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a];

const LABEL: &str = "ENCRYPTED PRIVATE KEY";

/// Why a key is not put under a passphrase, or not opened by one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The passphrase protects nothing.
    #[error("the passphrase has {length} bytes; it needs at least {MIN_PASSPHRASE}")]
    Short {
        /// Its length in bytes.
        length: usize,
    },
    /// The file is not one `ENCRYPTED PRIVATE KEY`.
    #[error("it is not one `{LABEL}` in PEM")]
    Form,
    /// The content cannot be read.
    #[error("it cannot be read: {0}")]
    Malformed(#[from] Malformed),
    /// Another scheme than PBES2 with PBKDF2 and AES-256-CBC, or absurdly many rounds.
    #[error("it is protected in another way than PBES2 with PBKDF2 (HMAC-SHA-2) and AES-256-CBC")]
    Scheme,
    /// The passphrase is another one, or the file was changed.
    #[error("the passphrase does not open it")]
    Passphrase,
}

/// The random values of one encryption; never used twice.
#[derive(Debug, Clone, Copy)]
pub struct Salts {
    /// For the key.
    pub salt: [u8; 16],
    /// For the cipher.
    pub iv: [u8; 16],
}

/// A key as PEM under a passphrase. `pkcs8` is the DER of a `PrivateKeyInfo`.
///
/// # Errors
/// [`SecretError::Short`].
pub fn protect(pkcs8: &[u8], passphrase: &str, rounds: NonZeroU32, salts: Salts) -> Result<String, SecretError> {
    if passphrase.len() < MIN_PASSPHRASE {
        return Err(SecretError::Short { length: passphrase.len() });
    }
    let (algorithm, bytes) = seal(pkcs8, passphrase, rounds, salts)?;
    let whole = der::sequence(&[&algorithm, &der::octets(&bytes)]);
    super::pem_text(LABEL, &whole).map_err(|_| SecretError::Form)
}

/// Whether the text is a key under a passphrase.
#[must_use]
pub fn is_protected(text: &str) -> bool {
    text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
}

/// The DER of the `PrivateKeyInfo` in a PEM that [`protect`] wrote.
///
/// # Errors
/// [`SecretError`].
pub fn open(text: &str, passphrase: &str) -> Result<Vec<u8>, SecretError> {
    let sections = pem::sections(text.as_bytes()).map_err(|_| SecretError::Form)?;
    let [section] = sections.as_slice() else { return Err(SecretError::Form) };
    if section.label != LABEL {
        return Err(SecretError::Form);
    }
    let mut whole = read::only(&section.der, read::SEQUENCE)?;
    let mut algorithm = whole.inside(read::SEQUENCE)?;
    let content = whole.value(read::OCTET_STRING)?;
    whole.end()?;
    let (key, iv) = parameters(&mut algorithm, passphrase)?;
    let mut bytes = content.to_vec();
    let key = UnboundCipherKey::new(&AES_256, &key).and_then(PaddedBlockDecryptingKey::cbc_pkcs7);
    let context = DecryptionContext::Iv128(FixedLength::from(iv));
    let plain = key.and_then(|key| key.decrypt(&mut bytes, context).map(|plain| plain.to_vec()));
    let plain = plain.map_err(|_| SecretError::Passphrase)?;
    // A wrong passphrase may leave a padding that looks right; what it decrypts to is no key.
    read::only(&plain, read::SEQUENCE).map_err(|_| SecretError::Passphrase)?;
    Ok(plain)
}

/// A `PrivateKeyInfo` as PEM, unprotected.
///
/// # Errors
/// [`super::IssueError::Encoding`], which no key gives.
pub fn pkcs8_pem(der: &[u8]) -> Result<String, super::IssueError> {
    super::pem_text("PRIVATE KEY", der)
}

/// The key and the IV that an algorithm identifier's content and a passphrase give.
fn parameters(algorithm: &mut read::Reader<'_>, passphrase: &str) -> Result<([u8; 32], [u8; 16]), SecretError> {
    if algorithm.oid()? != PBES2 {
        return Err(SecretError::Scheme);
    }
    let mut parameters = algorithm.inside(read::SEQUENCE)?;
    let mut derivation = parameters.inside(read::SEQUENCE)?;
    let mut cipher = parameters.inside(read::SEQUENCE)?;
    parameters.end()?;
    if derivation.oid()? != PBKDF2 || cipher.oid()? != AES256_CBC {
        return Err(SecretError::Scheme);
    }
    let mut derivation = derivation.inside(read::SEQUENCE)?;
    let salt = derivation.value(read::OCTET_STRING)?;
    let rounds = read::small(derivation.value(read::INTEGER)?)?;
    // The length of the key may be said, and may only be the cipher's.
    if derivation.optional(read::INTEGER)?.is_some_and(|length| length != [32]) {
        return Err(SecretError::Scheme);
    }
    let mut function = derivation.inside(read::SEQUENCE)?;
    let function = match function.oid()? {
        HMAC_SHA256 => pbkdf2::PBKDF2_HMAC_SHA256,
        HMAC_SHA384 => pbkdf2::PBKDF2_HMAC_SHA384,
        HMAC_SHA512 => pbkdf2::PBKDF2_HMAC_SHA512,
        _ => return Err(SecretError::Scheme),
    };
    derivation.end()?;
    let rounds = NonZeroU32::new(rounds).filter(|rounds| rounds.get() <= MAX_ROUNDS).ok_or(SecretError::Scheme)?;
    let iv = cipher.value(read::OCTET_STRING)?.try_into().map_err(|_| SecretError::Scheme)?;
    let mut key = [0; 32];
    pbkdf2::derive(function, rounds, salt, passphrase.as_bytes(), &mut key);
    Ok((key, iv))
}

/// The algorithm identifier and the encrypted bytes.
pub(super) fn seal(
    plain: &[u8],
    passphrase: &str,
    rounds: NonZeroU32,
    salts: Salts,
) -> Result<(Vec<u8>, Vec<u8>), SecretError> {
    let mut key = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salts.salt, passphrase.as_bytes(), &mut key);
    let mut bytes = plain.to_vec();
    let cipher = UnboundCipherKey::new(&AES_256, &key).and_then(PaddedBlockEncryptingKey::cbc_pkcs7);
    let context = EncryptionContext::Iv128(FixedLength::from(salts.iv));
    cipher.and_then(|cipher| cipher.less_safe_encrypt(&mut bytes, context)).map_err(|_| SecretError::Scheme)?;
    let derivation =
        der::sequence(&[&der::octets(&salts.salt), &der::integer(rounds.get()), &der::algorithm(HMAC_SHA256)]);
    let derivation = der::sequence(&[&der::oid(PBKDF2), &derivation]);
    let cipher = der::sequence(&[&der::oid(AES256_CBC), &der::octets(&salts.iv)]);
    let parameters = der::sequence(&[&derivation, &cipher]);
    Ok((der::sequence(&[&der::oid(PBES2), &parameters]), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FEW: NonZeroU32 = NonZeroU32::new(2).unwrap();
    const SALTS: Salts = Salts { salt: [1; 16], iv: [2; 16] };
    const PASSPHRASE: &str = "correct horse battery";

    #[test]
    fn only_the_passphrase_opens_it() {
        let key = der::sequence(&[&der::integer(0), &[4, 1, 9]]);
        let text = protect(&key, PASSPHRASE, FEW, SALTS).unwrap();
        assert!(is_protected(&text));
        assert_eq!(open(&text, PASSPHRASE).unwrap(), key);
        assert_eq!(open(&text, "correct horse batterz"), Err(SecretError::Passphrase));
        assert_eq!(protect(&key, "short", FEW, SALTS), Err(SecretError::Short { length: 5 }));
        assert_eq!(open("", PASSPHRASE), Err(SecretError::Form));
        let plain = super::super::pem_text("PRIVATE KEY", &key).unwrap();
        assert!(!is_protected(&plain));
        assert_eq!(open(&plain, PASSPHRASE), Err(SecretError::Form));
    }

    /// A round count that would take hours is refused before any work.
    #[test]
    fn rounds_are_bounded() {
        let derivation =
            der::sequence(&[&der::octets(&[0; 16]), &der::integer(u32::MAX), &der::algorithm(HMAC_SHA256)]);
        let derivation = der::sequence(&[&der::oid(PBKDF2), &derivation]);
        let cipher = der::sequence(&[&der::oid(AES256_CBC), &der::octets(&[0; 16])]);
        let algorithm = der::sequence(&[&der::oid(PBES2), &der::sequence(&[&derivation, &cipher])]);
        let whole = der::sequence(&[&algorithm, &der::octets(&[0; 32])]);
        let text = super::super::pem_text(LABEL, &whole).unwrap();
        assert!(matches!(open(&text, PASSPHRASE), Err(SecretError::Scheme | SecretError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn a_changed_file_is_refused_or_the_same(at in 0usize..200, to in any::<u8>()) {
            let key = der::sequence(&[&der::octets(&[7; 40])]);
            let (algorithm, bytes) = seal(&key, PASSPHRASE, FEW, SALTS).unwrap();
            let mut whole = der::sequence(&[&algorithm, &der::octets(&bytes)]);
            let at = at % whole.len();
            whole[at] = to;
            let text = super::super::pem_text(LABEL, &whole).unwrap();
            // No input panics; CBC alone does not notice every change, which is why a key is checked against its
            // certificate when it is loaded.
            let _: Result<Vec<u8>, SecretError> = open(&text, PASSPHRASE);
        }
    }
}
