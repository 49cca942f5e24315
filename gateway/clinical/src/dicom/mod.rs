//! DICOM associations between a requestor, which is the clinic, and an acceptor, which is the backend (PS3.7, PS3.8).

mod associate;
mod association;
mod command;
mod fault;
mod identify;
mod items;
mod names;
mod pdu;
mod question;
mod scan;
mod syntax;

pub use associate::{ProposedContext, UserIdentity};
pub use association::{Admission, Association, Cause, Event, Limits, NotAsked, Side};
pub use command::Operation;
pub use fault::Fault;
pub use names::{AeTitle, Uid};
pub use question::{AssociateQuestion, Named, OperationQuestion, Outcome, Rejection, Status};
