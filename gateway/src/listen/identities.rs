//! A listener's own certificates: loaded, chosen by server name, and followed on disk.
//!
//! They stand outside the snapshot: another certificate of the gateway's changes nothing about who may come in, so
//! replacing one needs no reload, judges no connection anew and ends none. A pair that cannot be used leaves the one in
//! use as it is, and says so until it is mended.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use certs::issue::ACME_TLS;
use certs::{ServerIdentities, ServerIdentity, ServerIdentityError, Staple};
use policy::Refusal;
use rustls::ServerConfig;
use rustls::pki_types::UnixTime;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::{IdentityFiles, Listener};

/// What the files of a listener's identities amount to, and what has become of the files since.
pub struct Identities {
    listener: String,
    server_names: Vec<String>,
    /// None until the first certificate is there: then no handshake succeeds, and nothing stands in for it.
    served: ArcSwapOption<ServerIdentities>,
    // Held by the control thread alone, and by scrapes there.
    followed: Mutex<Vec<Followed>>,
    /// What ACME has not brought yet. Locked after `followed`.
    awaited: Mutex<Vec<Awaited>>,
    /// The answers to validations under way, by server name; hardly ever any.
    challenges: ArcSwap<BTreeMap<String, Arc<ServerConfig>>>,
}

/// An identity whose files are the gateway's own and not there, or not good.
struct Awaited {
    files: IdentityFiles,
    problem: String,
}

/// One identity and its files.
struct Followed {
    files: IdentityFiles,
    label: String,
    identity: ServerIdentity,
    pair: Watched,
    /// When a pair that lies there and is not valid yet will be.
    valid_from: Option<UnixTime>,
    staple: Option<Staple>,
    response: Watched,
    /// Whether the response is in time and stapled.
    stapled: bool,
}

/// The state of files that go together.
struct Watched {
    /// As they were when they were read last.
    seen: Stamps,
    /// As they were at the last look, where that was something else: they are read once they stay the same.
    moving: Option<Stamps>,
    /// Why what lies there is not used.
    problem: Option<String>,
}

/// What tells one state of a file from another without reading it; none where there is no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(Option<(u64, u64, u64, i64, i64)>);

type Stamps = (Stamp, Stamp);

impl Stamp {
    fn of(path: &Path) -> Self {
        let metadata = std::fs::metadata(path).ok();
        Self(metadata.map(|m| (m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec())))
    }
}

impl Watched {
    const fn new(seen: Stamps, problem: Option<String>) -> Self {
        Self { seen, moving: None, problem }
    }

    /// Whether the files have become others and have stayed so since the last look: certificate and key are two files,
    /// and whoever replaces them does so one after the other.
    fn settled(&mut self, found: Stamps) -> bool {
        if found == self.seen {
            self.moving = None;
            return false;
        }
        let is_settled = self.moving == Some(found);
        self.moving = (!is_settled).then_some(found);
        if is_settled {
            self.seen = found;
        }
        is_settled
    }
}

/// What came of a look at the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Another certificate and key are shown from this moment on.
    Replaced {
        /// Which identity.
        identity: String,
    },
    /// What lies there cannot be used; the old one is shown as before.
    Kept {
        /// Which identity.
        identity: String,
        /// Why.
        error: String,
    },
    /// A response is stapled from this moment on.
    Stapled {
        /// Which identity.
        identity: String,
    },
    /// The file of a response holds none that can be stapled, or none any more.
    StapleRefused {
        /// Which identity.
        identity: String,
        /// Why.
        error: String,
    },
}

/// One identity as metrics show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The certificate's first name, with a number where another identity of the listener has the same.
    pub identity: String,
    /// The end of its validity, seconds since 1970.
    pub not_after: u64,
    /// What is shown is what lies in the files.
    pub is_current: bool,
    /// Whether a response is stapled; none where no file is configured.
    pub stapled: Option<bool>,
}

impl Identities {
    /// Loads the files of all identities of a listener.
    ///
    /// # Errors
    /// [`ServerIdentityError`] names the file. A response that cannot be stapled is no error: see
    /// [`Identities::warnings`].
    pub fn load(listener: &Listener, now: UnixTime) -> Result<Self, ServerIdentityError> {
        let mut all: Vec<Followed> = Vec::new();
        let mut awaited = Vec::new();
        for files in &listener.tls.identities {
            match Followed::load(files, now) {
                Ok(mut followed) => {
                    followed.name(&all);
                    all.push(followed);
                }
                Err(error) if files.acme.is_some() => {
                    awaited.push(Awaited { files: files.clone(), problem: awaiting(files, &error) });
                }
                Err(error) => return Err(error),
            }
        }
        let served = resolver(&all, &listener.server_names);
        if served.is_none() && awaited.is_empty() && !listener.tls.identities.is_empty() {
            let source = certs::pem::PemError::Empty;
            return Err(ServerIdentityError::CertificatePem { name: listener.name.clone(), source });
        }
        Ok(Self {
            listener: listener.name.clone(),
            server_names: listener.server_names.clone(),
            served: ArcSwapOption::from_pointee(served),
            followed: Mutex::new(all),
            awaited: Mutex::new(awaited),
            challenges: ArcSwap::default(),
        })
    }

    /// Why these must not take the place of `old`, the same listener's before a reload: what lies in a file has expired or
    /// is not valid yet, and what was shown from there is valid.
    pub(super) fn untimely(&self, old: &Self, now: UnixTime) -> Option<String> {
        let valid: Vec<PathBuf> = {
            let old = old.followed.lock().unwrap_or_else(PoisonError::into_inner);
            let valid = old.iter().filter(|was| was.identity.check_validity(now).is_ok());
            valid.map(|was| was.files.certificate_file.clone()).collect()
        };
        let new = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut replaced = new.iter().filter(|one| valid.contains(&one.files.certificate_file));
        replaced.find_map(|one| one.untimely(&one.identity, now))
    }

    /// Looks at the files, and takes what has changed and is good. Reads metadata alone where nothing has.
    pub fn look(&self, now: UnixTime) -> Vec<Change> {
        let mut all = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changes = Vec::new();
        let mut is_other = self.receive(&mut all, now, &mut changes);
        for at in 0..all.len() {
            let others: Vec<_> = all.iter().map(|one| one.identity.clone()).collect();
            let lacking = self.served.load();
            let lost = |new: &ServerIdentity| {
                let mut all = others.clone();
                if let Some(place) = all.get_mut(at) {
                    *place = new.clone();
                }
                let served = ServerIdentities::new(&all, &self.server_names)?;
                let lacking = lacking.as_ref().map(|served| served.uncovered()).unwrap_or_default();
                served.uncovered().iter().find(|name| !lacking.contains(name)).cloned()
            };
            if let Some(one) = all.get_mut(at) {
                is_other |= one.look(now, lost, &mut changes);
            }
        }
        if is_other && let Some(served) = resolver(&all, &self.server_names) {
            self.served.store(Some(Arc::new(served)));
        }
        changes
    }

    /// Takes what was awaited and has come.
    fn receive(&self, all: &mut Vec<Followed>, now: UnixTime, changes: &mut Vec<Change>) -> bool {
        let before = all.len();
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        awaited.retain_mut(|one| match Followed::load(&one.files, now) {
            Ok(mut followed) => {
                followed.name(all);
                changes.push(Change::Replaced { identity: followed.label.clone() });
                all.push(followed);
                false
            }
            Err(error) => {
                one.problem = awaiting(&one.files, &error);
                true
            }
        });
        all.len() > before
    }

    /// Why no handshake can succeed; none where there is a certificate.
    #[must_use]
    pub fn closed(&self) -> Option<String> {
        if self.served.load().is_some() {
            return None;
        }
        let awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        // A door without TLS awaits none, and has no handshakes.
        (!awaited.is_empty()).then(|| awaited.iter().map(|one| one.problem.as_str()).collect::<Vec<_>>().join("; "))
    }

    /// Answers the validation of a server name from now on (RFC 8737), or no more.
    pub fn set_challenge(&self, name: &str, answer: Option<Arc<ServerConfig>>) {
        self.challenges.rcu(|old| {
            let mut new = BTreeMap::clone(old);
            match &answer {
                Some(answer) => new.insert(name.to_owned(), Arc::clone(answer)),
                None => new.remove(name),
            };
            new
        });
    }

    /// Whether any validation is under way.
    #[must_use]
    pub fn is_challenged(&self) -> bool {
        !self.challenges.load().is_empty()
    }

    /// The answer for whoever offers `acme-tls/1` and no other protocol, and asks for a name under validation. Everybody
    /// else is none of its business.
    #[must_use]
    pub fn challenge(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        let mut offered = hello.alpn()?;
        if offered.next() != Some(ACME_TLS) || offered.next().is_some() {
            return None;
        }
        self.challenges.load().get(hello.server_name()?).cloned()
    }

    /// The files of responses that the gateway itself keeps fresh, with the identity that each is about, and until when
    /// what is stapled is good.
    #[must_use]
    pub fn to_be_fetched(&self) -> Vec<(PathBuf, ServerIdentity, Option<UnixTime>)> {
        let all = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = all.iter().filter(|one| one.files.ocsp_fetch);
        let of = |one: &Followed| {
            let until = one.staple.as_ref().filter(|_| one.stapled).map(Staple::next_update);
            Some((one.files.ocsp_file.clone()?, one.identity.clone(), until))
        };
        wanted.filter_map(of).collect()
    }

    /// What an operator should know, one line each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let all = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let problems = all.iter().flat_map(|one| [&one.pair.problem, &one.response.problem]).flatten();
        let listener = &self.listener;
        let mut warnings: Vec<_> = problems.map(|problem| format!("listener `{listener}`: {problem}")).collect();
        if let Some(served) = &*self.served.load() {
            warnings.extend(served.uncovered().iter().map(|name| {
                format!("listener `{listener}`: no certificate that its clients get is for its server name `{name}`")
            }));
        }
        let awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        warnings.extend(awaited.iter().map(|one| format!("listener `{listener}`: {}", one.problem)));
        warnings
    }

    /// The identities for metrics, in the order of the configuration.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        let all = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = |one: &Followed| Shown {
            identity: one.label.clone(),
            not_after: one.identity.not_after().as_secs(),
            is_current: one.pair.problem.is_none(),
            stapled: one.files.ocsp_file.is_some().then_some(one.stapled),
        };
        all.iter().map(shown).collect()
    }
}

impl ResolvesServerCert for Identities {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        let served = self.served.load();
        let Some(served) = &*served else {
            certs::verifier::note(Refusal::ServerNameUnknown, "there is no certificate yet".to_owned());
            return None;
        };
        let chosen = served.choose(name, hello.signature_schemes());
        if chosen.is_none() {
            let name = name.unwrap_or_default().escape_debug();
            certs::verifier::note(Refusal::ServerNameUnknown, format!("server name `{name}`"));
        }
        chosen
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identities").field("listener", &self.listener).finish_non_exhaustive()
    }
}

fn awaiting(files: &IdentityFiles, error: &ServerIdentityError) -> String {
    let names = files.acme.as_deref().unwrap_or_default().join("`, `");
    if let ServerIdentityError::Unreadable { source, .. } = error
        && source.kind() == std::io::ErrorKind::NotFound
    {
        return format!("no certificate for `{names}` yet: ACME has not brought one");
    }
    format!("no certificate for `{names}`: {error}; ACME is to bring another")
}

/// The identities with what they staple; `None` if there are none.
fn resolver(all: &[Followed], server_names: &[String]) -> Option<ServerIdentities> {
    let stapling = |one: &Followed| one.identity.with_staple(one.staple.as_ref().filter(|_| one.stapled));
    ServerIdentities::new(&all.iter().map(stapling).collect::<Vec<_>>(), server_names)
}

impl Followed {
    fn load(files: &IdentityFiles, now: UnixTime) -> Result<Self, ServerIdentityError> {
        // The files' state goes before their content: what changes in between is read again.
        let (pair, response) = (pair_of(files), response_of(files));
        let identity = ServerIdentity::load_files(&files.certificate_file, &files.key_file)?;
        let mut followed = Self {
            label: String::new(),
            pair: Watched::new(pair, None),
            valid_from: None,
            response: Watched::new(response, None),
            staple: None,
            stapled: false,
            files: files.clone(),
            identity,
        };
        followed.read_response(now);
        Ok(followed)
    }

    /// Takes a name that none of `others` has.
    fn name(&mut self, others: &[Self]) {
        let first = self.identity.names().first().map_or("unnamed", String::as_str);
        let taken = |label: &str| others.iter().any(|other| other.label == label);
        let mut label = first.to_owned();
        let mut number = 2;
        while taken(&label) {
            label = format!("{first}#{number}");
            number += 1;
        }
        self.label = label;
    }

    /// True if something else is to be shown.
    fn look(
        &mut self,
        now: UnixTime,
        lost: impl FnOnce(&ServerIdentity) -> Option<String>,
        changes: &mut Vec<Change>,
    ) -> bool {
        let was = (self.stapled, self.staple.clone());
        let complained = self.response.problem.is_some();
        let mut replaced = false;
        if self.pair.settled(pair_of(&self.files)) || self.valid_from.is_some_and(|begin| begin <= now) {
            let identity = self.label.clone();
            self.valid_from = None;
            match self.read_pair(now, lost) {
                Ok(new) => {
                    replaced = new.chain() != self.identity.chain();
                    self.identity = new;
                    self.pair.problem = None;
                    if replaced {
                        changes.push(Change::Replaced { identity });
                    }
                }
                Err(error) => {
                    self.pair.problem = Some(format!("{error}; the certificate in use stays"));
                    changes.push(Change::Kept { identity, error });
                }
            }
        }
        if self.response.settled(response_of(&self.files)) || replaced {
            self.read_response(now);
        } else {
            self.judge_response(now);
        }
        let is = (self.stapled, self.staple.clone());
        let identity = self.label.clone();
        match &self.response.problem {
            Some(error) if !complained => changes.push(Change::StapleRefused { identity, error: error.clone() }),
            None if self.stapled && is != was => changes.push(Change::Stapled { identity }),
            Some(_) | None => {}
        }
        replaced || is != was
    }

    fn read_pair(
        &mut self,
        now: UnixTime,
        lost: impl FnOnce(&ServerIdentity) -> Option<String>,
    ) -> Result<ServerIdentity, String> {
        let IdentityFiles { certificate_file, key_file, .. } = &self.files;
        let new = ServerIdentity::load_files(certificate_file, key_file).map_err(|error| error.to_string())?;
        if self.identity.check_validity(now).is_ok()
            && let Some(why) = self.untimely(&new, now)
        {
            self.valid_from = Some(new.not_before()).filter(|begin| *begin > now);
            return Err(why);
        }
        match lost(&new) {
            None => Ok(new),
            Some(name) => {
                let file = certificate_file.display();
                Err(format!("certificate `{file}` is not for the server name `{name}`, for which the one in use is"))
            }
        }
    }

    fn untimely(&self, new: &ServerIdentity, now: UnixTime) -> Option<String> {
        let untimely = new.check_validity(now).err()?;
        Some(format!("`{}`: {untimely}, and the one in use is valid", self.files.certificate_file.display()))
    }

    /// Reads the response anew.
    fn read_response(&mut self, now: UnixTime) {
        let Some(file) = &self.files.ocsp_file else { return };
        match Staple::load_file(file, &self.identity) {
            Ok(staple) => {
                self.staple = Some(staple);
                self.response.problem = None;
                self.judge_response(now);
            }
            Err(error) => {
                // What was stapled before is still good for its own time, unless the certificate is another.
                let old = self.staple.take().filter(|old| Staple::from_der(old.der(), &self.identity).is_ok());
                self.staple = old;
                self.judge_response(now);
                self.response.problem = Some(error.to_string());
            }
        }
    }

    /// Staples what is in time.
    fn judge_response(&mut self, now: UnixTime) {
        let Some((file, staple)) = self.files.ocsp_file.as_ref().zip(self.staple.as_ref()) else {
            self.stapled = false;
            return;
        };
        match staple.check_time(now) {
            Ok(()) => {
                if !self.stapled {
                    self.response.problem = None;
                }
                self.stapled = true;
            }
            Err(error) => {
                self.stapled = false;
                self.response.problem = Some(format!("OCSP response `{}`: {error}", file.display()));
            }
        }
    }
}

fn pair_of(files: &IdentityFiles) -> Stamps {
    (Stamp::of(&files.certificate_file), Stamp::of(&files.key_file))
}

fn response_of(files: &IdentityFiles) -> Stamps {
    (files.ocsp_file.as_deref().map_or(Stamp(None), Stamp::of), Stamp(None))
}

#[cfg(test)]
mod tests;
