//! Whose a study is: learnt from what passed, for requests that name nothing but a study (DICOM PS3.18 section 10.4).

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash};

use super::PatientId;
use super::PatientSource;
use super::scan::StudyPatient;
use crate::ServiceName;

/// Most studies remembered: about 10 MB.
pub const MAX_STUDIES: usize = 32 * 1024;

/// A study is forgotten so long after it was last learnt, nanoseconds: a patient's identifier may be corrected.
pub const STUDY_LIFE_NS: u64 = 24 * 60 * 60 * 1_000_000_000;

/// Who says whose a study is, as far as it is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StudySource {
    /// Who stores an image. He is believed where nobody else has said anything: whoever may store must not be able to
    /// have the log say that he looks at somebody else.
    Client,
    /// The backend, in an answer.
    Backend,
}

/// Studies and their patients, by service. In memory alone: it names patients, so it must not reach a disk.
#[derive(Debug)]
pub struct Studies<S> {
    known: HashMap<Key, Entry, S>,
    /// Keys with the moment they were learnt, the oldest first. One that was learnt again stands here twice, and only
    /// the later place counts.
    order: VecDeque<(Key, u64)>,
    most: usize,
    hasher: S,
}

/// A study, as a hash of service and UID: 128 bits of the hasher's, which is keyed, so that nobody can make two alike.
type Key = (u64, u64);

#[derive(Debug)]
struct Entry {
    patient: Box<str>,
    issuer: Option<Box<str>>,
    learnt_ns: u64,
}

impl<S: BuildHasher + Clone> Studies<S> {
    /// Remembers nothing yet, and never more than `most`. The hasher must be keyed with random bytes.
    #[must_use]
    pub fn new(most: usize, hasher: S) -> Self {
        Self { known: HashMap::with_hasher(hasher.clone()), order: VecDeque::new(), most, hasher }
    }

    /// Learns whose a study is. Monotonic nanoseconds.
    pub fn learn(&mut self, service: &ServiceName, study: &StudyPatient, source: StudySource, now_ns: u64) {
        if study.study.is_empty() || study.patient.is_empty() || self.most == 0 {
            return;
        }
        let key = self.key(service, &study.study);
        let stays = self.known.get(&key).is_some_and(|entry| {
            let age = now_ns.saturating_sub(entry.learnt_ns);
            if *entry.patient == *study.patient {
                age < STUDY_LIFE_NS / 2
            } else {
                source == StudySource::Client && age < STUDY_LIFE_NS
            }
        });
        if stays {
            return;
        }
        self.forget(now_ns);
        let entry = Entry {
            patient: study.patient.as_str().into(),
            issuer: study.issuer.as_deref().map(Box::from),
            learnt_ns: now_ns,
        };
        self.known.insert(key, entry);
        self.order.push_back((key, now_ns));
    }

    /// Whose a study is, if that is known. Monotonic nanoseconds.
    #[must_use]
    pub fn patient(&self, service: &ServiceName, study: &str, now_ns: u64) -> Option<PatientId> {
        let entry = self.known.get(&self.key(service, study))?;
        if now_ns.saturating_sub(entry.learnt_ns) >= STUDY_LIFE_NS {
            return None;
        }
        Some(PatientId {
            value: entry.patient.to_string(),
            system: entry.issuer.as_deref().map(str::to_owned),
            source: PatientSource::Study,
        })
    }

    /// Studies remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Makes room for one, and lets go of what is too old.
    fn forget(&mut self, now_ns: u64) {
        while let Some((key, learnt_ns)) = self.order.front().copied() {
            let old = now_ns.saturating_sub(learnt_ns) >= STUDY_LIFE_NS;
            let full = self.known.len() >= self.most || self.order.len() >= 2 * self.most;
            if !old && !full {
                return;
            }
            self.order.pop_front();
            if self.known.get(&key).is_some_and(|entry| entry.learnt_ns == learnt_ns) {
                self.known.remove(&key);
            }
        }
    }

    fn key(&self, service: &ServiceName, study: &str) -> Key {
        let hash = |half: u8| self.hasher.hash_one(Half { half, service: service.as_str(), study });
        (hash(0), hash(1))
    }
}

#[derive(Hash)]
struct Half<'a> {
    half: u8,
    service: &'a str,
    study: &'a str,
}

#[cfg(test)]
mod tests {
    use std::collections::hash_map::RandomState;

    use super::*;

    fn of(study: &str, patient: &str) -> StudyPatient {
        StudyPatient { study: study.into(), patient: patient.into(), issuer: Some("病院".into()) }
    }

    fn service(name: &str) -> ServiceName {
        name.parse().unwrap()
    }

    #[test]
    fn a_study_is_known_by_service_until_it_is_old() {
        let mut studies = Studies::new(10, RandomState::new());
        let pacs = service("pacs");
        studies.learn(&pacs, &of("1.2.3", "0001"), StudySource::Client, 5);
        let known = studies.patient(&pacs, "1.2.3", 6).unwrap();
        assert_eq!((known.value.as_str(), known.system.as_deref()), ("0001", Some("病院")));
        assert_eq!(known.source, PatientSource::Study);
        assert_eq!(studies.patient(&pacs, "1.2.4", 6), None);
        assert_eq!(studies.patient(&service("other"), "1.2.3", 6), None);
        assert_eq!(studies.patient(&pacs, "1.2.3", 5 + STUDY_LIFE_NS), None);
        // A corrected identifier, by who may correct it.
        studies.learn(&pacs, &of("1.2.3", "0002"), StudySource::Client, 6);
        assert_eq!(studies.patient(&pacs, "1.2.3", 8).unwrap().value, "0001");
        studies.learn(&pacs, &of("1.2.3", "0002"), StudySource::Backend, 7);
        assert_eq!(studies.patient(&pacs, "1.2.3", 8).unwrap().value, "0002");
        studies.learn(&pacs, &of("1.2.3", "0003"), StudySource::Client, 7 + STUDY_LIFE_NS);
        assert_eq!(studies.patient(&pacs, "1.2.3", 8 + STUDY_LIFE_NS).unwrap().value, "0003", "what was known is over");
        assert_eq!(studies.len(), 1);
    }

    #[test]
    fn the_oldest_are_forgotten_and_nothing_grows() {
        let mut studies = Studies::new(4, RandomState::new());
        let pacs = service("pacs");
        for moment in 0..1_000_u64 {
            studies.learn(&pacs, &of(&format!("1.{}", moment % 10), &moment.to_string()), StudySource::Backend, moment);
            studies.learn(&pacs, &of("9", "always"), StudySource::Client, moment);
            assert!(studies.len() <= 4 && studies.order.len() <= 8);
        }
        assert_eq!(studies.patient(&pacs, "1.9", 1_000).unwrap().value, "999");
        assert_eq!(studies.patient(&pacs, "1.0", 1_000), None);
        let mut none = Studies::new(0, RandomState::new());
        none.learn(&pacs, &of("1", "2"), StudySource::Backend, 0);
        assert!(none.is_empty());
    }
}
