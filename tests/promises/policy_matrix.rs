//! Every role × action × class of information of the example policies, over real requests (R2, R4). The table is what
//! the policies' prose says, written down by hand.

use gateway_tests::audit::text;
use gateway_tests::{Answer, Builder, Clinic, DOCTOR, Wire};

const NURSE: &str = "sakura-clinic/ward-1";
const PHARMACIST: &str = "sakura-clinic/pharmacy-1";
const CLERK: &str = "sakura-clinic/desk-1";
const KIOSK: &str = "sakura-clinic/kiosk-1";
const MONITOR: &str = "sakura-clinic/monitor-1";
const SPARE: &str = "sakura-clinic/spare-1";
const WARD: &str = "momiji-hospital/ward-3";

const CLASSES: [&str; 4] = ["clinical", "medication", "administrative", "research"];
/// Each action with the method that stands for it in [`routes`].
const ACTIONS: [(&str, &str); 8] = [
    ("connect", "GET"),
    ("read", "GET"),
    ("search", "GET"),
    ("create", "POST"),
    ("update", "PUT"),
    ("delete", "DELETE"),
    ("operate", "POST"),
    ("login", "POST"),
];

/// What is expected of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// It passes.
    Permit,
    /// No policy permits it.
    No,
    /// A policy forbids it.
    Forbid,
    /// It passes in the office hours of clerks, and is forbidden at other times.
    Hours,
}

use Expected::{Forbid as F, Hours as H, No as N, Permit as P};

/// Rows are classes, columns actions, in the order of the constants above. An unlocked terminal is not enough to
/// delete (`delete-needs-login`), and nobody has logged in yet: where a delete would be permitted it is forbidden,
/// and where it would not be, it is forbidden all the same. Logging in is open to the four professions.
#[rustfmt::skip]
const MATRIX: &[(&str, [[Expected; 8]; 4])] = &[
    //              connect read search create update delete operate login
    (DOCTOR,     [[ P,      P,   P,     P,     P,     F,     P,      P ],    // clinical
                  [ N,      P,   P,     P,     P,     F,     N,      P ],    // medication
                  [ N,      P,   P,     N,     N,     F,     N,      P ],    // administrative
                  [ N,      N,   N,     N,     N,     F,     N,      P ]]),  // research
    (NURSE,      [[ P,      P,   P,     N,     N,     F,     N,      P ],
                  [ N,      P,   P,     N,     N,     F,     N,      P ],
                  [ N,      N,   N,     N,     N,     F,     N,      P ],
                  [ N,      N,   N,     N,     N,     F,     N,      P ]]),
    (PHARMACIST, [[ N,      P,   N,     N,     N,     F,     N,      P ],
                  [ N,      P,   P,     P,     P,     F,     N,      P ],
                  [ N,      N,   N,     N,     N,     F,     N,      P ],
                  [ N,      N,   N,     N,     N,     F,     N,      P ]]),
    (CLERK,      [[ N,      N,   N,     H_N,   H_N,   F,     N,      P ],
                  [ N,      N,   N,     H_N,   H_N,   F,     N,      P ],
                  [ P,      P,   P,     H,     H,     F,     N,      P ],
                  [ N,      N,   N,     H_N,   H_N,   F,     N,      P ]]),
    // A clerk at a kiosk: what a clerk may, and of that the administrative alone.
    (KIOSK,      [[ F,      F,   F,     F,     F,     F,     F,      F ],
                  [ F,      F,   F,     F,     F,     F,     F,      F ],
                  [ P,      P,   P,     H,     H,     F,     N,      P ],
                  [ F,      F,   F,     F,     F,     F,     F,      F ]]),
    // A monitor without a user, in the role of a nurse.
    (MONITOR,    [[ P,      P,   P,     N,     N,     F,     N,      P ],
                  [ N,      P,   P,     N,     N,     F,     N,      P ],
                  [ N,      N,   N,     N,     N,     F,     N,      P ],
                  [ N,      N,   N,     N,     N,     F,     N,      P ]]),
    // Registered, and nothing else: no role, no right.
    (SPARE,      [[ N,      N,   N,     N,     N,     F,     N,      N ],
                  [ N,      N,   N,     N,     N,     F,     N,      N ],
                  [ N,      N,   N,     N,     N,     F,     N,      N ],
                  [ N,      N,   N,     N,     N,     F,     N,      N ]]),
    // The hospital's doctor; loopback counts as within the hospital.
    (WARD,       [[ P,      P,   P,     P,     P,     F,     P,      P ],
                  [ N,      P,   P,     P,     P,     F,     N,      P ],
                  [ N,      P,   P,     N,     N,     F,     N,      P ],
                  [ N,      N,   N,     N,     N,     F,     N,      P ]]),
];

/// A clerk who writes what clerks may not write is refused by nobody's permit, and at night by the hours as well:
/// either way it does not pass.
const H_N: Expected = Expected::No;

/// A route for each class, with a path for each action; and the three FHIR services of the clinic.
fn routes() -> String {
    let mut routes = String::new();
    for class in CLASSES {
        routes.push_str(&format!(
            "[[route]]\nname = \"matrix-{class}\"\npath = \"/matrix/{class}\"\nservice = \"clinical\"\nclass = \"{class}\"\n\
             kind = \"generic\"\nrules = [\n"
        ));
        for (action, method) in ACTIONS {
            routes
                .push_str(&format!("  {{ methods = [\"{method}\"], path = \"/{action}\", action = \"{action}\" }},\n"));
        }
        routes.push_str("]\n");
    }
    for (path, class) in [("fhir", "clinical"), ("medication", "medication"), ("appointments", "administrative")] {
        routes.push_str(&format!(
            "[[route]]\nname = \"{path}\"\npath = \"/{path}\"\nservice = \"clinical\"\nclass = \"{class}\"\nkind = \"fhir\"\n"
        ));
    }
    routes
}

fn staff() -> Builder {
    Clinic::builder()
        .device(NURSE, "ns-tanaka", "nurse")
        .device(PHARMACIST, "ph-suzuki", "pharmacist")
        .device(CLERK, "ck-yamada", "clerk")
        .device_alone(MONITOR, &["nurse"])
        .device_alone(SPARE, &[])
        .device_alone(KIOSK, &["kiosk", "clerk"])
        .device(WARD, "dr-ito", "doctor")
        .config(|config| config.set_routes(&routes()))
}

/// Whether clerks may book at this moment: Monday to Saturday, 7 to 21 o'clock in Japan.
fn clerks_work() -> bool {
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let here = unix + 9 * 3_600;
    // The first day of 1970 was a Thursday.
    let weekday = (here / 86_400 + 3) % 7 + 1;
    let hour = here / 3_600 % 24;
    weekday != 7 && (7..21).contains(&hour)
}

/// Asks, and says what was expected at that moment. Asks again if the hour struck in between.
fn ask(expected: Expected, mut request: impl FnMut() -> Answer) -> (Expected, Answer) {
    loop {
        let before = clerks_work();
        let answer = request();
        if before == clerks_work() {
            let now = match expected {
                Expected::Hours if before => Expected::Permit,
                Expected::Hours => Expected::Forbid,
                other => other,
            };
            return (now, answer);
        }
    }
}

/// Expects the answer and the record to say the same.
fn agrees(clinic: &Clinic, wire: &Wire, what: &str, expected: Expected, answer: &Answer) {
    let asked = clinic.asked_by(wire);
    let record = asked.last().expect("a record");
    match expected {
        Expected::Permit => {
            assert_eq!(answer.status, 200, "{what}: {answer:?}");
            assert_eq!(text(record, "decision"), "permit", "{what}: {record:#}");
            assert!(record["policies"].as_array().is_some_and(|policies| !policies.is_empty()), "{what}: {record:#}");
        }
        _ => {
            assert_eq!(answer.status, 403, "{what}: {answer:?}");
            assert_eq!(text(record, "decision"), "deny", "{what}: {record:#}");
            assert_eq!(text(record, "reason"), answer.problem(), "{what}: {record:#}");
            let is_forbidden = answer.problem() == "policy-forbid";
            let at_night = !clerks_work();
            let fits = match expected {
                Expected::Forbid => is_forbidden,
                // Beside their lack of a permit, clerks have hours.
                _ => !is_forbidden || (at_night && what.contains("desk-1")),
            };
            assert!(fits, "{what}: {record:#}");
        }
    }
}

#[test]
fn every_role_action_and_class() {
    let clinic = staff().start();
    let mut permitted = 0;
    for (device, classes) in MATRIX {
        let mut wire = clinic.wire(device);
        for (class, actions) in CLASSES.iter().zip(classes) {
            for ((action, method), expected) in ACTIONS.iter().zip(actions) {
                let target = format!("/matrix/{class}/{action}");
                let what = format!("{device}: {action} {class}");
                let (expected, answer) = ask(*expected, || wire.request(method, &target, &[], b""));
                agrees(&clinic, &wire, &what, expected, &answer);
                permitted += usize::from(answer.status == 200);
            }
        }
        for record in clinic.asked_by(&wire) {
            assert!(text(&record, "target").ends_with(text(&record, "action")), "{record:#}");
            assert!(text(&record, "target").contains(text(&record, "class")), "{record:#}");
        }
    }
    assert_eq!(clinic.backend().seen().len(), permitted, "the backend sees what is permitted, and nothing else");
}

#[test]
fn every_cell_once_more_from_the_cache() {
    let clinic = staff().start();
    for (device, classes) in MATRIX {
        let mut wire = clinic.wire(device);
        for (class, actions) in CLASSES.iter().zip(classes) {
            for ((action, method), expected) in ACTIONS.iter().zip(actions) {
                let target = format!("/matrix/{class}/{action}");
                for _ in 0..3 {
                    let (expected, answer) = ask(*expected, || wire.request(method, &target, &[], b""));
                    assert_eq!(answer.status == 200, expected == Expected::Permit, "{device} {action} {class}");
                }
            }
        }
    }
}

#[test]
fn what_depends_on_the_resource() {
    let clinic = staff().start();
    #[rustfmt::skip]
    let cases = [
        (NURSE, "POST", "/fhir/Observation", P),
        (NURSE, "POST", "/fhir/Condition", N),
        (NURSE, "PUT", "/fhir/Observation/1", N),
        (NURSE, "GET", "/fhir/Patient?name=x", P),
        (NURSE, "POST", "/fhir/Patient/_search", P),
        (MONITOR, "POST", "/fhir/Observation", P),
        (PHARMACIST, "GET", "/fhir/AllergyIntolerance/1", P),
        (PHARMACIST, "GET", "/fhir/AllergyIntolerance?patient=Patient/1", P),
        (PHARMACIST, "GET", "/fhir/Observation?patient=1", P),
        (PHARMACIST, "GET", "/fhir/AllergyIntolerance", N),
        (PHARMACIST, "GET", "/fhir/AllergyIntolerance?patient=", N),
        (PHARMACIST, "GET", "/fhir/Patient?_id=1", N),
        (PHARMACIST, "POST", "/medication/MedicationDispense", P),
        (DOCTOR, "GET", "/fhir/Patient/1/$everything", P),
        (DOCTOR, "GET", "/fhir/$export", F),
        (DOCTOR, "GET", "/fhir/Patient/$export", F),
        (DOCTOR, "DELETE", "/fhir/Patient/1", F),
        (DOCTOR, "PATCH", "/fhir/Patient/1", P),
        (DOCTOR, "HEAD", "/fhir/Patient/1", P),
        (CLERK, "GET", "/fhir/Patient/1", N),
        (CLERK, "GET", "/appointments/Appointment?date=2026-04-01", P),
        (CLERK, "POST", "/appointments/Appointment", H),
        (KIOSK, "GET", "/appointments/Appointment/1", P),
        (KIOSK, "GET", "/fhir/Patient/1", F),
    ];
    for (device, method, target, expected) in cases {
        let mut wire = clinic.wire(device);
        let what = format!("{device}: {method} {target}");
        let (expected, answer) = ask(expected, || wire.request(method, target, &[], b""));
        agrees(&clinic, &wire, &what, expected, &answer);
    }
}

#[test]
fn prescriptions_travel_over_tls_1_3_only() {
    let clinic = staff().config(|config| config.set_tls("profile", "cryptrec-high-tls12")).start();
    let mut old = clinic.handshake(DOCTOR).tls12().open();
    let answer = old.get("/medication/MedicationRequest/1");
    agrees(&clinic, &old, "TLS 1.2", F, &answer);
    assert_eq!(clinic.asked_by(&old)[0]["policies"], serde_json::json!(["medication-tls-1.3"]));
    assert_eq!(old.get("/fhir/Patient/1").status, 200);
    let mut new = clinic.wire(DOCTOR);
    assert_eq!(new.get("/medication/MedicationRequest/1").status, 200);
}

#[test]
fn a_denial_tells_a_stranger_nothing_of_the_policy() {
    let clinic = staff().start();
    let mut wire = clinic.wire(CLERK);
    let answer = wire.get("/fhir/Patient/1");
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    for secret in ["clerk", "kiosk-administrative-only", "no-permit-for", "ck-yamada", "desk-1", "Patient", "cedar"] {
        assert!(!body.contains(secret), "{secret}: {body}");
    }
    // The patient that was asked for is in the record all the same (R5).
    let asked = clinic.asked_by(&wire);
    assert!(asked[0]["patients"].to_string().contains('1'), "{:#}", asked[0]);
}
