//! R1, R9, R10: users log in at a real OpenID provider in a real browser, with the gateway's own key as a client, and out again: here,
//! and at the provider behind the browser's back.

use std::process::Command;

use gateway_tests::oidc::OidcProvider;
use gateway_tests::{DOCTOR, repository};
use serde_json::{Value, json};

use crate::account::Browser;
use crate::oidc_attacks::{clinic, start, wait_for_keys};

#[test]
fn a_person_logs_in_at_a_provider_and_out_again_in_a_real_browser() {
    let mut provider = OidcProvider::start();
    let keyed = |folder: &std::path::Path| {
        let key = folder.join("client.key");
        let made = Command::new("openssl")
            .args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"])
            .arg(&key)
            .status()
            .expect("openssl");
        assert!(made.success());
        key
    };
    let folder = tempfile::tempdir().expect("a folder");
    let key = keyed(folder.path());
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its mode");
    let key = key.to_str().expect("UTF-8").to_owned();
    // Before the gateway asks for anything, the provider must be there: it knows no client yet.
    provider.configure(&json!([]));
    let clinic = start(clinic(), &provider.issuer(), &format!("key_file = \"{key}\"\ntwo_factor_amr = [\"mfa\"]"));
    let browser = Browser::new(&clinic, DOCTOR);
    let (origin, back_channel) = (browser.origin(), clinic.door_of("back_channel").address);
    let jwks = Command::new("curl")
        .args(["-sS", "--max-time", "100", &format!("http://{back_channel}/.sekisho/oidc/idp/jwks.json")])
        .output()
        .expect("curl");
    let jwks: Value = serde_json::from_slice(&jwks.stdout).expect("a JWK set");
    provider.configure(&json!([{
        "client_id": "gateway", "token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "ES256",
        "jwks": jwks, "id_token_signed_response_alg": "ES256", "require_auth_time": true,
        "redirect_uris": [format!("{origin}/.sekisho/oidc/idp/callback")], "response_types": ["code"],
        "grant_types": ["authorization_code"],
        "post_logout_redirect_uris": [format!("{origin}/.sekisho/oidc/idp/logged-out")],
        "backchannel_logout_uri": format!("http://{back_channel}/.sekisho/oidc/idp/backchannel-logout"),
        "backchannel_logout_session_required": true,
    }]));
    wait_for_keys(&clinic);
    let output = Command::new(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into()))
        .arg(repository().join("tests/oidc_page.py"))
        .args([&origin, &browser.files[0], &browser.files[1], &provider.issuer()])
        .output()
        .expect("python3");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}\n{said}\nThe gateway said:\n{}", clinic.gateway.said());
    let begun: Vec<Value> =
        clinic.records().into_iter().filter(|record| gateway_tests::audit::is(record, "session")).collect();
    let events: Vec<&str> = begun.iter().map(|record| gateway_tests::audit::text(record, "event")).collect();
    assert!(events.iter().filter(|event| **event == "begun").count() >= 2, "{begun:?}");
    let seen = clinic.backend().last();
    assert!(seen.values("cookie").iter().all(|cookie| !cookie.contains("__Host-sekisho")), "{seen:?}");
}
