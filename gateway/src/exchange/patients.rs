//! The patients that the bodies of an exchange name (R5), read as they pass.
//!
//! A body is neither held nor delayed: each piece is shown to a scanner on its way. What is known when the record that
//! must be durable first is written goes into it, such as a form of `POST …/_search` or a small answer, which came with
//! its head; the rest becomes an addendum. Policies see none of it.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;

use gateway_audit::record::Origin;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as _;
use policy::ServiceName;
use policy::patients::{BodyHead, PatientId, Patients, Plan, Scanned, Scanner, StudyPatient, StudySource, Unread};
use smallvec::SmallVec;

use crate::body::{RequestBody, Tap};
use crate::upstream::UpstreamBody;
use crate::worker::Worker;

/// Shows a request's body to its scanner.
#[derive(Debug)]
struct Reader {
    scanner: RefCell<Option<Scanner>>,
    ended: Cell<bool>,
}

impl Tap for Reader {
    fn sees(&self, bytes: &[u8]) {
        if let Some(scanner) = &mut *self.scanner.borrow_mut() {
            scanner.feed(bytes);
        }
    }

    fn sees_end(&self) {
        self.ended.set(true);
    }
}

/// What a body says, once that is known.
#[derive(Debug, Default)]
struct Said {
    scanned: Option<Scanned>,
    /// It stands in the record of the exchange.
    told: Cell<bool>,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Bodies {
    plan: Plan,
    /// The patient of the study that is asked for.
    recalled: Option<PatientId>,
    reader: Option<Rc<Reader>>,
    request: Said,
    scanner: Option<Scanner>,
    answer: Said,
    /// The backend took all of the request.
    accepted: bool,
}

impl Bodies {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            plan,
            recalled: None,
            reader: None,
            request: Said::default(),
            scanner: None,
            answer: Said::default(),
            accepted: false,
        }
    }

    /// Remembers whose the study is that is asked for.
    pub(super) fn recall(&mut self, worker: &Worker, service: &ServiceName, now_ns: u64) {
        if let Some(study) = self.plan.study() {
            self.recalled = worker.patient_of(service, study, now_ns);
        }
    }

    pub(super) fn of_request(&mut self, request: &Request<RequestBody>) -> Option<Rc<dyn Tap>> {
        if request.body().is_end_stream() {
            return None;
        }
        let scanner = self.plan.request(body_head(request.headers()))?;
        let reader = Rc::new(Reader { scanner: RefCell::new(Some(scanner)), ended: Cell::new(false) });
        self.reader = Some(Rc::clone(&reader));
        Some(reader)
    }

    pub(super) fn of_answer(&mut self, response: &Response<UpstreamBody>) {
        // With 202 it tells of images that it did not store (PS3.18 section 10.5.3).
        self.accepted = response.status() == StatusCode::OK;
        if self.reader.as_ref().is_some_and(|reader| reader.ended.get()) {
            self.request_ends();
        }
        if response.body().is_end_stream() {
            return;
        }
        self.scanner = self.plan.answer(body_head(response.headers()));
        if let Some(whole) = response.body().whole() {
            self.answer_passes(whole);
            self.answer_ends(true);
        }
    }

    pub(super) fn answer_passes(&mut self, bytes: &[u8]) {
        if let Some(scanner) = &mut self.scanner {
            scanner.feed(bytes);
        }
    }

    pub(super) fn answer_ends(&mut self, whole: bool) {
        if let Some(scanner) = self.scanner.take() {
            self.answer.scanned = Some(scanner.finish(whole));
        }
    }

    fn request_ends(&mut self) {
        if let Some(reader) = self.reader.take()
            && let Some(scanner) = reader.scanner.take()
        {
            self.request.scanned = Some(scanner.finish(reader.ended.get()));
        }
    }

    /// The exchange is over, wherever its bodies are.
    pub(super) fn end(&mut self) {
        self.request_ends();
        self.answer_ends(false);
    }

    /// Learns whose the studies are that passed; of a request's only once the backend took all of it.
    pub(super) fn learn(&mut self, worker: &Worker, service: &ServiceName, now_ns: u64) {
        let request = self.request.scanned.as_mut().filter(|_| self.accepted).map(|said| (StudySource::Client, said));
        let answer = self.answer.scanned.as_mut().map(|said| (StudySource::Backend, said));
        for (source, scanned) in request.into_iter().chain(answer) {
            let mut learnt: Vec<StudyPatient> = std::mem::take(&mut scanned.studies);
            if let Some(asked) = self.plan.study() {
                for study in learnt.iter_mut().filter(|study| study.study.is_empty()) {
                    asked.clone_into(&mut study.study);
                }
            }
            worker.learn(service, &learnt, source, now_ns);
        }
    }

    /// Adds what is known by now to the patients of the record, each once, and says why they may not be all. Without
    /// `bodies` those are left for later.
    pub(super) fn tell<'a>(
        &'a self,
        target: &Patients,
        bodies: bool,
        patients: &mut SmallVec<[&'a [u8]; 4]>,
    ) -> Option<Unread> {
        let mut unread = target.truncated.then_some(Unread::TooMany);
        if let Some(recalled) = &self.recalled {
            add(patients, std::slice::from_ref(recalled));
        }
        for said in [&self.request, &self.answer].into_iter().filter(|_| bodies) {
            if let Some(scanned) = &said.scanned {
                said.told.set(true);
                add(patients, &scanned.patients.ids);
                unread = unread.or(scanned.unread);
            }
        }
        let nobody = self.plan.study().is_some() && patients.is_empty();
        unread.or(nobody.then_some(Unread::Study))
    }

    /// What bodies say that no record has told.
    pub(super) fn untold(&self) -> impl Iterator<Item = (Origin, &Scanned)> {
        [(Origin::Request, &self.request), (Origin::Answer, &self.answer)]
            .into_iter()
            .filter(|(_, said)| !said.told.get())
            .filter_map(|(origin, said)| Some((origin, said.scanned.as_ref()?)))
    }

    /// Those of a body's patients that no record has named: neither the one of the exchange nor the addendum before.
    pub(super) fn new_in<'a>(&'a self, scanned: &'a Scanned, target: &'a Patients) -> Vec<&'a [u8]> {
        let before = [&self.request, &self.answer].into_iter().filter_map(|said| said.scanned.as_ref());
        let before = before.take_while(|other| !std::ptr::eq(*other, scanned));
        let told = [&self.answer].into_iter().filter(|said| said.told.get()).filter_map(|said| said.scanned.as_ref());
        let known = before.chain(told).flat_map(|scanned| &scanned.patients.ids);
        let known = known.chain(&target.ids).chain(&self.recalled);
        let mut known: HashSet<&[u8]> = known.map(|patient| patient.value.as_bytes()).collect();
        let ids = scanned.patients.ids.iter().map(|patient| patient.value.as_bytes());
        ids.filter(|value| known.insert(value)).collect()
    }
}

/// Adds what is not among them; a record names each identifier once.
fn add<'a>(patients: &mut SmallVec<[&'a [u8]; 4]>, ids: &'a [PatientId]) {
    let values = ids.iter().map(|patient| patient.value.as_bytes());
    if patients.len() + ids.len() <= 16 {
        for value in values {
            if !patients.contains(&value) {
                patients.push(value);
            }
        }
        return;
    }
    let mut known: HashSet<&[u8]> = patients.iter().copied().collect();
    patients.extend(values.filter(|value| known.insert(value)));
}

/// The fields that say how to read a body. One that stands twice says nothing: another reader may take the other.
fn body_head(headers: &HeaderMap) -> BodyHead<'_> {
    let only = |name: HeaderName| {
        let mut values = headers.get_all(name).iter();
        let value = values.next()?;
        values.next().is_none().then_some(value.as_bytes())
    };
    let content_encoding = match headers.get_all(CONTENT_ENCODING).iter().count() {
        0 | 1 => only(CONTENT_ENCODING),
        _ => Some(&b"several"[..]),
    };
    BodyHead { content_type: only(CONTENT_TYPE), content_encoding }
}
