//! What each kind of record is in the terms of the field: one match without a default.

use gateway_audit::header::Kind;

use crate::code::{self, Action, Code, Outcome};
use crate::record::Record;

/// The parts of an event that its kind decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) id: Code,
    /// Narrower than `id`, of a system that others know.
    pub(crate) narrower: Option<Code>,
    pub(crate) action: Action,
    pub(crate) outcome: Outcome,
}

/// The shape of a record; of one that is not opened, as far as its kind tells.
pub(crate) fn shape(kind: Kind, record: Option<&Record>) -> Shape {
    use Action::{Create, Delete, Execute, Read, Update};
    use Outcome::{Major, Minor, Serious, Success};
    let is = |id, narrower, action, outcome| Shape { id, narrower, action, outcome };
    let alert = |narrower, action, outcome| is(code::SECURITY_ALERT, narrower, action, outcome);
    match kind {
        Kind::Request | Kind::Intent => exchange(record),
        Kind::Outcome => is(code::REST, None, Execute, by_status(record)),
        Kind::Completion | Kind::StreamClosed => is(code::REST, None, Execute, by_end(record)),
        Kind::StreamOpened | Kind::StreamPeriodic => is(code::REST, None, Execute, Success),
        Kind::Addendum => is(code::PATIENT_RECORD, None, Read, Success),
        Kind::Login => {
            let is_good = record.is_none_or(|record| record.label("outcome") == "success");
            is(code::USER_AUTHENTICATION, Some(code::LOGIN), Execute, if is_good { Success } else { Serious })
        }
        Kind::Session => match record.map_or("", |record| record.label("event")) {
            "ended" => is(code::USER_AUTHENTICATION, Some(code::LOGOUT), Execute, Success),
            "stolen" => alert(Some(code::RESTRICTED_FUNCTION), Execute, Serious),
            _ => is(code::USER_AUTHENTICATION, Some(code::LOGIN), Execute, Success),
        },
        Kind::ConnectionOpened => is(code::USER_AUTHENTICATION, Some(code::LOGIN), Execute, Success),
        Kind::ConnectionMoved => is(code::USER_AUTHENTICATION, None, Update, Success),
        Kind::ConnectionClosed => is(code::USER_AUTHENTICATION, Some(code::LOGOUT), Execute, Success),
        Kind::Refusal if record.is_some_and(|record| record.label("stage") == "request") => {
            alert(Some(code::RESTRICTED_FUNCTION), Execute, Serious)
        }
        Kind::Refusal | Kind::RefusalSummary => alert(Some(code::NODE_AUTHENTICATION), Execute, Serious),
        Kind::TunnelDrops => alert(Some(code::RESTRICTED_FUNCTION), Execute, Serious),
        Kind::Outage => {
            let is_back = record.is_some_and(|record| record.label("event") == "site-seen");
            alert(None, Execute, if is_back { Success } else { Minor })
        }
        Kind::RegistryChange => alert(Some(code::USER_ATTRIBUTES_CHANGED), Update, Success),
        Kind::RegistryRollback => alert(Some(code::SECURITY_CONFIGURATION), Execute, Major),
        Kind::Reviewers | Kind::Rewrap => alert(Some(code::SECURITY_ROLES_CHANGED), Update, Success),
        Kind::Shred | Kind::Removal => is(code::AUDIT_LOG_USED, None, Delete, Success),
        Kind::Opening => is(code::AUDIT_LOG_USED, None, Read, Success),
        Kind::RevocationChange => alert(Some(code::SECURITY_CONFIGURATION), Update, Success),
        Kind::Start => is(code::APPLICATION_ACTIVITY, Some(code::APPLICATION_START), Create, Success),
        Kind::Stop => is(code::APPLICATION_ACTIVITY, Some(code::APPLICATION_STOP), Execute, Success),
        Kind::Reload => {
            let is_failed = record.is_some_and(|record| record.label("result") == "failed");
            alert(Some(code::SECURITY_CONFIGURATION), Update, if is_failed { Minor } else { Success })
        }
        Kind::Recovery => alert(Some(code::RECORDING_STARTED), Execute, Minor),
        Kind::Clock => {
            let is_good =
                |record: &Record| matches!(record.label("event"), "cleared" | "leap-announced" | "leap-second");
            alert(None, Execute, if record.is_some_and(is_good) { Success } else { Minor })
        }
        Kind::AuditFailure | Kind::Full | Kind::Gap => alert(Some(code::RECORDING_STOPPED), Execute, Serious),
    }
}

fn exchange(record: Option<&Record>) -> Shape {
    let label = record.map_or("", |record| record.label("action"));
    let (action, narrower) = match label {
        "read" => (Action::Read, Some(code::READ)),
        "search" => (Action::Execute, Some(code::SEARCH)),
        "create" => (Action::Create, Some(code::CREATE)),
        "update" => (Action::Update, Some(code::UPDATE)),
        "delete" => (Action::Delete, Some(code::DELETE)),
        "operate" => (Action::Execute, Some(code::OPERATION)),
        _ => (Action::Execute, None),
    };
    let of_patients = record.is_some_and(|record| !record.list("patients").is_empty());
    let id = match (of_patients, label) {
        (true, "search") => code::QUERY,
        (true, _) => code::PATIENT_RECORD,
        (false, _) => code::REST,
    };
    let is_permitted = record.is_none_or(|record| record.label("decision") == "permit");
    let outcome = if is_permitted { by_status(record) } else { Outcome::Serious };
    Shape { id, narrower, action, outcome }
}

fn by_status(record: Option<&Record>) -> Outcome {
    match record.and_then(|record| record.at("status")?.as_u64()) {
        None | Some(0..=399) => Outcome::Success,
        Some(400..=499) => Outcome::Minor,
        Some(_) => Outcome::Serious,
    }
}

fn by_end(record: Option<&Record>) -> Outcome {
    match record.map_or("", |record| record.label("end")) {
        "complete" | "drained" | "" => Outcome::Success,
        "aborted" | "timeout" | "revoked" => Outcome::Minor,
        _ => Outcome::Serious,
    }
}
