//! What became known of a request after its record was written.

use super::{Header, Record, Reference, Scope, Splice, VERSION, write_clock, write_sequence, write_time};
use crate::header::Kind;
use crate::json::{self, Object, key};

/// Which body said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The request's.
    Request,
    /// The answer's.
    Answer,
}

impl Origin {
    /// The name in records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Answer => "answer",
        }
    }
}

/// Kind `addendum`: patients that a body named while it streamed (R5), tied to the exchange by the request id. At most
/// one for each body, before the exchange's completion; none where a body named nobody that was not recorded before and
/// could be read. Nobody waits for it. Keys: `from`, `patients`, `patients_unknown`, `request`.
#[derive(Debug)]
pub struct Addendum<'a, P> {
    /// The request id.
    pub request: &'a str,
    /// That of the exchange.
    pub scope: Scope<'a>,
    /// Which body.
    pub from: Origin,
    /// Identifiers of the patients that no record of the exchange has named before.
    pub patients: &'a [P],
    /// Why they may not be all; see [`Exchange::patients_unknown`](super::Exchange::patients_unknown).
    pub patients_unknown: Option<&'static str>,
}

impl<P: AsRef<[u8]>> Record for Addendum<'_, P> {
    const FOLLOWS: bool = true;

    fn kind(&self) -> Kind {
        Kind::Addendum
    }

    fn scope(&self) -> Scope<'_> {
        self.scope
    }

    fn reference(&self) -> Reference<'_> {
        Reference::Request(self.request)
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        let start = out.len();
        let mut object = Object::new(out);
        write_clock(&mut object, header);
        object.label(key!("from"), self.from.label());
        object.label(key!("kind"), "addendum");
        object.text(key!("node"), header.node);
        if !self.patients.is_empty() {
            object.array(key!("patients"), self.patients, |out, patient| json::bytes(out, patient.as_ref()));
        }
        if let Some(reason) = self.patients_unknown {
            object.label(key!("patients_unknown"), reason);
        }
        object.text(key!("request"), self.request);
        let splice = write_sequence(&mut object, start);
        write_time(&mut object, header);
        object.number(key!("version"), VERSION);
        object.end();
        splice
    }
}
