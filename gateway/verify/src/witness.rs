//! What witnesses signed, and whether the log continues it.

use std::time::Duration;

use gateway_audit::checkpoint::Checkpoint;
use gateway_audit::note::{MAX_NOTE, VerifierKey};
use gateway_audit::tiles::{CHECKPOINT, Files as _};
use gateway_audit::verify::{Fault, continues};
use gateway_audit::witness::{Cosigned, Quorum, QuorumError};

use crate::directory::Directory;
use crate::inputs::{Older, Witnesses};
use crate::lane::Outcome;

/// A checkpoint that witnesses signed, kept beside the log's own.
pub const COSIGNED: &str = "checkpoint.cosigned";
/// How far a witness's clock may be ahead of this machine's.
const SKEW: Duration = Duration::from_secs(60);

/// What enough witnesses signed of a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnessed {
    /// Entries that they vouch for.
    pub size: u64,
    /// The time at which enough of them had, seconds since the Unix epoch.
    pub time: u64,
    /// Each of them with its own time.
    pub witnesses: Vec<(String, u64)>,
}

/// The newest checkpoint that enough witnesses signed, with every other one that any of them did: the log must continue
/// all of them.
pub(crate) struct Signed {
    enough: Cosigned,
    time: u64,
    others: Vec<Cosigned>,
}

/// Looks through the checkpoints at hand: the log's own, the one beside it, and the one that was kept elsewhere.
pub(crate) fn newest(
    files: &mut Directory,
    log: &VerifierKey,
    older: Option<&Older>,
    witnesses: &Witnesses,
) -> Result<Signed, Box<Outcome>> {
    let mut notes = Vec::new();
    for name in [CHECKPOINT, COSIGNED] {
        match files.read(name, MAX_NOTE) {
            Ok(note) => notes.extend(note.map(|note| (format!("`{name}`"), note))),
            Err(error) => return Err(Box::new(Outcome::Unreadable(format!("`{name}` cannot be read: {error}")))),
        }
    }
    notes.extend(older.map(|older| ("the older checkpoint".to_owned(), older.note.clone())));
    let quorum = Quorum { keys: &witnesses.keys, require: 1, now: witnesses.now, skew: SKEW };
    let own = notes.first().filter(|(name, _)| name.contains(CHECKPOINT) && !name.contains(COSIGNED));
    let own = own.and_then(|(_, note)| Checkpoint::open(note, log, &[]).ok()).map(|own| own.checkpoint.size);
    let (mut cosigned, mut best) = (Vec::new(), 0);
    for (name, note) in notes {
        match quorum.judge(&note, log) {
            Ok(one) => {
                best = best.max(one.witnesses.len());
                cosigned.push(one);
            }
            Err(QuorumError::Few { .. }) => {}
            Err(error @ (QuorumError::Checkpoint(_) | QuorumError::Future { .. })) => {
                return Err(Box::new(Outcome::Bad(format!("{name}: {error}"))));
            }
        }
    }
    cosigned.sort_by_key(|one| one.checkpoint.size);
    let enough = cosigned.iter().rposition(|one| one.witnesses.len() >= witnesses.require);
    let Some(enough) = enough.map(|place| cosigned.remove(place)) else {
        let (known, require) = (quorum.known(), witnesses.require);
        let why = format!(
            "no checkpoint at hand was cosigned by {require} of the {known} known witnesses; the best has {best}"
        );
        return Err(Box::new(Outcome::Bad(why)));
    };
    let time = enough.time(witnesses.require).unwrap_or_default();
    // Told before the log is gone through, and by this name.
    if let Some(own) = own
        && let Some(ahead) = cosigned.iter().chain([&enough]).find(|one| one.checkpoint.size > own)
    {
        return Err(Box::new(Outcome::Bad(rolled_back(ahead, own))));
    }
    Ok(Signed { enough, time, others: cosigned })
}

fn rolled_back(one: &Cosigned, size: u64) -> String {
    let signed = one.checkpoint.size;
    format!("the log was rolled back: {signed} entries were cosigned by {}, and it has {size}", names(one))
}

fn names(one: &Cosigned) -> String {
    one.witnesses.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Whether a verified log continues what was signed.
pub(crate) fn check(files: &mut Directory, log: &Checkpoint, signed: Signed) -> Result<Witnessed, String> {
    for one in signed.others.iter().chain([&signed.enough]) {
        let size = one.checkpoint.size;
        match continues(files, log, &one.checkpoint) {
            Ok(()) => {}
            Err(Fault::Truncated) => {
                return Err(rolled_back(one, log.size));
            }
            Err(_) => {
                return Err(format!(
                    "the log was forked, or rolled back and continued: it does not continue the {size} entries that {} \
                     cosigned",
                    names(one)
                ));
            }
        }
    }
    let Cosigned { checkpoint, witnesses } = signed.enough;
    Ok(Witnessed { size: checkpoint.size, time: signed.time, witnesses })
}
