//! What is asked of a log.

use gateway_audit::header::Envelope;

use super::super::scan::Record;
use super::keys::{Keys, Opened};
use super::terms::{DEVICE, Field, SITE, term};

/// Conditions that must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub(in super::super) struct Question {
    /// Records of this site
    #[arg(long)]
    pub(in super::super) site: Option<String>,
    /// Of this user
    #[arg(long)]
    pub(in super::super) user: Option<String>,
    /// From this device
    #[arg(long)]
    pub(in super::super) device: Option<String>,
    /// About this patient
    #[arg(long)]
    pub(in super::super) patient: Option<String>,
    /// Of this action
    #[arg(long)]
    pub(in super::super) action: Option<String>,
    /// With this decision
    #[arg(long, value_name = "permit|deny|refuse")]
    pub(in super::super) decision: Option<String>,
    /// Of this kind
    #[arg(long)]
    pub(in super::super) kind: Option<String>,
    /// From this time on, nanoseconds since the Unix epoch.
    #[arg(skip)]
    pub(in super::super) from: Option<i64>,
    /// Before this time.
    #[arg(skip)]
    pub(in super::super) to: Option<i64>,
}

impl Question {
    /// Whether a record answers it, but for its time.
    pub(in super::super) fn asks_for(&self, record: &Record) -> bool {
        let is =
            |asked: &Option<String>, paths: &[&str]| asked.as_ref().is_none_or(|asked| record.first(paths) == asked);
        is(&self.site, SITE)
            && is(&self.user, &["user"])
            && is(&self.device, DEVICE)
            && is(&self.action, &["action"])
            && is(&self.decision, &["decision"])
            && is(&self.kind, &["kind"])
            && self.patient.as_ref().is_none_or(|asked| record.list("patients").any(|patient| patient == asked))
    }

    /// Whether every record is asked for, opened or not, but for its time.
    pub(in super::super) const fn is_empty(&self) -> bool {
        let Self { site, user, device, patient, action, decision, kind, from: _, to: _ } = self;
        site.is_none()
            && user.is_none()
            && device.is_none()
            && patient.is_none()
            && action.is_none()
            && decision.is_none()
            && kind.is_none()
    }

    /// The times between which records are, if any are asked for.
    pub(super) fn time(&self) -> Option<(i64, i64)> {
        let any = self.from.is_some() || self.to.is_some();
        any.then(|| (self.from.unwrap_or(i64::MIN), self.to.unwrap_or(i64::MAX)))
    }

    /// Whether a time is between them.
    pub(super) fn covers(&self, unix_ns: i64) -> bool {
        self.from.is_none_or(|from| unix_ns >= from) && self.to.is_none_or(|to| unix_ns < to)
    }

    /// The terms that an answer is under.
    pub(super) fn terms(&self) -> Vec<Vec<u8>> {
        let asked = [
            (Field::Patient, &self.patient),
            (Field::User, &self.user),
            (Field::Device, &self.device),
            (Field::Site, &self.site),
            (Field::Action, &self.action),
            (Field::Decision, &self.decision),
            (Field::Kind, &self.kind),
        ];
        asked.into_iter().filter_map(|(field, value)| term(field, value.as_deref()?)).collect()
    }

    /// Opens a record; `visit` gets it if it answers. Says why if it does not open.
    pub(super) fn take(
        &self,
        origin: Option<&str>,
        sequence: u64,
        envelope: &[u8],
        keys: &mut Keys,
        visit: &mut dyn FnMut(Record),
    ) -> Option<String> {
        let envelope = match Envelope::decode(envelope) {
            Ok(envelope) if !self.covers(envelope.header.unix_ns) => return None,
            Ok(envelope) => envelope,
            Err(error) => return Some(error.to_string()),
        };
        let record = match keys.open(origin, sequence, &envelope) {
            Opened::Record(record) => record,
            Opened::NoKey(none) => return Some(none.why),
            Opened::Bad(why) => return Some(why),
        };
        match serde_json::from_slice(&record) {
            Ok(value) => {
                let unix_ns = envelope.header.unix_ns;
                let origin = origin.unwrap_or_default().to_owned();
                let record = Record { unix_ns, lane: String::new(), origin, sequence, value };
                if self.asks_for(&record) {
                    visit(record);
                }
                None
            }
            Err(error) => Some(error.to_string()),
        }
    }
}
