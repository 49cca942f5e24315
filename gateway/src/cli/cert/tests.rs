use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use certs::PeerRefused;
use certs::path::{Malformed, PathRefusal, PathRefused, RevocationReason};

use super::judge::is_within_clock_error;
use super::meaning::meaning;
use super::*;
use crate::clock::Reading;
use crate::config::tests::beside;

/// One of each: the match makes a new variant a compiler's error here.
fn closed_list() -> Vec<PathRefusal> {
    use PathRefusal as R;
    let all = vec![
        R::Malformed(Malformed("x")),
        R::TooLarge,
        R::TooMany,
        R::TooDeep,
        R::TooMuchWork,
        R::UnknownIssuer,
        R::Expired { not_after: 1 },
        R::NotYetValid { not_before: 1 },
        R::WrongPurpose("x"),
        R::NotAuthority("x"),
        R::PathLength,
        R::NameNotPermitted("x".to_owned()),
        R::WrongName,
        R::PolicyNotAccepted("x"),
        R::UnknownCriticalExtension("1.2".to_owned()),
        R::WeakKey("x"),
        R::Algorithm,
        R::Revoked { when: 1, reason: RevocationReason::KeyCompromise },
        R::RevocationUnknown("x"),
    ];
    for one in &all {
        match one {
            R::Malformed(_) | R::TooLarge | R::TooMany | R::TooDeep | R::TooMuchWork | R::UnknownIssuer => {}
            R::Expired { .. } | R::NotYetValid { .. } | R::WrongPurpose(_) | R::NotAuthority(_) | R::PathLength => {}
            R::NameNotPermitted(_) | R::WrongName | R::PolicyNotAccepted(_) | R::UnknownCriticalExtension(_) => {}
            R::WeakKey(_) | R::Algorithm | R::Revoked { .. } | R::RevocationUnknown(_) => {}
        }
    }
    all
}

#[test]
fn each_refusal_has_a_line_of_its_own() {
    let all = closed_list();
    let labels: BTreeSet<_> = all.iter().map(PathRefusal::label).collect();
    assert_eq!(labels.len(), all.len(), "the list has one twice");
    let meanings: BTreeSet<_> = all.iter().map(meaning).collect();
    assert_eq!(meanings.len(), all.len(), "two refusals mean the same");
    let texts: BTreeSet<_> = all.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), all.len());
    for one in &all {
        let line = meaning(one);
        assert!(line.len() > 12 && !line.ends_with('.') && !line.contains('\n'), "{line}");
    }
}

#[test]
fn the_runbook_tells_each_refusal_where_it_tells_the_listeners() {
    let runbook = include_str!("../../../RUNBOOK.md");
    for refusal in closed_list() {
        let label = refusal.label();
        let peer = PeerRefused::from(PathRefused { refusal, subject: String::new() });
        let (_, section) = runbook.split_once(&format!("\n## {}\n", peer.refusal)).unwrap();
        let section = section.split("\n## ").next().unwrap();
        assert!(section.contains(&format!("`{label}`")), "`{label}` is not in {}: {section}", peer.refusal);
    }
}

#[test]
fn a_clock_that_cannot_tell_is_said() {
    let now = Reading {
        unix_ns: 100_000_000_000,
        monotonic_ns: 0,
        error_ns: Some(2_000_000_000),
        source: "t",
        synchronised: true,
    };
    assert!(is_within_clock_error(&PathRefusal::Expired { not_after: 99 }, &now));
    assert!(is_within_clock_error(&PathRefusal::NotYetValid { not_before: 102 }, &now));
    assert!(!is_within_clock_error(&PathRefusal::NotYetValid { not_before: 103 }, &now));
    assert!(is_within_clock_error(&PathRefusal::Expired { not_after: 1 }, &Reading { error_ns: None, ..now }));
    assert!(!is_within_clock_error(&PathRefusal::UnknownIssuer, &now));
}

fn show(files: &[&Path], config: Option<&Path>, json: bool) -> (bool, String) {
    let arguments = ShowArgs {
        files: files.iter().map(|file| file.to_path_buf()).collect(),
        config: config.map(Path::to_path_buf),
        listener: None,
        json,
    };
    let mut out = Vec::new();
    let good = run(&CertCommand::Show(arguments), &mut out).unwrap();
    (good, String::from_utf8(out).unwrap())
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").current_dir(folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A root and a doctor's card of this policy below it, in the shape of HPKI's.
fn card(policy: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "[req]\ndistinguished_name=dn\nprompt=no\nutf8=yes\nstring_mask=utf8only\n[dn]\nC=JP\nCN=TARO YAMADA\nserialNumber=117120\n\
         [root]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n\
         [ee]\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nsubjectAltName=ASN1:SEQUENCE:san\n\
         certificatePolicies=critical,{policy}\n2.5.29.9=ASN1:SEQUENCE:sda\n\
         [san]\nd=EXPLICIT:4,SEQUENCE:japanese\n[japanese]\nb=SET:cn\n[cn]\na=SEQUENCE:cn_a\n\
         [cn_a]\nt=OID:2.5.4.3\nv=FORMAT:UTF8,UTF8String:山田太郎\n\
         [sda]\na=SEQUENCE:attr\n[attr]\ntype=OID:1.0.17090.0.1\nvals=SET:vals\n[vals]\nv=SET:actors\n\
         [actors]\na=SEQUENCE:doctor\nb=SEQUENCE:wizard\n\
         [doctor]\nc=EXPLICIT:0,SET:doctor_code\n\
         [doctor_code]\ns=EXPLICIT:0,OID:1.2.392.100495.1.6.1.1\nt=EXPLICIT:2,UTF8String:Medical Doctor\n\
         [wizard]\nc=EXPLICIT:0,SET:wizard_code\n\
         [wizard_code]\ns=EXPLICIT:0,OID:1.2.392.100495.1.6.1.1\nt=EXPLICIT:2,UTF8String:Wizard\n"
    );
    let at = folder.path();
    std::fs::write(at.join("c.cnf"), config).unwrap();
    for (name, issuer) in [("root", &["-signkey", "root.key"][..]), ("ee", &["-CA", "root.crt", "-CAkey", "root.key"])]
    {
        let (key, csr, crt) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.crt"));
        let mut request = vec!["req", "-new", "-newkey", "rsa:2048", "-nodes", "-config", "c.cnf", "-keyout", &key];
        request.extend(["-out", &csr]);
        if name == "root" {
            request.extend(["-subj", "/C=JP/O=MHLW/CN=Root"]);
        }
        openssl(at, &request);
        let mut sign = vec!["x509", "-req", "-in", &csr, "-out", &crt, "-days", "30", "-sha256", "-set_serial", "77"];
        sign.extend(["-extfile", "c.cnf", "-extensions", name]);
        sign.extend(issuer);
        openssl(at, &sign);
    }
    std::fs::write(at.join("sekisho.toml"), beside().replace("devices-ca.crt", "root.crt")).unwrap();
    folder
}

#[test]
fn a_doctors_card_is_read_with_its_japanese_names() {
    let folder = card("1.2.392.100495.1.5.1.2.3.1");
    let (file, config) = (folder.path().join("ee.crt"), folder.path().join("sekisho.toml"));
    let (good, text) = show(&[&file], Some(&config), false);
    for expected in [
        "山田太郎",
        "`TARO YAMADA`",
        "number `117120`, by HPKI",
        "`medical-doctor` 医師, from `Medical Doctor`",
        "none from `Wizard`",
        "holds: C=JP, O=MHLW, CN=Root",
        "holds under HPKI's policy for authentication",
        "refused: certificate-identity: ",
    ] {
        assert!(text.contains(expected), "`{expected}` is not in\n{text}");
    }
    // It opens no listener of devices, whatever its holder may do.
    assert!(!good);
    let (_, json) = show(&[&file], Some(&config), true);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    let roles = value["user"]["roles"].as_array().unwrap();
    assert!(roles.iter().any(|role| role["japanese"] == "医師" && role["role"] == "medical-doctor"), "{roles:?}");
    assert_eq!(value["listeners"][0]["refusal"], "certificate-identity");

    let folder = card("1.2.392.100495.1.5.1.1.3.1");
    let (_, text) = show(&[&folder.path().join("ee.crt")], Some(&folder.path().join("sekisho.toml")), false);
    assert!(text.contains("none by HPKI: the certificate is issued under a signature policy"), "{text}");
    assert!(text.contains("by HPKI    refused: policy-not-accepted"), "{text}");
}

#[test]
fn nothing_in_a_certificate_steers_the_terminal() {
    let evil = "\u{1b}[2J\u{202e}evil\r\nverdict    taken";
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, evil);
    params.subject_alt_names = vec![
        rcgen::SanType::URI("spiffe://sekisho.example/\u{1b}[31m\nverdict".try_into().unwrap()),
        rcgen::SanType::DnsName("a\0.evil\u{7}".try_into().unwrap()),
    ];
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("evil\u{1b}[0m.der");
    std::fs::write(&file, certificate.der()).unwrap();
    for json in [false, true] {
        let (good, text) = show(&[&file], None, json);
        assert!(good, "nobody was asked");
        let steers = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(steers), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("verdict")), "{text}");
        assert!(text.contains("evil"));
    }
}

#[test]
fn several_certificates_and_none() {
    let folder = card("1.2.392.100495.1.5.1.2.3.1");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let both = folder.path().join("both.pem");
    std::fs::write(&both, format!("# a bundle\n{}{}", read("ee.crt"), read("root.crt"))).unwrap();
    let (good, text) = show(&[&both], Some(&folder.path().join("sekisho.toml")), false);
    assert!(!good && text.contains("certificate 1 of 2") && text.contains("certificate 2 of 2"), "{text}");
    assert!(text.contains("of which it is a trust anchor") && text.contains("no client is let in by it"), "{text}");
    let bad = folder.path().join("bad.der");
    std::fs::write(&bad, [0x30, 0x82, 0xff, 0xff, 1, 2, 3]).unwrap();
    let (good, text) = show(&[&bad], Some(&folder.path().join("sekisho.toml")), false);
    assert!(!good && text.contains("no certificate: ") && text.contains("refused: malformed"), "{text}");
    assert!(text.contains(meaning(&PathRefusal::Malformed(Malformed("")))), "{text}");
    let arguments = |listener: Option<&str>, file: &str| ShowArgs {
        files: vec![folder.path().join(file)],
        config: Some(folder.path().join("sekisho.toml")),
        listener: listener.map(str::to_owned),
        json: false,
    };
    for (listener, file, expected) in
        [(None, "absent.crt", "absent.crt"), (None, "c.cnf", "c.cnf"), (Some("hospitals"), "ee.crt", "hospitals")]
    {
        let error = run(&CertCommand::Show(arguments(listener, file)), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
