//! What the example shows: each scene is printed as a `curl` command and, with `--check`, really asked.

use policy::Refusal;

use super::cast;

/// One request and what is to come of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene {
    /// A few words, for a line of `--check`.
    pub(super) title: &'static str,
    /// What a person is to see in it.
    pub(super) story: &'static str,
    /// Site and device whose certificate is presented.
    pub(super) client: Option<(&'static str, &'static str)>,
    pub(super) method: &'static str,
    /// Path and query.
    pub(super) target: &'static str,
    /// A FHIR resource to send.
    pub(super) body: Option<&'static str>,
    pub(super) expected: Expected,
    /// Whether it is printed as a command; the others are for `--check` alone.
    pub(super) printed: bool,
}

/// What is to come of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// An answer of the backend.
    Answer(u16),
    /// A problem document (RFC 9457) of the gateway: 403 and its reason.
    Denied(Refusal),
    /// The handshake ends in a TLS alert.
    Alert(Refusal),
}

/// The patient of most scenes.
const PATIENT: &str = "/fhir/Patient/yamada-hanako";
const NOTE: &str = r#"{"resourceType":"Observation","status":"final","code":{"text":"体温"},"subject":{"reference":"Patient/yamada-hanako"},"valueQuantity":{"value":36.8,"unit":"Cel"}}"#;

const DOCTOR: (&str, &str) = ("sakura-clinic", "doctor-terminal");
const CLERK: (&str, &str) = ("sakura-clinic", "clerk-terminal");

/// In the order in which they are shown.
pub(super) const SCENES: &[Scene] = &[
    Scene {
        title: "permitted read",
        story: "A doctor reads a patient.",
        client: Some(DOCTOR),
        method: "GET",
        target: PATIENT,
        body: None,
        expected: Expected::Answer(200),
        printed: true,
    },
    Scene {
        title: "permitted search",
        story: "A doctor looks for the patient's findings.",
        client: Some(DOCTOR),
        method: "GET",
        target: "/fhir/Observation?patient=yamada-hanako",
        body: None,
        expected: Expected::Answer(200),
        printed: true,
    },
    Scene {
        title: "permitted create",
        story: "A doctor writes a finding.",
        client: Some(DOCTOR),
        method: "POST",
        target: "/fhir/Observation",
        body: Some(NOTE),
        expected: Expected::Answer(201),
        printed: false,
    },
    Scene {
        title: "nurse reads",
        story: "A nurse reads the patient.",
        client: Some(("sakura-clinic", "nurse-terminal")),
        method: "GET",
        target: PATIENT,
        body: None,
        expected: Expected::Answer(200),
        printed: false,
    },
    Scene {
        title: "pharmacist reads",
        story: "A pharmacist of the other clinic reads a prescription.",
        client: Some(("momiji-hospital", "pharmacy-terminal")),
        method: "GET",
        target: "/fhir/MedicationRequest/suzuki-ichiro-medication",
        body: None,
        expected: Expected::Answer(200),
        printed: false,
    },
    Scene {
        title: "clerk reads appointment",
        story: "A clerk reads an appointment, which is administrative.",
        client: Some(CLERK),
        method: "GET",
        target: "/fhir/Appointment/yamada-hanako-appointment",
        body: None,
        expected: Expected::Answer(200),
        printed: true,
    },
    Scene {
        title: "denied by role",
        story: "The same clerk asks for clinical data.",
        client: Some(CLERK),
        method: "GET",
        target: PATIENT,
        body: None,
        expected: Expected::Denied(Refusal::PolicyNoPermit),
        printed: true,
    },
    Scene {
        title: "denied by device",
        story: "The doctor again, from the kiosk at the reception.",
        client: Some(("sakura-clinic", "reception-kiosk")),
        method: "GET",
        target: PATIENT,
        body: None,
        expected: Expected::Denied(Refusal::PolicyForbid),
        printed: true,
    },
    Scene {
        title: "unregistered device",
        story: "A device of the right CA that nobody registered.",
        client: Some(cast::UNREGISTERED),
        method: "GET",
        target: PATIENT,
        body: None,
        expected: Expected::Alert(Refusal::DeviceUnregistered),
        printed: true,
    },
    Scene {
        title: "untrusted certificate",
        story: "The doctor's terminal, says a certificate of another CA.",
        client: Some(cast::STRANGER),
        method: "GET",
        target: PATIENT,
        body: None,
        expected: Expected::Alert(Refusal::CertificateUntrusted),
        printed: true,
    },
    Scene {
        title: "no certificate",
        story: "No certificate at all.",
        client: None,
        method: "GET",
        target: PATIENT,
        body: None,
        expected: Expected::Alert(Refusal::CertificateMissing),
        printed: true,
    },
];

#[cfg(test)]
#[path = "scene_tests.rs"]
mod tests;
