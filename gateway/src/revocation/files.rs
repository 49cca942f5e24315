//! Files of CRLs: which there are, whether one has changed, and what it holds.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use certs::path::{Crl, CrlBody, CrlError, CrlFileError, read_crls};

use crate::config::Revocation;

/// PEM is a third longer than DER, and has line ends, markers and comments.
const PEM_BYTES_PER_DER: u64 = 2;

/// A CRL's file that cannot be used. The message names it.
#[derive(Debug, thiserror::Error)]
#[error("CRL `{path}`: {why}", path = path.display())]
pub struct RevocationError {
    /// The file or the folder.
    pub path: PathBuf,
    /// What is wrong.
    pub why: Why,
}

/// Why a CRL is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// The system's answer.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// Longer than the configuration allows.
    #[error("it is larger than `max_crl_bytes`, {0}")]
    TooLarge(u64),
    /// Not a CRL that can be used.
    #[error(transparent)]
    Content(#[from] CrlFileError),
    /// A list that does not fit those in use.
    #[error(transparent)]
    Crl(#[from] CrlError),
    /// Its time has not come, seconds since 1970.
    #[error("it is valid only {0} s from now; look at the clocks, the CA's and this node's")]
    Early(i64),
    /// What it held before was about somebody else.
    #[error("it holds a CRL of another issuer, scope or kind than before; the old one stays in force until a reload")]
    Other,
    /// It held more lists before.
    #[error("it holds fewer CRLs than before; all of the old ones stay in force until a reload")]
    Fewer,
    /// It is not there any more.
    #[error("it is gone; its CRL stays in force until a reload")]
    Gone,
    /// A fetched list is of another issuer than the certificates that name its place.
    #[error("it is of issuer `{0}`, not of the issuer of the certificates that name it")]
    WrongIssuer(String),
    /// The fetch itself.
    #[error("{0}")]
    Fetch(String),
}

/// Tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp([i64; 6], u64);

impl Stamp {
    fn of(metadata: &std::fs::Metadata) -> Self {
        let identity = i64::from_ne_bytes(metadata.ino().to_ne_bytes());
        let times = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
        let [mtime, mtime_ns, ctime, ctime_ns] = times;
        let device = i64::from_ne_bytes(metadata.dev().to_ne_bytes());
        Self([identity, device, mtime, mtime_ns, ctime, ctime_ns], metadata.len())
    }

    pub(super) fn read(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|metadata| Self::of(&metadata))
    }
}

/// Every file that the configuration names, those of its folder included, in a fixed order.
///
/// # Errors
/// If the folder cannot be read.
pub(super) fn list(config: &Revocation) -> Result<Vec<PathBuf>, RevocationError> {
    let mut paths = config.crl_files.clone();
    if let Some(directory) = &config.crl_directory {
        let fault = |error: io::Error| RevocationError { path: directory.clone(), why: error.into() };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(fault)? {
            let path = entry.map_err(fault)?.path();
            // A name that begins with a dot is a file that somebody is still writing.
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if !hidden && path.extension().is_some_and(|extension| extension == "crl" || extension == "pem") {
                found.push(path);
            }
        }
        found.sort();
        paths.extend(found);
    }
    paths.dedup();
    Ok(paths)
}

/// Reads the lists of a file.
///
/// # Errors
/// [`Why`] it holds none that can be used.
pub(super) fn read(path: &Path, most: u64) -> Result<Vec<Crl>, Why> {
    let file = std::fs::File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file").into());
    }
    let room = most.saturating_mul(PEM_BYTES_PER_DER);
    if metadata.len() > room {
        return Err(Why::TooLarge(most));
    }
    let mut bytes = Vec::new();
    file.take(room + 1).read_to_end(&mut bytes)?;
    parse(&bytes, most)
}

/// Reads lists, each of at most so many bytes.
pub(super) fn parse(bytes: &[u8], most: u64) -> Result<Vec<Crl>, Why> {
    // DER is as long as its list.
    if bytes.starts_with(&[0x30]) && bytes.len() as u64 > most {
        return Err(Why::TooLarge(most));
    }
    let lists = read_crls(bytes)?;
    if lists.iter().any(|list| list.size() as u64 > most) {
        return Err(Why::TooLarge(most));
    }
    Ok(lists.into_iter().map(shared).collect())
}

/// The list, sharing its bytes and its index with the same one of another listener's.
fn shared(list: Crl) -> Crl {
    static KNOWN: Mutex<BTreeMap<[u8; 32], Weak<CrlBody>>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.retain(|_, body| body.strong_count() > 0);
    if let Some(body) = known.get(list.digest()).and_then(Weak::upgrade) {
        return list.sharing(body);
    }
    known.insert(*list.digest(), Arc::downgrade(list.body()));
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa, KeyPair};

    #[test]
    fn the_same_list_is_held_once_and_proved_by_each() {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let made = |number: u64| {
            let params = CertificateRevocationListParams {
                this_update: rcgen::date_time_ymd(2026, 1, 1),
                next_update: rcgen::date_time_ymd(2027, 1, 1),
                crl_number: number.into(),
                issuing_distribution_point: None,
                revoked_certs: Vec::new(),
                key_identifier_method: rcgen::KeyIdMethod::Sha256,
            };
            params.signed_by(&ca).unwrap().der().to_vec()
        };
        let (bytes, other) = (made(1), made(2));
        let one = |bytes: &[u8]| parse(bytes, 1 << 20).unwrap().pop().unwrap();
        let (first, second, third) = (one(&bytes), one(&bytes), one(&other));
        assert!(Arc::ptr_eq(first.body(), second.body()) && !Arc::ptr_eq(first.body(), third.body()));
        let algorithms = certs::Profile::CryptrecHigh.provider().signature_verification_algorithms.all;
        assert_eq!(first.prove([ca.der().as_ref()], algorithms), Ok(Some(())));
        assert!(first.is_proved() && !second.is_proved(), "a proof is not shared");
        drop((first, second));
        // What nobody holds any more is read anew.
        assert_eq!(Arc::strong_count(one(&bytes).body()), 1);
    }
}
