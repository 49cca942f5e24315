//! Revocation: by CRLs (RFC 5280 6.3), which lists speak of a certificate, who signed them, and what they say; and by
//! OCSP (RFC 6960), what the issuer's responder has said of it.

use std::sync::Arc;

use super::certificate::Certificate;
use super::crl::{Crl, Scope};
use super::name::Name;
use super::ocsp::{self, OcspStatus};
use super::points::{ALL_REASONS, DistributionPoint};
use super::refused::{PathRefusal, PathRefused};
use super::search::{Issuer, Role, Search};

/// How much is asked of revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RevocationMode {
    /// Nobody looks.
    #[default]
    Off,
    /// What is revoked is refused; what nobody speaks of passes.
    Prefer,
    /// Every certificate of the path must be known not to be revoked.
    Require,
}

/// How revocation is judged.
///
/// Whoever is asked and says that a certificate is revoked is believed. If one of both is [`RevocationMode::Require`],
/// a certificate passes once one of those that are asked, whichever it is, says that it is good, and is of today.
///
/// | `mode`, `ocsp` | `Off` | `Prefer` | `Require` |
/// |---|---|---|---|
/// | `Off` | nobody looks | revoked by OCSP: refused | must be good by OCSP |
/// | `Prefer` | revoked by a CRL: refused | revoked by either: refused | must be good by a CRL or by OCSP |
/// | `Require` | must be good by a CRL | must be good by a CRL or by OCSP | must be good by a CRL or by OCSP |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RevocationSettings {
    /// How much is asked of CRLs.
    pub mode: RevocationMode,
    /// How much is asked of OCSP.
    pub ocsp: RevocationMode,
    /// How long a list or an answer is used after its next update was due, in seconds.
    pub grace: u32,
}

impl RevocationSettings {
    /// Must every certificate be known to be good?
    #[must_use]
    pub fn requires(&self) -> bool {
        self.mode == RevocationMode::Require || self.ocsp == RevocationMode::Require
    }
}

/// How deep the paths of separate CRL signers go: a signer's own status is asked of lists that may be signed by another.
const MAX_SIGNER_DEPTH: u8 = 2;

/// Nobody has answered yet.
const NO_ANSWER: &str = "there is no OCSP response about it";

/// From when until when something holds.
type Window = (i64, i64);

/// A list, and how long its signer is good.
type Signed<'c> = (&'c Crl, Window);

/// A certificate in a path, and what is above it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link<'p> {
    pub(super) index: usize,
    pub(super) issuer: Issuer,
    pub(super) anchor: usize,
    pub(super) path: &'p [usize],
    /// CRL signers on the way here.
    pub(super) depth: u8,
}

/// What lists say of one certificate.
enum Status {
    Good { since: i64, until: i64 },
    Unknown(&'static str),
}

impl Search<'_, '_> {
    /// Narrows `since` and `until` to when the answer holds.
    ///
    /// # Errors
    /// [`PathRefused`] if the certificate is revoked, or if nobody knows and somebody must.
    pub(super) fn check_revocation(&mut self, link: Link<'_>, validity: &mut Window) -> Result<(), PathRefused> {
        let settings = self.settings.revocation;
        let asks = |mode, is_empty: bool| match mode {
            RevocationMode::Off => false,
            RevocationMode::Prefer => !is_empty,
            RevocationMode::Require => true,
        };
        let mut unknown = None;
        let mut is_good = false;
        if asks(settings.ocsp, self.crls.answers().is_empty()) {
            match self.answered(link)? {
                Status::Unknown(why) => unknown = Some(why),
                Status::Good { since, until } => {
                    is_good = true;
                    *validity = (validity.0.max(since), validity.1.min(until));
                }
            }
        }
        if asks(settings.mode, self.crls.is_empty()) {
            // A list that is not valid yet changes the answer when it is.
            let issuer = self.pool.get(link.index).map(|certificate| certificate.issuer);
            let lists = issuer.map(|issuer| self.crls.of_issuer(issuer)).unwrap_or_default();
            let coming = lists.iter().map(|crl| crl.this_update()).filter(|begin| *begin > self.now).min();
            validity.1 = validity.1.min(coming.map_or(i64::MAX, |begin| begin.saturating_sub(1)));
            match self.listed(link)? {
                // Of two troubles the nearer to an answer is told.
                Status::Unknown(why) if unknown.is_none_or(|known| known == NO_ANSWER && !lists.is_empty()) => {
                    unknown = Some(why);
                }
                Status::Unknown(_) => {}
                Status::Good { since, until } => {
                    is_good = true;
                    *validity = (validity.0.max(since), validity.1.min(until));
                }
            }
        }
        if is_good || !settings.requires() {
            return Ok(());
        }
        let why = unknown.unwrap_or("nobody was asked");
        Err(self.refuse(link.index, PathRefusal::RevocationUnknown(why)))
    }

    /// What the issuer's responder has said of it.
    fn answered(&self, link: Link<'_>) -> Result<Status, PathRefused> {
        let Some((certificate, key)) = self.pool.get(link.index).zip(self.key_of(link.issuer)) else {
            return Ok(Status::Unknown("there is no certificate"));
        };
        let id = ocsp::id_of(certificate.issuer.der(), key.whole, certificate.serial);
        let Some(answer) = self.crls.answers().get(&id) else {
            return Ok(Status::Unknown(NO_ANSWER));
        };
        match answer.status() {
            // What is out of date still tells whom it revoked.
            OcspStatus::Revoked { when, reason } => {
                return Err(self.refuse(link.index, PathRefusal::Revoked { when, reason }));
            }
            OcspStatus::Unknown => return Ok(Status::Unknown("its OCSP responder does not know it")),
            OcspStatus::Good => {}
        }
        let (since, until) = answer.window();
        let until = until.saturating_add(i64::from(self.settings.revocation.grace));
        if !(since..=until).contains(&self.now) {
            return Ok(Status::Unknown("its OCSP response is out of date"));
        }
        // A delegated responder that its CA revoked vouches for nobody any more.
        let lists = self.crls.of_issuer(certificate.issuer).iter().filter(|crl| crl.is_proved());
        if let Some(responder) = answer.responder()
            && lists.filter_map(|crl| crl.entry(responder)).any(|entry| entry.is_some())
        {
            return Ok(Status::Unknown("its OCSP responder was revoked"));
        }
        Ok(Status::Good { since, until })
    }

    /// What its issuer's lists say of it.
    fn listed(&mut self, link: Link<'_>) -> Result<Status, PathRefused> {
        let Some(certificate) = self.pool.get(link.index) else {
            return Ok(Status::Unknown("there is no certificate"));
        };
        let crls = self.crls;
        let lists = crls.of_issuer(certificate.issuer);
        let points = &certificate.extensions.distribution_points;
        let mut why = match (lists.is_empty(), points.iter().all(|point| point.indirect) && !points.is_empty()) {
            (true, true) => "its CRLs are indirect",
            (true, false) => "there is no CRL of its issuer",
            (false, _) => "no CRL of its issuer is about it",
        };
        let (mut known, mut validity) = (0_u16, (i64::MIN, i64::MAX));
        let mut scopes: Vec<&Scope> = Vec::new();
        for crl in lists.iter().filter(|crl| !crl.is_delta()) {
            let reasons = reasons_covered(crl.scope(), certificate, points);
            // Lists come newest first: an older one of the same scope is out of date.
            if reasons == 0 || scopes.contains(&crl.scope()) {
                continue;
            }
            if crl.this_update() > self.now {
                why = "its CRL is not valid yet";
                continue;
            }
            let Some(signed) = self.signed(crl, link)? else {
                why = "the signature of its CRL is not its issuer's";
                continue;
            };
            scopes.push(crl.scope());
            let delta = self.delta(crl, lists, link)?;
            let grace = i64::from(self.settings.revocation.grace);
            let is_current = |delta: &Crl| delta.next_update().saturating_add(grace) >= self.now;
            // A delta that is out of date still tells whom it revoked, and no longer whom it let go.
            let entry = match delta.and_then(|(delta, _)| Some((delta, delta.entry(certificate.serial)?))) {
                Some((delta, changed)) if changed.is_some() || is_current(delta) => changed,
                _ => crl.entry(certificate.serial).flatten(),
            };
            // A list that is out of date still tells whom it revoked.
            if let Some((when, reason)) = entry {
                return Err(self.refuse(link.index, PathRefusal::Revoked { when, reason }));
            }
            let until = delta.map_or(crl.next_update(), |(delta, _)| crl.next_update().min(delta.next_update()));
            let until = until.saturating_add(i64::from(self.settings.revocation.grace));
            if until < self.now {
                why = "its CRL is out of date";
                continue;
            }
            known |= reasons;
            for (since, until) in
                [(crl.this_update(), until), signed].into_iter().chain(delta.map(|(_, signed)| signed))
            {
                validity = (validity.0.max(since), validity.1.min(until));
            }
        }
        if known == ALL_REASONS {
            Ok(Status::Good { since: validity.0, until: validity.1 })
        } else {
            Ok(Status::Unknown(if known == 0 { why } else { "its CRLs do not cover all reasons" }))
        }
    }

    /// The newest delta that brings a complete list up to date, and how long its signer is good. It may be out of date
    /// itself; what stands in the complete list is then known to be.
    fn delta<'c>(
        &mut self,
        complete: &Crl,
        lists: &'c [Arc<Crl>],
        link: Link<'_>,
    ) -> Result<Option<Signed<'c>>, PathRefused> {
        let mut newest: Option<Signed<'_>> = None;
        for delta in lists.iter().filter(|delta| delta.builds_on(complete)) {
            if delta.this_update() <= self.now
                && newest.is_none_or(|(known, _)| delta.is_newer_than(known))
                && let Some(signed) = self.signed(delta, link)?
            {
                newest = Some((delta, signed));
            }
        }
        Ok(newest)
    }

    /// Was the list signed by the certificate's issuer: with the key that signed the certificate, or with another one
    /// of the same name and the same origin? If so, from when until when that holds.
    fn signed(&mut self, crl: &Crl, link: Link<'_>) -> Result<Option<Window>, PathRefused> {
        const ALWAYS: Window = (i64::MIN, i64::MAX);
        let Ok(name) = crl.issuer() else { return Ok(None) };
        if self.may_sign_crls(link.issuer) && self.verifies(crl, link.issuer, link.index)? {
            return Ok(Some(ALWAYS));
        }
        if link.depth >= MAX_SIGNER_DEPTH {
            return Ok(None);
        }
        for other in 0..self.pool.len() {
            let signer = Issuer::Certificate(other);
            if signer == link.issuer
                || !self.is_crl_signer(other, name, link)
                || !self.verifies(crl, signer, link.index)?
            {
                continue;
            }
            match self.find(other, Role::CrlSigner { anchor: link.anchor }, link.depth + 1) {
                Ok(found) => return Ok(Some((found.since, found.until))),
                Err(refused) if refused.refusal == PathRefusal::TooMuchWork => return Err(refused),
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// May the certificate vouch for a CRL of this name? RFC 5280 wants a path to the same anchor (6.3.3 (f)); more is
    /// asked here, since anybody below the anchor might call himself so: it must be certified by itself, or by who
    /// certified the issuer of that name in the path.
    fn is_crl_signer(&self, index: usize, name: Name<'_>, link: Link<'_>) -> bool {
        let Some(signer) = self.pool.get(index) else { return false };
        let mut of_path = link.path.iter().filter_map(|at| self.pool.get(*at)).filter(|own| own.subject.same(name));
        signer.subject.same(name)
            && signer.extensions.key_usage.is_some_and(|usage| usage.signs_crls())
            && (signer.issuer.same(name) || of_path.any(|own| own.issuer.same(signer.issuer)))
    }

    fn may_sign_crls(&self, issuer: Issuer) -> bool {
        match issuer {
            Issuer::Anchor(anchor) => self.anchors.get(anchor).is_some_and(|anchor| anchor.signs_crls),
            Issuer::Certificate(index) => self
                .pool
                .get(index)
                .is_some_and(|issuer| issuer.extensions.key_usage.is_none_or(|usage| usage.signs_crls())),
        }
    }

    fn verifies(&mut self, crl: &Crl, issuer: Issuer, index: usize) -> Result<bool, PathRefused> {
        let Some(key) = self.key_of(issuer) else { return Ok(false) };
        if crl.was_verified_by(key.whole) {
            return Ok(true);
        }
        let Ok(signed) = crl.signed() else { return Ok(false) };
        let good = match self.verify(&signed, key) {
            Err(PathRefusal::TooMuchWork) => return Err(self.refuse(index, PathRefusal::TooMuchWork)),
            outcome => outcome == Ok(true),
        };
        if good {
            crl.verified_by(key.whole);
        }
        Ok(good)
    }
}

/// The reasons for which the list can speak of the certificate (RFC 5280 6.3.3 (b) to (e)).
fn reasons_covered(scope: &Scope, certificate: &Certificate<'_>, points: &[DistributionPoint<'_>]) -> u16 {
    let authority = certificate.is_authority();
    if (scope.only_users && authority) || (scope.only_authorities && !authority) {
        return 0;
    }
    let of_points = points
        .iter()
        .filter(|point| !point.indirect)
        .filter(|point| {
            let Some(name) = &point.name else { return false };
            let comparable = name.comparable(certificate.issuer).unwrap_or_default();
            scope.names.is_empty() || comparable.iter().any(|name| scope.names.contains(name))
        })
        .fold(0, |reasons, point| reasons | point.reasons);
    // Whatever the certificate says, its issuer's own point counts: without a name, or with the issuer's.
    let own = scope.names.is_empty() || scope.names.contains(&certificate.issuer.canonical());
    scope.reasons & if own { ALL_REASONS } else { of_points }
}
