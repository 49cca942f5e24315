//! Certificates and keys in the containers that other software opens: PKCS#12 (RFC 7292) and certs-only PKCS#7
//! (RFC 5652 5, RFC 7030 4.1.3).

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac};

use super::der;
use super::secret::{Salts, SecretError, seal};

/// Rounds of key derivation in a PKCS#12 file. .NET refuses more than 300 000 for one key, 1 000 000 in all; the
/// passwords are not people's.
pub const PKCS12_ROUNDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(99_999);

const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const ENCRYPTED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x06];
const KEY_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x02];
const CERTIFICATE_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x03];
const X509: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x16, 0x01];
const FRIENDLY_NAME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x14];
const LOCAL_KEY_ID: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x15];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];

/// The random values of one file; never used twice.
#[derive(Debug, Clone, Copy)]
pub struct Pkcs12Salts {
    /// For the key.
    pub key: Salts,
    /// For the certificates.
    pub certificates: Salts,
    /// For the MAC.
    pub mac: [u8; 16],
}

/// A PKCS#12 file: one key, its certificate, and the CAs above it, under PBES2 (AES-256) with an HMAC-SHA-256.
///
/// `chain` is in DER, the key's own certificate first. `password` is ASCII: software does not agree on how other
/// characters become bytes.
///
/// # Errors
/// [`SecretError::Scheme`] if the password is empty or not printable ASCII.
pub fn pkcs12(
    pkcs8: &[u8],
    chain: &[&[u8]],
    name: &str,
    password: &str,
    salts: Pkcs12Salts,
) -> Result<Vec<u8>, SecretError> {
    if password.is_empty() || !password.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(SecretError::Scheme);
    }
    let key_id = chain.first().map(|certificate| crate::fingerprint(certificate)).unwrap_or_default();
    let attribute = |kind, value: Vec<u8>| der::sequence(&[&der::oid(kind), &der::tlv(der::SET, &[&value])]);
    let key_id = attribute(LOCAL_KEY_ID, der::octets(&key_id));
    let name = attribute(FRIENDLY_NAME, der::bmp(name));
    // A SET OF is written in the order of its elements' bytes (X.690 11.6).
    let mut own = [name, key_id];
    own.sort();
    let own = der::tlv(der::SET, &[&own.concat()]);

    let bags: Vec<Vec<u8>> = chain
        .iter()
        .enumerate()
        .map(|(index, certificate)| {
            let content = der::sequence(&[&der::oid(X509), &der::explicit(0, &der::octets(certificate))]);
            let attributes: &[u8] = if index == 0 { &own } else { &[] };
            der::sequence(&[&der::oid(CERTIFICATE_BAG), &der::explicit(0, &content), attributes])
        })
        .collect();
    let (algorithm, sealed) = seal(&der::sequence(&[&bags.concat()]), password, PKCS12_ROUNDS, salts.certificates)?;
    let content = der::sequence(&[&der::oid(DATA), &algorithm, &der::tlv(der::context(0), &[&sealed])]);
    let certificates = der::sequence(&[&der::integer(0), &content]);
    let certificates = der::sequence(&[&der::oid(ENCRYPTED_DATA), &der::explicit(0, &certificates)]);

    let (algorithm, sealed) = seal(pkcs8, password, PKCS12_ROUNDS, salts.key)?;
    let shrouded = der::sequence(&[&algorithm, &der::octets(&sealed)]);
    let key = der::sequence(&[&der::oid(KEY_BAG), &der::explicit(0, &shrouded), &own]);
    let key = data(&der::sequence(&[&key]));

    let safe = der::sequence(&[&certificates, &key]);
    let mac_key = derive(password, &salts.mac, PKCS12_ROUNDS);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &mac_key), &safe);
    let tag = der::sequence(&[&der::algorithm(SHA256), &der::octets(tag.as_ref())]);
    let mac = der::sequence(&[&tag, &der::octets(&salts.mac), &der::integer(PKCS12_ROUNDS.get())]);
    Ok(der::sequence(&[&der::integer(3), &data(&safe), &mac]))
}

fn data(content: &[u8]) -> Vec<u8> {
    der::sequence(&[&der::oid(DATA), &der::explicit(0, &der::octets(content))])
}

/// The MAC's key (RFC 7292 appendix B.2, with SHA-256 and purpose 3). One block of 32 bytes is all that is asked for, so
/// that the steps that prepare a second one fall away.
fn derive(password: &str, salt: &[u8], rounds: NonZeroU32) -> [u8; 32] {
    const BLOCK: usize = 64;
    let filled =
        |bytes: &[u8]| -> Vec<u8> { bytes.iter().copied().cycle().take(bytes.len().div_ceil(BLOCK) * BLOCK).collect() };
    let password: Vec<u8> = password.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect();
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[3; BLOCK]);
    context.update(&filled(salt));
    context.update(&filled(&password));
    let mut key = context.finish();
    for _ in 1..rounds.get() {
        key = digest::digest(&digest::SHA256, key.as_ref());
    }
    let mut out = [0; 32];
    // INVARIANT: a SHA-256 digest is 32 bytes long.
    out.copy_from_slice(key.as_ref());
    out
}

/// Certificates alone, in DER: a `SignedData` that nobody signed.
#[must_use]
pub fn certificates_only(certificates: &[&[u8]]) -> Vec<u8> {
    let mut sorted = certificates.to_vec();
    sorted.sort_unstable();
    let content = der::sequence(&[&der::oid(DATA)]);
    let none = der::tlv(der::SET, &[]);
    let certificates = der::tlv(der::constructed(0), &sorted);
    let signed = der::sequence(&[&der::integer(1), &none, &content, &certificates, &none]);
    der::sequence(&[&der::oid(SIGNED_DATA), &der::explicit(0, &signed)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_macs_key_is_a_function_of_password_and_salt() {
        let rounds = NonZeroU32::new(3).unwrap();
        let key = derive("a", &[1; 16], rounds);
        assert_eq!(key, derive("a", &[1; 16], rounds));
        assert_ne!(key, derive("b", &[1; 16], rounds));
        assert_ne!(key, derive("a", &[2; 16], rounds));
        assert_ne!(key, derive("a", &[1; 16], NonZeroU32::new(4).unwrap()));
    }

    #[test]
    fn a_password_is_printable_ascii() {
        let salts = Salts { salt: [0; 16], iv: [0; 16] };
        let salts = Pkcs12Salts { key: salts, certificates: salts, mac: [0; 16] };
        for bad in ["", "さくら", "a b", "a\n"] {
            assert_eq!(pkcs12(b"", &[], "a", bad, salts), Err(SecretError::Scheme), "{bad}");
        }
    }
}
