//! Every kind of signature and key that a path may rest on, and the nearest that it may not, as `openssl` makes them: the
//! suites of the path know few of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use certs::Profile;
use certs::path::{CrlSet, PathRefusal, Purpose, Settings, TrustAnchor, validate};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

const EXTENSIONS: &str =
    "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n";

fn openssl(folder: &Path, arguments: &[&[&str]]) {
    let arguments = arguments.concat();
    let output = Command::new("openssl").current_dir(folder).args(&arguments).output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Judges a leaf with a key of `leaf`, signed as `sign` says by a root with a key of `root`.
fn judged(root: &'static str, sign: &'static str, leaf: &'static str) -> Result<(), PathRefusal> {
    let words = |text: &'static str| text.split_ascii_whitespace().collect::<Vec<_>>();
    let (root, sign, leaf) = (words(root), words(sign), words(leaf));
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::write(at.join("e.cnf"), EXTENSIONS).unwrap();
    let authority = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"];
    openssl(
        at,
        &[
            &["req", "-x509", "-nodes", "-subj", "/CN=root", "-keyout", "r.key", "-out", "r.crt", "-newkey"],
            &root,
            &authority,
        ],
    );
    openssl(
        at,
        &[&["req", "-new", "-nodes", "-subj", "/CN=leaf", "-keyout", "l.key", "-out", "l.csr", "-newkey"], &leaf],
    );
    let issue =
        ["x509", "-req", "-in", "l.csr", "-CA", "r.crt", "-CAkey", "r.key", "-set_serial", "7", "-extfile", "e.cnf"];
    openssl(at, &[&issue, &["-out", "l.crt"], &sign]);
    let read = |name: &str| CertificateDer::from_pem_file(at.join(name)).unwrap();
    let anchor = TrustAnchor::from_der(&read("r.crt")).map_err(|refused| refused.refusal)?;
    let algorithms = Profile::CryptrecHigh.provider().signature_verification_algorithms.all;
    let settings = Settings::new(Purpose::ClientAuth, algorithms);
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap() + 60;
    let path = validate(&read("l.crt"), &[], &[anchor], &CrlSet::default(), &settings, None, now);
    path.map(drop).map_err(|refused| refused.refusal)
}

const P256: &str = "ec -pkeyopt ec_paramgen_curve:P-256";

#[test]
fn what_the_profile_names_is_believed() {
    let pss = |hash: &str, salt: u32| format!("-{hash} -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:{salt}");
    let pss = [("sha256", 32), ("sha384", 48), ("sha512", 64)].map(|(hash, salt)| pss(hash, salt).leak());
    let rsa = ["-sha256", "-sha384", "-sha512", pss[0], pss[1], pss[2]];
    for sign in rsa {
        assert_eq!(judged("rsa:2048", sign, P256), Ok(()), "{sign}");
    }
    assert_eq!(judged("rsa:3072", "-sha256", "rsa:4096"), Ok(()));
    for (key, hash) in [
        (P256, "-sha256"),
        ("ec -pkeyopt ec_paramgen_curve:P-384", "-sha384"),
        ("ec -pkeyopt ec_paramgen_curve:P-521", "-sha512"),
        ("ed25519", ""),
    ] {
        assert_eq!(judged(key, hash, key), Ok(()), "{key}");
    }
}

#[test]
fn what_is_weak_or_unknown_is_refused_by_name() {
    let weak = |root, leaf| match judged(root, "-sha256", leaf) {
        Err(PathRefusal::WeakKey(why)) => why,
        other => panic!("{root}, {leaf}: {other:?}"),
    };
    for (root, leaf) in [("rsa:1024", P256), (P256, "rsa:1024")] {
        assert!(weak(root, leaf).contains("2048"));
    }
    let curve = "ec -pkeyopt ec_paramgen_curve:secp256k1";
    assert!(weak(P256, curve).contains("curve") && weak(curve, P256).contains("curve"));
    assert!(weak(P256, "ec -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit").contains("curve"));
    assert!(weak(P256, "rsa-pss").contains("kind of key"));
    assert!(weak(P256, "ed448").contains("kind of key"));
    let pss = |salt: u32| &*format!("-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:{salt}").leak();
    // A salt of another length than the hash's is in no TLS signature scheme (RFC 8446 4.2.3).
    for (root, sign) in [("rsa:2048", "-sha1"), (P256, "-sha1"), ("rsa:2048", pss(20))] {
        assert_eq!(judged(root, sign, P256), Err(PathRefusal::Algorithm), "{root} {sign}");
    }
}
