//! C5: the policy sees the very path that the backend serves. What has no normal form is refused; what is forwarded
//! is, byte for byte, what was judged and recorded.

use gateway_tests::audit::text;
use gateway_tests::h2::Outcome;
use gateway_tests::{Clinic, DOCTOR};

/// Ways to write `/admin`, which no policy lets anybody read. `/open` is where everybody may.
const SPELLINGS: &[&str] = &[
    "/admin",
    "/admin/",
    "/admin/users",
    "/admin?x=1",
    "/open/../admin",
    "/open/x/../../admin",
    "/open/..",
    "/open/.",
    "/open/../",
    "/./admin",
    "//admin",
    "///admin",
    "/open//../admin",
    "//evil.example/admin",
    "/.//admin",
    "/admin%2f",
    "/admin%2F",
    "/open%2f..%2fadmin",
    "/open/..%2fadmin",
    "/open/%2e%2e/admin",
    "/open/%2E%2e/admin",
    "/open/.%2e/admin",
    "/open/%252e%252e/admin",
    "/open/..%252fadmin",
    "/%61dmin",
    "/%2561dmin",
    "/adm%69n",
    "/admin;x",
    "/admin;jsessionid=1",
    "/open;/../admin",
    "/open/..;/admin",
    "/admin%3bx",
    "/admin%00",
    "/admin%00.png",
    "/open/%00/../admin",
    "/admin%0d%0ax:y",
    "/admin%0a",
    "/admin%09",
    "/admin%20",
    "/admin%23",
    "/admin#",
    "/admin#/open",
    "/open#/../admin",
    "/admin%3f",
    "/admin%3fopen",
    "/ADMIN",
    "/Admin",
    "\\admin",
    "/\\admin",
    "/open\\..\\admin",
    "/open/..\\admin",
    "/open%5c..%5cadmin",
    "/open/%5c../admin",
    "/open/%c0%ae%c0%ae/admin",
    "/open/%e0%80%ae./admin",
    "/open/..%c0%afadmin",
    "/%c1%a1dmin",
    "/%u0061dmin",
    "/open/%ff",
    "/open/%",
    "/open/%2",
    "/open/%zz",
    "/open/%ed%a0%80",
    "/open2/x",
    "/openx",
    "/open.",
    "/open%",
    "/fhirx/Patient/1",
    "/fhir2",
    "/fhi",
    "/",
    "*",
    "admin",
    "",
    "http:http://localhost/admin",
    "http:/admin",
    "http://localhost/admin",
    "https://localhost/admin",
    "http://evil.example/open/x",
    "https://evil.example/open/x",
    "https://localhost:1/open/x",
    "https://localhost@evil.example/open/x",
    "https://evil.example#@localhost/open/x",
    "ftp://localhost/open/x",
    "file:///etc/passwd",
    "localhost:443",
    "?x",
    "/open?x#y",
    "/open/\u{ff0e}\u{ff0e}/admin",
    "/open/<admin>",
    "/open/\"admin",
    "/open/{admin}",
    "/open/`admin`",
    "/open/^admin",
    "/open/a|b",
    "/open?a=\"b",
    "/open?a=<b>",
    "/open?a=%00",
    "/open?a=%zz",
];

#[test]
fn c5_no_spelling_gets_at_what_is_protected() {
    let clinic = Clinic::builder().start();
    for target in SPELLINGS {
        let mut wire = clinic.wire(DOCTOR);
        let host = wire.host();
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let answer = wire.answer();
        assert!(matches!(answer.status, 400 | 403 | 404 | 421), "{target}: {answer:?}");
        let reason = answer.problem();
        let asked = clinic.asked_by(&wire);
        assert_eq!(asked.len(), 1, "{target}: one request, one record: {asked:#?}");
        assert_eq!(text(&asked[0], "reason"), reason, "{target}: {:#}", asked[0]);
        if target.is_ascii() && !target.is_empty() {
            assert_eq!(text(&asked[0], "target"), *target, "the target as it came: {:#}", asked[0]);
        }
    }
    assert_eq!(clinic.backend().connections(), 0, "{:#?}", clinic.backend().seen());
}

#[test]
fn c5_no_spelling_gets_at_what_is_protected_over_http2() {
    let clinic = Clinic::builder().start();
    let authority = clinic.wire(DOCTOR).host();
    for target in SPELLINGS {
        let mut frames = clinic.frames(DOCTOR);
        let fields = frames.request("GET", target, &authority);
        frames.headers(1, &fields, true);
        let outcome = frames.outcome(1);
        let refused = outcome.is_refusal() || matches!(outcome, Outcome::Answered(403 | 404 | 421));
        // The library cuts a fragment off before anybody sees it: what is judged is what is left.
        let is_cut = target.starts_with("/open") && target.contains('#');
        assert!(refused || is_cut, "{target}: {outcome:?}");
    }
    for seen in clinic.backend().seen() {
        assert!(matches!(&*seen.target(), "/open" | "/open?x"), "{seen:?}");
    }
}

/// Targets in normal form, to be forwarded and recorded as they are.
const NORMAL: &[&str] = &[
    "/open",
    "/open/",
    "/open/x",
    "/open/x?y=z&y=z%20z",
    "/open/x?",
    "/open/x?a=/../admin",
    "/open/x?a=%2e%2e%2f&b=//",
    "/open/x.y-z_~!$&'()*+,=:@",
    "/open/%E3%81%95%E3%81%8F%E3%82%89",
    "/open/%e3%81%95",
    "/open/a%20b",
    "/open/a%3Ab",
    "/open/...",
    "/open/.x",
    "/open/admin",
    "/open/x?subject=Patient/1|2&q=[a]^{b}",
];

#[test]
fn c5_what_is_judged_is_what_is_forwarded() {
    let clinic = Clinic::builder().start();
    let mut wire = clinic.wire(DOCTOR);
    let mut h2 = clinic.h2(DOCTOR);
    for target in NORMAL {
        assert_eq!(wire.get(target).status, 200, "{target}");
        assert_eq!(clinic.backend().last().target(), *target);
        let asked = clinic.asked_by(&wire);
        assert_eq!(text(asked.last().expect("a record"), "target"), *target);
        // The library's own type for URIs does not hold every target.
        if target.parse::<http::Uri>().is_ok() && !target.contains(['|', '[', '^', '{']) {
            assert_eq!(h2.get(target).expect("an answer").status, 200, "{target}");
            assert_eq!(clinic.backend().last().target(), *target);
        }
    }
    assert_eq!(clinic.asked_by(&wire).len(), NORMAL.len());
}

#[test]
fn c5_an_absolute_target_of_our_own_is_its_origin() {
    let clinic = Clinic::builder().start();
    let mut wire = clinic.wire(DOCTOR);
    let host = wire.host();
    wire.send(format!("GET https://{host}/open/x?y HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert_eq!(wire.answer().status, 200);
    assert_eq!(clinic.backend().last().target(), "/open/x?y");
}

#[test]
fn c5_methods_and_targets_in_fields_mean_nothing() {
    let clinic = Clinic::builder().start();
    let mut wire = clinic.wire(DOCTOR);
    let fields = [
        ("X-HTTP-Method-Override", "DELETE"),
        ("X-HTTP-Method", "DELETE"),
        ("X-Method-Override", "DELETE"),
        ("X-Original-URL", "/admin"),
        ("X-Rewrite-URL", "/admin"),
    ];
    assert_eq!(wire.request("GET", "/open/x", &fields, b"").status, 200);
    let seen = clinic.backend().last();
    assert_eq!((&*seen.method(), &*seen.target()), ("GET", "/open/x"));
    for (name, _) in fields {
        assert!(seen.values(name).is_empty(), "{name} reached the backend: {seen:?}");
    }
}

#[test]
fn c5_a_target_that_is_too_long() {
    let clinic = Clinic::builder().start();
    let mut wire = clinic.wire(DOCTOR);
    let answer = wire.get(&format!("/open/{}", "x".repeat(17_000)));
    assert_eq!((answer.status, &*answer.problem()), (414, "target-too-long"));
    wire.closes();
    assert_eq!(clinic.reasons_of(wire.local()), ["target-too-long"]);
    assert_eq!(clinic.wire(DOCTOR).get(&format!("/open/{}", "x".repeat(16_000))).status, 200);
}
