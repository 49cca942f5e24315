//! NIST's Public Key Interoperability Test Suite (PKITS 1.0.1, 2011): every end entity of the suite, with every CA and
//! every CRL of the suite at hand, so that the path has to be found as well as judged.
//!
//! The data comes with the Python package `cryptography_vectors`, which `tests/run.sh` installs; `PYTHON` is the
//! interpreter that has it. What a certificate's file name does not tell (policy settings, expected policies) is the
//! table below, after section 4.8 to 4.12 of the suite's document.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use certs::Profile;
use certs::path::{
    Crl, CrlError, CrlSet, Malformed, PathRefused, Purpose, RevocationMode, Settings, TrustAnchor, ValidPath, validate,
};

/// 2012-01-01, within the validity of what the suite means to be valid.
const NOW: i64 = 1_325_376_000;

/// End entities whose outcome differs from the suite's, and why.
const DEVIATIONS: &[(&str, &str)] = &[
    ("ValidDSASignaturesTest4", DSA),
    ("ValidDSAParameterInheritanceTest5", DSA),
    ("ValidIDPwithindirectCRLTest22", INDIRECT),
    ("ValidIDPwithindirectCRLTest24", INDIRECT),
    ("ValidIDPwithindirectCRLTest25", INDIRECT),
    ("ValidcRLIssuerTest28", INDIRECT),
    ("ValidcRLIssuerTest29", INDIRECT),
    ("ValidcRLIssuerTest30", INDIRECT),
    ("ValidcRLIssuerTest33", INDIRECT),
];

const DSA: &str = "no TLS profile has DSA";
const INDIRECT: &str = "a CRL that speaks for other issuers is not taken: its signer would revoke, and clear, for all of \
                        them; what only it covers is unknown, which refuses";

/// Why an invalid path is refused, by a part of the end entity's name; the first that fits counts. A right refusal for a
/// wrong reason is no pass.
const REASONS: &[(&str, &str)] = &[
    ("BadCRL", "revocation-unknown"),
    ("EESignature", "unknown-issuer"),
    // The suite broke these two by their count of unused bits, which DER does not allow.
    ("CASignature", "malformed"),
    ("DSASignature", "malformed"),
    ("notBeforeDate", "not-yet-valid"),
    ("notAfterDate", "expired"),
    ("NameChaining", "unknown-issuer"),
    ("MissingCRL", "revocation-unknown"),
    ("Revoked", "revoked"),
    ("WrongCRL", "revocation-unknown"),
    ("UnknownCRL", "revocation-unknown"),
    ("nextUpdate", "revocation-unknown"),
    ("SerialNumber", "revoked"),
    // Test 21's CRL signer is itself revoked.
    ("SeparateCertificateandCRLKeysTest20", "revoked"),
    ("SeparateCertificateandCRLKeysTest21", "revocation-unknown"),
    // Test 8 uses a CRL signer's certificate as a CA's.
    ("BasicSelfIssuedCRLSigningKeyTest8", "not-authority"),
    ("BasicSelfIssued", "revoked"),
    ("MissingbasicConstraints", "not-authority"),
    ("cAFalse", "not-authority"),
    ("pathLenConstraint", "path-length"),
    ("cRLSignFalse", "revocation-unknown"),
    ("keyCertSignFalse", "not-authority"),
    ("requireExplicitPolicy", "policy-not-accepted"),
    ("PolicyMapping", "policy-not-accepted"),
    ("anyPolicy", "policy-not-accepted"),
    ("inhibitAnyPolicy", "policy-not-accepted"),
    ("nameConstraints", "name-not-permitted"),
    ("distributionPointTest2", "revoked"),
    ("distributionPointTest6", "revoked"),
    ("distributionPoint", "revocation-unknown"),
    ("onlyContains", "revocation-unknown"),
    ("onlySomeReasonsTest17", "revocation-unknown"),
    ("onlySomeReasons", "revoked"),
    ("indirectCRL", "revocation-unknown"),
    ("cRLIssuer", "revocation-unknown"),
    ("NoBase", "revocation-unknown"),
    ("deltaCRLTest10", "revocation-unknown"),
    ("deltaCRL", "revoked"),
    ("UnknownCritical", "unknown-critical-extension"),
];

/// CRLs that are not taken.
const REFUSED_CRLS: &[(&str, CrlError)] = &[
    // The suite changed the signature's count of unused bits.
    ("BadCRLSignatureCACRL", CrlError::Malformed(Malformed("a bit string does not end with an octet"))),
    ("UnknownCRLEntryExtensionCACRL", CrlError::UnknownCriticalExtension),
    ("UnknownCRLExtensionCACRL", CrlError::UnknownCriticalExtension),
    ("indirectCRLCA1CRL", CrlError::Indirect),
    ("indirectCRLCA3cRLIssuerCRL", CrlError::Indirect),
    ("indirectCRLCA4cRLIssuerCRL", CrlError::Indirect),
    ("indirectCRLCA5CRL", CrlError::Indirect),
    ("onlyContainsAttributeCertsCACRL", CrlError::AttributeCertificates),
];

const ANY: &[u8] = &[];
const ONE: &[u8] = &[1];
const TWO: &[u8] = &[2];

/// Settings of a policy case: accepted NIST test policies, and the three initial inhibitors.
#[derive(Default, Clone, Copy)]
struct Initial {
    accepted: &'static [u8],
    explicit: bool,
    inhibit_mapping: bool,
    inhibit_any: bool,
}

const fn accept(accepted: &'static [u8]) -> Initial {
    Initial { accepted, explicit: false, inhibit_mapping: false, inhibit_any: false }
}

const fn explicit(accepted: &'static [u8]) -> Initial {
    Initial { accepted, explicit: true, inhibit_mapping: false, inhibit_any: false }
}

const UNMAPPED: Initial = Initial { accepted: ANY, explicit: false, inhibit_mapping: true, inhibit_any: false };
const NO_ANY: Initial = Initial { accepted: ANY, explicit: false, inhibit_mapping: false, inhibit_any: true };

/// Section, end entity, settings, and the policies that hold (0 is anyPolicy), or that the path is refused.
type PolicyCase = (&'static str, &'static str, Initial, Option<&'static [u8]>);

const POLICY_CASES: &[PolicyCase] = &[
    ("4.8.1.1", "ValidCertificatePathTest1", explicit(ANY), Some(ONE)),
    ("4.8.1.2", "ValidCertificatePathTest1", explicit(ONE), Some(ONE)),
    ("4.8.1.3", "ValidCertificatePathTest1", explicit(TWO), None),
    ("4.8.1.4", "ValidCertificatePathTest1", explicit(&[1, 2]), Some(ONE)),
    ("4.8.2.1", "AllCertificatesNoPoliciesTest2", accept(ANY), Some(&[])),
    ("4.8.2.2", "AllCertificatesNoPoliciesTest2", explicit(ANY), None),
    ("4.8.3.1", "DifferentPoliciesTest3", accept(ANY), Some(&[])),
    ("4.8.3.2", "DifferentPoliciesTest3", explicit(ANY), None),
    ("4.8.3.3", "DifferentPoliciesTest3", explicit(&[1, 2]), None),
    ("4.8.4", "DifferentPoliciesTest4", accept(ANY), None),
    ("4.8.5", "DifferentPoliciesTest5", accept(ANY), None),
    ("4.8.6.1", "OverlappingPoliciesTest6", accept(ANY), Some(ONE)),
    ("4.8.6.2", "OverlappingPoliciesTest6", accept(ONE), Some(ONE)),
    ("4.8.6.3", "OverlappingPoliciesTest6", accept(TWO), None),
    ("4.8.7", "DifferentPoliciesTest7", accept(ANY), None),
    ("4.8.8", "DifferentPoliciesTest8", accept(ANY), None),
    ("4.8.9", "DifferentPoliciesTest9", accept(ANY), None),
    ("4.8.10.1", "AllCertificatesSamePoliciesTest10", accept(ONE), Some(ONE)),
    ("4.8.10.2", "AllCertificatesSamePoliciesTest10", accept(TWO), Some(TWO)),
    ("4.8.10.3", "AllCertificatesSamePoliciesTest10", accept(ANY), Some(&[1, 2])),
    ("4.8.11.1", "AllCertificatesanyPolicyTest11", accept(ANY), Some(&[0])),
    ("4.8.11.2", "AllCertificatesanyPolicyTest11", accept(ONE), Some(ONE)),
    ("4.8.12", "DifferentPoliciesTest12", accept(ANY), None),
    ("4.8.13.1", "AllCertificatesSamePoliciesTest13", accept(ONE), Some(ONE)),
    ("4.8.13.2", "AllCertificatesSamePoliciesTest13", accept(TWO), Some(TWO)),
    ("4.8.13.3", "AllCertificatesSamePoliciesTest13", accept(&[3]), Some(&[3])),
    ("4.8.14.1", "AnyPolicyTest14", accept(ONE), Some(ONE)),
    ("4.8.14.2", "AnyPolicyTest14", accept(TWO), None),
    ("4.8.15", "UserNoticeQualifierTest15", accept(ANY), Some(ONE)),
    ("4.8.16", "UserNoticeQualifierTest16", accept(ANY), Some(ONE)),
    ("4.8.17", "UserNoticeQualifierTest17", accept(ANY), Some(ONE)),
    ("4.8.18.1", "UserNoticeQualifierTest18", accept(ONE), Some(ONE)),
    ("4.8.18.2", "UserNoticeQualifierTest18", accept(TWO), Some(TWO)),
    ("4.8.19", "UserNoticeQualifierTest19", accept(ANY), Some(ONE)),
    ("4.8.20", "CPSPointerQualifierTest20", explicit(ANY), Some(ONE)),
    ("4.9.1", "ValidrequireExplicitPolicyTest1", accept(ANY), Some(&[])),
    ("4.9.4", "ValidrequireExplicitPolicyTest4", accept(ANY), Some(ONE)),
    ("4.10.1.1", "ValidPolicyMappingTest1", accept(ONE), Some(ONE)),
    ("4.10.1.2", "ValidPolicyMappingTest1", accept(TWO), None),
    ("4.10.1.3", "ValidPolicyMappingTest1", UNMAPPED, None),
    ("4.10.2.2", "InvalidPolicyMappingTest2", UNMAPPED, None),
    ("4.10.3.1", "ValidPolicyMappingTest3", accept(ONE), None),
    ("4.10.3.2", "ValidPolicyMappingTest3", accept(TWO), Some(TWO)),
    ("4.10.5.1", "ValidPolicyMappingTest5", accept(ONE), Some(ONE)),
    ("4.10.5.2", "ValidPolicyMappingTest5", accept(&[6]), None),
    ("4.10.6.1", "ValidPolicyMappingTest6", accept(ONE), Some(ONE)),
    ("4.10.6.2", "ValidPolicyMappingTest6", accept(&[6]), None),
    ("4.10.9", "ValidPolicyMappingTest9", accept(ANY), Some(ONE)),
    ("4.10.11", "ValidPolicyMappingTest11", accept(ANY), Some(ONE)),
    ("4.10.12.1", "ValidPolicyMappingTest12", accept(ONE), Some(ONE)),
    ("4.10.12.2", "ValidPolicyMappingTest12", accept(TWO), Some(TWO)),
    ("4.10.13", "ValidPolicyMappingTest13", accept(ANY), Some(ONE)),
    ("4.10.14", "ValidPolicyMappingTest14", accept(ANY), Some(ONE)),
    ("4.11.2", "ValidinhibitPolicyMappingTest2", accept(ANY), Some(ONE)),
    ("4.11.4", "ValidinhibitPolicyMappingTest4", accept(ANY), Some(TWO)),
    ("4.11.7", "ValidSelfIssuedinhibitPolicyMappingTest7", accept(ANY), Some(ONE)),
    ("4.12.2", "ValidinhibitAnyPolicyTest2", accept(ANY), Some(ONE)),
    ("4.12.3.1", "inhibitAnyPolicyTest3", accept(ANY), Some(ONE)),
    ("4.12.3.2", "inhibitAnyPolicyTest3", NO_ANY, None),
];

fn folder() -> PathBuf {
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let find = "import cryptography_vectors as v, os; print(os.path.dirname(v.__file__))";
    let output = Command::new(&python).args(["-c", find]).output().unwrap();
    assert!(
        output.status.success(),
        "`{}` has no package `cryptography_vectors` (tests/requirements.txt): {}",
        python.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()).join("x509/PKITS_data")
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect()
}

struct Suite {
    anchor: TrustAnchor,
    authorities: Vec<Vec<u8>>,
    bad_signed: Vec<u8>,
    ends: BTreeMap<String, Vec<u8>>,
    crls: CrlSet,
    refused_crls: BTreeMap<String, CrlError>,
}

impl Suite {
    fn load() -> Self {
        let folder = folder();
        let (mut ends, mut authorities, mut bad_signed) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (name, der) in files(&folder.join("certs")) {
            match name.strip_suffix("EE") {
                Some(end) => drop(ends.insert(end.to_owned(), der)),
                None if name == "TrustAnchorRootCertificate" => {}
                // Read by nobody, and in the way of every other refusal: it is at hand for its own case only.
                None if name == "BadSignedCACert" => bad_signed = der,
                None => authorities.push(der),
            }
        }
        let anchor = std::fs::read(folder.join("certs/TrustAnchorRootCertificate.crt")).unwrap();
        let (mut crls, mut refused_crls) = (CrlSet::default(), BTreeMap::new());
        for (name, der) in files(&folder.join("crls")) {
            match Crl::from_der(&der).and_then(|crl| crls.with(&name, crl)) {
                Ok(with) => crls = with,
                Err(error) => drop(refused_crls.insert(name, error)),
            }
        }
        Self { anchor: TrustAnchor::from_der(&anchor).unwrap(), authorities, bad_signed, ends, crls, refused_crls }
    }

    fn run(&self, end: &str, purpose: Purpose, initial: Initial) -> Result<ValidPath, PathRefused> {
        let algorithms = Profile::CryptrecHigh.provider().signature_verification_algorithms.all;
        let mut settings = Settings::new(purpose, algorithms);
        settings.authority_as_leaf = true;
        settings.revocation.mode = RevocationMode::Require;
        settings.limits.certificates = 1000;
        settings.policies.accepted = initial.accepted.iter().map(|number| policy(*number)).collect();
        // An accepted set is of use only where a policy is demanded; the suite's own cases demand one by their CAs.
        settings.policies.explicit = initial.explicit;
        settings.policies.inhibit_mapping = initial.inhibit_mapping;
        settings.policies.inhibit_any = initial.inhibit_any;
        let leaf = self.ends.get(end).unwrap_or_else(|| panic!("there is no {end}"));
        let mut others: Vec<&[u8]> = self.authorities.iter().map(Vec::as_slice).collect();
        if end == "InvalidCASignatureTest2" {
            others.push(&self.bad_signed);
        }
        validate(leaf, &others, std::slice::from_ref(&self.anchor), &self.crls, &settings, None, NOW)
    }
}

/// The content of 2.16.840.1.101.3.2.1.48.N, or of anyPolicy.
fn policy(number: u8) -> Vec<u8> {
    match number {
        0 => vec![0x55, 0x1d, 0x20, 0x00],
        number => vec![0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x02, 0x01, 0x30, number],
    }
}

#[test]
fn every_end_entity_has_its_outcome_or_a_reason() {
    let suite = Suite::load();
    assert_eq!((suite.ends.len(), suite.authorities.len()), (223, 180));
    let deviations: BTreeMap<&str, &str> = DEVIATIONS.iter().copied().collect();
    let with_settings: BTreeSet<&str> = POLICY_CASES.iter().map(|case| case.1).collect();
    let mut wrong = Vec::new();
    let mut met = 0;
    for end in suite.ends.keys() {
        let valid = if end.starts_with("Valid") {
            true
        } else if end.starts_with("Invalid") {
            false
        } else {
            assert!(with_settings.contains(end.as_str()), "{end} is never run");
            continue;
        };
        for purpose in [Purpose::ClientAuth, Purpose::ServerAuth] {
            let outcome = suite.run(end, purpose, Initial::default());
            if let (false, Err(refused)) = (valid, &outcome) {
                let label = REASONS.iter().find(|(part, _)| end.contains(part)).map_or("", |(_, label)| label);
                assert_eq!(refused.refusal.label(), label, "{end}: {refused}");
            }
            if (outcome.is_ok() == valid) == deviations.contains_key(end.as_str()) {
                wrong.push(format!("{end}: {}", outcome.map_or_else(|e| e.to_string(), |_| "accepted".to_owned())));
            }
        }
        met += usize::from(deviations.contains_key(end.as_str()));
    }
    assert!(wrong.is_empty(), "not as told, or no deviation any more:\n{}", wrong.join("\n"));
    assert_eq!(met, DEVIATIONS.len(), "a deviation names no end entity");
}

#[test]
fn every_policy_case_has_its_policies() {
    let suite = Suite::load();
    let mut wrong = Vec::new();
    for (section, end, initial, expected) in POLICY_CASES {
        let outcome = suite.run(end, Purpose::ClientAuth, *initial);
        let held = outcome.as_ref().ok().map(|path| path.policies().iter().cloned().collect::<BTreeSet<_>>());
        let wanted = expected.map(|numbers| numbers.iter().map(|number| policy(*number)).collect());
        if held != wanted {
            wrong.push(format!("{section}: {outcome:?}"));
        }
        if let Err(refused) = &outcome {
            assert_eq!(refused.refusal.label(), "policy-not-accepted", "{section}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn crls_that_are_not_taken_are_refused_by_name() {
    let refused = Suite::load().refused_crls;
    let expected: BTreeMap<String, CrlError> =
        REFUSED_CRLS.iter().map(|(name, error)| ((*name).to_owned(), *error)).collect();
    assert_eq!(refused, expected);
}
