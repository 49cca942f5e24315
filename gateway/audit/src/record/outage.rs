//! Sites that fell silent, and their return (R19).

use super::{Header, Record, Scope, Splice, VERSION, write_clock, write_sequence, write_time};
use crate::header::Kind;
use crate::json::{Object, key};

/// What came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutageEvent {
    /// A site is there at this time as a rule, and was not for the delay.
    Silent,
    /// It is seen again.
    Seen,
}

impl OutageEvent {
    /// The name in records, metrics and diagnostics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Silent => "site-silent",
            Self::Seen => "site-seen",
        }
    }
}

/// Kind `outage`: a site fell silent, or is seen again. Keys: `event`, `since` (when it was seen last, or since when it counted as
/// silent), `site`.
#[derive(Debug, Clone, Copy)]
pub struct Outage<'a> {
    /// The site.
    pub site: &'a str,
    /// What came about.
    pub event: OutageEvent,
    /// RFC 3339, UTC; none if it was never seen.
    pub since: Option<&'a str>,
}

impl Record for Outage<'_> {
    const FOLLOWS: bool = true;

    fn kind(&self) -> Kind {
        Kind::Outage
    }

    fn scope(&self) -> Scope<'_> {
        Scope { site: Some(self.site), class: None }
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        let start = out.len();
        let mut object = Object::new(out);
        write_clock(&mut object, header);
        object.label(key!("event"), self.event.label());
        object.label(key!("kind"), Kind::Outage.label());
        object.text(key!("node"), header.node);
        let splice = write_sequence(&mut object, start);
        object.optional_text(key!("since"), self.since);
        object.text(key!("site"), self.site);
        write_time(&mut object, header);
        object.number(key!("version"), VERSION);
        object.end();
        splice
    }
}
