//! C7, C14: an identity provider's keys. They rotate without a restart, a flood of unknown names asks nobody, a restart does not
//! wait for the provider, and without keys, or with keys that are too old, nobody comes in.

use std::time::Duration;

use gateway_tests::idp::{Idp, claims};
use gateway_tests::{Clinic, DOCTOR, until, within};
use serde_json::json;

use crate::token_jwt::{ask, clinic, refused, wait_for_keys};

fn fetched(clinic: &Clinic, outcome: &str) -> f64 {
    clinic.metric("sekisho_token_key_fetches_total", &[("issuer", "idp"), ("outcome", outcome)])
}

/// Longer than any pause between two fetches in these tests, on a slow machine.
fn eventually(what: &str, seen: impl FnMut() -> Option<()>) {
    assert!(within(Duration::from_secs(60), seen).is_some(), "{what}");
}

#[test]
fn a_new_key_is_taken_and_an_old_one_goes() {
    let idp = Idp::start();
    let clinic = clinic(&idp, "refresh_s = 10").start();
    wait_for_keys(&clinic);
    let claims = claims("dr-sato", &clinic.identity(DOCTOR));
    let (old, new) = (idp.mint(&claims), idp.mint_by(&claims, "k2", "ES256", &json!({})));
    let mut wire = clinic.wire(DOCTOR);
    assert_eq!(ask(&mut wire, "/fhir/Patient/1", &old).status, 200);
    refused(&ask(&mut wire, "/fhir/Patient/1", &new), "token-invalid");
    idp.obey(&json!({"publish": ["k1", "k2"]}));
    eventually("the new key", || (ask(&mut wire, "/fhir/Patient/1", &new).status == 200).then_some(()));
    assert_eq!(ask(&mut wire, "/fhir/Patient/1", &old).status, 200, "both are good meanwhile");
    // What was verified by a key that the issuer withdrew is not good any more.
    idp.obey(&json!({"publish": ["k2"]}));
    eventually("the old key to go", || (ask(&mut wire, "/fhir/Patient/1", &old).status == 401).then_some(()));
    assert_eq!(ask(&mut wire, "/fhir/Patient/1", &new).status, 200);
}

#[test]
fn a_name_that_nobody_knows_asks_the_provider_and_a_flood_of_them_does_not() {
    let idp = Idp::start();
    let clinic = clinic(&idp, "refresh_s = 86400").start();
    wait_for_keys(&clinic);
    let claims = claims("dr-sato", &clinic.identity(DOCTOR));
    let mut wire = clinic.wire(DOCTOR);
    // No fetch is due for a day: only this request can bring the new key.
    idp.obey(&json!({"publish": ["k1", "k2"]}));
    let new = idp.mint_by(&claims, "k2", "ES256", &json!({}));
    eventually("the new key", || (ask(&mut wire, "/fhir/Patient/1", &new).status == 200).then_some(()));
    let (before, _) = idp.asked();
    assert!(before >= 2, "{before}");
    let begun = std::time::Instant::now();
    for number in 0..200 {
        let unknown = idp.mint_by(&claims, "k3", "ES256", &json!({"kid": format!("unknown-{number}")}));
        refused(&ask(&mut wire, "/fhir/Patient/1", &unknown), "token-invalid");
    }
    let most = 1 + begun.elapsed().as_secs() / 10;
    let (after, _) = idp.asked();
    assert!(after - before <= most, "200 unknown names asked {} times", after - before);
}

#[test]
fn without_keys_nobody_comes_in_and_a_restart_does_not_need_the_provider() {
    let idp = Idp::start();
    idp.obey(&json!({"jwks": 500}));
    let clinic = clinic(&idp, "").start();
    until("a fetch to fail", || (fetched(&clinic, "failed") >= 1.0).then_some(()));
    let claims = claims("dr-sato", &clinic.identity(DOCTOR));
    let token = idp.mint(&claims);
    let mut wire = clinic.wire(DOCTOR);
    let answer = ask(&mut wire, "/fhir/Patient/1", &token);
    assert_eq!((answer.status, answer.problem().as_str()), (503, "token-unavailable"));
    assert_eq!(clinic.wait_for_reasons(wire.local()), ["token-unavailable"]);
    // It is asked again by itself.
    idp.obey(&json!({"jwks": 200}));
    eventually("the keys", || (ask(&mut wire, "/fhir/Patient/1", &token).status == 200).then_some(()));

    idp.obey(&json!({"jwks": 500}));
    let kept = clinic.prepared.path("state/token-keys/idp.json");
    until("the keys on disk", || kept.exists().then_some(()));
    let clinic = clinic.stop().start();
    let mut claims = claims;
    claims["cnf"]["x5t#S256"] = gateway_tests::idp::thumbprint(&clinic.identity(DOCTOR)).into();
    let mut wire = clinic.wire(DOCTOR);
    assert_eq!(ask(&mut wire, "/fhir/Patient/1", &idp.mint(&claims)).status, 200, "by the keys on disk");

    // Keys that are too old to be believed are none.
    let prepared = clinic.stop();
    let text = std::fs::read_to_string(&kept).expect("the keys");
    let mut old: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    old["fetched_at"] = 1_000_000_000.into();
    prepared.write("state/token-keys/idp.json", old.to_string());
    let clinic = prepared.start();
    claims["cnf"]["x5t#S256"] = gateway_tests::idp::thumbprint(&clinic.identity(DOCTOR)).into();
    let answer = ask(&mut clinic.wire(DOCTOR), "/fhir/Patient/1", &idp.mint(&claims));
    assert_eq!((answer.status, answer.problem().as_str()), (503, "token-unavailable"));
    assert_eq!(clinic.metric("sekisho_token_keys_available", &[("issuer", "idp")]), 0.0);
}

/// Over TLS by pinned authorities, from a file that is followed, and not at all where that says nonsense.
#[test]
fn keys_come_over_tls_by_pinned_authorities_or_from_a_file_that_is_followed() {
    let files = tempfile::tempdir().expect("a folder");
    let pki = gateway_tests::Pki::new();
    let server = pki.server(&["localhost"]);
    let file = |name: &str, content: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, content).expect("a file");
        path
    };
    let idp = Idp::with_tls(&file("idp.crt", &server.certificate_pem), &file("idp.key", &server.key_pem));
    let url = format!("jwks_uri = \"http://127.0.0.1:{}/jwks?v=1\"", idp.port);
    let secure = |ca: &str| {
        let to = format!("jwks_uri = \"https://localhost:{}/jwks\"\nca_file = \"{ca}\"", idp.port);
        format!("{}\n", idp.by_keys().replace(&url, &to))
    };
    let mut clinic = clinic(&idp, "").prepare();
    clinic.write("tls/idp-ca.crt", pki.servers_ca_pem());
    clinic.reconfigure(|config| {
        config.clear_appended();
        // The gateway's own servers' authority is another.
        config.append(&secure("tls/servers-ca.crt"));
    });
    let mut clinic = clinic.start();
    until("a fetch to fail", || (fetched(&clinic, "failed") >= 1.0).then_some(()));
    assert_eq!(idp.asked().0, 0, "a server that nobody vouches for hears nothing");
    clinic.reconfigure(|config| {
        config.clear_appended();
        config.append(&secure("tls/idp-ca.crt"));
    });
    assert!(clinic.reload());
    wait_for_keys(&clinic);
    let claims = claims("dr-sato", &clinic.identity(DOCTOR));
    let (one, two) = (idp.mint(&claims), idp.mint_by(&claims, "k2", "ES256", &json!({})));
    let mut wire = clinic.wire(DOCTOR);
    assert_eq!(ask(&mut wire, "/fhir/Patient/1", &one).status, 200);

    // The same keys from a file.
    let kept: serde_json::Value =
        serde_json::from_slice(&std::fs::read(clinic.prepared.path("state/token-keys/idp.json")).expect("kept keys"))
            .expect("JSON");
    let jwks = kept["jwks"].as_str().expect("a set").to_owned();
    clinic.prepared.write("idp.jwks.json", &jwks);
    clinic.reconfigure(|config| {
        config.clear_appended();
        config.append(&format!("{}\n", idp.by_keys().replace(&url, "jwks_file = \"idp.jwks.json\"")));
    });
    assert!(clinic.reload());
    assert_eq!(ask(&mut wire, "/fhir/Patient/1", &one).status, 200);
    refused(&ask(&mut wire, "/fhir/Patient/1", &two), "token-invalid");
    // A damaged file changes nothing, and refuses a reload whole.
    clinic.prepared.write("idp.jwks.json", "{}");
    assert!(!clinic.reload(), "no configuration with a file that cannot be used is taken");
    assert_eq!(ask(&mut wire, "/fhir/Patient/1", &one).status, 200);
    clinic.prepared.write("idp.jwks.json", jwks.replace("\"k1\"", "\"k2\""));
    until("the file to be taken", || (ask(&mut wire, "/fhir/Patient/1", &one).status == 401).then_some(()));
}
