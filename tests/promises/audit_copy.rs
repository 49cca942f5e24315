//! Copies of the log (A9): in an S3-compatible store, which is OpenStack Swift of Debian with its S3 interface. What is
//! downloaded by other means verifies with all verifiers; a store that is killed loses nothing, and one that is tampered
//! with is found.

use std::path::{Path, PathBuf};

use gateway_tests::copies::{SHIP_PATIENCE, Ship, Swift, offline, python};
use gateway_tests::{Clinic, Prepared, sekisho, within};

use crate::audit_tools::{ask, small_log};

const BUCKET: &str = "audit";

fn settings(folder: &Path, url: &str, ca: Option<&Path>) -> PathBuf {
    let ca = ca.map_or_else(String::new, |ca| format!("ca_file = \"{}\", ", ca.display()));
    let text = format!(
        "[audit]\ndirectory = \"audit\"\n[state]\ndirectory = \"ship\"\n[pace]\npoll_ms = 50\nretry_max_s = 1\n\
         report_s = 1\n[[destination]]\nkind = \"copy\"\nname = \"offsite\"\nprefix = \"gw1\"\nreviewers = \
         \"state/audit-reviewers\"\ns3 = {{ endpoint = \"{url}\", bucket = \"{BUCKET}\", {ca}credentials_file = \
         \"s3.key\" }}\n"
    );
    let file = folder.join("ship.toml");
    std::fs::write(&file, text).expect("written");
    file
}

fn grow(clinic: &Clinic, requests: usize) {
    for turn in 0..requests {
        assert_eq!(ask(clinic, turn % 2 == 0).status, 200);
    }
}

fn checkpoint(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join("lane-1/checkpoint")).unwrap_or_default()
}

struct Downloads<'a> {
    swift: &'a Swift,
    ca: Option<PathBuf>,
    folder: tempfile::TempDir,
    count: std::cell::Cell<u32>,
}

impl Downloads<'_> {
    /// All that is in the bucket, in a new folder.
    fn get(&self) -> PathBuf {
        self.count.set(self.count.get() + 1);
        let folder = self.folder.path().join(self.count.get().to_string());
        self.swift.s3(self.ca.as_deref(), &["get", BUCKET, &folder.display().to_string()]);
        folder
    }

    /// Once the copy is as new as the log.
    fn newest(&self, prepared: &Prepared, ship: &Ship) -> PathBuf {
        let newest = || {
            let copied = self.get();
            (checkpoint(&copied.join("gw1")) == checkpoint(&prepared.path("audit"))).then_some(copied)
        };
        within(SHIP_PATIENCE, newest).unwrap_or_else(|| panic!("the copy stays behind: {}", ship.said()))
    }
}

/// Exit codes of our verifier and of the one in Python, and what both said.
fn judge(copied: &Path, keys: &Path) -> (Option<i32>, Option<i32>, String) {
    let (lane, keys) = (copied.join("gw1/lane-1").display().to_string(), keys.display().to_string());
    let ours = sekisho(&["audit", "verify", &copied.display().to_string(), "--key", &keys]);
    let theirs = python().arg(offline("auditlog.py")).args(["verify", &lane, "--key", &keys]).output().expect("Python");
    let said = format!("{}{}{}", ours.stdout, ours.stderr, String::from_utf8_lossy(&theirs.stdout));
    (ours.code, theirs.status.code(), said)
}

#[test]
fn a9_a_copy_in_an_s3_store_verifies_and_what_is_done_to_it_is_found() {
    let elsewhere = tempfile::tempdir().expect("a folder");
    let clinic = small_log().start();
    // The store has a certificate of the authority of the clinic's servers.
    let at = |name: &str| clinic.prepared.path(name);
    let ca = at("tls/servers-ca.crt");
    let address = Swift::own_address();
    let server = clinic.prepared.pki.server(&[&address.ip().to_string()]);
    let (certificate, key) = (elsewhere.path().join("s3.crt"), elsewhere.path().join("s3.private"));
    std::fs::write(&certificate, &server.certificate_pem).expect("written");
    std::fs::write(&key, &server.key_pem).expect("written");
    let mut swift = Swift::start(&elsewhere.path().join("swift"), address, Some((certificate, key)));
    swift.s3(Some(&ca), &["make", BUCKET]);
    let (access, secret) = Swift::CREDENTIALS;
    clinic.prepared.write("s3.key", format!("{access}\n{secret}\n"));
    let config = settings(&clinic.prepared.path(""), &swift.url(), Some(&ca));
    grow(&clinic, 60);
    let ship = Ship::start(&config, &[]);
    grow(&clinic, 60);
    // Killed in the middle: the log goes on, and so does the copy once the store is there again.
    swift.down();
    grow(&clinic, 60);
    ship.says("cannot ship");
    ship.kill();
    swift.up();
    let ship = Ship::start(&config, &[]);
    grow(&clinic, 60);
    let prepared = clinic.stop();
    let downloads = Downloads {
        swift: &swift,
        ca: Some(ca.clone()),
        folder: tempfile::tempdir().expect("a folder"),
        count: 0.into(),
    };
    let copied = downloads.newest(&prepared, &ship);
    ship.stop();
    let keys = prepared.path("audit/verifier-keys");
    let (ours, theirs, said) = judge(&copied, &keys);
    assert_eq!((ours, theirs), (Some(0), Some(0)), "{said}");
    // Nothing but what is public is there.
    let names = swift.s3(Some(&ca), &["list", BUCKET]);
    let known =
        ["gw1/lane-1/tile/", "gw1/lane-1/checkpoint", "gw1/lane-2/checkpoint", "gw1/reviewers/", "gw1/verifier-keys"];
    assert!(names.lines().all(|name| known.iter().any(|known| name.starts_with(known))), "{names}");
    assert!(names.contains("gw1/reviewers/@default/1") && names.contains("gw1/lane-2/checkpoint"), "{names}");
    assert!(!names.contains("tile/entries/000.p/"), "unfinished tiles go once the full one is there: {names}");

    // Someone who has the store changes an entry in it.
    let object = "gw1/lane-1/tile/entries/000";
    let mut bundle = std::fs::read(copied.join(object)).expect("a bundle");
    let middle = bundle.len() / 2;
    bundle[middle] ^= 1;
    let forged = elsewhere.path().join("forged");
    std::fs::write(&forged, &bundle).expect("written");
    swift.s3(Some(&ca), &["put", BUCKET, object, &forged.display().to_string()]);
    let (ours, theirs, said) = judge(&downloads.get(), &keys);
    assert_eq!((ours, theirs), (Some(1), Some(1)), "{said}");
    assert!(said.contains("altered") && said.contains("tile/entries/000"), "{said}");
    // A log that was put back is not copied over the longer one.
    let today = checkpoint(&prepared.path("audit"));
    let kept = prepared.path("audit/lane-1/checkpoint");
    let yesterday = std::fs::read(prepared.path("audit/lane-2/checkpoint")).expect("a checkpoint");
    std::fs::write(&kept, yesterday).expect("written");
    let ship = Ship::start(&config, &[]);
    ship.says("cannot ship");
    ship.stop();
    assert_eq!(checkpoint(&downloads.get().join("gw1")), today);
}

#[test]
fn a_copy_needs_good_credentials_and_never_finds_them_in_the_settings() {
    let elsewhere = tempfile::tempdir().expect("a folder");
    let swift = Swift::start(&elsewhere.path().join("swift"), Swift::own_address(), None);
    swift.s3(None, &["make", BUCKET]);
    let clinic = small_log().start();
    grow(&clinic, 10);
    let file = settings(&clinic.prepared.path(""), &swift.url(), None);
    clinic.prepared.write("s3.key", "test:tester\nwrong\n");
    let ship = Ship::start(&file, &[]);
    let said = ship.says("cannot ship");
    assert!(said.contains(&format!("bucket `{BUCKET}`")) && !said.contains("wrong"), "{said}");
    ship.stop();
    // From the environment.
    let text = std::fs::read_to_string(&file).expect("settings").replace(", credentials_file = \"s3.key\"", "");
    std::fs::write(&file, text).expect("written");
    let (access, secret) = Swift::CREDENTIALS;
    let ship = Ship::start(&file, &[("AWS_ACCESS_KEY_ID", access), ("AWS_SECRET_ACCESS_KEY", secret)]);
    let prepared = clinic.stop();
    let downloads =
        Downloads { swift: &swift, ca: None, folder: tempfile::tempdir().expect("a folder"), count: 0.into() };
    let copied = downloads.newest(&prepared, &ship);
    let said = ship.said();
    ship.stop();
    assert!(!said.contains(secret), "{said}");
    let (ours, theirs, said) = judge(&copied, &prepared.path("audit/verifier-keys"));
    assert_eq!((ours, theirs), (Some(0), Some(0)), "{said}");
    // Neither: it does not begin.
    let output = sekisho(&["audit", "ship", "--config", &file.display().to_string()]);
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("AWS_ACCESS_KEY_ID"), "{}", output.stderr);
}
