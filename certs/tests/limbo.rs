//! x509-limbo (github.com/C2SP/x509-limbo): every case of the suite, against the path validation that listeners use.
//!
//! The suite is `suites/limbo.json` in the folder that `SEKISHO_SHARED` names, or beside this file.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that cannot go on has failed"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use certs::Profile;
use certs::path::{Crl, CrlSet, PathRefused, PeerName, Purpose, RevocationMode, Settings, TrustAnchor, validate};
use certs::verifier::BackendVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use serde_json::Value;

/// Cases whose outcome differs from the suite's, and why.
const DEVIATIONS: &[(&str, &str)] = &[
    ("rfc5280::aki::leaf-missing-aki", KEY_IDS),
    ("rfc5280::aki::intermediate-missing-aki", KEY_IDS),
    ("rfc5280::aki::cross-signed-root-missing-aki", KEY_IDS),
    ("rfc5280::ski::root-missing-ski", KEY_IDS),
    ("rfc5280::ski::intermediate-missing-ski", KEY_IDS),
    ("webpki::aki::root-with-aki-missing-keyidentifier", KEY_IDS),
    ("webpki::aki::root-with-aki-authoritycertissuer", KEY_IDS),
    ("webpki::aki::root-with-aki-authoritycertserialnumber", KEY_IDS),
    ("webpki::aki::root-with-aki-all-fields", KEY_IDS),
    ("webpki::aki::root-with-aki-ski-mismatch", KEY_IDS),
    ("rfc5280::nc::permitted-dns-match-noncritical", ENFORCED),
    ("rfc5280::pc::ica-noncritical-pc", ENFORCED),
    ("rfc5280::root-non-critical-basic-constraints", ENFORCED),
    ("webpki::san::san-critical-with-nonempty-subject", ENFORCED),
    ("webpki::eku::ee-critical-eku", ENFORCED),
    ("webpki::cn::ipv4-hex-mismatch", CN),
    ("webpki::cn::ipv4-leading-zeros-mismatch", CN),
    ("webpki::cn::ipv6-uppercase-mismatch", CN),
    ("webpki::cn::ipv6-uncompressed-mismatch", CN),
    ("webpki::cn::ipv6-non-rfc5952-mismatch", CN),
    ("webpki::cn::punycode-not-in-san", CN),
    ("webpki::cn::utf8-vs-punycode-mismatch", CN),
    ("webpki::cn::not-in-san", CN),
    ("webpki::cn::case-mismatch", CN),
    ("webpki::eku::ee-anyeku", EKU),
    ("webpki::eku::ee-without-eku", EKU),
    ("webpki::eku::root-has-eku", EKU),
    ("webpki::san::public-suffix-multi-label-wildcard-san", SUFFIX),
    ("webpki::san::public-suffix-private-namespace-wildcard-san", SUFFIX),
    ("rfc5280::ca-as-leaf", CA_LEAF),
    ("pathlen::validation-ignores-pathlen-in-leaf", CA_LEAF),
];

const KEY_IDS: &str =
    "key identifiers help to find an issuer and prove nothing; what is absent or odd there is no danger";
const ENFORCED: &str = "the extension is enforced whether it is marked critical or not; the suite and PKITS disagree";
const CN: &str = "the common name is never looked at, so that it may say anything";
const EKU: &str = "a rule of the CA/Browser Forum for public CAs, which clinics' and HPKI's are not";
const SUFFIX: &str = "there is no list of public suffixes; a backend's authorities are pinned by the operator";
const CA_LEAF: &str = "a CA's certificate is nobody's leaf, and these lack digitalSignature";

fn suite() -> Value {
    let folder = std::env::var_os("SEKISHO_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests"), PathBuf::from);
    let file = folder.join("suites/limbo.json");
    let text = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_slice(&text).unwrap()
}

fn strings<'a>(case: &'a Value, key: &str) -> Vec<&'a str> {
    case[key].as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// Seconds since 1970 of `2024-01-01T00:00:00+00:00`; what is below a second is later than the second.
fn seconds(text: &str) -> i64 {
    let number = |from: usize, to: usize| text[from..to].parse::<i64>().unwrap();
    assert!(text.ends_with("+00:00") || text.ends_with('Z'), "{text}");
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let days = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum::<i64>()
        + (1..month).map(|month| length(year, month)).sum::<i64>()
        + day
        - 1;
    days * 86_400 + number(11, 13) * 3_600 + number(14, 16) * 60 + number(17, 19)
}

fn leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn length(year: i64, month: i64) -> i64 {
    match month {
        2 if leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Clients as a listener judges them, servers with a name as a backend is judged.
fn run(case: &Value) -> Result<(), String> {
    let purpose = match case["validation_kind"].as_str().unwrap() {
        "CLIENT" => Purpose::ClientAuth,
        _ => Purpose::ServerAuth,
    };
    let algorithms = Profile::CryptrecHigh.provider().signature_verification_algorithms.all;
    let mut settings = Settings::new(purpose, algorithms);
    if let Some(depth) = case["max_chain_depth"].as_u64() {
        settings.limits.depth = usize::try_from(depth).unwrap();
    }
    let mut crls = CrlSet::default();
    let mut crl_error = String::new();
    for (index, pem) in strings(case, "crls").into_iter().enumerate() {
        settings.revocation.mode = RevocationMode::Require;
        let der = CertificateRevocationListDer::from_pem_slice(pem.as_bytes()).unwrap();
        match Crl::from_der(&der).and_then(|crl| crls.with(&index.to_string(), crl)) {
            Ok(set) => crls = set,
            Err(error) => crl_error = format!(" ({error})"),
        }
    }
    let anchors: Vec<Result<TrustAnchor, PathRefused>> =
        strings(case, "trusted_certs").into_iter().map(|pem| TrustAnchor::from_der(&certificate(pem))).collect();
    let refused = anchors.iter().find_map(|anchor| anchor.as_ref().err().map(ToString::to_string));
    let anchors: Vec<TrustAnchor> = anchors.into_iter().filter_map(Result::ok).collect();
    let leaf = certificate(case["peer_certificate"].as_str().unwrap());
    let others: Vec<_> = strings(case, "untrusted_intermediates").into_iter().map(certificate).collect();
    let others: Vec<&[u8]> = others.iter().map(AsRef::as_ref).collect();
    let peer = case["expected_peer_name"]["value"].as_str().map(|value| {
        match case["expected_peer_name"]["kind"].as_str().unwrap() {
            "IP" => PeerName::Ip(value.parse().unwrap()),
            "DNS" => PeerName::Dns(value.to_owned()),
            other => panic!("{other}"),
        }
    });
    let now = seconds(case["validation_time"].as_str().unwrap_or("2026-01-01T00:00:00+00:00"));
    let told = |label: &str, error: &dyn std::fmt::Display| {
        format!("{label}: {error}{crl_error}; anchor: {}", refused.as_deref().unwrap_or("good"))
    };
    if let (Purpose::ServerAuth, Some(peer)) = (purpose, &peer) {
        let name = match peer {
            PeerName::Ip(address) => ServerName::from(*address),
            PeerName::Dns(host) => ServerName::try_from(host.as_str()).map_err(|error| told("name", &error))?,
        };
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now.try_into().unwrap()));
        let revocation = settings.revocation;
        let verifier = BackendVerifier::of(anchors, Profile::CryptrecHigh).with_settings(settings);
        let verifier = verifier.with_revocation(crls, revocation);
        let others: Vec<_> = others.into_iter().map(|other| CertificateDer::from(other.to_vec())).collect();
        return match verifier.verify_server_cert(&leaf, &others, &name, &[], now) {
            Ok(_) => Ok(()),
            Err(error) => Err(told("backend", &error)),
        };
    }
    let judged = validate(&leaf, &others, &anchors, &crls, &settings, peer.as_ref(), now);
    judged.map(drop).map_err(|error| told(error.refusal.label(), &error))
}

#[test]
fn every_case_has_its_outcome_or_a_reason() {
    let suite = suite();
    let cases = suite["testcases"].as_array().unwrap();
    assert!(cases.len() >= 208, "the suite has shrunk to {} cases", cases.len());
    let deviations: BTreeMap<&str, &str> = DEVIATIONS.iter().copied().collect();
    assert_eq!(deviations.len(), DEVIATIONS.len());
    let mut wrong = Vec::new();
    let mut met = 0;
    for case in cases {
        let id = case["id"].as_str().unwrap();
        let outcome = run(case);
        let as_told = outcome.is_ok() == (case["expected_result"] == "SUCCESS");
        if as_told == deviations.contains_key(id) {
            let said = outcome.map_or_else(|error| error, |_| "accepted".to_owned());
            wrong.push(format!("{id}: {said}"));
        }
        met += usize::from(deviations.contains_key(id));
    }
    assert!(wrong.is_empty(), "not as told, or no deviation any more:\n{}", wrong.join("\n"));
    assert_eq!(met, deviations.len(), "a deviation names no case");
}
