//! C15: nothing that a peer sends can forge a record, hide one, or act on the terminal of whoever reads it.

use std::process::{Command, Stdio};

use gateway_tests::audit::{is, text};
use gateway_tests::{Clinic, DOCTOR, Oddity};

/// What a terminal would obey: controls of either set, marks that turn the direction of text, line separators.
fn acts_on_a_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Records are text on one line, and neither they nor the diagnostics hold anything that a terminal would obey.
fn nothing_acts_on_a_terminal(clinic: &Clinic) {
    for record in clinic.raw_records() {
        let record = String::from_utf8(record).expect("a record is UTF-8");
        assert!(!record.chars().any(acts_on_a_terminal), "{record:?}");
    }
    let said = clinic.gateway.said();
    assert!(said.chars().all(|c| c == '\n' || !acts_on_a_terminal(c)), "{said:?}");
}

/// Bytes that somebody would like to see in a log, in a terminal or in an analyst's JSON.
const HOSTILE: &[&[u8]] = &[
    b"a\"b",
    b"a\\u0000b",
    b"{\"kind\":\"stop\"}",
    b"\x1b[2J\x1b[31m",
    b"\x08\x08\x08",
    b"\x7f",
    b"\x9b2J",
    "\u{202e}gpj.exe".as_bytes(),
    "\u{2028}\u{2029}\u{feff}".as_bytes(),
    "さくら".as_bytes(),
    b"\xff\xfe\xc0\xaf\xed\xa0\x80",
    b"\r\n{\"kind\":\"stop\"}\r\n",
    b"\rx",
    b"\nx",
    b"\0",
];

#[test]
fn c15_hostile_targets() {
    let clinic = Clinic::builder().start();
    for bytes in HOSTILE {
        let mut wire = clinic.wire(DOCTOR);
        let host = wire.host();
        wire.send([b"GET /open/x?", *bytes, format!(" HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()].concat());
        let status = wire.answer().status;
        assert!(matches!(status, 200 | 400), "{bytes:?}: {status}");
        let asked = clinic.asked_by(&wire);
        assert_eq!(asked.len(), 1, "{bytes:?}: one request, one record: {asked:#?}");
    }
    assert!(!clinic.records().iter().any(|record| is(record, "stop")), "a record was forged");
    nothing_acts_on_a_terminal(&clinic);
}

#[test]
fn c15_hostile_bytes_come_back_from_the_record() {
    let clinic = Clinic::builder().start();
    for bytes in HOSTILE.iter().filter(|bytes| !bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n' | b' '))) {
        let mut wire = clinic.wire(DOCTOR);
        let host = wire.host();
        let target = [b"/open/x?", *bytes].concat();
        wire.send([b"GET ", &target[..], format!(" HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()].concat());
        wire.answer();
        let asked = clinic.asked_by(&wire);
        let recorded = &asked[0]["target"];
        let back = match recorded.as_str() {
            Some(text) => text.as_bytes().to_vec(),
            None => {
                use base64::Engine as _;
                let encoded = recorded["base64"].as_str().unwrap_or_else(|| panic!("{recorded}"));
                base64::engine::general_purpose::STANDARD.decode(encoded).expect("base64")
            }
        };
        assert_eq!(back, target, "{recorded}");
    }
}

#[test]
fn c15_hostile_fields_and_hosts() {
    let clinic = Clinic::builder().start();
    for bytes in HOSTILE {
        for line in [&b"User-Agent: "[..], b"Host: ", b"X-Request-Id: ", b"Cookie: "] {
            let mut wire = clinic.wire(DOCTOR);
            let host = if line == b"Host: " { String::new() } else { format!("Host: {}\r\n", wire.host()) };
            let request = [b"GET /open/x HTTP/1.1\r\n", host.as_bytes(), line, bytes, b"\r\n\r\n"].concat();
            wire.send(request);
            let status = wire.answer().status;
            assert!(matches!(status, 200 | 400 | 421), "{bytes:?}: {status}");
            assert!(!clinic.asked_by(&wire).is_empty(), "{bytes:?}: no record");
        }
    }
    assert!(!clinic.records().iter().any(|record| is(record, "stop")), "a record was forged");
    nothing_acts_on_a_terminal(&clinic);
}

#[test]
fn c15_hostile_methods() {
    let clinic = Clinic::builder().start();
    let long = vec![b'M'; 5_000];
    for method in [&b"GET\x1b[2J"[..], b"G\"T", b"\xff", b"get", &long] {
        let mut wire = clinic.wire(DOCTOR);
        let host = wire.host();
        wire.send([method, format!(" /open/x HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()].concat());
        let status = wire.answer().status;
        assert!(matches!(status, 400 | 405 | 414 | 431), "{method:?}: {status}");
        assert_eq!(clinic.asked_by(&wire).len(), 1, "{method:?}");
    }
    nothing_acts_on_a_terminal(&clinic);
}

#[test]
fn c15_a_long_target_is_recorded_by_prefix_and_digest() {
    let clinic = Clinic::builder().limit("target_bytes", 20_000).start();
    let mut wire = clinic.wire(DOCTOR);
    let target = format!("/open/{}", "x".repeat(65_536));
    let answer = wire.get(&target);
    assert_eq!((answer.status, &*answer.problem()), (414, "target-too-long"));
    let asked = clinic.asked_by(&wire);
    assert_eq!(asked.len(), 1, "{asked:#?}");
    let recorded = &asked[0]["target"];
    let length = usize::try_from(recorded["length"].as_u64().expect("its length")).expect("a length");
    assert_eq!(text(recorded, "prefix"), &target[..16_384]);
    // The digest is of what was read before the target was known to be too long.
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &target.as_bytes()[..length]);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(text(recorded, "sha256"), hex);
    assert!(length > 20_000, "{length}");
    nothing_acts_on_a_terminal(&clinic);
}

#[test]
fn c15_hostile_server_names() {
    let clinic = Clinic::builder().start();
    for name in ["a\"b", "\u{1b}[2J", "x\n{\"kind\":\"stop\"}", "\u{202e}", "%s%n", &"a".repeat(250)] {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &clinic.door.address.to_string(), "-servername", name]);
        let output = command.stdin(Stdio::null()).output().expect("`openssl` is installed");
        assert!(!output.status.success(), "{name:?} was let in");
    }
    gateway_tests::until("six handshakes", || (clinic.metric("sekisho_handshakes_total", &[]) >= 6.0).then_some(()));
    assert!(clinic.records().iter().any(|record| is(record, "refusal")));
    assert!(!clinic.records().iter().any(|record| is(record, "stop")), "a record was forged");
    nothing_acts_on_a_terminal(&clinic);
}

#[test]
fn c15_hostile_certificates() {
    let clinic = Clinic::builder().start();
    let hostile = "exam\u{1b}[2J\u{202e}\n{\"kind\":\"stop\"}";
    // In the common name, of a device that is known; then in the name of one that is none.
    let known = clinic.pki().odd(&Oddity { common_name: hostile.to_owned(), ..Oddity::of(DOCTOR) });
    assert_eq!(clinic.door.with(&known).open().get("/open/x").status, 200);
    for uri in ["spiffe://sekisho.example/site/a\"b/device/x", "spiffe://sekisho.example/site/\x1b[2J/device/x"] {
        let odd = Oddity { uris: vec![uri.to_owned()], common_name: hostile.to_owned(), ..Oddity::of(DOCTOR) };
        let _ = clinic.door.with(&clinic.pki().odd(&odd)).refused();
    }
    clinic.wait_for_record("the refusal", |record| text(record, "reason") == "certificate-identity");
    assert!(!clinic.records().iter().any(|record| is(record, "stop")), "a record was forged");
    nothing_acts_on_a_terminal(&clinic);
}

#[test]
fn c15_hostile_names_in_the_registry() {
    let prepared = Clinic::builder().prepare();
    for name in ["a\u{1b}[2J", "a\nb", "さくら", "a/b/c", "..", "\u{202e}x"] {
        let output = prepared.try_registry(&["site", "add", name]);
        assert_ne!(output.code, Some(0), "{name:?} was taken: {output:?}");
        assert!(!output.stderr.contains('\u{1b}'), "{output:?}");
    }
    // A display name may be in any script; controls are refused, or shown escaped.
    for name in ["a\u{1b}[2J", "a\nb", "\u{202e}x", "さくら診療所"] {
        let output = prepared.try_registry(&["site", "add", "shown", "--display-name", name]);
        let shown = prepared.try_registry(&["site", "list"]);
        for said in [&output.stdout, &output.stderr, &shown.stdout] {
            assert!(said.chars().all(|c| c == '\n' || !acts_on_a_terminal(c)), "{name:?}: {said:?}");
        }
        let _ = prepared.try_registry(&["site", "remove", "shown"]);
    }
    let clinic = prepared.start();
    nothing_acts_on_a_terminal(&clinic);
}
