//! Old protocols for some sites alone (R15, R21). Who still needs them, [`crate::audit_query`] asks.

use gateway_tests::audit::{is, text};
use gateway_tests::{Clinic, DOCTOR};

const OLD: &str = "aoi-clinic/old-xray";

#[test]
fn tls12_is_for_the_sites_that_are_named() {
    let mut clinic = Clinic::builder()
        .device(OLD, "dr-ito", "doctor")
        .config(|config| {
            config.set_tls("profile", "cryptrec-high-tls12");
            config.set_tls("tls12_sites", vec!["aoi-clinic".to_owned()]);
        })
        .start();
    let mut old = clinic.handshake(OLD).tls12().open();
    assert_eq!(old.get("/open/x").status, 200);
    assert_eq!(clinic.wire(DOCTOR).get("/open/x").status, 200);
    let refused = |site: &str| {
        clinic.wait_for_record("the refusal", |record| {
            is(record, "refusal") && text(record, "reason") == "protocol-too-old" && text(record, "site") == site
        });
    };
    let requests = clinic.backend().seen().len();
    let mut other = clinic.handshake(DOCTOR).tls12().open();
    other.send_request("GET", "/open/x", &[], b"");
    assert!(other.try_answer().is_err(), "it is answered");
    refused("sakura-clinic");
    assert_eq!(clinic.backend().seen().len(), requests);
    // A reload that takes the site out ends what lives.
    clinic.reconfigure(|config| config.set_tls("tls12_sites", vec!["sakura-clinic".to_owned()]));
    assert!(clinic.reload());
    let _ = old.closes();
    let record = clinic.wait_for_record("the end", |record| {
        is(record, "connection-closed")
            && text(record, "cause") == "protocol-too-old"
            && record["connection"]["site"] == "aoi-clinic"
    });
    assert_eq!(record["connection"]["tls"]["version"], "1.2");
}
