//! R1, R9, R12, C14: tokens of an identity provider, made by a foreign implementation. Whoever a token names asks, for as long as
//! the registry takes that user; a token is its device's alone; and what is not one of the issuer's for this gateway is refused.

use std::time::Duration;

use gateway_tests::audit::{is, text};
use gateway_tests::idp::{Idp, claims, now};
use gateway_tests::{Answer, Builder, Clinic, DOCTOR, Ended, PATIENCE, Reply, Wire, until, within};
use serde_json::{Value, json};

/// A second terminal of the doctor's clinic, without a user, and one of another clinic.
pub const WARD: &str = "sakura-clinic/ward-1";
pub const ELSEWHERE: &str = "ume-clinic/exam-1";

/// `/fhir` wants a token, `/appointments` takes one and hands it on, `/open` knows nothing of tokens.
const ROUTES: &str = r#"
[[route]]
name = "fhir"
path = "/fhir"
service = "clinical"
class = "clinical"
kind = "fhir"
token = { issuers = ["idp"] }
[[route]]
name = "appointments"
path = "/appointments"
service = "clinical"
class = "administrative"
kind = "fhir"
token = { issuers = ["idp"], required = false, forward = true }
[[route]]
name = "open"
path = "/open"
service = "clinical"
class = "clinical"
kind = "generic"
rules = [{ methods = ["GET"], path = "/**", action = "read", effect = "read-only" }]
"#;

/// Who may read: doctors and nurses. Observations want two factors.
const POLICY: &str = r#"
@id("readers")
permit(principal in Sekisho::Role::"doctor", action, resource);
@id("nurses")
permit(principal in Sekisho::Role::"nurse", action == Sekisho::Action::"read", resource);
@id("kiosks")
permit(principal in Sekisho::Role::"kiosk", action, resource in Sekisho::InformationClass::"administrative");
@id("two-factors")
forbid(principal, action, resource)
when { context has resource_type && context.resource_type == "Observation" }
unless { context.authentication_level >= 3 };
"#;

/// A clinic whose routes take tokens of the provider; `more` are lines of its `[[token_issuer]]`.
pub fn clinic(idp: &Idp, more: &str) -> Builder {
    let builder = Clinic::builder()
        .device_alone(WARD, &["kiosk"])
        .device(ELSEWHERE, "dr-ito", "doctor")
        .policy("token.cedar", POLICY);
    let issuer = format!("{}{more}\n", idp.by_keys());
    builder.config(|config| {
        config.set_routes(ROUTES);
        config.append(&issuer);
    })
}

/// The provider's keys are there.
pub fn wait_for_keys(clinic: &Clinic) {
    until("the provider's keys", || {
        (clinic.metric("sekisho_token_keys_available", &[("issuer", "idp")]) > 0.0).then_some(())
    });
}

pub fn ask(wire: &mut Wire, target: &str, token: &str) -> Answer {
    wire.request("GET", target, &[("Authorization", &format!("Bearer {token}"))], b"")
}

/// A 401 by RFC 6750.
pub fn refused(answer: &Answer, label: &str) {
    assert_eq!((answer.status, answer.problem().as_str()), (401, label), "{answer:?}");
    assert_eq!(answer.field("www-authenticate"), "Bearer error=\"invalid_token\"");
}

fn add_nurse(clinic: &Clinic) {
    clinic.registry(&["user", "add", "sakura-clinic/suzuki", "--role", "nurse"]);
    until("the nurse to be known", || {
        (clinic.metric("sekisho_registry_entries", &[("kind", "user"), ("status", "active")]) >= 3.0).then_some(())
    });
}

#[test]
fn whoever_the_token_names_asks() {
    let idp = Idp::start();
    let clinic = clinic(&idp, "two_factor_amr = [\"otp\"]").start();
    wait_for_keys(&clinic);
    add_nurse(&clinic);
    let identity = clinic.identity(WARD);
    let token = idp.mint(&claims("suzuki", &identity));
    let mut wire = clinic.wire(WARD);

    let missing = wire.get("/fhir/Patient/1");
    assert_eq!((missing.status, missing.problem().as_str()), (401, "token-missing"));
    assert_eq!(missing.field("www-authenticate"), "Bearer");
    assert_eq!(ask(&mut wire, "/fhir/Patient/1", &token).status, 200);
    assert!(clinic.backend().last().values("authorization").is_empty(), "the backend gets no token");
    let record =
        clinic.wait_for_record("the nurse", |record| is(record, "request") && text(record, "user") == "suzuki");
    assert_eq!((text(&record, "connection.device"), text(&record, "authentication")), ("ward-1", "user"), "{record}");
    assert_eq!(record["roles"], json!(["kiosk", "nurse"]), "those of the registry, and the device's own");

    // Step-up is the policy's to ask for.
    let answer = ask(&mut wire, "/fhir/Observation/1", &token);
    assert_eq!((answer.status, answer.problem().as_str()), (401, "step-up-required"), "{answer:?}");
    let mut strong = claims("suzuki", &identity);
    strong["amr"] = json!(["pwd", "otp"]);
    assert_eq!(ask(&mut wire, "/fhir/Observation/1", &idp.mint(&strong)).status, 200);
    clinic.wait_for_record("two factors", |record| text(record, "authentication") == "two-factor");

    // In place of the user whom the device is assigned to: the doctor's terminal gives a nurse no more.
    let doctors = clinic.identity(DOCTOR);
    let mut exam = clinic.wire(DOCTOR);
    let token = idp.mint(&claims("suzuki", &doctors));
    let fields = [("Authorization", format!("Bearer {token}"))];
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let body = br#"{"resourceType":"Patient"}"#;
    let create = exam.request(
        "POST",
        "/fhir/Patient",
        &[&fields[..], &[("Content-Type", "application/fhir+json")]].concat(),
        body,
    );
    assert_eq!((create.status, create.problem().as_str()), (403, "policy-no-permit"));

    // Where the route leaves the choice: without a token the device asks, with one the user does, and the backend gets it.
    assert_eq!(wire.get("/appointments/Slot/1").status, 200);
    clinic
        .wait_for_record("the kiosk", |record| text(record, "route") == "appointments" && record.get("user").is_none());
    let token = idp.mint(&claims("suzuki", &identity));
    assert_eq!(ask(&mut wire, "/appointments/Slot/2", &token).status, 200);
    assert_eq!(clinic.backend().last().values("authorization"), [format!("Bearer {token}")]);
    // A route that takes none leaves the header alone.
    assert_eq!(exam.request("GET", "/open/x", &[("Authorization", "Bearer what-ever")], b"").status, 200);
    assert_eq!(clinic.backend().last().values("authorization"), ["Bearer what-ever"]);
}

#[test]
fn attacks_on_tokens_are_refused_and_recorded() {
    let idp = Idp::start();
    idp.obey(&json!({"publish": ["k1", "rsa1", "ed1"]}));
    let clinic = clinic(&idp, "").start();
    wait_for_keys(&clinic);
    let identity = clinic.identity(DOCTOR);
    let good = claims("dr-sato", &identity);
    let with = |claim: &str, value: Value| {
        let mut claims = good.clone();
        claims[claim] = value;
        idp.mint(&claims)
    };
    let none = json!({});
    let mut wire = clinic.wire(DOCTOR);
    for (key, algorithm) in [("k1", "ES256"), ("rsa1", "RS256"), ("ed1", "EdDSA")] {
        let token = idp.mint_by(&good, key, algorithm, &none);
        assert_eq!(ask(&mut wire, "/fhir/Patient/1", &token).status, 200, "{algorithm}");
    }
    let whole = idp.mint(&good);
    let (message, signature) = whole.rsplit_once('.').expect("a signature");
    let mut elsewhere = claims("dr-sato", &clinic.identity(ELSEWHERE));
    elsewhere["jti"] = "2".into();
    let unbound = {
        let mut claims = good.clone();
        claims.as_object_mut().expect("claims").remove("cnf");
        idp.mint(&claims)
    };
    let mut expected = Vec::new();
    for (what, token, label) in [
        ("none", idp.mint_by(&good, "k1", "none", &none), "token-invalid"),
        ("the public key as a secret", idp.mint_by(&good, "rsa1", "HS256", &none), "token-invalid"),
        ("PSS, which is not listed", idp.mint_by(&good, "rsa1", "PS256", &none), "token-invalid"),
        ("a key that is not published", idp.mint_by(&good, "k9", "ES256", &none), "token-invalid"),
        ("crit", idp.mint_by(&good, "k1", "ES256", &json!({"crit": ["x"], "x": 1})), "token-invalid"),
        ("jku", idp.mint_by(&good, "k1", "ES256", &json!({"jku": "http://127.0.0.1:1/"})), "token-invalid"),
        ("an ID token's type", idp.mint_by(&good, "k1", "ES256", &json!({"typ": "JWT"})), "token-invalid"),
        ("another audience", with("aud", json!("other")), "token-invalid"),
        ("another issuer", with("iss", json!("https://evil.test")), "token-invalid"),
        ("expired", with("exp", json!(now() - 1)), "token-expired"),
        ("not yet", with("nbf", json!(now() + 400)), "token-invalid"),
        ("of another device", idp.mint(&elsewhere), "token-not-bound"),
        ("of no device", unbound, "token-not-bound"),
        ("a truncated signature", format!("{message}.{}", signature.split_at(40).0), "token-invalid"),
        ("no signature", format!("{message}."), "token-invalid"),
        ("an opaque one", "b64token".to_owned(), "token-invalid"),
        ("a huge one", "x".repeat(17_000), "token-invalid"),
    ] {
        let answer = ask(&mut wire, "/fhir/Patient/2", &token);
        assert_eq!((answer.status, answer.problem().as_str()), (401, label), "{what}");
        refused(&answer, label);
        expected.push(label);
    }
    assert_eq!(clinic.reasons_of(wire.local()), expected, "each has its record");
    // Somebody whom the registry does not know, and two headers, are refused in other words.
    let stranger = ask(&mut wire, "/fhir/Patient/2", &idp.mint(&claims("nobody", &identity)));
    assert_eq!((stranger.status, stranger.problem().as_str()), (403, "user-unregistered"));
    let bearer = format!("Bearer {whole}");
    let twice =
        wire.request("GET", "/fhir/Patient/2", &[("Authorization", &bearer), ("Authorization", "Basic eDp5")], b"");
    assert_eq!((twice.status, twice.problem().as_str()), (400, "request-ambiguous"));
    let query = wire.get(&format!("/fhir/Patient/2?access_token={whole}"));
    refused(&query, "token-invalid");
    assert_eq!(clinic.backend().seen().len(), 3, "none of it reached the backend");

    // No token, nor a part of one, is in the log or in what the gateway says.
    let said = clinic.gateway.said();
    for part in [message, signature] {
        assert!(!said.contains(part));
        assert!(!clinic.records().iter().any(|record| record.to_string().contains(part)));
    }
}

#[test]
fn a_user_of_one_clinic_is_not_taken_for_one_of_another() {
    let idp = Idp::start();
    let clinic = clinic(&idp, "").config(|config| {
        let issuer = format!("{}\n", idp.by_keys().replace("sites = [\"*\"]", "site_claim = \"/sites\""));
        config.clear_appended();
        config.append(&issuer);
    });
    let clinic = clinic.start();
    wait_for_keys(&clinic);
    // Somebody else of the same name.
    clinic.registry(&["user", "add", "ume-clinic/dr-sato", "--role", "doctor"]);
    for (device, status) in [(DOCTOR, 200), (ELSEWHERE, 401)] {
        let mut claims = claims("dr-sato", &clinic.identity(device));
        claims["sites"] = json!(["sakura-clinic", "matsu-clinic"]);
        let answer = ask(&mut clinic.wire(device), "/fhir/Patient/1", &idp.mint(&claims));
        assert_eq!(answer.status, status, "{device}: {answer:?}");
    }
}

#[test]
fn roles_are_those_of_the_registry_unless_the_operator_maps_them() {
    let idp = Idp::start();
    let mut clinic = clinic(&idp, "role_claims = [\"/realm_access/roles\"]").start();
    wait_for_keys(&clinic);
    add_nurse(&clinic);
    let identity = clinic.identity(WARD);
    let mut wire = clinic.wire(WARD);
    let mut number = 0;
    let mut roles = |wire: &mut Wire, roles: Value| {
        number += 1;
        let mut claims = claims("suzuki", &identity);
        claims["realm_access"] = json!({"roles": roles});
        let target = format!("/fhir/Patient/role-{number}");
        let answer = ask(wire, &target, &idp.mint(&claims));
        let record = clinic.wait_for_record("the request", |record| text(record, "target") == target);
        (answer.status, record["roles"].clone())
    };
    assert_eq!(roles(&mut wire, json!(["doctor", "nurse"])), (200, json!(["kiosk", "nurse"])), "never more");
    assert_eq!(roles(&mut wire, json!(["doctor"])), (403, json!(["kiosk"])), "and less, if the token says less");
    clinic.reconfigure(|config| {
        config.clear_appended();
        config.append(&format!(
            "{}role_claims = [\"/realm_access/roles\"]\nroles = [{{ claim = \"DOC\", role = \"doctor\" }}]\n",
            idp.by_keys()
        ));
    });
    assert!(clinic.reload());
    wait_for_keys(&clinic);
    let mut claims = claims("suzuki", &identity);
    claims["realm_access"] = json!({"roles": ["DOC", "clerk"]});
    assert_eq!(ask(&mut wire, "/fhir/Patient/mapped", &idp.mint(&claims)).status, 200);
    let record = clinic.wait_for_record("the mapped", |record| text(record, "target") == "/fhir/Patient/mapped");
    assert_eq!(record["roles"], json!(["doctor", "kiosk", "nurse"]));
}

/// R27: a token is no way around the registry, whatever its time, and a request under way is ended.
#[test]
fn a_suspended_user_is_out_at_once_whatever_the_token_says() {
    let idp = Idp::start();
    let clinic = clinic(&idp, "").start();
    wait_for_keys(&clinic);
    add_nurse(&clinic);
    let token = idp.mint(&claims("suzuki", &clinic.identity(WARD)));
    let mut idle = clinic.wire(WARD);
    assert_eq!(ask(&mut idle, "/fhir/Patient/1", &token).status, 200);
    // A long answer is on its way when the user goes.
    clinic.backend().answers(|_| Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbegun"));
    let mut busy = clinic.wire(WARD);
    busy.set_patience(PATIENCE);
    busy.send_request("GET", "/fhir/Patient/long", &[("Authorization", &format!("Bearer {token}"))], b"");
    assert!(busy.reads_until(b"begun"));
    clinic.registry(&["user", "suspend", "sakura-clinic/suzuki"]);
    assert!(matches!(busy.closes(), Ended::Closed | Ended::Torn(_)), "the request under way is ended");
    clinic.backend().answers(|_| Reply::new(200, "again"));
    let answer = ask(&mut idle, "/fhir/Patient/2", &token);
    assert_eq!((answer.status, answer.problem().as_str()), (403, "user-suspended"));
    assert_eq!(idle.get("/appointments/Slot/1").status, 200, "the device is still its own");
    let end = clinic.wait_for_record("its end", |record| is(record, "completion") && text(record, "end") == "revoked");
    assert!(end.get("request").is_some());
    clinic.registry(&["user", "resume", "sakura-clinic/suzuki"]);
    until("the nurse to be back", || (ask(&mut idle, "/fhir/Patient/3", &token).status == 200).then_some(()));
}

/// A token that was good is good no longer than it says, though it is remembered.
#[test]
fn a_token_that_is_remembered_still_ends() {
    let idp = Idp::start();
    let clinic = clinic(&idp, "").start();
    wait_for_keys(&clinic);
    let mut claims = claims("dr-sato", &clinic.identity(DOCTOR));
    let mut wire = clinic.wire(DOCTOR);
    // The clocks of machines without a keeper are off by up to 16 s, for all that they say; and a machine may pause before the
    // token is shown.
    let good = (0..10).find_map(|_| {
        claims["exp"] = json!(now() + 40);
        let token = idp.mint(&claims);
        let answer = ask(&mut wire, "/fhir/Patient/1", &token);
        let is_late = answer.status != 200 && now() >= claims["exp"].as_i64().expect("a date") - 17;
        assert!(answer.status == 200 || is_late, "{answer:?}");
        (!is_late).then_some(token)
    });
    let token = good.expect("once in ten times the machine does not pause");
    let ended = within(Duration::from_secs(90), || {
        let answer = ask(&mut wire, "/fhir/Patient/1", &token);
        std::thread::sleep(Duration::from_millis(100));
        (answer.status != 200).then_some(answer)
    });
    refused(&ended.expect("the token ends"), "token-expired");
    // Not before its time by more than a clock without a keeper may be off, and not after it but for the machine's slowness.
    assert!(now() >= claims["exp"].as_i64().expect("a date") - 17);
}

#[test]
fn a_token_counts_over_http2_as_it_does_over_http1() {
    let idp = Idp::start();
    let clinic = clinic(&idp, "").start();
    wait_for_keys(&clinic);
    let bearer = format!("Bearer {}", idp.mint(&claims("dr-sato", &clinic.identity(DOCTOR))));
    let ask = |device: &str, fields: &[(&str, &str)]| {
        clinic.h2(device).request("GET", "/fhir/Patient/1", fields, b"").expect("an answer")
    };
    let answer = ask(DOCTOR, &[("authorization", &bearer)]);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(clinic.backend().last().values("authorization").is_empty(), "the backend gets no token");
    let id = answer.field("x-request-id").to_owned();
    let record = clinic.wait_for_record("the request", |record| text(record, "request") == id);
    assert_eq!(text(&record, "user"), "dr-sato", "{record}");
    let changed = format!("{bearer}AAAA");
    for (device, fields, status, label) in [
        (ELSEWHERE, &[("authorization", &*bearer)][..], 401, "token-not-bound"),
        (DOCTOR, &[("authorization", &*changed)], 401, "token-invalid"),
        (DOCTOR, &[("authorization", &*bearer), ("authorization", &*bearer)], 400, "request-ambiguous"),
        (DOCTOR, &[], 401, "token-missing"),
    ] {
        let answer = ask(device, fields);
        assert_eq!((answer.status, &*answer.problem()), (status, label), "{answer:?}");
    }
}
