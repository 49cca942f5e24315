//! What changed about revocation, for the audit log (R27): who let somebody in, or ended a connection, by which list.

use std::collections::BTreeMap;

use certs::path::{Crl, CrlSet, OcspStatus};
use gateway_audit::record::{RevocationChange, RevocationSource};

use super::answers::Turned;
use super::lists::Lists;
use crate::audit::ControlLane;

/// Compares each listener's lists with those it had, and records what is another.
pub(super) struct Recorder {
    lane: ControlLane,
    recorded: BTreeMap<String, CrlSet>,
}

impl Recorder {
    pub(super) const fn new(lane: ControlLane) -> Self {
        Self { lane, recorded: BTreeMap::new() }
    }

    /// Records what has turned, and the lists that are others than at the last look; at the first, all of them.
    pub(super) fn record(&mut self, listener: &str, lists: &Lists, (turned, new): (Vec<Turned>, CrlSet)) {
        for turned in &turned {
            self.lane.append_unwaited(&of_answer(listener, turned));
        }
        let old = self.recorded.get(listener);
        if old.is_some_and(|old| old.version() == new.version()) {
            return;
        }
        for (source, crl) in new.iter() {
            if old.and_then(|old| old.get(source)).is_none_or(|known| known.digest() != crl.digest()) {
                self.of_list(listener, &lists.source_name(source), crl, "taken");
            }
        }
        for (source, crl) in old.iter().flat_map(|old| old.iter()).filter(|(source, _)| new.get(source).is_none()) {
            self.of_list(listener, &lists.source_name(source), crl, "dropped");
        }
        self.recorded.insert(listener.to_owned(), new);
    }

    /// Forgets the listeners that are not there any more.
    pub(super) fn forget(&mut self, is_there: impl Fn(&str) -> bool) {
        self.recorded.retain(|listener, _| is_there(listener));
    }

    fn of_list(&self, listener: &str, source: &str, crl: &Crl, change: &'static str) {
        self.lane.append_unwaited(&RevocationChange {
            listener,
            change,
            source: source.as_bytes(),
            issuer: crl.issuer_name().as_bytes(),
            this_update: crl.this_update(),
            what: RevocationSource::List {
                is_delta: crl.is_delta(),
                number: &crl.number_hex(),
                next_update: crl.next_update(),
                entries: crl.len() as u64,
            },
        });
    }
}

fn of_answer<'a>(listener: &'a str, turned: &'a Turned) -> RevocationChange<'a> {
    let (status, reason) = match turned.status {
        OcspStatus::Good => ("good", None),
        OcspStatus::Revoked { reason, .. } => ("revoked", Some(reason.name())),
        OcspStatus::Unknown => ("unknown", None),
    };
    RevocationChange {
        listener,
        change: "taken",
        source: turned.url.as_bytes(),
        issuer: turned.issuer.as_bytes(),
        this_update: turned.this_update,
        what: RevocationSource::Answer { serial: &turned.serial, status, reason },
    }
}
