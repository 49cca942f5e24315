//! `Forwarded` and `X-Forwarded-For` of listed proxies: the address counts, and the rest of the field is nobody's (R5, R11, C6). From
//! everybody else they are dropped unread, as [`crate::c6_identity_headers`] says.

use gateway_tests::audit::{is, text};
use gateway_tests::{Answer, Builder, Clinic, DOCTOR, Wire};
use serde_json::Value;

const PROXY: [u8; 4] = [127, 0, 0, 2];

/// Whoever asks from 192.0.2.66 gets nothing.
const POLICY: &str = r#"
@id("all") permit(principal, action, resource);
@id("not-from-there") forbid(principal, action, resource) when {
  context.source.isInRange(ip("192.0.2.66/32"))
};
"#;

fn behind_proxies(field: &str) -> Builder {
    let from: toml::Value = vec![toml::Value::from("127.0.0.2/32"), toml::Value::from("10.0.0.0/8")].into();
    let table = toml::Table::from_iter([("from".to_owned(), from), ("field".to_owned(), field.into())]);
    Clinic::builder().config(|config| config.set_listener("forwarded", table)).policy("all.cedar", POLICY)
}

fn proxy(clinic: &Clinic) -> Wire {
    clinic.handshake(DOCTOR).from(PROXY).open()
}

fn record_of(clinic: &Clinic, answer: &Answer) -> Value {
    let id = answer.field("x-request-id");
    clinic.wait_for_record("the request", |record| is(record, "request") && text(record, "request") == id)
}

/// The `Forwarded` that the backend got last.
fn told(clinic: &Clinic) -> String {
    clinic.backend().last().values("forwarded").remove(0)
}

#[test]
fn a_listed_proxy_says_where_a_client_is() {
    let clinic = behind_proxies("x-forwarded").start();
    let mut wire = proxy(&clinic);
    let fields = [
        ("X-Forwarded-For", "127.0.0.1, 192.0.2.7, 10.1.1.1"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "records.example"),
        ("Forwarded", "for=192.0.2.66"),
    ];
    let answer = wire.request("GET", "/open/x", &fields, b"");
    assert_eq!(answer.status, 200, "{answer:?}");
    let record = record_of(&clinic, &answer);
    assert_eq!(
        (text(&record, "client"), &record["connection"]["source"]),
        ("192.0.2.7", &wire.local().to_string().into())
    );
    let host = wire.host();
    let expected = format!(
        "for=192.0.2.7;proto=https;host=\"records.example\", for=127.0.0.2;proto=https;host=\"{host}\";by=_clinics"
    );
    assert_eq!(told(&clinic), expected);
    let seen = clinic.backend().last();
    assert!(seen.values("x-forwarded-for").is_empty() && seen.values("x-forwarded-host").is_empty(), "{seen:?}");
    // Policies go by it, request by request.
    let answer = wire.request("GET", "/open/x", &[("X-Forwarded-For", "192.0.2.66")], b"");
    assert_eq!((answer.status, &*answer.problem()), (403, "policy-forbid"));
    let answer = wire.request("GET", "/open/x", &[("X-Forwarded-For", "192.0.2.66, 192.0.2.7")], b"");
    assert_eq!(answer.status, 200, "what a client wrote itself counts for nothing: {answer:?}");
    // Without the field the proxy asks for itself.
    let answer = wire.get("/open/x");
    assert!(record_of(&clinic, &answer).get("client").is_none());
    assert!(told(&clinic).starts_with("for=127.0.0.2;"));
}

#[test]
fn forwarded_of_rfc_7239_is_read_over_http2_too() {
    let clinic = behind_proxies("forwarded").start();
    let value = "for=\"[2001:db8::66]\", for=\"192.0.2.7:50000\";proto=http;host=a.example;by=_p, for=10.9.9.9";
    let fields = [("forwarded", value), ("x-forwarded-for", "192.0.2.66")];
    let is_told = |answer: Answer| {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(text(&record_of(&clinic, &answer), "client"), "192.0.2.7");
        let told = told(&clinic);
        assert!(told.starts_with("for=192.0.2.7;proto=http;host=\"a.example\", for=127.0.0.2;"), "{told}");
    };
    is_told(proxy(&clinic).request("GET", "/open/x", &fields, b""));
    let mut h2 = gateway_tests::h2::Client::open(&clinic.handshake(DOCTOR).from(PROXY), clinic.door.address);
    is_told(h2.request("GET", "/open/x", &fields, b"").expect("an answer"));
}

#[test]
fn nobody_else_is_believed() {
    for field in ["x-forwarded", "forwarded"] {
        let clinic = behind_proxies(field).start();
        let fields = [("X-Forwarded-For", "192.0.2.66"), ("Forwarded", "for=192.0.2.66"), ("X-Forwarded-Proto", "\"")];
        let mut wire = clinic.wire(DOCTOR);
        let answer = wire.request("GET", "/open/x", &fields, b"");
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(record_of(&clinic, &answer).get("client").is_none());
        assert!(told(&clinic).starts_with("for=127.0.0.1;"), "{}", told(&clinic));
        let mut h2 = clinic.h2(DOCTOR);
        assert_eq!(h2.request("GET", "/open/x", &fields, b"").expect("an answer").status, 200);
        assert!(told(&clinic).starts_with("for=127.0.0.1;"));
    }
}

#[test]
fn what_a_listed_proxy_wrote_must_be_readable() {
    for (field, name, values) in [
        (
            "x-forwarded",
            "X-Forwarded-For",
            &["rubbish", "192.0.2.7,", "192.0.2.7, 10.1.1.300", "", "for=192.0.2.7"][..],
        ),
        ("forwarded", "Forwarded", &["192.0.2.7", "for=\"192.0.2.7", "for=192.0.2.7;for=192.0.2.8", "proto=https"]),
    ] {
        let clinic = behind_proxies(field).start();
        for value in values {
            let mut wire = proxy(&clinic);
            let answer = wire.request("GET", "/open/x", &[(name, value)], b"");
            assert_eq!((answer.status, &*answer.problem()), (400, "forwarded-malformed"), "{value}");
            assert_eq!(clinic.wait_for_reasons(wire.local()), ["forwarded-malformed"], "{value}");
        }
        let long =
            vec!["10.1.1.1"; 64].join(", ").replace("10.1", if field == "forwarded" { "for=10.1" } else { "10.1" });
        let answer = proxy(&clinic).request("GET", "/open/x", &[(name, &long)], b"");
        assert_eq!((answer.status, &*answer.problem()), (400, "forwarded-malformed"));
        assert_eq!(clinic.backend().connections(), 0);
        // What stands left of the client is not the proxy's, and is never read.
        let value = if field == "forwarded" { "\"rub;;=bish, for=192.0.2.7" } else { "rub\"bish, 192.0.2.7" };
        let answer = proxy(&clinic).request("GET", "/open/x", &[(name, value)], b"");
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(text(&record_of(&clinic, &answer), "client"), "192.0.2.7");
    }
}
