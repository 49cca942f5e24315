//! The OCSP answers of one listener (RFC 6960): whom responders are asked about, when, and what they have said.
//!
//! A handshake leaves the certificates it has met in a bounded inbox and goes on; everything else happens on the control
//! thread. A certificate is asked about as long as somebody shows it, which every judging of its chain tells; and twice
//! a day every live connection's chain is judged anew ([`ROUND`]), so that one which stays open is not forgotten. Who is
//! revoked is remembered until the certificate's own end.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use certs::Profile;
use certs::path::{MAX_OCSP_BYTES, OcspAnswer, OcspError, OcspId, OcspSet, OcspStatus, OcspTarget, ocsp_urls};

use super::cache;
use super::fetch::Place;
use super::points::pause_after;
use crate::config::{OnRevocation, Revocation};

/// Certificates of one listener that are asked about.
const MAX_ASKED: usize = 16_384;
/// Bytes of certificates that wait to be looked at.
const INBOX_BYTES: usize = 4 << 20;
/// A certificate that nobody has shown for so long is asked about no more, in seconds.
const FORGOTTEN: i64 = 24 * 3_600;
/// After so long, in seconds, every remembered chain is judged anew.
const ROUND: i64 = 12 * 3_600;
/// How often those to forget are looked for, in seconds.
const SWEEP: i64 = 60;
/// The shortest time between two questions about one certificate, in seconds, where `fetch_interval_s` is not shorter.
const MIN_PAUSE: i64 = 30;
/// The longest time until a responder is asked again about a certificate that it does not know: it may be a new one.
const ASK_UNKNOWN: i64 = 60;
/// The same trouble with the same responder is said again after so long, in seconds.
const SAY_AGAIN: i64 = 3_600;
/// Troubles that are remembered.
const MAX_TOLD: usize = 256;
/// Changes that wait to be recorded.
const MAX_CHANGES: usize = 4_096;

/// A question to a responder.
pub(super) struct Question {
    pub(super) id: OcspId,
    pub(super) url: String,
    pub(super) place: Result<Place, String>,
    pub(super) request: Vec<u8>,
}

/// Somebody who was good is so no more, or is again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turned {
    pub(super) issuer: String,
    pub(super) serial: String,
    pub(super) url: String,
    pub(super) status: OcspStatus,
    pub(super) this_update: i64,
}

/// How the answers stand, for metrics and alarms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AnswersReport {
    /// Certificates that were said to be good.
    pub good: usize,
    /// That were said to be revoked.
    pub revoked: usize,
    /// That their responder does not know.
    pub unknown: usize,
    /// Of which nothing is known yet.
    pub unanswered: usize,
    /// About which the last question was not answered.
    pub failing: usize,
    /// Whose answer ends soon or has ended, and no newer one is there.
    pub due: usize,
}

/// A listener's answers. One for all of its reloads.
pub(super) struct Answers {
    state: Mutex<State>,
    inbox: Mutex<Inbox>,
    changed: AtomicBool,
}

#[derive(Default)]
struct Inbox {
    met: Vec<(Vec<u8>, Vec<u8>)>,
    bytes: usize,
}

#[derive(Default)]
struct State {
    asked: HashMap<OcspId, Asked>,
    issuers: HashMap<[u8; 32], Arc<[u8]>>,
    set: OcspSet,
    is_stale: bool,
    judge_anew: bool,
    round_began: i64,
    swept: i64,
    looked: i64,
    /// What was said of which responder, and when.
    told: BTreeMap<(String, String), i64>,
    changes: Vec<Turned>,
}

struct Asked {
    target: OcspTarget,
    urls: Box<[String]>,
    seen: i64,
    due: i64,
    failures: u32,
    answer: Option<Arc<OcspAnswer>>,
}

impl Asked {
    fn is_revoked(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| matches!(answer.status(), OcspStatus::Revoked { .. }))
    }
}

impl Answers {
    /// Those that a cache on disk still holds.
    pub(super) fn load(config: &Revocation, profile: Profile, now: i64) -> Self {
        let mut state = State { round_began: now, swept: now, looked: now, ..State::default() };
        let bytes = (MAX_OCSP_BYTES * 4) as u64;
        for content in config.cache_directory.iter().flat_map(|folder| cache::answers(folder, MAX_ASKED, bytes)) {
            if let Some((target, url, answer)) = recall(&content, profile)
                && answer.check_time(now, grace(config)).is_ok()
                && now <= target.not_after()
            {
                // Who is good is asked about once he shows himself; nobody else's chain tells of itself.
                let due = if answer.status() == OcspStatus::Good { i64::MAX } else { now };
                let (urls, answer) = ([url].into(), Some(Arc::new(answer)));
                let asked = Asked { urls, seen: now, due, failures: 0, answer, target };
                state.asked.insert(*asked.target.id(), asked);
                state.is_stale = true;
            }
        }
        Self { state: Mutex::new(state), inbox: Mutex::default(), changed: AtomicBool::new(false) }
    }

    /// Tells of a certificate that a path shows, and of its issuer's. Called in handshakes: where the inbox is full, the
    /// next one tells again.
    pub(super) fn met(&self, certificate: &[u8], issuer: &[u8]) {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = inbox.bytes + certificate.len() + issuer.len();
        if bytes <= INBOX_BYTES {
            inbox.bytes = bytes;
            inbox.met.push((certificate.to_vec(), issuer.to_vec()));
        }
    }

    /// What is to be asked, the longest due first. Each is not given out again before its fetch must have ended.
    pub(super) fn questions(&self, config: &Revocation, now: i64) -> Vec<Question> {
        let met = std::mem::take(&mut *self.inbox.lock().unwrap_or_else(PoisonError::into_inner)).met;
        let mut state = self.state();
        for (certificate, issuer) in met {
            state.take_in(&certificate, &issuer, config, now);
        }
        state.sweep(config, now);
        let lease = i64::try_from(config.fetch_timeout.as_secs()).unwrap_or(i64::MAX).saturating_add(60);
        let mut due: Vec<_> =
            state.asked.values_mut().filter(|asked| asked.due <= now && !asked.urls.is_empty()).collect();
        due.sort_by_key(|asked| asked.due);
        let question = |asked: &mut Asked| {
            asked.due = now.saturating_add(lease);
            let turn = usize::try_from(asked.failures).unwrap_or_default().checked_rem(asked.urls.len());
            let own = turn.and_then(|turn| asked.urls.get(turn));
            let url = config.ocsp_responder.as_ref().or(own).cloned().unwrap_or_default();
            let place = Place::of(&url, &config.fetch_hosts);
            Question { id: *asked.target.id(), place, url, request: asked.target.request() }
        };
        due.into_iter().map(question).collect()
    }

    /// Takes what a responder has sent, if it is an answer. Blocks.
    pub(super) fn take(
        &self,
        id: &OcspId,
        url: &str,
        fetched: Result<&[u8], String>,
        (config, profile): (&Revocation, Profile),
        now: i64,
    ) {
        let Some((target, old)) = self.state().asked.get(id).map(|asked| (asked.target.clone(), asked.answer.clone()))
        else {
            return;
        };
        // The signature is checked without the lock.
        let checked = fetched.and_then(|bytes| {
            let algorithms = profile.provider().signature_verification_algorithms.all;
            let judge = || -> Result<_, OcspError> {
                let answer = target.answer(bytes, algorithms)?;
                answer.check_time(now, grace(config))?;
                let is_newer = old.as_ref().map_or(Ok(true), |old| answer.replaces(old))?;
                Ok((answer, is_newer))
            };
            judge().map(|(answer, is_newer)| (answer, is_newer, bytes)).map_err(|error| error.to_string())
        });
        let mut state = self.state();
        match checked {
            Err(why) => {
                state.complain(url, &why, now);
                if let Some(asked) = state.asked.get_mut(id) {
                    asked.due = now.saturating_add(pause_after(asked.failures));
                    asked.failures = asked.failures.saturating_add(1);
                }
            }
            Ok((answer, is_newer, bytes)) => {
                let answer = Arc::new(answer);
                if let Some(asked) = state.asked.get_mut(id) {
                    asked.failures = 0;
                    asked.due = now.saturating_add(pause(&answer, config, now));
                    if is_newer {
                        asked.answer = Some(Arc::clone(&answer));
                    }
                }
                state.recover(url);
                if is_newer {
                    state.is_stale = true;
                    state.note(&target, url, old.as_deref(), &answer);
                    drop(state);
                    remember(config, &target, url, bytes);
                }
            }
        }
    }

    /// The answers in force.
    pub(super) fn set(&self) -> OcspSet {
        let mut state = self.state();
        if std::mem::take(&mut state.is_stale) {
            let answers = state.asked.values().filter_map(|asked| asked.answer.clone());
            state.set = state.set.with(answers, state.judge_anew);
            state.judge_anew = false;
            self.changed.store(true, Ordering::Relaxed);
        }
        state.set.clone()
    }

    /// Has the set changed since this was last asked?
    pub(super) fn has_changed(&self) -> bool {
        let is_stale = self.state().is_stale;
        self.changed.swap(false, Ordering::Relaxed) || is_stale
    }

    /// Has any good answer run out, its grace included, since this was last asked?
    pub(super) fn ran_out(&self, config: &Revocation, now: i64) -> bool {
        let mut state = self.state();
        let since = std::mem::replace(&mut state.looked, now);
        let grace = grace(config);
        let ran_out = |asked: &Asked| {
            asked.answer.as_ref().is_some_and(|answer| {
                let end = answer.until().saturating_add(grace);
                answer.status() == OcspStatus::Good && since <= end && end < now
            })
        };
        since < now && state.asked.values().any(ran_out)
    }

    /// What has turned since this was last asked, to be recorded.
    pub(super) fn turned(&self) -> Vec<Turned> {
        std::mem::take(&mut self.state().changes)
    }

    pub(super) fn report(&self, config: &Revocation, now: i64) -> AnswersReport {
        let warn = i64::try_from(config.warn_before.as_secs()).unwrap_or(i64::MAX);
        let mut report = AnswersReport::default();
        for asked in self.state().asked.values() {
            report.failing += usize::from(asked.failures > 0);
            let Some(answer) = &asked.answer else {
                report.unanswered += 1;
                continue;
            };
            match answer.status() {
                OcspStatus::Revoked { .. } => report.revoked += 1,
                OcspStatus::Unknown => report.unknown += 1,
                OcspStatus::Good => {
                    report.good += 1;
                    let quarter = answer.until().saturating_sub(answer.this_update()) / 4;
                    let left = answer.until().saturating_sub(now);
                    report.due += usize::from(!asked.urls.is_empty() && left <= warn.min(quarter));
                }
            }
        }
        report
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_in(&mut self, certificate: &[u8], issuer: &[u8], config: &Revocation, now: i64) {
        let urls = match &config.ocsp_responder {
            Some(url) => vec![url.clone()],
            None => ocsp_urls(certificate).unwrap_or_default(),
        };
        if urls.is_empty() {
            return;
        }
        let fingerprint = certs::fingerprint(issuer);
        let issuer = self.issuers.entry(fingerprint).or_insert_with(|| issuer.into());
        let Ok(target) = OcspTarget::new(certificate, Arc::clone(issuer)) else { return };
        if let Some(known) = self.asked.get_mut(target.id()) {
            known.seen = now;
            if known.due == i64::MAX {
                let pause = known.answer.as_ref().map_or(0, |answer| pause(answer, config, now));
                known.due = now.saturating_add(pause);
            }
            if *known.urls != *urls {
                known.urls = urls.into();
            }
            return;
        }
        if self.asked.len() >= MAX_ASKED && !self.make_room(config, now) {
            self.complain("", "too many certificates are asked about; one more is not", now);
            return;
        }
        let asked = Asked { urls: urls.into(), seen: now, due: i64::MIN, failures: 0, answer: None, target };
        self.asked.insert(*asked.target.id(), asked);
    }

    /// Forgets the one that was not shown for the longest, unless that is only an hour.
    fn make_room(&mut self, config: &Revocation, now: i64) -> bool {
        let oldest = self.asked.values().filter(|asked| !asked.is_revoked()).min_by_key(|asked| asked.seen);
        match oldest.map(|asked| (asked.seen, *asked.target.id())) {
            Some((seen, id)) if seen < now.saturating_sub(3_600) => {
                self.forget(&id, config);
                true
            }
            _ => false,
        }
    }

    /// Forgets whom nobody shows any more, and begins a round when its time has come.
    fn sweep(&mut self, config: &Revocation, now: i64) {
        if now < self.swept.saturating_add(SWEEP) {
            return;
        }
        self.swept = now;
        let is_over = |asked: &Asked| {
            let end = if asked.is_revoked() { asked.target.not_after() } else { asked.seen.saturating_add(FORGOTTEN) };
            end < now
        };
        let over: Vec<_> = self.asked.iter().filter(|(_, asked)| is_over(asked)).map(|(id, _)| *id).collect();
        for id in over {
            self.forget(&id, config);
        }
        // What no target holds but this map.
        self.issuers.retain(|_, issuer| Arc::strong_count(issuer) > 1);
        if now >= self.round_began.saturating_add(ROUND) {
            self.round_began = now;
            self.judge_anew = true;
            self.is_stale = true;
        }
    }

    fn forget(&mut self, id: &OcspId, config: &Revocation) {
        if self.asked.remove(id).is_some_and(|asked| asked.answer.is_some()) {
            self.is_stale = true;
            if let Some(directory) = &config.cache_directory {
                cache::remove(directory, &certs::hex(id), cache::ANSWER);
            }
        }
    }

    /// Says what is wrong with a responder, once an hour each thing, for however many certificates.
    fn complain(&mut self, url: &str, why: &str, now: i64) {
        // How long something was out of date is another number each time.
        let kind: String = why.chars().filter(|c| !c.is_ascii_digit()).collect();
        let place = (url.to_owned(), kind);
        if self.told.get(&place).is_some_and(|when| now < when.saturating_add(SAY_AGAIN)) {
            return;
        }
        tracing::error!(url = %url.escape_debug(), %why, "an OCSP response is not taken; what was known stays");
        if self.told.len() >= MAX_TOLD {
            self.told.clear();
        }
        self.told.insert(place, now);
    }

    /// Says once that a responder answers again, about every certificate.
    fn recover(&mut self, url: &str) {
        let fails = |asked: &Asked| asked.failures > 0 && asked.urls.iter().any(|own| own == url);
        if self.told.keys().any(|(known, _)| known == url) && !self.asked.values().any(fails) {
            self.told.retain(|(known, _), _| known != url);
            tracing::info!(url = %url.escape_debug(), "the OCSP responder answers again");
        }
    }

    fn note(&mut self, target: &OcspTarget, url: &str, old: Option<&OcspAnswer>, new: &OcspAnswer) {
        let before = old.map_or(OcspStatus::Good, OcspAnswer::status);
        if before == new.status() || self.changes.len() >= MAX_CHANGES {
            return;
        }
        let turned = Turned {
            issuer: target.issuer_display(),
            serial: target.serial_hex(),
            url: url.to_owned(),
            status: new.status(),
            this_update: new.this_update(),
        };
        tracing::info!(issuer = %turned.issuer, serial = %turned.serial, status = ?turned.status, "a certificate's status is another");
        self.changes.push(turned);
    }
}

fn grace(config: &Revocation) -> i64 {
    i64::try_from(config.grace.as_secs()).unwrap_or(i64::MAX)
}

/// Until the next question: the configured interval, or half-way to the answer's end where that is sooner.
fn pause(answer: &OcspAnswer, config: &Revocation, now: i64) -> i64 {
    let interval = i64::try_from(config.fetch_interval.as_secs()).unwrap_or(i64::MAX);
    match answer.status() {
        OcspStatus::Good => interval.min((answer.until().saturating_sub(now) / 2).max(MIN_PAUSE)),
        OcspStatus::Revoked { .. } => interval,
        OcspStatus::Unknown => interval.min(ASK_UNKNOWN),
    }
}

/// Writes the responder's URL on a line, the target, and the response.
fn remember(config: &Revocation, target: &OcspTarget, url: &str, response: &[u8]) {
    let Some(directory) = config.cache_directory.as_ref().filter(|_| config.ocsp != OnRevocation::Off) else { return };
    let content = [url.as_bytes(), b"\n", &target.to_der()[..], response].concat();
    if let Err(error) = cache::write(directory, &certs::hex(target.id()), cache::ANSWER, &content) {
        tracing::warn!(directory = %directory.display(), %error, "an OCSP response cannot be kept for the next start");
    }
}

/// Reads what [`remember`] wrote, and proves it again.
fn recall(content: &[u8], profile: Profile) -> Option<(OcspTarget, String, OcspAnswer)> {
    let end = content.iter().position(|byte| *byte == b'\n')?;
    let (url, rest) = content.split_at_checked(end)?;
    let (target, response) = OcspTarget::from_der(rest.get(1..)?).ok()?;
    let answer = target.answer(response, profile.provider().signature_verification_algorithms.all).ok()?;
    Some((target, String::from_utf8(url.to_vec()).ok()?, answer))
}

#[cfg(test)]
mod tests;
