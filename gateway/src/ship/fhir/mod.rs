//! AuditEvents to a FHIR R4 server (IHE BALP; the RESTful feed of IHE ITI-20).
//!
//! A portion is posted as Bundles of type `batch`, or event by event. What the server answers decides for each event:
//!
//! | status | |
//! |---|---|
//! | 2xx | the server has it |
//! | 400, 409, 412, 413, 422 | the server does not want this event: it is *parked*: named in `parked`, and an alarm |
//! | any other, no answer | the same is tried again; what the server has by then is not posted again by this process |
//!
//! So 401, 403 or 404 park nothing: they say that `ship.toml` or the server is wrong, and not a record. A Bundle that is
//! refused as a whole is posted event by event, so that one event does not take others with it.
//!
//! At least once: after a restart what had been posted of the last portion comes again. Each event has the same tag
//! (`meta.tag`, the record's id) and the same `fullUrl` then.

mod http;
mod parked;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gateway_export::{Event, fhir};
use serde_json::Value;

use super::config::{FhirSettings, TlsSettings};
use super::lane::Lane;
use super::records::Records;
use super::status::Status;
use super::{Destination, Fault};
use http::{Answer, Server};
use parked::Parked;

/// The most that is taken from the log at once.
const PORTION_RECORDS: usize = 1_000;
const PORTION_BYTES: usize = 4 << 20;

/// A FHIR server.
#[derive(Debug)]
pub(super) struct Fhir {
    name: String,
    batch: usize,
    server: Server,
    records: Records,
    parked: Parked,
    status: Arc<Status>,
    /// What the server has of the portion under way, or does not want: lane, first entry, events.
    done: (String, u64, BTreeSet<usize>),
}

/// What became of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Taken,
    Refused(u16),
    Later(u16),
}

impl Verdict {
    const fn of(status: u16) -> Self {
        match status {
            200..=299 => Self::Taken,
            400 | 409 | 412 | 413 | 422 => Self::Refused(status),
            _ => Self::Later(status),
        }
    }
}

/// One event of a portion, with its place among those of its record.
struct Item {
    record: usize,
    part: usize,
    resource: Value,
}

impl Fhir {
    /// A server as `ship.toml` names it. `folder` is the destination's own.
    ///
    /// # Errors
    /// [`Fault`] if its URL or a file cannot be used.
    pub(super) fn new(
        settings: &FhirSettings,
        records: Records,
        folder: &Path,
        status: &Arc<Status>,
    ) -> Result<Self, Fault> {
        let server = Server::new(settings)?;
        let parked = Parked::new(folder);
        let (name, batch, status) = (settings.name.clone(), settings.batch_events, Arc::clone(status));
        Ok(Self { name, batch, server, records, parked, status, done: Default::default() })
    }

    /// Posts some events. Says what became of each.
    async fn post(&self, events: &[Event], items: &[&Item]) -> Result<Vec<Verdict>, Fault> {
        if let [item] = items {
            let answer = self.server.post("/AuditEvent", &item.resource).await?;
            return Ok(vec![Verdict::of(answer.status)]);
        }
        let entries =
            items.iter().filter_map(|item| Some((events.get(item.record)?, item.part, item.resource.clone())));
        let answer = self.server.post("", &fhir::batch(entries)).await?;
        match Verdict::of(answer.status) {
            Verdict::Taken => verdicts(&answer, items.len()),
            Verdict::Later(status) => Ok(vec![Verdict::Later(status); items.len()]),
            Verdict::Refused(_) => {
                let mut verdicts = Vec::with_capacity(items.len());
                for item in items {
                    let answer = self.server.post("/AuditEvent", &item.resource).await?;
                    verdicts.push(Verdict::of(answer.status));
                }
                Ok(verdicts)
            }
        }
    }

    /// Keeps what became of an event.
    fn judge(&mut self, lane: &Lane, event: &Event, item: &Item, index: usize, verdict: Verdict) -> Result<(), Fault> {
        match verdict {
            Verdict::Taken => {}
            Verdict::Refused(status) => {
                self.parked.add(&lane.name, event.place.sequence, item.part, status)?;
                self.status.add_parked();
                let (destination, lane, sequence) = (self.name.as_str(), lane.name.as_str(), event.place.sequence);
                tracing::error!(destination, lane, sequence, status, "the server refuses an event; it is parked");
            }
            Verdict::Later(_) => return Ok(()),
        }
        self.done.2.insert(index);
        Ok(())
    }
}

/// The answers to a Bundle's entries, in their order.
fn verdicts(answer: &Answer, count: usize) -> Result<Vec<Verdict>, Fault> {
    let fault = |why: &str| Fault::Receiver(format!("it answered {} to a batch, and {why}", answer.status));
    let bundle: Value = serde_json::from_slice(&answer.body).map_err(|_| fault("not with JSON"))?;
    let entries = bundle.get("entry").and_then(Value::as_array).ok_or_else(|| fault("not with a Bundle"))?;
    let status = |entry: &Value| {
        let status = entry.get("response")?.get("status")?.as_str()?;
        status.split(' ').next()?.parse().ok()
    };
    let verdicts: Option<Vec<_>> = entries.iter().map(|entry| status(entry).map(Verdict::of)).collect();
    verdicts.filter(|verdicts| verdicts.len() == count).ok_or_else(|| fault("not for each entry"))
}

impl Destination for Fhir {
    async fn take(&mut self, lane: &Lane, from: u64) -> Result<u64, Fault> {
        let sealed = lane.records(from, PORTION_RECORDS, PORTION_BYTES)?;
        let end = sealed.last().map_or(from, |last| last.end);
        if (self.done.0.as_str(), self.done.1) != (lane.name.as_str(), from) {
            self.done = (lane.name.clone(), from, BTreeSet::new());
        }
        let mut events = Vec::with_capacity(sealed.len());
        let mut items = Vec::with_capacity(sealed.len());
        for (record, sealed) in sealed.iter().enumerate() {
            let event = self.records.event(lane, sealed)?;
            let resources = fhir::resources(&event).into_iter().enumerate();
            items.extend(resources.map(|(part, resource)| Item { record, part, resource }));
            events.push(event);
        }
        let open: Vec<_> = items.iter().enumerate().filter(|(index, _)| !self.done.2.contains(index)).collect();
        for group in open.chunks(self.batch) {
            let of_group: Vec<_> = group.iter().map(|(_, item)| *item).collect();
            let verdicts = self.post(&events, &of_group).await?;
            let mut later = None;
            for ((index, item), verdict) in group.iter().zip(verdicts) {
                if let Some(event) = events.get(item.record) {
                    self.judge(lane, event, item, *index, verdict)?;
                }
                if let Verdict::Later(status) = verdict {
                    later = Some(status);
                }
            }
            if let Some(status) = later {
                return Err(Fault::Receiver(format!("it answered {status}")));
            }
        }
        Ok(end)
    }
}

impl FhirSettings {
    /// Says what of it cannot be, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=1_000).contains(&self.batch_events) {
            return Err(format!("`batch_events` is {}, and not 1 to 1000", self.batch_events));
        }
        if !(1..=3_600).contains(&self.timeout_s) {
            return Err(format!("`timeout_s` is {}, and not 1 to 3600", self.timeout_s));
        }
        self.tls.as_ref().map_or(Ok(()), TlsSettings::check)?;
        http::Place::of(&self.url).map(|_| ())
    }

    /// How long an answer may take.
    pub(super) const fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_parks_only_what_the_event_itself_is_to_blame_for() {
        for status in [200, 201] {
            assert_eq!(Verdict::of(status), Verdict::Taken);
        }
        for status in [400, 409, 412, 413, 422] {
            assert_eq!(Verdict::of(status), Verdict::Refused(status));
        }
        for status in [301, 401, 403, 404, 405, 408, 415, 429, 500, 502, 503, 504] {
            assert_eq!(Verdict::of(status), Verdict::Later(status));
        }
    }

    #[test]
    fn a_batch_is_answered_entry_by_entry_or_not_at_all() {
        let answer = |body: &str| Answer { status: 200, body: body.as_bytes().to_vec().into() };
        let body = r#"{"entry":[{"response":{"status":"201 Created"}},{"response":{"status":"422"}}]}"#;
        assert_eq!(verdicts(&answer(body), 2).unwrap(), [Verdict::Taken, Verdict::Refused(422)]);
        for bad in ["", "{}", r#"{"entry":[]}"#, r#"{"entry":[{"response":{}},{"response":{"status":"201"}}]}"#] {
            assert!(verdicts(&answer(bad), 2).is_err(), "{bad}");
        }
        assert!(verdicts(&answer(body), 3).is_err());
    }
}
