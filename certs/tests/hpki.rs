//! Certificates in the shape of real HPKI ones, made by `openssl`: critical certificatePolicies on CA and card, the
//! hcRole with its two sets, Japanese names in the subjectAltName.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Command;

use certs::Profile;
use certs::hpki::{self, HpkiError, RoleTable};
use certs::path::{CrlSet, PathRefused, Purpose, Settings, TrustAnchor, ValidPath, validate};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

const AUTHENTICATION: &str = "1.2.392.100495.1.5.1.2.3.1";
const AUTHENTICATION_TEST: &str = "1.2.392.100495.1.5.1.2.0.1";
const SIGNATURE: &str = "1.2.392.100495.1.5.1.1.3.1";

/// Root, issuing CA and card.
struct Chain([CertificateDer<'static>; 3]);

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").current_dir(folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Chain {
    fn new(policy: &str, usage: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let config = format!(
            "[req]\ndistinguished_name=dn\nprompt=no\nutf8=yes\nstring_mask=utf8only\n[dn]\nC=JP\nO=Sakura Clinic\n\
             CN=TARO YAMADA\nserialNumber=117120\n\
             [root]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n\
             [ca]\nbasicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n\
             certificatePolicies=critical,@pol\n\
             [ee]\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,{usage}\n\
             subjectAltName=ASN1:SEQUENCE:san\ncrlDistributionPoints=URI:http://cert.example/auth/crl.crl\n\
             certificatePolicies=critical,@pol\n2.5.29.9=ASN1:SEQUENCE:sda\n\
             [pol]\npolicyIdentifier={policy}\nCPS.1=http://www.medis.example/8_hpki/\n\
             [san]\nd=EXPLICIT:4,SEQUENCE:japanese\n[japanese]\na=SET:o\nb=SET:cn\n[o]\na=SEQUENCE:o_a\n[cn]\na=SEQUENCE:cn_a\n\
             [o_a]\nt=OID:2.5.4.10\nv=FORMAT:UTF8,UTF8String:さくら診療所\n\
             [cn_a]\nt=OID:2.5.4.3\nv=FORMAT:UTF8,UTF8String:山田太郎\n\
             [sda]\na=SEQUENCE:attr\n[attr]\ntype=OID:1.0.17090.0.1\nvals=SET:vals\n[vals]\nv=SET:actordata\n\
             [actordata]\na=SEQUENCE:doctor\nb=SEQUENCE:director\n\
             [doctor]\nc=EXPLICIT:0,SET:doctor_code\n\
             [doctor_code]\ns=EXPLICIT:0,OID:1.2.392.100495.1.6.1.1\nt=EXPLICIT:2,UTF8String:Medical Doctor\n\
             [director]\nc=EXPLICIT:0,SET:director_code\n\
             [director_code]\ns=EXPLICIT:0,OID:1.2.392.100495.1.6.1.1\nt=EXPLICIT:2,UTF8String:Director of Clinic\n"
        );
        std::fs::write(at.join("c.cnf"), config).unwrap();
        let request = |name: &str, subject: Option<&str>| {
            let (key, csr) = (format!("{name}.key"), format!("{name}.csr"));
            let mut all = vec!["req", "-new", "-newkey", "rsa:2048", "-nodes", "-config", "c.cnf", "-sha256"];
            all.extend(["-keyout", &key, "-out", &csr]);
            all.extend(subject.into_iter().flat_map(|subject| ["-subj", subject]));
            openssl(at, &all);
        };
        request("root", Some("/C=JP/O=Ministry of Health, Labour and Welfare/OU=MHLW HPKI Root CA V2"));
        request("ca", Some("/C=JP/O=Medical Information System Development Center/OU=MEDIS-DC/CN=HPKI-01-Test"));
        request("ee", None);
        let sign = |name: &str, serial: &str, issuer: &[&str]| {
            let (csr, crt) = (format!("{name}.csr"), format!("{name}.crt"));
            let mut all = vec!["x509", "-req", "-in", &csr, "-out", &crt, "-days", "3650", "-sha256"];
            all.extend(["-set_serial", serial, "-extfile", "c.cnf", "-extensions", name]);
            all.extend(issuer);
            openssl(at, &all);
            CertificateDer::from_pem_file(at.join(crt)).unwrap()
        };
        let root = sign("root", "1", &["-signkey", "root.key"]);
        let ca = sign("ca", "2", &["-CA", "root.crt", "-CAkey", "root.key"]);
        let card = sign("ee", "3", &["-CA", "ca.crt", "-CAkey", "ca.key"]);
        Self([root, ca, card])
    }

    fn validate(&self, test: bool) -> Result<ValidPath, PathRefused> {
        let [root, ca, card] = &self.0;
        let algorithms = Profile::CryptrecHigh.provider().signature_verification_algorithms.all;
        let mut settings = Settings::new(Purpose::ClientAuth, algorithms);
        settings.policies = hpki::policy_settings(test);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let anchor = TrustAnchor::from_der(root).unwrap();
        let now = i64::try_from(now).unwrap();
        validate(card, &[ca], std::slice::from_ref(&anchor), &CrlSet::default(), &settings, None, now)
    }

    fn card(&self) -> &[u8] {
        let [_, _, card] = &self.0;
        card
    }
}

#[test]
fn a_doctor_with_a_card_is_a_user_with_roles() {
    let chain = Chain::new(AUTHENTICATION, "digitalSignature");
    let path = chain.validate(false).unwrap();
    assert_eq!(path.policies(), [hpki::AUTHENTICATION_POLICY.as_bytes().to_vec()]);
    assert_eq!(path.issuers().len(), 1);
    let user = hpki::user_of(chain.card()).unwrap();
    assert_eq!((user.name.as_str(), user.holder.number.as_str()), ("TARO YAMADA", "117120"));
    assert_eq!(user.japanese_names, ["O=さくら診療所, CN=山田太郎"]);
    // DER sorts a set: the shorter actor comes first.
    assert_eq!(user.qualifications, ["Medical Doctor", "Director of Clinic"]);
    let table = RoleTable::default();
    let japanese: Vec<_> = user.qualifications.iter().map(|text| table.role(text).unwrap().japanese.as_ref()).collect();
    assert_eq!(japanese, ["医師", "診療所院長"]);
}

#[test]
fn webpki_refuses_such_a_card() {
    let chain = Chain::new(AUTHENTICATION, "digitalSignature");
    let mut roots = rustls::RootCertStore::empty();
    let [root, ca, card] = &chain.0;
    roots.add(root.clone()).unwrap();
    let provider = Profile::CryptrecHigh.provider();
    let webpki = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
    let now = rustls::pki_types::UnixTime::now();
    assert!(
        webpki.verify_client_cert(card, std::slice::from_ref(ca), now).is_err(),
        "then certs::path has one use less"
    );
}

#[test]
fn a_card_for_signatures_opens_nothing() {
    let chain = Chain::new(SIGNATURE, "digitalSignature,nonRepudiation");
    assert_eq!(chain.validate(true).unwrap_err().refusal.label(), "policy-not-accepted");
    assert_eq!(hpki::user_of(chain.card()), Err(HpkiError::SignaturePolicy));
    let chain = Chain::new(AUTHENTICATION, "nonRepudiation");
    assert_eq!(chain.validate(false).unwrap_err().refusal.label(), "wrong-purpose");
    assert_eq!(hpki::user_of(chain.card()), Err(HpkiError::KeyUsage));
}

#[test]
fn a_test_card_opens_a_test_door() {
    let chain = Chain::new(AUTHENTICATION_TEST, "digitalSignature");
    assert_eq!(chain.validate(false).unwrap_err().refusal.label(), "policy-not-accepted");
    assert!(chain.validate(true).is_ok());
}
