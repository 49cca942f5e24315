//! Logins, at whatever backend: who tried to be whom, and what came of it (R5, R8).

use super::{Connection, Header, Record, Reference, Scope, Splice, VERSION, write_clock, write_sequence, write_time};
use crate::header::Kind;
use crate::json::{Object, key};

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginOutcome {
    /// The password was right.
    Success,
    /// It was right, and the account asks for more: a second factor, whose own attempt follows.
    Incomplete,
    /// It was wrong.
    Failure,
    /// The answer says neither, or both; it counts as a failure.
    Unclear,
    /// There was no answer, or nobody waited for it; it counts as a failure.
    NoAnswer,
    /// No backend was asked.
    NotSent,
    /// It was not taken: the pause after a failure.
    Paused,
    /// It was not taken: a lockout.
    Locked,
    /// It was not taken: the guard has no room, or no store.
    Unavailable,
}

impl LoginOutcome {
    /// The name in records and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Incomplete => "incomplete",
            Self::Failure => "failure",
            Self::Unclear => "unclear",
            Self::NoAnswer => "no-answer",
            Self::NotSent => "not-sent",
            Self::Paused => "paused",
            Self::Locked => "locked",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Kind `login`: an attempt, beside the records of the request that it was; durable before that request's answer. Keys:
/// `account` (in the one spelling that the guard counts under), `class`, `connection`, `outcome`, `realm`, `request`, `route`,
/// `service`.
#[derive(Debug)]
pub struct Login<'a> {
    /// The request's id.
    pub request: &'a str,
    /// The connection it came over.
    pub connection: &'a Connection,
    /// The class of information.
    pub class: Option<&'a str>,
    /// The route.
    pub route: Option<&'a str>,
    /// The service.
    pub service: Option<&'a str>,
    /// Which accounts these are.
    pub realm: &'a str,
    /// The account.
    pub account: &'a str,
    /// What came of it.
    pub outcome: LoginOutcome,
}

impl Record for Login<'_> {
    const FOLLOWS: bool = true;

    fn kind(&self) -> Kind {
        Kind::Login
    }

    fn scope(&self) -> Scope<'_> {
        Scope { site: self.connection.site(), class: self.class }
    }

    fn reference(&self) -> Reference<'_> {
        Reference::Request(self.request)
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        let start = out.len();
        let mut object = Object::new(out);
        object.text(key!("account"), self.account);
        object.optional_text(key!("class"), self.class);
        write_clock(&mut object, header);
        object.key(key!("connection")).extend_from_slice(self.connection.as_bytes());
        object.label(key!("kind"), Kind::Login.label());
        object.text(key!("node"), header.node);
        object.label(key!("outcome"), self.outcome.label());
        object.text(key!("realm"), self.realm);
        object.text(key!("request"), self.request);
        object.optional_text(key!("route"), self.route);
        let splice = write_sequence(&mut object, start);
        object.optional_text(key!("service"), self.service);
        write_time(&mut object, header);
        object.number(key!("version"), VERSION);
        object.end();
        splice
    }
}
