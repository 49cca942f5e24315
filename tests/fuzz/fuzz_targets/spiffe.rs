//! SPIFFE IDs and certificates on arbitrary bytes, and certificates with something changed (R1).
//!
//! What must hold: nothing panics; an ID that is taken is the one that its device has; a certificate that is taken
//! holds that very ID.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use certs::issue::Authority;
use certs::{TrustDomain, device_of};
use libfuzzer_sys::fuzz_target;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};

static DOMAIN: LazyLock<TrustDomain> = LazyLock::new(|| TrustDomain::new("sekisho.example").expect("a domain"));

static CERTIFICATE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_795_380_602));
    let day = Duration::from_secs(86_400);
    let authority = Authority::new("fuzz", day, now).expect("an authority");
    let device = DOMAIN.device(b"spiffe://sekisho.example/site/sakura/device/exam-1").expect("a device");
    let issued = authority.issue_device(&DOMAIN, &device, day, now).expect("a certificate");
    CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).expect("a certificate").to_vec()
});

fuzz_target!(|data: &[u8]| {
    if let Ok(device) = DOMAIN.device(data) {
        assert_eq!(DOMAIN.id_of(&device).as_bytes(), data, "two texts for one device");
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = TrustDomain::new(text);
    }
    read(data);
    // Edits of a real certificate, three bytes each: where (two bytes), and the new byte.
    let mut changed = CERTIFICATE.clone();
    for edit in data.chunks_exact(3) {
        let at = (usize::from(edit[0]) * 256 + usize::from(edit[1])) % changed.len();
        changed[at] = edit[2];
    }
    read(&changed);
});

fn read(certificate: &[u8]) {
    if let Ok(device) = device_of(certificate, &DOMAIN) {
        let id = DOMAIN.id_of(&device);
        assert!(certificate.windows(id.len()).any(|window| window == id.as_bytes()), "`{id}` is not in it");
    }
}
