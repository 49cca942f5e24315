//! What is asked about a message, and what is told of it.

use policy::patients::{PatientSource, Patients};
use policy::{Action, Effect};

use super::message::{Message, MessageFault};
use super::patients::patients;

/// An application or facility by its own word (HD): nothing here was proved. Whether it is the site's is the caller's to say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facility {
    /// The namespace, as it is mostly written.
    pub namespace: String,
    /// The universal id, where there is one.
    pub universal: String,
}

impl Facility {
    fn of(message: &Message<'_>, field: usize) -> Self {
        Self { namespace: message.header_text(field, 1), universal: message.header_text(field, 2) }
    }
}

/// May this message be sent?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageQuestion {
    /// Type and trigger as `ADT^A08`: `context.operation`.
    pub operation: String,
    /// The action that policies decide on.
    pub action: Action,
    /// Which record must be durable first (A1).
    pub effect: Effect,
    /// MSH-3.
    pub application: Facility,
    /// MSH-4: to be checked against the site.
    pub facility: Facility,
    /// MSH-5.
    pub receiving_application: Facility,
    /// MSH-6.
    pub receiving_facility: Facility,
    /// MSH-10.
    pub control_id: String,
    /// MSH-11: `P`, `T` or `D`.
    pub processing: String,
    /// MSH-12.
    pub version: String,
    /// Patients of PID, MRG, QPD and QRD.
    pub patients: Patients,
}

impl MessageQuestion {
    pub(crate) fn of(message: &Message<'_>, action: Action, effect: Effect) -> Self {
        let source = match effect {
            Effect::ReadOnly => PatientSource::Query,
            Effect::Changing => PatientSource::Body,
        };
        Self {
            operation: operation(message),
            action,
            effect,
            application: Facility::of(message, 3),
            facility: Facility::of(message, 4),
            receiving_application: Facility::of(message, 5),
            receiving_facility: Facility::of(message, 6),
            control_id: message.header_text(10, 1),
            processing: message.header_text(11, 1),
            version: message.header_text(12, 1),
            patients: patients(message, source),
        }
    }
}

pub(crate) fn operation(message: &Message<'_>) -> String {
    format!("{}^{}", message.header_text(9, 1), message.header_text(9, 2))
}

/// What the receiver answered. It waits for [`recorded`](super::Link::recorded).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// MSH-10 of the message that it answers.
    pub control_id: String,
    /// MSA-1: `AA`, `AE`, `AR`, or of a first acknowledgement `CA`, `CE`, `CR`.
    pub code: String,
    /// Patients of the answer.
    pub patients: Patients,
}

/// Why a message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Policy says no: `AR`.
    NotAuthorized,
    /// The sending facility is not the site's: `AR`.
    Facility,
    /// A type and trigger without a meaning: `AR`.
    UnknownType,
    /// No acknowledgement is asked for, so that nobody could say what became of it: `AR`.
    Acknowledgement,
    /// The gateway or the receiver cannot at the moment: `AR`.
    Unavailable,
    /// The message cannot be read in exactly one way: `AE`.
    Malformed(MessageFault),
}
