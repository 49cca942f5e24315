//! Messages under way.

use policy::Action;

use super::super::command::{Command, Kind, Operation};
use super::super::fault::Fault;
use super::super::names::Uid;
use super::super::pdu::Fragment;
use super::super::question::meaning;
use super::super::scan::Scan;
use super::super::syntax::Encoding;

/// An accepted presentation context.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) class: Uid,
    pub(super) encoding: Encoding,
}

/// What one side is sending.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    pub(super) set: Set,
    /// The fragment under way.
    pub(super) fragment: Option<Fragment>,
}

impl Incoming {
    /// A fragment begins: of the set that is under way, or of a new command (PS3.8 annex E.2).
    pub(super) fn begin(&mut self, fragment: Fragment) -> Result<(), Fault> {
        let fits = match &self.set {
            Set::None => fragment.command,
            Set::Command { context, .. } => fragment.command && fragment.context == *context,
            Set::Data(data) => !fragment.command && fragment.context == data.context,
        };
        if !fits {
            return Err(Fault::Fragments);
        }
        if matches!(self.set, Set::None) {
            self.set = Set::Command { context: fragment.context, bytes: Vec::new() };
        }
        self.fragment = Some(fragment);
        Ok(())
    }

    /// A data set will come that is passed on.
    pub(super) fn forward(&mut self, context: u8, scan: Option<Scan>, operation: Operation, message: u16) {
        let way = Way::Forwarded { operation, message };
        self.set = Set::Data(Box::new(Data { context, scan, way, received: 0, unread: false }));
    }

    /// Whether a data set is being passed on, so that nothing else may come between.
    pub(super) fn is_forwarded(&self) -> bool {
        matches!(&self.set, Set::Data(data) if matches!(data.way, Way::Forwarded { .. }))
    }
}

/// The set whose fragments are coming.
#[derive(Debug, Default)]
pub(super) enum Set {
    #[default]
    None,
    Command {
        context: u8,
        bytes: Vec<u8>,
    },
    Data(Box<Data>),
}

#[derive(Debug)]
pub(super) struct Data {
    pub(super) context: u8,
    pub(super) scan: Option<Scan>,
    pub(super) way: Way,
    /// Bytes of it that came.
    pub(super) received: u64,
    /// Part of it could not be read, which did not stop it.
    pub(super) unread: bool,
}

#[derive(Debug)]
pub(super) enum Way {
    /// Held until its operation can be asked about.
    Held(Held),
    /// Asked about: what was held stands in [`Waiting`].
    Asked,
    /// Passed on.
    Forwarded { operation: Operation, message: u16 },
    /// Swallowed; then the refusal is sent.
    Refused { answer: Vec<u8> },
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) command: Command,
    pub(super) operation: Operation,
    pub(super) command_bytes: Vec<u8>,
    pub(super) bytes: Vec<u8>,
}

impl Held {
    /// An object's data set may be of any size, so that it is asked about as soon as it is identified; a query's is held whole.
    pub(super) fn streams(&self) -> bool {
        matches!(self.operation, Operation::CStore | Operation::NCreate | Operation::NSet)
    }
}

/// A message that waits for the caller's word.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) context: u8,
    pub(super) command: Command,
    pub(super) command_bytes: Vec<u8>,
    /// The beginning of its data set, and whether that is all of it.
    pub(super) data: Vec<u8>,
    pub(super) whole: bool,
}

impl Waiting {
    pub(super) fn action(&self) -> Option<Action> {
        self.operation().map(|operation| meaning(operation).0)
    }

    pub(super) fn operation(&self) -> Option<Operation> {
        match self.command.kind {
            Kind::Request(operation) | Kind::Response(operation) => Some(operation),
            Kind::Cancel => None,
        }
    }
}

/// The requestor's operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    pub(super) context: u8,
    pub(super) operation: Operation,
    pub(super) message: u16,
    /// Its data set was forwarded.
    pub(super) sent: bool,
    /// The last answer came.
    pub(super) answered: bool,
}

/// The acceptor's request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sub {
    pub(super) context: u8,
    pub(super) operation: Operation,
    pub(super) message: u16,
}

/// A refusal that waits for its turn.
#[derive(Debug)]
pub(super) struct Late {
    pub(super) context: u8,
    pub(super) answer: Vec<u8>,
}
