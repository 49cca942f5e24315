//! The lists and answers of one listener, from all places.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use certs::path::{Crl, CrlSet, RevocationMode, RevocationSettings, crl_urls};
use certs::{Anchors, Profile};

use super::answers::{Answers, AnswersReport, Question, Turned};
use super::cache;
use super::fetch::Place;
use super::files::{self, RevocationError, Stamp, Why};
use super::points::{Key, Points};
use crate::config::{OnRevocation, Revocation};

/// A file that was refused is read again after so many seconds, though it seems not to have changed: its list's time
/// may have come.
const READ_AGAIN: i64 = 10;

/// A listener's CRLs and OCSP answers. Shared by its verifier, which tells of distribution points and responders, and
/// [`keep`](super::keep).
pub struct Lists {
    config: Revocation,
    anchors: Anchors,
    profile: Profile,
    state: Mutex<State>,
    /// None where no responder is asked.
    answers: Option<Arc<Answers>>,
}

#[derive(Clone, Default)]
struct State {
    set: CrlSet,
    files: BTreeMap<PathBuf, Seen>,
    points: Points,
    /// Sources whose newest list is not taken, and why.
    refused: BTreeMap<String, Refused>,
    /// When lists were last looked at for having run out.
    looked: i64,
}

#[derive(Clone)]
struct Refused {
    why: String,
    fetched: bool,
}

#[derive(Clone, Copy)]
struct Seen {
    stamp: Option<Stamp>,
    lists: usize,
    /// Refused; to be read again then.
    again: Option<i64>,
}

/// A list, for metrics and alarms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Who issued it.
    pub issuer: String,
    /// Does it only list changes?
    pub delta: bool,
    /// When the next one is due, seconds since 1970.
    pub next_update: i64,
    /// A newer one should be there by now, or nearly.
    pub due: bool,
    /// How many certificates it names.
    pub entries: usize,
}

/// Something to be fetched.
pub(super) struct Fetch {
    pub(super) key: Key,
    pub(super) place: Result<Place, String>,
    pub(super) url: String,
}

impl Lists {
    /// Reads every file that the configuration names. Where `old` is the same listener's before a reload, files that did
    /// not change are not read again, fetched lists are kept, and what was refused since is refused now.
    ///
    /// # Errors
    /// [`RevocationError`] names the file that is missing or cannot be used (C7).
    pub fn load(
        config: &Revocation,
        anchors: &Anchors,
        profile: Profile,
        old: Option<&Self>,
        now: i64,
    ) -> Result<Self, RevocationError> {
        let answers = (config.ocsp != OnRevocation::Off).then(|| match old.and_then(|old| old.answers.clone()) {
            Some(known) => known,
            None => Arc::new(Answers::load(config, profile, now)),
        });
        let own = |state| Self {
            config: config.clone(),
            anchors: anchors.clone(),
            profile,
            state: Mutex::new(state),
            answers: answers.clone(),
        };
        if config.mode == OnRevocation::Off {
            return Ok(own(State::default()));
        }
        let mut state = old.map(|old| old.state().clone()).unwrap_or_default();
        state.refused.clear();
        let paths = files::list(config)?;
        let gone: Vec<PathBuf> = state.files.keys().filter(|known| !paths.contains(known)).cloned().collect();
        for path in gone {
            state.forget_file(&path);
        }
        if !config.fetch {
            state.points = Points::default();
            state.drop_sources(|source| source.starts_with(FETCHED));
        }
        let loaded = own(state);
        for path in paths {
            let known = loaded.state().files.get(&path).copied();
            let fault = |why| RevocationError { path: path.clone(), why };
            let stamp = Stamp::read(&path).map_err(|error| fault(error.into()))?;
            if known.is_some_and(|known| known.stamp == Some(stamp) && known.again.is_none()) {
                continue;
            }
            let lists = loaded.read(&path, now).map_err(fault)?;
            loaded.state().put_file(&path, stamp, lists, false).map_err(fault)?;
        }
        if let Some(directory) = config.cache_directory.as_ref().filter(|_| config.fetch) {
            let mut state = loaded.state();
            for (name, crl) in cache::read(directory, config.max_crl_bytes) {
                let source = format!("{FETCHED}{name}");
                if state.set.get(&source).is_none()
                    && crl.this_update() <= now
                    && let Ok(set) = state.set.with(&source, crl)
                {
                    state.set = set;
                }
            }
        }
        Ok(loaded)
    }

    /// How the verifier is to judge.
    #[must_use]
    pub fn settings(&self) -> RevocationSettings {
        let mode = |asked| match asked {
            OnRevocation::Off => RevocationMode::Off,
            OnRevocation::Prefer => RevocationMode::Prefer,
            OnRevocation::Must => RevocationMode::Require,
        };
        RevocationSettings {
            mode: mode(self.config.mode),
            ocsp: mode(self.config.ocsp),
            grace: u32::try_from(self.config.grace.as_secs()).unwrap_or(u32::MAX),
        }
    }

    /// The lists and answers in force.
    #[must_use]
    pub fn set(&self) -> CrlSet {
        let lists = self.state().set.clone();
        match &self.answers {
            Some(answers) => lists.with_answers(answers.set()),
            None => lists,
        }
    }

    /// Has a responder said anything since this was last asked? What it said is in [`Lists::set`]; its version is only
    /// another one where somebody has to be judged again.
    #[must_use]
    pub fn has_new_answers(&self) -> bool {
        self.answers.as_ref().is_some_and(|answers| answers.has_changed())
    }

    /// Is anything to be watched?
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.config.mode != OnRevocation::Off || self.answers.is_some()
    }

    /// Are distribution points fetched from, or responders asked?
    #[must_use]
    pub fn fetches(&self) -> bool {
        self.fetches_lists() || self.answers.is_some()
    }

    fn fetches_lists(&self) -> bool {
        self.config.mode != OnRevocation::Off && self.config.fetch
    }

    /// Takes the points and responders that a certificate on a path names; `issuer` is the certificate of its issuer.
    pub fn want(&self, certificate: &[u8], issuer: &[u8]) {
        if let Some(answers) = &self.answers {
            answers.met(certificate, issuer);
        }
        if !self.fetches_lists() {
            return;
        }
        let Ok(urls) = crl_urls(certificate) else { return };
        if !urls.is_empty() {
            let mut state = self.state();
            for url in urls {
                state.points.want(&url, issuer);
            }
        }
    }

    /// Looks at every file, and takes those that changed and are good. Blocks.
    pub(super) fn poll(&self, now: i64) {
        if self.config.mode == OnRevocation::Off {
            return;
        }
        let known: Vec<PathBuf> = self.state().files.keys().cloned().collect();
        let mut paths = match files::list(&self.config) {
            Ok(paths) => {
                if let Some(directory) = &self.config.crl_directory {
                    self.state().accept(&directory.display().to_string());
                }
                paths
            }
            Err(RevocationError { path, why }) => {
                self.state().refuse(&path.display().to_string(), &why, false);
                Vec::new()
            }
        };
        paths.extend(known);
        paths.sort();
        paths.dedup();
        for path in paths {
            self.poll_file(&path, now);
        }
    }

    fn poll_file(&self, path: &Path, now: i64) {
        let name = path.display().to_string();
        let stamp = match Stamp::read(path) {
            Ok(stamp) => stamp,
            Err(error) => {
                let gone = error.kind() == std::io::ErrorKind::NotFound;
                let why = if gone { Why::Gone } else { error.into() };
                let mut state = self.state();
                state.refuse(&name, &why, false);
                if let Some(seen) = state.files.get_mut(path) {
                    // What comes back is read, be it what was there before.
                    *seen = Seen { stamp: None, again: Some(now), ..*seen };
                }
                return;
            }
        };
        let known = self.state().files.get(path).copied();
        let settled = |seen: Seen| seen.stamp == Some(stamp) && seen.again.is_none_or(|again| now < again);
        if known.is_some_and(settled) {
            return;
        }
        let outcome = self.read(path, now).and_then(|lists| self.state().put_file(path, stamp, lists, true));
        let mut state = self.state();
        match outcome {
            Ok(()) => {
                tracing::info!(file = %name, "a CRL's file was taken");
                state.accept(&name);
            }
            Err(why) => {
                state.refuse(&name, &why, false);
                let lists = known.map_or(0, |known| known.lists);
                let seen = Seen { stamp: Some(stamp), lists, again: Some(now.saturating_add(READ_AGAIN)) };
                state.files.insert(path.to_owned(), seen);
            }
        }
    }

    /// Reads a file's lists and proves those that an anchor issued.
    fn read(&self, path: &Path, now: i64) -> Result<Vec<Crl>, Why> {
        let lists = files::read(path, self.config.max_crl_bytes)?;
        for list in &lists {
            check_time(list, now)?;
            list.prove(
                self.anchors.certificates().iter().map(AsRef::as_ref),
                self.profile.provider().signature_verification_algorithms.all,
            )?;
        }
        Ok(lists)
    }

    /// What is to be fetched.
    pub(super) fn due(&self, now: i64) -> Vec<Fetch> {
        if !self.fetches_lists() {
            return Vec::new();
        }
        let state = self.state();
        let due = state.points.due(now);
        due.map(|(key, point)| Fetch {
            key: *key,
            place: Place::of(&point.url, &self.config.fetch_hosts),
            url: point.url.clone(),
        })
        .collect()
    }

    /// The bounds of a fetch.
    pub(super) const fn fetch_bounds(&self) -> (u64, std::time::Duration) {
        (self.config.max_crl_bytes, self.config.fetch_timeout)
    }

    /// Takes what was fetched, if it is a list of the point's issuer. Blocks. True if it was taken.
    pub(super) fn take(&self, key: &Key, fetched: Result<&[u8], String>, now: i64) -> bool {
        let Some(point) = self.state().points.get(key).cloned() else { return false };
        let outcome =
            fetched.map_err(Why::Fetch).and_then(|bytes| Ok((self.of_point(bytes, &point.issuer, now)?, bytes)));
        let source = source_of(key);
        let mut state = self.state();
        let taken = outcome.and_then(|(crl, bytes)| {
            let next_update = crl.next_update();
            let set = state.set.with(&source, crl)?;
            let is_new = set.version() != state.set.version();
            state.set = set;
            Ok((next_update, is_new, bytes))
        });
        match taken {
            Ok((next_update, is_new, bytes)) => {
                state.accept(&point.url);
                state.points.fetched(key, next_update, &self.config, now);
                drop(state);
                if is_new {
                    tracing::info!(url = %point.url.escape_debug(), "a CRL was fetched");
                    self.remember(&source, bytes);
                }
                true
            }
            Err(why) => {
                state.refuse(&point.url, &why, true);
                state.points.failed(key, now);
                false
            }
        }
    }

    fn of_point(&self, bytes: &[u8], issuer: &[u8], now: i64) -> Result<Crl, Why> {
        let Ok([crl]) = <[Crl; 1]>::try_from(files::parse(bytes, self.config.max_crl_bytes)?) else {
            return Err(Why::Fetch("it is more than one CRL".to_owned()));
        };
        if !crl.is_issued_by(issuer) {
            return Err(Why::WrongIssuer(crl.issuer_name()));
        }
        check_time(&crl, now)?;
        let anchors = self.anchors.certificates().iter().map(AsRef::as_ref);
        let authorities = std::iter::once(issuer).chain(anchors);
        crl.prove(authorities, self.profile.provider().signature_verification_algorithms.all)?
            .ok_or(certs::path::CrlError::Forged)?;
        Ok(crl)
    }

    fn remember(&self, source: &str, bytes: &[u8]) {
        let Some(directory) = &self.config.cache_directory else { return };
        let name = source.strip_prefix(FETCHED).unwrap_or(source);
        if let Err(error) = cache::write(directory, name, cache::LIST, bytes) {
            tracing::warn!(directory = %directory.display(), %error, "a fetched CRL cannot be kept for the next start");
        }
    }

    /// Has any list or answer run out, its grace included, since this was last asked? Where each certificate must be known
    /// to be good, live connections are to be judged again then.
    pub(super) fn ran_out(&self, now: i64) -> bool {
        if !self.settings().requires() {
            return false;
        }
        let answer_ran_out = self.answers.as_ref().is_some_and(|answers| answers.ran_out(&self.config, now));
        let mut state = self.state();
        let since = std::mem::replace(&mut state.looked, now);
        let grace = i64::try_from(self.config.grace.as_secs()).unwrap_or(i64::MAX);
        let ran_out = |crl: &Crl| {
            let end = crl.next_update().saturating_add(grace);
            since <= end && end < now
        };
        answer_ran_out || state.set.iter().any(|(_, crl)| ran_out(crl))
    }

    /// What responders are to be asked.
    pub(super) fn questions(&self, now: i64) -> Vec<Question> {
        self.answers.as_ref().map(|answers| answers.questions(&self.config, now)).unwrap_or_default()
    }

    /// Takes what a responder has sent. Blocks.
    pub(super) fn take_answer(&self, question: &Question, fetched: Result<&[u8], String>, now: i64) {
        if let Some(answers) = &self.answers {
            answers.take(&question.id, &question.url, fetched, (&self.config, self.profile), now);
        }
    }

    /// Whose status has become another, to be recorded.
    pub(super) fn turned(&self) -> Vec<Turned> {
        self.answers.as_ref().map(|answers| answers.turned()).unwrap_or_default()
    }

    /// How the answers stand; none where no responder is asked.
    #[must_use]
    pub fn answers_report(&self, now: i64) -> Option<AnswersReport> {
        self.answers.as_ref().map(|answers| answers.report(&self.config, now))
    }

    /// Where a list came from, in words: its file and place in it, or its URL.
    pub(super) fn source_name(&self, source: &str) -> String {
        let state = self.state();
        state.points.url_of(|key| source_of(key) == source).unwrap_or(source).to_owned()
    }

    /// Every list in force.
    #[must_use]
    pub fn report(&self, now: i64) -> Vec<Report> {
        let warn = i64::try_from(self.config.warn_before.as_secs()).unwrap_or(i64::MAX);
        let set = self.set();
        let report = |(_, crl): (&str, &Crl)| {
            let left = crl.next_update().saturating_sub(now);
            // A list that lives a day is not late from its birth.
            let quarter = crl.next_update().saturating_sub(crl.this_update()) / 4;
            Report {
                issuer: crl.issuer_name(),
                delta: crl.is_delta(),
                next_update: crl.next_update(),
                due: left <= warn.min(quarter),
                entries: crl.len(),
            }
        };
        set.iter().map(report).collect()
    }

    /// How many files, and how many distribution points, have brought a list that is not taken, or none.
    #[must_use]
    pub fn failing(&self) -> (usize, usize) {
        let state = self.state();
        let fetched = state.refused.values().filter(|refused| refused.fetched).count();
        (state.refused.len() - fetched, fetched)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins the name of a source that is fetched.
const FETCHED: &str = "fetched:";

fn source_of(key: &Key) -> String {
    format!("{FETCHED}{}", certs::hex(key))
}

fn check_time(crl: &Crl, now: i64) -> Result<(), Why> {
    let early = crl.this_update().saturating_sub(now);
    if early > 0 { Err(Why::Early(early)) } else { Ok(()) }
}

fn source_in(path: &Path, index: usize) -> String {
    format!("file:{}#{index}", path.display())
}

impl State {
    /// Puts a file's lists in place of those it held. `alike` asks that they be about the same.
    fn put_file(&mut self, path: &Path, stamp: Stamp, lists: Vec<Crl>, alike: bool) -> Result<(), Why> {
        let before = self.files.get(path).map_or(0, |seen| seen.lists);
        if alike && lists.len() < before {
            return Err(Why::Fewer);
        }
        let count = lists.len();
        let mut set = self.set.clone();
        for (index, crl) in lists.into_iter().enumerate() {
            let source = source_in(path, index);
            if alike && set.get(&source).is_some_and(|old| !crl.replaces(old)) {
                return Err(Why::Other);
            }
            set = set.with(&source, crl)?;
        }
        for index in count..before {
            set = set.without(&source_in(path, index));
        }
        self.set = set;
        self.files.insert(path.to_owned(), Seen { stamp: Some(stamp), lists: count, again: None });
        Ok(())
    }

    fn forget_file(&mut self, path: &Path) {
        for index in 0..self.files.remove(path).map_or(0, |seen| seen.lists) {
            self.set = self.set.without(&source_in(path, index));
        }
    }

    fn drop_sources(&mut self, which: impl Fn(&str) -> bool) {
        let sources: Vec<String> = self.set.iter().map(|(source, _)| source.to_owned()).collect();
        for source in sources.iter().filter(|source| which(source)) {
            self.set = self.set.without(source);
        }
    }

    /// Says once why a source's newest list is not taken; the old one stays.
    fn refuse(&mut self, source: &str, why: &Why, fetched: bool) {
        // How early a list is changes every second.
        let text = why.to_string();
        let same = |known: &Refused| known.why == text || matches!(why, Why::Early(_));
        if !self.refused.get(source).is_some_and(same) {
            tracing::error!(source = %source.escape_debug(), why = %text, "a CRL is not taken; what was in force stays");
        }
        self.refused.insert(source.to_owned(), Refused { why: text, fetched });
    }

    fn accept(&mut self, source: &str) {
        if self.refused.remove(source).is_some() {
            tracing::info!(source = %source.escape_debug(), "a CRL that was refused is taken");
        }
    }
}

/// A notice for the verifier, where points are fetched from.
pub(crate) fn notice(lists: &Arc<Lists>) -> Option<certs::verifier::Notice> {
    let lists = Arc::clone(lists);
    lists
        .fetches()
        .then(|| -> certs::verifier::Notice { Arc::new(move |certificate, issuer| lists.want(certificate, issuer)) })
}
