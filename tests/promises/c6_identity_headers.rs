//! C6 and header stripping: what the gateway says about a request is said once, by the gateway. Fields of one
//! connection stay on it, both ways.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use gateway_tests::audit::text;
use gateway_tests::{Clinic, DOCTOR, Reply, Seen};
use serde_json::Value;

/// Fields that claim to say who asks, or from where, in every spelling that a backend might take for ours.
const CLAIMS: &[(&str, &str)] = &[
    ("Sekisho-Identity", "forged"),
    ("SEKISHO-IDENTITY", "forged"),
    ("sekisho-identity", "forged"),
    ("Sekisho_Identity", "forged"),
    ("sekisho_identity", "forged"),
    ("X-Sekisho-Identity", "forged"),
    ("Sekisho-User", "forged"),
    ("Client-Cert", ":Zm9yZ2Vk:"),
    ("client_cert", ":Zm9yZ2Vk:"),
    ("Client-Cert-Chain", ":Zm9yZ2Vk:"),
    ("Forwarded", "for=127.0.0.1;host=forged"),
    ("X-Forwarded-For", "forged"),
    ("X-Forwarded-Host", "forged"),
    ("X-Forwarded-Proto", "forged"),
    ("X-Forwarded-Client-Cert", "forged"),
    ("X_Forwarded_For", "forged"),
    ("X-Real-IP", "forged"),
    ("True-Client-IP", "forged"),
    ("CF-Connecting-IP", "forged"),
    ("CF-Connecting-IPv6", "forged"),
    ("Client-IP", "forged"),
    ("X-Client-IP", "forged"),
    ("X-Cluster-Client-IP", "forged"),
    ("Fly-Client-IP", "forged"),
    ("X-Azure-ClientIP", "forged"),
    ("X-Appengine-User-Email", "forged"),
    ("OIDC-Claim-Sub", "forged"),
    ("OIDC_CLAIM_email", "forged"),
    ("X-SSL-Client-Cert", "forged"),
    ("X-Client-Cert", "forged"),
    ("SSL-Client-S-DN", "forged"),
    ("X-Remote-User", "forged"),
    ("Remote-User", "forged"),
    ("Remote_User", "forged"),
    ("X-Envoy-External-Address", "forged"),
    ("X-Request-Id", "forged"),
    ("x_request_id", "forged"),
    ("Proxy", "forged"),
    ("Proxy-Authorization", "forged"),
];

/// The backend got every field of the gateway once, and nothing that was forged.
fn is_ours_alone(seen: &Seen, request_id: &str) {
    let text = String::from_utf8_lossy(&seen.head);
    assert!(!text.contains("forged") && !text.contains("Zm9yZ2Vk"), "{text}");
    for name in ["sekisho-identity", "client-cert", "forwarded", "x-request-id", "host"] {
        assert_eq!(seen.values(name).len(), 1, "{name}: {text}");
    }
    for (name, _) in seen.fields() {
        assert!(!name.contains('_'), "{name}: {text}");
    }
    assert_eq!(seen.values("x-request-id"), [request_id]);
    assert!(seen.values("forwarded")[0].contains("for=127.0.0.1"), "{text}");
    assert_eq!(claims(seen)["device"], "exam-1");
}

/// What the identity says.
fn claims(seen: &Seen) -> Value {
    let token = seen.values("sekisho-identity").remove(0);
    let payload = token.split('.').nth(1).expect("a JWT has three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64url")).expect("JSON")
}

#[test]
fn c6_forged_fields_never_arrive() {
    let clinic = Clinic::builder().start();
    let mut wire = clinic.wire(DOCTOR);
    for claim in CLAIMS {
        for fields in [&[*claim][..], &[*claim, *claim], &[*claim, ("Connection", claim.0)]] {
            let answer = wire.request("GET", "/open/x", fields, b"");
            assert_eq!(answer.status, 200, "{fields:?}");
            is_ours_alone(&clinic.backend().last(), answer.field("x-request-id"));
        }
    }
    let answer = wire.request("GET", "/open/x", CLAIMS, b"");
    is_ours_alone(&clinic.backend().last(), answer.field("x-request-id"));
    let asked = clinic.asked_by(&wire);
    let last = asked.last().expect("a record");
    assert_eq!(text(last, "request"), answer.field("x-request-id"));
}

#[test]
fn c6_forged_fields_never_arrive_over_http2() {
    let clinic = Clinic::builder().start();
    let mut h2 = clinic.h2(DOCTOR);
    for claim in CLAIMS {
        for fields in [&[*claim][..], &[*claim, *claim]] {
            let answer = h2.request("GET", "/open/x", fields, b"").expect("an answer");
            assert_eq!(answer.status, 200, "{fields:?}");
            is_ours_alone(&clinic.backend().last(), answer.field("x-request-id"));
        }
    }
}

#[test]
fn c6_a_space_behind_the_name_is_no_field() {
    let clinic = Clinic::builder().start();
    for line in ["Sekisho-Identity : forged", "Sekisho-Identity\t: forged", " Sekisho-Identity: forged"] {
        let mut wire = clinic.wire(DOCTOR);
        let host = wire.host();
        wire.send(format!("GET /open/x HTTP/1.1\r\nHost: {host}\r\nX: y\r\n{line}\r\n\r\n"));
        let answer = wire.answer();
        assert_eq!((answer.status, &*answer.problem()), (400, "request-malformed"), "{line}");
    }
    assert_eq!(clinic.backend().connections(), 0);
}

#[test]
fn c6_forged_trailers_never_arrive() {
    let clinic = Clinic::builder().start();
    let trailers: String = CLAIMS.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut wire = clinic.wire(DOCTOR);
    let host = wire.host();
    wire.send(format!(
        "POST /open/x HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nTrailer: Sekisho-Identity\r\n\r\n\
         5\r\n12345\r\n0\r\n{trailers}X-Checksum: 1\r\n\r\n"
    ));
    // A trailer section may hold fewer fields than a header section: an outright refusal is right as well.
    let answer = wire.answer();
    if answer.status == 200 {
        let seen = clinic.backend().last();
        is_ours_alone(&seen, answer.field("x-request-id"));
        let lines = seen.trailers.join("\n");
        assert!(!lines.contains("forged") && !lines.contains("Zm9yZ2Vk"), "{lines}");
    }
    for claim in CLAIMS {
        let (name, value) = claim;
        let mut wire = clinic.wire(DOCTOR);
        wire.send(format!(
            "POST /open/x HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n{name}: {value}\r\n\r\n"
        ));
        let answer = wire.answer();
        assert_eq!(answer.status, 200, "{name}");
        let seen = clinic.backend().last();
        is_ours_alone(&seen, answer.field("x-request-id"));
        assert!(seen.trailers.is_empty(), "{name}: {:?}", seen.trailers);
    }
}

#[test]
fn c6_connection_takes_away_nothing_of_ours() {
    let clinic = Clinic::builder().start();
    let mut wire = clinic.wire(DOCTOR);
    for named in [
        "Sekisho-Identity",
        "client-cert, forwarded, x-request-id, SEKISHO-IDENTITY",
        "close, Sekisho-Identity",
        "keep-alive, host, content-length",
        ",,sekisho-identity,,",
    ] {
        let answer = wire.request("POST", "/open/x", &[("Connection", named)], b"12345");
        assert_eq!(answer.status, 200, "{named}");
        let seen = clinic.backend().last();
        is_ours_alone(&seen, answer.field("x-request-id"));
        assert_eq!(seen.body, b"12345", "{named}");
        if named.starts_with("close") {
            wire = clinic.wire(DOCTOR);
        }
    }
}

#[test]
fn fields_of_one_connection_stay_on_it() {
    let clinic = Clinic::builder().start();
    let mut wire = clinic.wire(DOCTOR);
    let fields = [
        ("Connection", "keep-alive, x-hop"),
        ("X-Hop", "gone"),
        ("Keep-Alive", "timeout=1, gone"),
        ("Proxy-Connection", "gone"),
        ("TE", "trailers, gone"),
        ("X-End", "stays"),
        ("Authorization", "Bearer stays"),
        ("Cookie", "stays=1"),
        ("Accept", "application/fhir+json"),
    ];
    assert_eq!(wire.request("GET", "/open/x", &fields, b"").status, 200);
    let seen = clinic.backend().last();
    assert!(!String::from_utf8_lossy(&seen.head).contains("gone"), "{seen:?}");
    assert_eq!(seen.values("x-end"), ["stays"]);
    assert_eq!(seen.values("authorization"), ["Bearer stays"]);
    assert_eq!(seen.values("cookie"), ["stays=1"]);
    assert_eq!(seen.values("accept"), ["application/fhir+json"]);
}

#[test]
fn the_backends_own_fields_of_one_connection_stay_on_it() {
    let clinic = Clinic::builder().start();
    clinic.backend().answers(|_| {
        Reply::raw(
            "HTTP/1.1 200 OK\r\nConnection: keep-alive, x-hop\r\nX-Hop: gone\r\nKeep-Alive: timeout=gone\r\n\
             Upgrade: gone\r\nProxy-Authenticate: gone\r\nSekisho-Identity: gone\r\nX-Request-Id: gone\r\n\
             X-End: stays\r\nContent-Length: 2\r\n\r\n{}",
        )
    });
    for answer in [clinic.wire(DOCTOR).get("/open/x"), clinic.h2(DOCTOR).get("/open/x").expect("an answer")] {
        assert_eq!(answer.status, 200);
        assert_eq!(answer.field("x-end"), "stays");
        assert_ne!(answer.field("x-request-id"), "");
        assert!(!format!("{answer:?}").contains("gone"), "{answer:?}");
    }
}

#[test]
fn the_backend_learns_who_asks() {
    let clinic = Clinic::builder().start();
    assert_eq!(clinic.wire(DOCTOR).get("/open/x").status, 200);
    let seen = clinic.backend().last();
    let claims = claims(&seen);
    assert_eq!((&claims["site"], &claims["user"]), (&"sakura-clinic".into(), &"dr-sato".into()), "{claims:#}");
    assert_eq!(claims["roles"], serde_json::json!(["doctor"]), "{claims:#}");
    let lifetime = claims["exp"].as_i64().zip(claims["iat"].as_i64()).map(|(end, start)| end - start);
    assert!(lifetime.is_some_and(|seconds| (1..=60).contains(&seconds)), "{claims:#}");
    // RFC 9440: the leaf's DER between colons.
    let leaf = clinic.identity(DOCTOR).chain().remove(0);
    assert_eq!(seen.values("client-cert"), [format!(":{}:", STANDARD.encode(&leaf))]);
    let (status, keys) = clinic.admin_get("/.well-known/sekisho/jwks.json");
    let keys: Value = serde_json::from_str(&keys).expect("JSON");
    assert_eq!((status, &keys["keys"][0]["crv"]), (200, &"P-256".into()), "{keys:#}");
    assert!(keys["keys"][0].get("d").is_none(), "the private key is out: {keys:#}");
}
