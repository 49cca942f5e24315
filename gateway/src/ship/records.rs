//! Opens sealed records with this process's reviewer, for the destinations that say what is in them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_audit::header::{ClearHeader, Envelope, Pseudonym};
use gateway_audit::reviewer::private::ReviewerKey;
use gateway_export::{Event, Place, Record};

use super::Fault;
use super::cursor::of;
use super::lane::{Lane, Sealed};
use super::status::Status;
use crate::audit::opening::{Opener, OpeningError};

/// Data keys are kept no longer, so that a process that runs for years does not gather them.
const KEPT: Duration = Duration::from_secs(3_600);
/// Lies in every key directory.
const PEPPER: &str = "pseudonym.key";

/// Records as events.
#[derive(Debug)]
pub(super) struct Records {
    keys: PathBuf,
    reviewer: Arc<ReviewerKey>,
    opener: Opener,
    since: Instant,
    status: Arc<Status>,
}

impl Records {
    /// By the wrapped keys in a directory.
    pub(super) fn new(keys: &Path, reviewer: &Arc<ReviewerKey>, status: &Arc<Status>) -> Self {
        Self {
            keys: keys.to_owned(),
            opener: Opener::new(keys, Arc::clone(reviewer)),
            reviewer: Arc::clone(reviewer),
            since: Instant::now(),
            status: Arc::clone(status),
        }
    }

    /// The event of a record. One that does not open, since its key was destroyed or is not wrapped to this reviewer, is
    /// an event as well, and is counted.
    ///
    /// # Errors
    /// [`Fault`] if the key directory cannot be read, or the entry is no record.
    pub(super) fn event(&mut self, lane: &Lane, sealed: &Sealed) -> Result<Event, Fault> {
        if self.since.elapsed() > KEPT {
            self.opener = Opener::new(&self.keys, Arc::clone(&self.reviewer));
            self.since = Instant::now();
        }
        let origin = &lane.checkpoint.origin;
        let place = Place { origin: origin.clone(), sequence: sealed.sequence };
        let strange =
            |error: &dyn std::fmt::Display| Fault::Log(format!("`{}`, record {}: {error}", lane.name, sealed.sequence));
        let header = Envelope::decode(&sealed.envelope).map_err(|error| strange(&error))?.header;
        let why = match self.opener.open(Some(origin), sealed.sequence, &sealed.envelope) {
            Ok(json) => {
                let record = Record::parse(&json).map_err(|error| strange(&error))?;
                return Ok(Event::of(origin, &record));
            }
            Err(error @ OpeningError::Gone(_)) => {
                self.is_gone(&header)?;
                error
            }
            Err(error) => error,
        };
        if self.status.add_unopened() == 0 {
            tracing::warn!(lane = lane.name, sequence = sealed.sequence, %why, "a record does not open; it is shipped sealed");
        }
        let pseudonym = (header.site != Pseudonym::NONE).then(|| header.site.to_string());
        Ok(Event::sealed(place, header.kind, header.unix_ns, pseudonym, &why.to_string()))
    }

    /// Whether a key is really not there, in a directory that can be read.
    fn is_gone(&self, header: &ClearHeader<'_>) -> Result<(), Fault> {
        let pepper = self.keys.join(PEPPER);
        fs::symlink_metadata(&pepper).map_err(of(&pepper))?;
        let site = self.keys.join(header.site.to_string());
        let periods = match fs::read_dir(&site) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            periods => periods.map_err(of(&site))?,
        };
        for period in periods {
            let file = period.map_err(of(&site))?.path().join(header.key.to_string());
            match fs::File::open(&file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => {
                    opened.map_err(of(&file))?;
                    let cause = "it cannot be read as a data key".to_owned();
                    return Err(Fault::State { file: file.display().to_string(), cause });
                }
            }
        }
        Ok(())
    }
}
