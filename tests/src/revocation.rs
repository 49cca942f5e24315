//! What promises about revocation have in common, whoever says that somebody is revoked.

use toml::{Table, Value};

use crate::audit::{is, text};
use crate::openssl::Ca;
use crate::{Clinic, Identity, Prepared, Wire, until};

/// A clinic whose devices are of this authority, with these settings of `listener.tls.revocation`.
///
/// # Panics
/// If they are no TOML.
pub fn prepare(ca: &Ca, revocation: &str) -> Prepared {
    let revocation: Table = revocation.parse().expect("TOML");
    let prepared = Clinic::builder()
        .device("sakura-clinic/ward-1", "ns-tanaka", "nurse")
        .config(|config| config.set_tls("revocation", Value::Table(revocation)))
        .prepare();
    prepared.write("tls/devices-ca.crt", ca.certificate_pem());
    prepared
}

/// A connection on which a request was answered.
///
/// # Panics
/// If it was not.
pub fn open(clinic: &Clinic, identity: &Identity) -> Wire {
    let mut wire = clinic.door.with(identity).open();
    assert_eq!(wire.get("/fhir/Patient/1").status, 200);
    wire
}

/// Expects a refusal for this reason, counted and recorded.
///
/// # Panics
/// If the device is let in.
pub fn is_refused(clinic: &Clinic, identity: &Identity, reason: &str) {
    let counted = || clinic.metric("sekisho_handshakes_total", &[("outcome", reason)]);
    let before = counted();
    let _ = clinic.door.with(identity).refused();
    until("the count", || (counted() > before).then_some(()));
    clinic.wait_for_record("the refusal", |record| is(record, "refusal") && text(record, "reason") == reason);
}

/// Expects a record of the connection's end with this cause.
///
/// # Panics
/// If the cause is another.
pub fn closed(clinic: &Clinic, wire: &Wire, cause: &str) {
    let closed = clinic.wait_for_record("the end", |record| {
        is(record, "connection-closed") && text(record, "connection.source") == wire.local().to_string()
    });
    assert_eq!(text(&closed, "cause"), cause, "{closed:#}");
}
