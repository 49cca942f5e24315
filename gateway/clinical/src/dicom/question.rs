//! What is asked about an association, and what is told of it.

use policy::patients::{Patients, StudyPatient};
use policy::{Action, Effect};

use super::associate::{ProposedContext, UserIdentity};
use super::command::Operation;
use super::names::{AeTitle, Uid};

/// May this association be opened? The action is [`Action::Connect`]. Whether the titles are the device's is the caller's to say:
/// nothing in a request proves them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociateQuestion {
    /// Who calls.
    pub calling: AeTitle,
    /// Who is called.
    pub called: AeTitle,
    /// What is proposed.
    pub contexts: Vec<ProposedContext>,
    /// Who the user is by the requestor's word.
    pub identity: Option<UserIdentity>,
    /// The requestor's implementation.
    pub implementation: Option<Uid>,
}

/// May this operation be done?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationQuestion {
    /// Which one; its label is `context.operation`.
    pub operation: Operation,
    /// The action that policies decide on.
    pub action: Action,
    /// Which record must be durable first (A1).
    pub effect: Effect,
    /// The SOP class that it names.
    pub class: Uid,
    /// The object that it names.
    pub instance: Option<Uid>,
    /// The level of a query: `PATIENT`, `STUDY`, `SERIES`, `IMAGE`; `context.resource_type`.
    pub level: Option<String>,
    /// Patients of its data set. Nobody where a query names none, which finds anybody.
    pub patients: Patients,
    /// Studies of its data set, for [`Studies`](policy::patients::Studies): whose they are may be known.
    pub studies: Vec<String>,
    /// Whose the study is, where the data set says so.
    pub study: Option<StudyPatient>,
    /// Where a C-MOVE sends to.
    pub destination: Option<AeTitle>,
    /// The message's id within the association.
    pub message: u16,
}

/// How an operation ended. What the acceptor said waits for [`recorded`](super::Association::recorded).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Which one.
    pub operation: Operation,
    /// The request's id.
    pub message: u16,
    /// The acceptor's status (PS3.7 annex C); 0 is success.
    pub status: u16,
}

/// Patients of a data set that passed: of an answer, of a sub-operation, or of an object that was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The operation within which it passed.
    pub operation: Operation,
    /// The id of that operation's request.
    pub message: u16,
    /// Who.
    pub patients: Patients,
    /// Whose the study is.
    pub study: Option<StudyPatient>,
    /// The data set could not be read, so that there may be others.
    pub unread: bool,
}

/// What a refused operation is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// 0124: not authorized (PS3.7 section C.5.7).
    NotAuthorized,
    /// 0122: the SOP class is not the presentation context's.
    ClassNotSupported,
    /// A700: out of resources; 0213 for operations on normalized objects: a data set is longer than the bound.
    OutOfResources,
    /// C000: the data set cannot be understood; 0110 for operations on normalized objects.
    CannotUnderstand,
    /// 0110: processing failure, of the gateway itself.
    Failure,
}

impl Status {
    pub(crate) const fn code(self, operation: Operation) -> u16 {
        match (self, operation.is_composite()) {
            (Self::NotAuthorized, _) => 0x0124,
            (Self::ClassNotSupported, _) => 0x0122,
            (Self::OutOfResources, true) => 0xa700,
            (Self::OutOfResources, false) => 0x0213,
            (Self::CannotUnderstand, true) => 0xc000,
            (Self::CannotUnderstand, false) | (Self::Failure, _) => 0x0110,
        }
    }
}

/// Why an association is not opened: result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// The calling title is not the device's.
    CallingTitle,
    /// The called title is none that the device may call.
    CalledTitle,
    /// Policy says no, or leaves no presentation context.
    NotAuthorized,
    /// The gateway or the backend cannot at the moment.
    Temporary,
}

impl Rejection {
    pub(crate) const fn codes(self) -> [u8; 3] {
        match self {
            Self::CallingTitle => [1, 1, 3],
            Self::CalledTitle => [1, 1, 7],
            Self::NotAuthorized => [1, 1, 1],
            Self::Temporary => [2, 3, 1],
        }
    }
}

/// What an operation does (R2). C-MOVE sends to somebody else, so that leave to read is not enough for it; C-ECHO touches nothing.
pub(crate) const fn meaning(operation: Operation) -> (Action, Effect) {
    match operation {
        Operation::CEcho => (Action::Connect, Effect::ReadOnly),
        Operation::CFind => (Action::Search, Effect::ReadOnly),
        Operation::CGet | Operation::NGet => (Action::Read, Effect::ReadOnly),
        Operation::CStore | Operation::NCreate => (Action::Create, Effect::Changing),
        Operation::NSet => (Action::Update, Effect::Changing),
        Operation::NDelete => (Action::Delete, Effect::Changing),
        Operation::CMove | Operation::NAction | Operation::NEventReport => (Action::Operate, Effect::Changing),
    }
}
