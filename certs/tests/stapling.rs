//! Stapled OCSP responses, made by `openssl ocsp`: what fits is taken, what does not fit has its own name.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use certs::issue::{Authority, Issued};
use certs::{ServerIdentity, Staple, StapleError, StapleFileError};
use proptest::prelude::*;
use rustls::pki_types::UnixTime;

const DAY: Duration = Duration::from_secs(86_400);

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970"))
}

fn after(days: u32) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now().as_secs()) + DAY * days)
}

struct World {
    folder: tempfile::TempDir,
    authority: Authority,
    server: Issued,
}

impl World {
    fn new() -> Self {
        let authority = Authority::new("Servers", DAY * 300, now()).expect("an authority");
        let server = authority.issue_server(&["localhost"], DAY * 30, now()).expect("a certificate");
        let world = Self { folder: tempfile::tempdir().expect("a folder"), authority, server };
        world.write("server.crt", &world.server.certificate_pem);
        world.authority("", &world.authority);
        world
    }

    fn authority(&self, name: &str, authority: &Authority) {
        self.write(&format!("{name}ca.crt"), authority.certificate_pem());
        self.write(&format!("{name}ca.key"), authority.key_pem().expect("a key").expose());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).expect("a file");
    }

    /// The gateway's identity, with its issuer's certificate behind it or without.
    fn identity(&self, with_issuer: bool) -> ServerIdentity {
        let mut chain = self.server.certificate_pem.clone();
        if with_issuer {
            chain.push_str(self.authority.certificate_pem());
        }
        ServerIdentity::from_pem(chain.as_bytes(), self.server.key_pem.expose().as_bytes()).expect("an identity")
    }

    fn openssl(&self, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new("openssl").args(arguments).current_dir(self.folder.path()).output();
        let output = output.expect("`openssl` is installed");
        assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// A response of the authority named so, in which the server's certificate has this status (`V` or `R`).
    fn response(&self, signer: &str, status: &str, days: Option<&str>) -> Vec<u8> {
        let serial = self.openssl(&["x509", "-in", "server.crt", "-noout", "-serial"]);
        let serial = String::from_utf8(serial).expect("text").trim().trim_start_matches("serial=").to_owned();
        let revoked = if status == "R" { "260101000000Z,keyCompromise" } else { "" };
        self.write("index.txt", &format!("{status}\t491231235959Z\t{revoked}\t{serial}\tunknown\t/CN=localhost\n"));
        let (certificate, key) = (format!("{signer}ca.crt"), format!("{signer}ca.key"));
        let mut arguments =
            vec!["ocsp", "-index", "index.txt", "-CA", "ca.crt", "-rsigner", &certificate, "-rkey", &key];
        arguments.extend(["-issuer", "ca.crt", "-cert", "server.crt", "-respout", "response.der", "-noverify"]);
        arguments.extend(days.into_iter().flat_map(|days| ["-ndays", days]));
        self.openssl(&arguments);
        std::fs::read(self.path("response.der")).expect("a response")
    }
}

#[test]
fn a_good_response_is_taken_as_long_as_it_holds() {
    let world = World::new();
    let response = world.response("", "V", Some("3"));
    for with_issuer in [true, false] {
        let staple = Staple::from_der(&response, &world.identity(with_issuer)).expect("a good response");
        assert_eq!(staple.der(), response);
        assert_eq!(staple.check_time(now()), Ok(()));
        let end = staple.next_update();
        assert_eq!(staple.check_time(after(4)), Err(StapleError::Old { next_update: end }));
        assert!(end > after(2) && end < after(4));
        let early = staple.check_time(UnixTime::since_unix_epoch(DAY));
        assert!(matches!(early, Err(StapleError::NotYetValid { .. })), "{early:?}");
    }
}

#[test]
fn each_other_response_has_its_name() {
    let world = World::new();
    let of = |response: &[u8]| Staple::from_der(response, &world.identity(true)).expect_err("it is not to be shown");
    assert_eq!(of(&world.response("", "R", Some("3"))), StapleError::Revoked);
    assert_eq!(of(&world.response("", "V", None)), StapleError::NoNextUpdate);
    let good = world.response("", "V", Some("3"));
    // Another authority of the same name.
    world.authority("other-", &Authority::new("Servers", DAY * 300, now()).expect("an authority"));
    assert_eq!(of(&world.response("other-", "V", Some("3"))), StapleError::Signature);
    // A bit of the signature: behind the first `ecdsa-with-SHA256`, which the responder's own is.
    let algorithm = [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let at = good.windows(algorithm.len()).position(|window| window == algorithm).expect("a signature");
    let mut changed = good.clone();
    changed[at + algorithm.len() + 20] ^= 1;
    assert!(matches!(of(&changed), StapleError::Signature | StapleError::Malformed(_)), "{:?}", of(&changed));
    assert!(matches!(of(b""), StapleError::Malformed(_)));
    assert!(matches!(of(b"-----BEGIN OCSP RESPONSE-----\n"), StapleError::Malformed(_)));
    assert!(matches!(of(&good[..good.len() - 1]), StapleError::Malformed(_)));
    // OCSPResponse { tryLater }.
    assert_eq!(of(&[0x30, 3, 0x0a, 1, 3]), StapleError::Unsuccessful(3));
    assert_eq!(of(&vec![0x30; 16 * 1024 + 1]), StapleError::TooLarge);

    let renewed =
        World { server: world.authority.issue_server(&["localhost"], DAY, now()).expect("one"), ..World::new() };
    let renewed = World { authority: Authority::new("unused", DAY, now()).expect("one"), ..renewed };
    let chain = format!("{}{}", renewed.server.certificate_pem, world.authority.certificate_pem());
    let other = ServerIdentity::from_pem(chain.as_bytes(), renewed.server.key_pem.expose().as_bytes()).expect("one");
    assert_eq!(Staple::from_der(&good, &other), Err(StapleError::OtherCertificate));
}

#[test]
fn a_responder_must_be_delegated() {
    let world = World::new();
    world.openssl(&["ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", "responder-ca.key"]);
    for (usage, taken) in [("OCSPSigning", true), ("clientAuth", false)] {
        world.write("extensions", &format!("extendedKeyUsage={usage}\nsubjectAltName=DNS:responder.example\n"));
        world.openssl(&["req", "-new", "-key", "responder-ca.key", "-subj", "/CN=responder", "-out", "responder.csr"]);
        let mut sign = vec!["x509", "-req", "-in", "responder.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-days", "3"];
        sign.extend(["-set_serial", "77", "-extfile", "extensions", "-out", "responder-ca.crt"]);
        world.openssl(&sign);
        let response = world.response("responder-", "V", Some("3"));
        let staple = Staple::from_der(&response, &world.identity(true));
        assert_eq!(staple.is_ok(), taken, "{usage}: {staple:?}");
        assert!(taken || staple == Err(StapleError::Signature));
    }
}

#[test]
fn a_file_is_named_in_its_error() {
    let world = World::new();
    let load = |name: &str| Staple::load_file(&world.path(name), &world.identity(true));
    let absent = load("absent.der").expect_err("absent");
    assert!(matches!(absent, StapleFileError::Unreadable { .. }) && absent.to_string().contains("absent.der"));
    world.write("bad.der", "x");
    let bad = load("bad.der").expect_err("bad").to_string();
    assert!(bad.contains("bad.der`: it is not an OCSP response"), "{bad}");
    world.response("", "V", Some("1"));
    assert!(load("response.der").is_ok());
    assert!(Path::new(&world.path("response.der")).is_file());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_response_panics(edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), cut in any::<prop::sample::Index>()) {
        static MADE: std::sync::LazyLock<(Vec<u8>, ServerIdentity)> = std::sync::LazyLock::new(|| {
            let world = World::new();
            (world.response("", "V", Some("3")), world.identity(true))
        });
        let (good, identity) = &*MADE;
        let mut bytes = good.clone();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if Staple::from_der(&bytes, identity).is_ok() {
            // Only what is not signed may differ: the responder's certificates.
            prop_assert!(bytes == *good || bytes.len() == good.len());
        }
        bytes.truncate(cut.index(good.len()));
        prop_assert!(Staple::from_der(&bytes, identity).is_err());
    }
}
