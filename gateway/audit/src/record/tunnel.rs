//! What came by tunnels and was dropped.

use super::{Header, Record, Scope, Splice, VERSION, write_clock, write_sequence, write_time};
use crate::header::Kind;
use crate::json::{Object, key};

/// Kind `tunnel-drops`: datagrams and packets of tunnels that were dropped since the last record of the same site (R14). Keys:
/// `drops` (a list of `count` and `reason`), `listener`, `site`; without a site they came from nobody known.
#[derive(Debug, Clone, Copy)]
pub struct TunnelDrops<'a> {
    /// The listener's name.
    pub listener: &'a str,
    /// The site whose devices sent them.
    pub site: Option<&'a str>,
    /// Reasons, and how many were dropped for each.
    pub drops: &'a [(&'static str, u64)],
}

impl Record for TunnelDrops<'_> {
    const FOLLOWS: bool = true;

    fn kind(&self) -> Kind {
        Kind::TunnelDrops
    }

    fn scope(&self) -> Scope<'_> {
        Scope { site: self.site, class: None }
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        let start = out.len();
        let mut object = Object::new(out);
        write_clock(&mut object, header);
        object.array(key!("drops"), self.drops, |out, (reason, count)| {
            let mut inner = Object::new(out);
            inner.number(key!("count"), *count);
            inner.label(key!("reason"), reason);
            inner.end();
        });
        object.label(key!("kind"), "tunnel-drops");
        object.text(key!("listener"), self.listener);
        object.text(key!("node"), header.node);
        let splice = write_sequence(&mut object, start);
        object.optional_text(key!("site"), self.site);
        write_time(&mut object, header);
        object.number(key!("version"), VERSION);
        object.end();
        splice
    }
}
