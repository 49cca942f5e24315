//! The identifiers that were found, each once, within bounds.

use super::{MAX_VALUE_BYTES, PatientId, PatientSource, Patients};

/// Takes what is found.
pub(crate) trait Sink {
    /// A patient, as it is named. Empty names are none.
    fn add(&mut self, value: &str, system: Option<&str>, source: PatientSource);
}

impl Sink for Patients {
    fn add(&mut self, value: &str, system: Option<&str>, source: PatientSource) {
        Self::add(self, value, system, source);
    }
}

/// Most patients taken from one body.
pub const MAX_BODY_PATIENTS: usize = 1_000;

/// Most bytes of identifiers and systems taken from one body.
const MAX_BYTES: usize = 128 * 1024;

/// What a body names: as [`Patients`], but for many.
#[derive(Debug, Default)]
pub(crate) struct Found {
    ids: Vec<PatientId>,
    /// Places in `ids`, in the order of value and system: whether one is known is asked for every mention.
    order: Vec<u16>,
    bytes: usize,
    truncated: bool,
}

impl Found {
    /// There was more than this.
    pub(super) fn truncate(&mut self) {
        self.truncated = true;
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn into_patients(self) -> Patients {
        Patients { ids: self.ids.into(), truncated: self.truncated }
    }

    fn cut<'t>(&mut self, text: &'t str) -> &'t str {
        let end = text.floor_char_boundary(MAX_VALUE_BYTES);
        self.truncated |= end < text.len();
        text.get(..end).unwrap_or_default()
    }
}

impl Sink for Found {
    fn add(&mut self, value: &str, system: Option<&str>, source: PatientSource) {
        if value.is_empty() {
            return;
        }
        let value = self.cut(value);
        let system = system.filter(|system| !system.is_empty()).map(|system| self.cut(system));
        let place = self.order.binary_search_by(|at| {
            let known = self.ids.get(usize::from(*at));
            let known = known.map(|known| (known.value.as_str(), known.system.as_deref()));
            known.unwrap_or_default().cmp(&(value, system))
        });
        let Err(place) = place else { return };
        let bytes = self.bytes + value.len() + system.map_or(0, str::len);
        match u16::try_from(self.ids.len()) {
            Ok(at) if self.ids.len() < MAX_BODY_PATIENTS && bytes <= MAX_BYTES => {
                self.bytes = bytes;
                self.order.insert(place, at);
                self.ids.push(PatientId { value: value.to_owned(), system: system.map(str::to_owned), source });
            }
            _ => self.truncated = true,
        }
    }
}
