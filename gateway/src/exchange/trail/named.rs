//! What becomes known of an exchange that is no request of HTTP.

use std::sync::Arc;

use gateway_audit::record::{Addendum, Decision, Origin};
use http::StatusCode;
use policy::Refusal;
use policy::judge::PolicyName;
use policy::patients::{Patients, Unread};

use super::{Stage, Trail};

/// Patients of one exchange that are told apart; of more it is only said that there are more.
const MOST_NAMED: usize = 4_096;

impl Trail {
    /// The backend's answer in the words of its protocol.
    pub(in crate::exchange) fn tells(&mut self, answer: &str) {
        self.in_words = Some(answer.into());
    }

    /// Names patients: in the record of the exchange where that is still to be written, otherwise in one that follows it.
    pub(in crate::exchange) fn names(&mut self, patients: &Patients, from: Origin) {
        let Some(asked) = &mut self.asked else { return };
        let known = asked.patients.ids.len();
        let mut unread = patients.truncated;
        for patient in &patients.ids {
            if asked.patients.ids.iter().any(|other| other.value == patient.value) {
                continue;
            }
            if asked.patients.ids.len() == MOST_NAMED {
                unread = true;
                break;
            }
            asked.patients.ids.push(patient.clone());
        }
        if self.stage == Stage::Begun {
            asked.patients.truncated |= unread;
            return;
        }
        self.add(known, from, unread.then_some(Unread::TooMany));
    }

    /// Of what passed, not everything could be read.
    pub(in crate::exchange) fn cannot_read(&mut self, from: Origin) {
        let known = self.asked.as_ref().map_or(0, |asked| asked.patients.ids.len());
        self.add(known, from, Some(Unread::Malformed));
    }

    /// Records the patients behind the first `known`.
    fn add(&self, known: usize, from: Origin, unread: Option<Unread>) {
        let Some(asked) = &self.asked else { return };
        let new: Vec<&[u8]> = asked.patients.ids.iter().skip(known).map(|patient| patient.value.as_bytes()).collect();
        if new.is_empty() && unread.is_none() {
            return;
        }
        let patients_unknown = unread.map(Unread::label);
        let addendum = Addendum { request: self.id(), scope: self.scope(), from, patients: &new, patients_unknown };
        self.connection.worker.append_unwaited(&addendum);
    }

    /// Whether its answer is on record.
    pub(in crate::exchange) fn is_answered(&self) -> bool {
        matches!(self.stage, Stage::Answered | Stage::Over)
    }

    /// Of several things that were judged, these policies permitted one.
    pub(in crate::exchange) fn stays_permitted(&mut self, policies: &Arc<[PolicyName]>) {
        self.decision = Decision::Permit;
        self.policies = Some(Arc::clone(policies));
    }

    /// As [`answered`](Trail::answered), of a backend's second answer.
    ///
    /// # Errors
    /// As there.
    pub(in crate::exchange) async fn answered_again(&mut self, status: StatusCode) -> Result<(), Refusal> {
        self.stage = Stage::Intended;
        self.answered(status).await
    }
}
