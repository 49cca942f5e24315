//! What happens to data keys, and to entries that no key opens any more (R26, R30, R31).

use super::{Header, Record, Reference, Scope, Splice, VERSION, write_clock, write_sequence, write_time};
use crate::header::{KeyId, Kind};
use crate::json::{self, Object, key};
use crate::removal::Tombstone;

/// Why a data key is destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its period has been kept for as long as the configuration states.
    Retention,
    /// Somebody said so, after that time.
    Shred,
}

impl Why {
    /// The name in records and files.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::Shred => "shred",
        }
    }

    /// The reason with this name.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        [Self::Retention, Self::Shred].into_iter().find(|why| why.label() == label)
    }
}

fn write_keys(object: &mut Object<'_>, keys: &[KeyId]) {
    object.array(key!("keys"), keys, |out, id| {
        out.push(b'"');
        json::hex(out, &id.0);
        out.push(b'"');
    });
}

/// Kind `shred`: the wrapped data keys of a site, a class and a period are destroyed from here on: it stands in the log
/// before the first of them is gone. The operation is in the clear as well, and in the files that stand in place of the
/// keys. Keys: `by`, `class`, `keys` (ids), `operation`, `period` (its first day), `site`, `why` (`retention`, `shred`).
#[derive(Debug, Clone, Copy)]
pub struct Shred<'a> {
    /// What the records and files of one operation have in common: hexadecimal digits.
    pub operation: &'a str,
    /// The site; none for records of the provider's own.
    pub site: Option<&'a str>,
    /// The class of information.
    pub class: Option<&'a str>,
    /// The period, by its first day.
    pub period: &'a str,
    /// The keys.
    pub keys: &'a [KeyId],
    /// Why.
    pub why: Why,
    /// Who: `gateway`, or an operator.
    pub by: &'a str,
}

impl Record for Shred<'_> {
    const FOLLOWS: bool = true;

    fn kind(&self) -> Kind {
        Kind::Shred
    }

    fn scope(&self) -> Scope<'_> {
        Scope { site: self.site, class: None }
    }

    fn reference(&self) -> Reference<'_> {
        Reference::Text(self.operation)
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        let start = out.len();
        let mut object = Object::new(out);
        object.text(key!("by"), self.by);
        object.optional_text(key!("class"), self.class);
        write_clock(&mut object, header);
        write_keys(&mut object, self.keys);
        object.label(key!("kind"), "shred");
        object.text(key!("node"), header.node);
        object.text(key!("operation"), self.operation);
        object.text(key!("period"), self.period);
        let splice = write_sequence(&mut object, start);
        object.optional_text(key!("site"), self.site);
        write_time(&mut object, header);
        object.number(key!("version"), VERSION);
        object.label(key!("why"), self.why.label());
        object.end();
        splice
    }
}

/// Kind `opening`: wrapped data keys of a site were given out for a reviewer, who can open its records with them. It is
/// in the log before they are. Keys: `by` (who asked), `classes`, `count` (of data keys), `from` and `to` (the first and
/// the last period), `reviewer` (for whom), `site`.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// Who asked.
    pub by: &'a str,
    /// The site; none for records of the provider's own.
    pub site: Option<&'a str>,
    /// For whom the keys are wrapped.
    pub reviewer: &'a str,
    /// The classes of information.
    pub classes: &'a [&'a str],
    /// First period.
    pub from: &'a str,
    /// Last period.
    pub to: &'a str,
    /// How many keys.
    pub count: u64,
}

impl Record for Opening<'_> {
    const FOLLOWS: bool = false;

    fn kind(&self) -> Kind {
        Kind::Opening
    }

    fn scope(&self) -> Scope<'_> {
        Scope { site: self.site, class: None }
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        let start = out.len();
        let mut object = Object::new(out);
        object.text(key!("by"), self.by);
        object.array(key!("classes"), self.classes, |out, class| json::string(out, class));
        write_clock(&mut object, header);
        object.number(key!("count"), self.count);
        object.text(key!("from"), self.from);
        object.label(key!("kind"), "opening");
        object.text(key!("node"), header.node);
        object.text(key!("reviewer"), self.reviewer);
        let splice = write_sequence(&mut object, start);
        object.optional_text(key!("site"), self.site);
        write_time(&mut object, header);
        object.text(key!("to"), self.to);
        object.number(key!("version"), VERSION);
        object.end();
        splice
    }
}

/// Kind `rewrap`: a reviewer wrapped data keys to another reviewer, who opens their records from here on. Keys: `by` (who
/// handed it in), `keys` (ids), `reviewer` (the other), `sha256` of the addition, `signer`, `site`.
#[derive(Debug, Clone, Copy)]
pub struct Rewrap<'a> {
    /// Who handed it in.
    pub by: &'a str,
    /// The site; none for records of the provider's own.
    pub site: Option<&'a str>,
    /// Who wrapped them.
    pub signer: &'a str,
    /// For whom.
    pub reviewer: &'a str,
    /// The keys.
    pub keys: &'a [KeyId],
    /// SHA-256 of the signed addition.
    pub sha256: &'a [u8; 32],
}

impl Record for Rewrap<'_> {
    const FOLLOWS: bool = false;

    fn kind(&self) -> Kind {
        Kind::Rewrap
    }

    fn scope(&self) -> Scope<'_> {
        Scope { site: self.site, class: None }
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        let start = out.len();
        let mut object = Object::new(out);
        object.text(key!("by"), self.by);
        write_clock(&mut object, header);
        write_keys(&mut object, self.keys);
        object.label(key!("kind"), "rewrap");
        object.text(key!("node"), header.node);
        object.text(key!("reviewer"), self.reviewer);
        let splice = write_sequence(&mut object, start);
        object.hex(key!("sha256"), self.sha256);
        object.text(key!("signer"), self.signer);
        object.optional_text(key!("site"), self.site);
        write_time(&mut object, header);
        object.number(key!("version"), VERSION);
        object.end();
        splice
    }
}

/// Kind `removal`: the bundles of a lane's first entries go, since all their data keys are destroyed (A11). What a
/// verifier must know of it is in the clear. Keys: `entries` (so many, from the first on), `next` (sequence number of the
/// first record that stays), `root` (over the entries that go).
#[derive(Debug, Clone, Copy)]
pub struct Removal<'a> {
    /// What is removed.
    pub tombstone: &'a Tombstone,
    /// The same as text.
    pub text: &'a str,
}

impl Record for Removal<'_> {
    const FOLLOWS: bool = true;

    fn kind(&self) -> Kind {
        Kind::Removal
    }

    fn reference(&self) -> Reference<'_> {
        Reference::Text(self.text)
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        let start = out.len();
        let mut object = Object::new(out);
        write_clock(&mut object, header);
        object.number(key!("entries"), self.tombstone.entries);
        object.label(key!("kind"), "removal");
        object.number(key!("next"), self.tombstone.next);
        object.text(key!("node"), header.node);
        object.hex(key!("root"), &self.tombstone.root);
        let splice = write_sequence(&mut object, start);
        write_time(&mut object, header);
        object.number(key!("version"), VERSION);
        object.end();
        splice
    }
}
