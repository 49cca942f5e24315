//! Codes of the field.

/// A coded value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// The code.
    pub code: &'static str,
    /// Who defines it: `DCM`, or a URI as FHIR names the same code system.
    pub system: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

/// DICOM's own codes (PS3.16, annex D).
pub(crate) const DCM: &str = "DCM";
/// FHIR's kinds of events.
pub(crate) const EVENT_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-event-type";
/// FHIR's interactions.
pub(crate) const INTERACTION: &str = "http://hl7.org/fhir/restful-interaction";
/// Sekisho's kinds of records.
pub(crate) const KIND: &str = "https://sekisho.example/CodeSystem/audit-record-kind";

macro_rules! codes {
    ($($name:ident $system:ident $code:literal $meaning:literal;)*) => {
        $(pub(crate) const $name: Code = Code { code: $code, system: $system, meaning: $meaning };)*
    };
}

codes! {
    APPLICATION_ACTIVITY DCM "110100" "Application Activity";
    AUDIT_LOG_USED DCM "110101" "Audit Log Used";
    PATIENT_RECORD DCM "110110" "Patient Record";
    QUERY DCM "110112" "Query";
    SECURITY_ALERT DCM "110113" "Security Alert";
    USER_AUTHENTICATION DCM "110114" "User Authentication";
    APPLICATION_START DCM "110120" "Application Start";
    APPLICATION_STOP DCM "110121" "Application Stop";
    LOGIN DCM "110122" "Login";
    LOGOUT DCM "110123" "Logout";
    NODE_AUTHENTICATION DCM "110126" "Node Authentication";
    SECURITY_CONFIGURATION DCM "110129" "Security Configuration";
    RESTRICTED_FUNCTION DCM "110132" "Use of Restricted Function";
    RECORDING_STOPPED DCM "110133" "Audit Recording Stopped";
    RECORDING_STARTED DCM "110134" "Audit Recording Started";
    SECURITY_ROLES_CHANGED DCM "110136" "Security Roles Changed";
    USER_ATTRIBUTES_CHANGED DCM "110137" "User security Attributes Changed";
    DESTINATION_ROLE DCM "110152" "Destination Role ID";
    SOURCE_ROLE DCM "110153" "Source Role ID";
    REST EVENT_TYPE "rest" "Restful Operation";
    READ INTERACTION "read" "read";
    CREATE INTERACTION "create" "create";
    UPDATE INTERACTION "update" "update";
    DELETE INTERACTION "delete" "delete";
    SEARCH INTERACTION "search" "search";
    OPERATION INTERACTION "operation" "operation";
}

/// What was done: the letters of DICOM and FHIR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Action {
    Create,
    Read,
    Update,
    Delete,
    Execute,
}

impl Action {
    /// The letter.
    #[must_use]
    pub const fn letter(self) -> &'static str {
        match self {
            Self::Create => "C",
            Self::Read => "R",
            Self::Update => "U",
            Self::Delete => "D",
            Self::Execute => "E",
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Success,
    /// It was not done, by a fault of whoever asked, or in part.
    Minor,
    /// It was refused or failed.
    Serious,
    /// What should do it is not there any more.
    Major,
}

impl Outcome {
    /// The digits of DICOM and FHIR.
    #[must_use]
    pub const fn digits(self) -> &'static str {
        match self {
            Self::Success => "0",
            Self::Minor => "4",
            Self::Serious => "8",
            Self::Major => "12",
        }
    }
}
