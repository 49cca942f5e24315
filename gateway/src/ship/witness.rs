//! `kind = "witness"`: each lane's checkpoint is cosigned by witnesses elsewhere (C2SP tlog-witness; A9, A10). A witness
//! signs what continues the checkpoint that it signed last, so that a log which was put back, or which goes on in two
//! places, is found by whoever has another machine than the log's.
//!
//! The newest cosigned checkpoint of each lane lies in this destination's folder of the state directory, as
//! `<lane>.cosigned`: it can be served beside the log's own, and copies carry it. The folder goes back with the disk; the
//! witness does not, and is always asked.

mod ask;
mod settings;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gateway_audit::checkpoint::Checkpoint;
use gateway_audit::note::{MAX_NOTE, VerifierKey};
use gateway_audit::witness::Quorum;

pub use settings::{WitnessPlace, WitnessSettings};

use super::config::ShipConfig;
use super::cursor::of;
use super::{Destination, Fault, Lane};
use crate::replace::replace;
use ask::Witness;

/// The file of a lane's cosigned checkpoint in a destination's folder of the state directory.
#[must_use]
pub fn cosigned_path(state: &Path, destination: &str, lane: &str) -> PathBuf {
    state.join(destination).join(format!("{lane}.cosigned"))
}

/// The witnesses of a log.
#[derive(Debug)]
pub struct Witnesses {
    witnesses: Vec<Witness>,
    keys: Vec<VerifierKey>,
    require: usize,
    interval: Duration,
    refresh: Duration,
    skew: Duration,
    state: PathBuf,
    name: String,
    /// When each lane was last cosigned.
    asked: Vec<(String, Instant)>,
}

impl Witnesses {
    /// Those of the settings. No connection is made yet.
    ///
    /// # Errors
    /// [`Fault::Receiver`] if a URL or an authority is none.
    pub fn open(settings: &WitnessSettings, config: &ShipConfig) -> Result<Self, Fault> {
        let open = |place: &WitnessPlace| Witness::new(place, settings.timeout()).map_err(Fault::Receiver);
        let witnesses = settings.witnesses.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            keys: witnesses.iter().map(|witness| witness.key().clone()).collect(),
            witnesses,
            require: settings.require(),
            interval: Duration::from_secs(settings.interval_s),
            refresh: Duration::from_secs(settings.refresh_s),
            skew: Duration::from_secs(settings.max_skew_s),
            state: config.state.directory.clone(),
            name: settings.name.clone(),
            asked: Vec::new(),
        })
    }

    fn is_due(&self, lane: &Lane, after: Duration) -> bool {
        let last = self.asked.iter().find(|(name, _)| *name == lane.name);
        last.is_none_or(|(_, at)| at.elapsed() >= after)
    }

    /// Has the lane's checkpoint cosigned by all, and keeps it if enough did.
    async fn cosign(&mut self, lane: &Lane) -> Result<(), Fault> {
        let path = cosigned_path(&self.state, &self.name, &lane.name);
        let known = self.known(lane, &path)?;
        let mut note = String::from_utf8_lossy(&lane.note).into_owned();
        let mut fault: Option<Fault> = None;
        let mut signed = 0;
        for witness in &mut self.witnesses {
            let now = unix_seconds();
            match witness.cosign(lane, &note, known.as_ref(), now, self.skew).await {
                Ok(cosigned) => {
                    note = cosigned;
                    signed += 1;
                }
                Err(alarm @ Fault::Alarm(_)) => fault = Some(alarm),
                Err(other) if fault.is_none() => fault = Some(other),
                Err(_) => {}
            }
        }
        // A witness that knows another history outweighs any number that signs this one.
        if let Some(alarm @ Fault::Alarm(_)) = fault {
            return Err(alarm);
        }
        if signed >= self.require {
            replace(&path, note.as_bytes(), 0o644).map_err(of(&path))?;
            self.asked.retain(|(name, _)| *name != lane.name);
            self.asked.push((lane.name.clone(), Instant::now()));
            let (origin, size) = (lane.checkpoint.origin.as_str(), lane.checkpoint.size);
            tracing::debug!(origin, size, signed, "cosigned");
            return match fault {
                // Enough have signed; the one that did not is told, and asked again with the next checkpoint.
                Some(fault) => {
                    tracing::warn!(destination = self.name, signed, %fault, "a witness did not sign");
                    Ok(())
                }
                None => Ok(()),
            };
        }
        Err(fault.unwrap_or_else(|| Fault::Receiver("no witness has signed".to_owned())))
    }

    /// What was cosigned last; none if nothing ever was.
    fn known(&self, lane: &Lane, path: &Path) -> Result<Option<Checkpoint>, Fault> {
        let note = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(of(path))?,
        };
        let quorum = Quorum { keys: &self.keys, require: 0, now: u64::MAX, skew: Duration::ZERO };
        let cosigned = if note.len() > MAX_NOTE {
            Err("it is too long".to_owned())
        } else {
            quorum.judge(&note, &lane.key).map_err(|error| error.to_string())
        };
        cosigned.map(|cosigned| Some(cosigned.checkpoint)).map_err(|cause| Fault::State {
            file: path.display().to_string(),
            cause: format!("{cause}; remove it to ask the witnesses anew"),
        })
    }
}

impl Destination for Witnesses {
    async fn take(&mut self, lane: &Lane, from: u64) -> Result<u64, Fault> {
        if !self.is_due(lane, self.interval) {
            return Ok(from);
        }
        self.cosign(lane).await.map(|()| lane.checkpoint.size)
    }

    /// A log that stands still is cosigned now and then: the witness's time says that nothing was taken away since.
    async fn keep(&mut self, lane: &Lane) -> Result<(), Fault> {
        let never = !cosigned_path(&self.state, &self.name, &lane.name).exists();
        if never || self.is_due(lane, self.refresh) { self.cosign(lane).await } else { Ok(()) }
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
