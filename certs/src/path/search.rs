//! The search for a path (RFC 4158) and its validation (RFC 5280 6.1).
//!
//! Depth first, upwards from the leaf. Only an issuer whose key verifies the signature is followed, each pair of
//! certificate and issuer is checked once, and no certificate or key of the same name comes twice in a path; so loops
//! end, and a crowd of certificates costs a bounded number of checks.

use std::collections::BTreeMap;

use super::anchor::{display_oid, of_key};
use super::certificate::{Certificate, PublicKey, Signed};
use super::constraints::{NameConstraints, NameFault};
use super::policy::Policies;
use super::refused::{PathRefusal, PathRefused};
use super::revocation::Link;
use super::{CrlSet, PeerName, Settings, TrustAnchor, names};

/// Who may be at the end of a path.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role<'p> {
    /// The peer, whose name may be looked for.
    Leaf { peer: Option<&'p PeerName> },
    /// Who signed a CRL with a key of its own, below the same anchor as the certificate in question.
    CrlSigner { anchor: usize },
}

/// Whose key signed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Issuer {
    Anchor(usize),
    Certificate(usize),
}

/// A path that holds.
#[derive(Debug)]
pub(super) struct Found {
    /// Indices in the pool, the leaf's issuer first.
    pub(super) issuers: Vec<usize>,
    pub(super) anchor: usize,
    pub(super) since: i64,
    pub(super) until: i64,
    pub(super) policies: Vec<Vec<u8>>,
}

/// One search, and what is left of its budget.
pub(super) struct Search<'s, 'a> {
    pub(super) pool: &'s [Certificate<'a>],
    pub(super) anchors: &'s [TrustAnchor],
    pub(super) crls: &'s CrlSet,
    pub(super) settings: &'s Settings,
    pub(super) now: i64,
    signatures: usize,
    comparisons: usize,
    steps: usize,
    /// Was the certificate's signature the issuer's?
    known: BTreeMap<(usize, Issuer), bool>,
}

/// The nearest refusal so far.
#[derive(Default)]
struct Best(Option<PathRefused>);

impl Best {
    fn note(&mut self, refused: PathRefused) {
        if self.0.as_ref().is_none_or(|known| known.refusal.rank() < refused.refusal.rank()) {
            self.0 = Some(refused);
        }
    }
}

impl<'s, 'a> Search<'s, 'a> {
    pub(super) fn new(
        pool: &'s [Certificate<'a>],
        anchors: &'s [TrustAnchor],
        crls: &'s CrlSet,
        settings: &'s Settings,
        now: i64,
    ) -> Self {
        let limits = &settings.limits;
        Self {
            pool,
            anchors,
            crls,
            settings,
            now,
            signatures: limits.signatures,
            comparisons: limits.comparisons,
            steps: limits.steps,
            known: BTreeMap::new(),
        }
    }

    /// Finds a path up from a certificate of the pool. `depth` counts the CRL signers on the way.
    pub(super) fn find(&mut self, start: usize, role: Role<'_>, depth: u8) -> Result<Found, PathRefused> {
        let mut best = Best::default();
        let mut path = vec![start];
        if let Some(found) = self.extend(&mut path, role, depth, &mut best)? {
            return Ok(found);
        }
        Err(best.0.unwrap_or_else(|| self.refuse(start, PathRefusal::UnknownIssuer)))
    }

    /// An error ends the whole search; a path that does not hold is noted.
    fn extend(
        &mut self,
        path: &mut Vec<usize>,
        role: Role<'_>,
        depth: u8,
        best: &mut Best,
    ) -> Result<Option<Found>, PathRefused> {
        let Some((&top, pool)) = path.last().zip(Some(self.pool)) else { return Ok(None) };
        let Some(child) = pool.get(top) else { return Ok(None) };
        let anchors = self.anchors;
        for (index, anchor) in anchors.iter().enumerate() {
            if matches!(role, Role::CrlSigner { anchor } if anchor != index) {
                continue;
            }
            if !anchor.subject().is_ok_and(|subject| subject.same(child.issuer)) {
                continue;
            }
            self.step(top)?;
            if !self.is_issued(top, Issuer::Anchor(index), best)? {
                continue;
            }
            match self.check(path, index, role, depth) {
                Ok(found) => return Ok(Some(found)),
                Err(refused) if refused.refusal == PathRefusal::TooMuchWork => return Err(refused),
                Err(refused) => best.note(refused),
            }
        }
        let renaming = path.iter().skip(1).filter_map(|at| pool.get(*at)).filter(|issuer| !issuer.is_self_issued());
        let full = renaming.count() >= self.settings.limits.depth;
        for (index, candidate) in pool.iter().enumerate() {
            if index == top || !candidate.subject.same(child.issuer) || self.repeats(path, candidate) {
                continue;
            }
            self.step(top)?;
            if full && !candidate.is_self_issued() {
                best.note(self.refuse(top, PathRefusal::TooDeep));
                continue;
            }
            if let Err(refusal) = may_issue(candidate) {
                best.note(self.refuse(index, refusal));
                continue;
            }
            if !self.is_issued(top, Issuer::Certificate(index), best)? {
                continue;
            }
            path.push(index);
            let found = self.extend(path, role, depth, best)?;
            path.pop();
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The same name with the same key proves nothing anew.
    fn repeats(&self, path: &[usize], candidate: &Certificate<'_>) -> bool {
        path.iter()
            .filter_map(|at| self.pool.get(*at))
            .any(|known| known.key.whole == candidate.key.whole && known.subject.same(candidate.subject))
    }

    fn step(&mut self, index: usize) -> Result<(), PathRefused> {
        match self.steps.checked_sub(1) {
            Some(left) => {
                self.steps = left;
                Ok(())
            }
            None => Err(self.refuse(index, PathRefusal::TooMuchWork)),
        }
    }

    fn is_issued(&mut self, child: usize, issuer: Issuer, best: &mut Best) -> Result<bool, PathRefused> {
        if let Some(known) = self.known.get(&(child, issuer)) {
            return Ok(*known);
        }
        let (Some(certificate), Some(key)) = (self.pool.get(child), self.key_of(issuer)) else { return Ok(false) };
        let good = match self.verify(&certificate.signed, key) {
            Ok(good) => good,
            Err(PathRefusal::TooMuchWork) => return Err(self.refuse(child, PathRefusal::TooMuchWork)),
            Err(refusal) => {
                best.note(self.refuse(child, refusal));
                false
            }
        };
        self.known.insert((child, issuer), good);
        Ok(good)
    }

    pub(super) fn key_of(&self, issuer: Issuer) -> Option<PublicKey<'s>> {
        match issuer {
            Issuer::Anchor(index) => self.anchors.get(index)?.key().ok(),
            Issuer::Certificate(index) => self.pool.get(index).map(|issuer| issuer.key),
        }
    }

    /// Checks a signature.
    ///
    /// # Errors
    /// If the key or the algorithm is none to believe in, or the budget is spent.
    pub(super) fn verify(&mut self, signed: &Signed<'_>, key: PublicKey<'_>) -> Result<bool, PathRefusal> {
        key.check().map_err(of_key)?;
        let algorithm = self.settings.algorithms.iter().find(|algorithm| {
            algorithm.signature_alg_id().as_ref() == signed.algorithm
                && algorithm.public_key_alg_id().as_ref() == key.algorithm
        });
        let algorithm = algorithm.ok_or(PathRefusal::Algorithm)?;
        self.signatures = self.signatures.checked_sub(1).ok_or(PathRefusal::TooMuchWork)?;
        Ok(algorithm.verify_signature(key.key, signed.message, signed.signature).is_ok())
    }

    pub(super) fn refuse(&self, index: usize, refusal: PathRefusal) -> PathRefused {
        let subject = self.pool.get(index).map(|certificate| certificate.subject.display()).unwrap_or_default();
        PathRefused { refusal, subject }
    }

    /// RFC 5280 6.1.2 to 6.1.5, downwards from the anchor. The signatures are checked already.
    fn check(&mut self, path: &[usize], anchor_at: usize, role: Role<'_>, depth: u8) -> Result<Found, PathRefused> {
        let start = path.first().copied().unwrap_or_default();
        let (pool, anchors, settings, now) = (self.pool, self.anchors, self.settings, self.now);
        let Some(anchor) = anchors.get(anchor_at) else { return Err(self.refuse(start, PathRefusal::UnknownIssuer)) };
        let bare = |refusal| PathRefused { refusal, subject: "trust anchor".to_owned() };
        check_time(anchor.not_before, anchor.not_after, now).map_err(bare)?;
        if !anchor.serves(settings.purpose.oid(), super::extensions::ANY_EXTENDED_KEY_USAGE) {
            return Err(bare(PathRefusal::WrongPurpose("the anchor's extended key usage does not include it")));
        }
        let mut validity = (anchor.not_before, anchor.not_after);
        let mut above: Vec<NameConstraints<'_>> = Vec::new();
        above.extend(anchor.name_constraints().map_err(|malformed| bare(PathRefusal::Malformed(malformed)))?);
        let mut room = anchor.path_length.map_or(usize::MAX, |length| usize::try_from(length).unwrap_or(usize::MAX));
        let mut policies = Policies::new(&settings.policies, path.len());
        let mut signer = Issuer::Anchor(anchor_at);
        let mut held = Vec::new();
        for (left, &index) in path.iter().enumerate().rev() {
            let Some(certificate) = pool.get(index) else { continue };
            let is_last = left == 0;
            let refuse = |refusal| PathRefused { refusal, subject: certificate.subject.display() };
            check_time(certificate.not_before, certificate.not_after, now).map_err(refuse)?;
            validity = (validity.0.max(certificate.not_before), validity.1.min(certificate.not_after));
            let self_issued = certificate.is_self_issued();
            if is_last || !self_issued {
                for constraints in &above {
                    constraints.check(certificate, &mut self.comparisons).map_err(|fault| {
                        refuse(match fault {
                            NameFault::NotPermitted(name) => PathRefusal::NameNotPermitted(name),
                            NameFault::Budget => PathRefusal::TooMuchWork,
                        })
                    })?;
                }
            }
            policies.certificate(certificate, is_last).map_err(|not| refuse(PathRefusal::PolicyNotAccepted(not.0)))?;
            if let Some(oid) = certificate.extensions.unknown_critical {
                return Err(refuse(PathRefusal::UnknownCriticalExtension(display_oid(oid))));
            }
            if is_last {
                check_end(certificate, settings, role).map_err(refuse)?;
                let finished = policies.finish(certificate, &settings.policies);
                held = finished.map_err(|not| refuse(PathRefusal::PolicyNotAccepted(not.0)))?;
                self.check_revocation(Link { index, issuer: signer, anchor: anchor_at, path, depth }, &mut validity)?;
                break;
            }
            may_issue(certificate).map_err(refuse)?;
            if !certificate.extensions.serves(settings.purpose.oid(), true) && matches!(role, Role::Leaf { .. }) {
                return Err(refuse(PathRefusal::WrongPurpose("a CA's extended key usage does not include it")));
            }
            if !self_issued {
                room = room.checked_sub(1).ok_or_else(|| refuse(PathRefusal::PathLength))?;
            }
            if let Some(length) = certificate.extensions.basic_constraints.and_then(|own| own.path_length) {
                room = room.min(usize::try_from(length).unwrap_or(usize::MAX));
            }
            above.extend(certificate.extensions.name_constraints.clone());
            policies.prepare(certificate).map_err(|not| refuse(PathRefusal::PolicyNotAccepted(not.0)))?;
            self.check_revocation(Link { index, issuer: signer, anchor: anchor_at, path, depth }, &mut validity)?;
            signer = Issuer::Certificate(index);
        }
        Ok(Found {
            issuers: path.get(1..).unwrap_or_default().to_vec(),
            anchor: anchor_at,
            since: validity.0,
            until: validity.1,
            policies: held,
        })
    }
}

fn check_time(not_before: i64, not_after: i64, now: i64) -> Result<(), PathRefusal> {
    if now < not_before {
        Err(PathRefusal::NotYetValid { not_before })
    } else if now > not_after {
        Err(PathRefusal::Expired { not_after })
    } else {
        Ok(())
    }
}

/// May the certificate issue others? (RFC 5280 6.1.4 (k), (n))
fn may_issue(certificate: &Certificate<'_>) -> Result<(), PathRefusal> {
    if !certificate.v3 || !certificate.is_authority() {
        return Err(PathRefusal::NotAuthority("its basic constraints do not say CA"));
    }
    if certificate.extensions.key_usage.is_some_and(|usage| !usage.signs_certificates()) {
        return Err(PathRefusal::NotAuthority("its key usage lacks `keyCertSign`"));
    }
    Ok(())
}

/// What the last certificate must be.
fn check_end(certificate: &Certificate<'_>, settings: &Settings, role: Role<'_>) -> Result<(), PathRefusal> {
    certificate.key.check().map_err(of_key)?;
    let Role::Leaf { peer } = role else { return Ok(()) };
    if certificate.is_authority() && !settings.authority_as_leaf {
        return Err(PathRefusal::WrongPurpose("it is a CA's"));
    }
    let extensions = &certificate.extensions;
    if !certificate.is_authority() && extensions.key_usage.is_some_and(|usage| usage.signs_certificates()) {
        return Err(PathRefusal::WrongPurpose("its key usage says CA, its basic constraints do not"));
    }
    if extensions.key_usage.is_some_and(|usage| !usage.signs_data()) {
        return Err(PathRefusal::WrongPurpose("its key usage lacks `digitalSignature`"));
    }
    if !extensions.serves(settings.purpose.oid(), false) {
        return Err(PathRefusal::WrongPurpose("its extended key usage does not include it"));
    }
    let named = |peer| extensions.alternative_names.is_some_and(|content| names::stands_for(content, peer));
    match peer {
        Some(peer) if !named(peer) => Err(PathRefusal::WrongName),
        Some(_) | None => Ok(()),
    }
}
