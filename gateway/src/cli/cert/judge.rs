//! What a listener would say to a certificate.

use std::sync::Arc;

use certs::hpki::{self, HpkiUser, RoleTable};
use certs::path::{
    self, CrlSet, Description, PathRefusal, PathRefused, PolicySettings, Purpose, RevocationMode, RevocationSettings,
    Settings, TrustAnchor,
};
use certs::{Anchors, PeerIdentity, PeerRefused, PeerVerifier, Peers, Profile, TrustDomain};
use policy::{DeviceId, Refusal, Subject};
use rustls::pki_types::{CertificateDer, UnixTime};

use crate::clock::Reading;
use crate::listen::PeerRules;
use crate::registry::Directory;

/// The arc of everything that HPKI's certificate policy names.
const HPKI: &str = "1.2.392.100495.";

/// What certificates are judged by.
pub(super) struct Judge {
    pub(super) now: Reading,
    /// None without a configuration.
    pub(super) domain: Option<TrustDomain>,
    pub(super) doors: Vec<Door>,
    pub(super) registry: Result<Directory, String>,
}

/// A listener's trust.
pub(super) struct Door {
    pub(super) name: String,
    pub(super) profile: Profile,
    pub(super) rules: PeerRules,
    pub(super) anchors: Anchors,
    pub(super) crls: CrlSet,
    pub(super) revocation: RevocationSettings,
}

/// One certificate, judged.
pub(super) struct Report {
    pub(super) file: String,
    /// From 1.
    pub(super) number: usize,
    pub(super) count: usize,
    pub(super) sha256: String,
    pub(super) content: Result<Description, path::Malformed>,
    pub(super) now: Reading,
    /// None without a configuration, or for a CA's certificate.
    pub(super) device: Option<Result<DeviceId, String>>,
    pub(super) registry: Option<Result<Arc<Subject>, String>>,
    /// None where nothing in it is HPKI's.
    pub(super) user: Option<Result<User, String>>,
    pub(super) doors: Vec<Verdict>,
}

/// An HPKI certificate's holder.
pub(super) struct User {
    pub(super) name: String,
    pub(super) number: String,
    pub(super) japanese_names: Vec<String>,
    pub(super) roles: Vec<Role>,
}

pub(super) struct Role {
    /// As the certificate spells it.
    pub(super) text: String,
    /// The role in policies, and its name in Japanese; none where the table does not have the text.
    pub(super) known: Option<(String, String)>,
}

/// What one listener says.
pub(super) struct Verdict {
    pub(super) listener: String,
    /// Whom it takes certificates for.
    pub(super) purpose: &'static str,
    /// The certificate is one of the listener's anchors.
    pub(super) is_anchor: bool,
    /// What the listener asks of CRLs, in words.
    pub(super) revocation: &'static str,
    /// The subjects from the leaf's issuer to the anchor.
    pub(super) chain: Result<Vec<String>, PathRefused>,
    /// The same under HPKI's authentication policy, for a certificate of HPKI where that is not the listener's own.
    pub(super) chain_hpki: Option<Result<(), PathRefused>>,
    /// None for a CA's certificate.
    pub(super) taken: Option<Result<Taken, PeerRefused>>,
}

/// Whom a listener takes a certificate for.
pub(super) struct Taken {
    pub(super) identity: PeerIdentity,
    /// Whom the session would be for; none where the registry cannot be read.
    pub(super) subject: Option<Arc<Subject>>,
    /// Its roles, with the Japanese names that the listener's table has.
    pub(super) roles: Vec<(String, Option<String>)>,
}

impl Report {
    /// A listener was asked, and none takes it.
    pub(super) fn is_refused(&self) -> bool {
        self.content.is_err()
            || (!self.doors.is_empty() && self.doors.iter().all(|door| matches!(door.taken, Some(Err(_)))))
    }
}

impl Taken {
    /// Site and device, site and user, or who vouches for the patient and their name there.
    pub(super) fn name(&self) -> String {
        match (&self.identity, self.subject.as_ref().and_then(|subject| subject.site().zip(subject.user()))) {
            (PeerIdentity::Device(device), _) => device.to_string(),
            (PeerIdentity::User { .. }, Some((site, user))) => format!("{site}/{user}"),
            (PeerIdentity::User { holder, .. }, None) => format!("{}@{}", holder.number, holder.issuer_hex()),
            (PeerIdentity::Patient(patient), _) => patient.to_string(),
        }
    }

    pub(super) const fn kind(&self) -> &'static str {
        match &self.identity {
            PeerIdentity::Device(_) => "device",
            PeerIdentity::User { .. } => "user",
            PeerIdentity::Patient(_) => "patient",
        }
    }
}

impl Judge {
    /// Judges the certificates of a file, each with the CAs among the others as possible issuers.
    pub(super) fn all(&self, file: &str, all: &[CertificateDer<'static>]) -> Vec<Report> {
        let contents: Vec<_> = all.iter().map(|certificate| Description::of(certificate)).collect();
        let is_authority = |content: &Result<Description, _>| content.as_ref().is_ok_and(|read| read.is_authority);
        let authorities: Vec<_> = all
            .iter()
            .zip(&contents)
            .filter(|(_, content)| is_authority(content))
            .map(|(der, _)| der.clone())
            .collect();
        let one = |((index, der), content): ((usize, &CertificateDer<'static>), Result<Description, _>)| {
            let leaf = !is_authority(&content);
            let device = self.domain.as_ref().filter(|_| leaf).map(|domain| certs::device_of(der, domain));
            let user = content.as_ref().ok().filter(|read| is_hpki(read)).map(|_| hpki::user_of(der));
            let is_of_hpki = user.is_some();
            let registry = match (&device, &user) {
                (Some(Ok(device)), _) => Some(self.registered(|directory| directory.lookup(device))),
                (_, Some(Ok(user))) => Some(self.registered(|directory| directory.user_of(&user.holder))),
                _ => None,
            };
            let user = user.map(|user| user.map(|user| self.user(user)).map_err(|error| error.to_string()));
            Report {
                file: file.to_owned(),
                number: index + 1,
                count: all.len(),
                sha256: certs::hex(&certs::fingerprint(der)),
                now: self.now,
                device: device.map(|device| device.map_err(|error| error.to_string())),
                registry,
                user,
                doors: self.doors.iter().map(|door| self.ask(door, der, &authorities, leaf, is_of_hpki)).collect(),
                content,
            }
        };
        all.iter().enumerate().zip(contents).map(one).collect()
    }

    fn registered(
        &self,
        ask: impl FnOnce(&Directory) -> Result<Arc<Subject>, Refusal>,
    ) -> Result<Arc<Subject>, String> {
        match &self.registry {
            Ok(directory) => ask(directory).map_err(|refusal| refusal.label().to_owned()),
            Err(error) => Err(format!("the registry cannot be read: {error}")),
        }
    }

    /// With the roles of the first listener of users, or of the table that ships.
    fn user(&self, user: HpkiUser) -> User {
        let shipped = RoleTable::default();
        let door = self.doors.iter().find(|door| matches!(door.rules.peers, Peers::Users { .. }));
        let table = door.map_or(&shipped, |door| &door.rules.roles);
        let role = |text: String| {
            let known = table.role(&text).map(|role| (role.role.to_string(), role.japanese.to_string()));
            Role { text, known }
        };
        User {
            name: user.name,
            number: user.holder.number,
            japanese_names: user.japanese_names,
            roles: user.qualifications.into_iter().map(role).collect(),
        }
    }

    fn ask(
        &self,
        door: &Door,
        leaf: &CertificateDer<'static>,
        others: &[CertificateDer<'static>],
        is_leaf: bool,
        is_of_hpki: bool,
    ) -> Verdict {
        let seconds = self.now.unix_ns.div_euclid(1_000_000_000);
        let anchors: Vec<_> =
            door.anchors.certificates().iter().filter_map(|anchor| TrustAnchor::from_der(anchor).ok()).collect();
        let rest: Vec<&[u8]> = others.iter().filter(|other| *other != leaf).map(AsRef::as_ref).collect();
        let algorithms = door.profile.provider().signature_verification_algorithms.all;
        let validate = |policies: PolicySettings| {
            let settings = Settings {
                policies,
                revocation: door.revocation,
                authority_as_leaf: !is_leaf,
                ..Settings::new(Purpose::ClientAuth, algorithms)
            };
            path::validate(leaf, &rest, &anchors, &door.crls, &settings, None, seconds)
        };
        let own = door.rules.peers.settings(algorithms).policies;
        let is_own = matches!(door.rules.peers, Peers::Users { .. });
        let chain = validate(own).map(|found| {
            let anchor = door.anchors.certificates().get(found.anchor()).into_iter();
            let subject = |der: &CertificateDer<'_>| Description::of(der).map_or_else(|_| String::new(), |d| d.subject);
            found.issuers().iter().chain(anchor).map(subject).collect()
        });
        Verdict {
            listener: door.name.clone(),
            purpose: door.rules.peers.label(),
            revocation: match (door.revocation.mode, door.revocation.ocsp) {
                (RevocationMode::Off, RevocationMode::Off) => "nobody asks: the listener's `revocation` is off",
                _ if door.revocation.requires() => "every certificate must be known not to be revoked",
                (RevocationMode::Prefer, RevocationMode::Off) => {
                    "by the CRLs at hand; what none of them speaks of passes"
                }
                _ => "by the CRLs and OCSP answers at hand; what none of them speaks of passes",
            },
            is_anchor: door.anchors.certificates().contains(leaf),
            chain,
            chain_hpki: (is_of_hpki && !is_own).then(|| validate(hpki::policy_settings(false)).map(drop)),
            taken: is_leaf.then(|| self.taken(door, leaf, others)),
        }
    }

    /// By the very verifier of the handshake. A registry that cannot be read refuses nobody here: that is said apart.
    fn taken(
        &self,
        door: &Door,
        leaf: &CertificateDer<'static>,
        others: &[CertificateDer<'static>],
    ) -> Result<Taken, PeerRefused> {
        let directory = self.registry.as_ref().ok().cloned();
        let admit = Arc::new(move |peer: &PeerIdentity| match &directory {
            Some(directory) => directory.admit(peer),
            None => Ok(()),
        });
        let verifier = PeerVerifier::new(&door.anchors, door.profile, door.rules.peers.clone(), admit)
            .with_revocation(door.crls.clone(), door.revocation);
        let rest = others.iter().filter(|other| *other != leaf).cloned();
        let chain: Vec<_> = std::iter::once(leaf.clone()).chain(rest).collect();
        let now = u64::try_from(self.now.unix_ns).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_nanos(now));
        let identity = verifier.recheck(&chain, now)?.identity().clone();
        let directory = self.registry.as_ref().ok();
        let subject = directory.and_then(|directory| directory.subject(&identity, door.rules.proved()).ok());
        let japanese = |role: &str| door.rules.roles.named(role).map(|entry| entry.japanese.to_string());
        let roles = subject.iter().flat_map(|subject| &subject.roles);
        let roles = roles.map(|role| (role.to_string(), japanese(role.as_str()))).collect();
        Ok(Taken { identity, subject, roles })
    }
}

fn is_hpki(read: &Description) -> bool {
    !read.is_authority && (read.has_attributes || read.policies.iter().any(|policy| policy.starts_with(HPKI)))
}

/// The clock's bound, where the certificate's end or beginning is within it.
pub(super) fn is_within_clock_error(refusal: &PathRefusal, now: &Reading) -> bool {
    let (PathRefusal::Expired { not_after: moment } | PathRefusal::NotYetValid { not_before: moment }) = refusal else {
        return false;
    };
    let away = now.unix_ns.div_euclid(1_000_000_000).abs_diff(*moment);
    now.error_ns.is_none_or(|error| away <= error.div_ceil(1_000_000_000))
}
