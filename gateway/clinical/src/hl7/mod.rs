//! HL7 v2 over MLLP, between a sender, which is the clinic, and a receiver, which is the backend.

mod answer;
mod charset;
mod frame;
mod link;
mod meaning;
mod message;
mod patients;
mod question;

pub use frame::FrameFault;
pub use link::{Cause, Event, Limits, Link, NotAsked, Side};
pub use meaning::meaning;
pub use message::MessageFault;
pub use question::{Facility, MessageQuestion, Outcome, Refusal};
