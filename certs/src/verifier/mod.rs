//! From a handshake to a [`VerifiedPeer`].
//!
//! [`PeerVerifier`] answers three questions, in this order: does the chain lead to an anchor of the listener, for the
//! listener's purpose ([`Peers`]) and at this time, whom does the leaf name, and does the registry want them. rustls proves
//! the possession of the leaf's key.
//!
//! rustls asks no verifier when a session is resumed: the chain then comes out of the ticket, as it was judged when the
//! ticket was made. So a `VerifiedPeer` is made in one place only, [`PeerVerifier::peer`], which judges a resumed
//! session's chain anew, with the anchors, the registry and the time of the resumption.

mod backend;
mod chains;
mod handshake;
mod operator;
mod refused;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use policy::{DeviceId, Refusal};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::{CommonState, DistinguishedName, HandshakeKind};

use crate::path::{self, CrlSet, PathRefused, PeerName, RevocationSettings, Settings, TrustAnchor, ValidPath};
use crate::peers::{PeerIdentity, Peers};
use crate::{Anchors, Profile, fingerprint};
use chains::Chains;
pub(crate) use handshake::{Signatures, judge_clients_by, prove_by};

pub use backend::BackendVerifier;
pub use chains::ChainCache;
pub use operator::OperatorVerifier;
pub use refused::{PeerRefused, note, noting, refusal_of, refusal_of_io, refused_device};

/// What the registry says of a peer: may it connect?
pub type Admit = Arc<dyn Fn(&PeerIdentity) -> Result<(), Refusal> + Send + Sync>;

/// Told of each certificate on a path that leads to an anchor, and of its issuer's, when the path is judged and not
/// remembered: whoever fetches CRLs learns here from where. Revocation is not yet judged then, and the leaf's key not
/// proved; but every one of them was signed by the one after it. It must not block.
pub type Notice = Arc<dyn Fn(&[u8], &[u8]) + Send + Sync>;

/// A device, a user or a patient who was proved in a handshake. Only [`PeerVerifier`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPeer {
    identity: PeerIdentity,
    fingerprint: [u8; 32],
    not_after: UnixTime,
    resumed: bool,
}

impl VerifiedPeer {
    /// Who.
    #[must_use]
    pub const fn identity(&self) -> &PeerIdentity {
        &self.identity
    }

    /// The device, where it is one.
    #[must_use]
    pub const fn device(&self) -> Option<&DeviceId> {
        match &self.identity {
            PeerIdentity::Device(device) => Some(device),
            PeerIdentity::User { .. } | PeerIdentity::Patient(_) => None,
        }
    }

    /// SHA-256 of the leaf certificate.
    #[must_use]
    pub const fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// The end of the leaf's validity: a connection that lives longer has to be ended then.
    #[must_use]
    pub const fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// Was the session resumed?
    #[must_use]
    pub const fn resumed(&self) -> bool {
        self.resumed
    }
}

/// The client certificate verifier of a listener. A certificate is mandatory.
pub struct PeerVerifier {
    chains: ArcSwap<Chains>,
    signatures: Signatures,
    hints: Vec<DistinguishedName>,
    peers: Peers,
    admit: Admit,
}

impl PeerVerifier {
    /// A verifier that validates paths ([`path::validate`]) to `anchors`, with the signature
    /// algorithms of `profile`, and takes certificates for `peers` alone: for devices where that is a trust domain. Nobody
    /// looks at revocation before [`PeerVerifier::with_revocation`].
    #[must_use]
    pub fn new(anchors: &Anchors, profile: Profile, peers: impl Into<Peers>, admit: Admit) -> Self {
        let peers = peers.into();
        let algorithms = profile.provider().signature_verification_algorithms;
        let settings = peers.settings(algorithms.all);
        let trust = anchors.trust();
        let hints = hints(&trust);
        let chains = Chains::new(trust, CrlSet::default(), settings, peers.clone(), Arc::default());
        Self { chains: ArcSwap::from_pointee(chains), signatures: Signatures(algorithms), hints, peers, admit }
    }

    /// The verifier with these CRLs, asked as `settings` say.
    #[must_use]
    pub fn with_revocation(self, crls: CrlSet, settings: RevocationSettings) -> Self {
        self.change(|chains| {
            chains.crls = crls;
            chains.settings.revocation = settings;
        });
        self
    }

    /// The verifier with another's memory of chains. A chain that was judged by other anchors or CRLs is not taken.
    #[must_use]
    pub fn with_cache(self, cache: Arc<ChainCache>) -> Self {
        self.change(|chains| chains.cache = cache);
        self
    }

    /// The verifier that tells of the certificates it meets.
    #[must_use]
    pub fn with_notice(self, notice: Notice) -> Self {
        self.change(|chains| chains.notice = Some(notice));
        self
    }

    /// Judges by these CRLs from here on. Of two that change it at once, the last one's stay.
    pub fn set_crls(&self, crls: CrlSet) {
        self.change(|chains| chains.crls = crls);
    }

    /// The version of the CRLs that it judges by ([`CrlSet::version`]).
    #[must_use]
    pub fn crls_version(&self) -> [u8; 32] {
        *self.chains.load().crls.version()
    }

    pub(crate) const fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    fn change(&self, change: impl FnOnce(&mut Chains)) {
        let mut chains = Chains::clone(&self.chains.load());
        change(&mut chains);
        self.chains.store(Arc::new(chains.renewed()));
    }

    /// The memory of chains that held.
    #[must_use]
    pub fn cache(&self) -> Arc<ChainCache> {
        Arc::clone(&self.chains.load().cache)
    }

    /// The peer of a connection whose handshake has ended. A full handshake was judged by
    /// [`verify_client_cert`](ClientCertVerifier::verify_client_cert) and is only read; a resumed one is judged anew,
    /// with this verifier's anchors and registry, at `now` (C8).
    ///
    /// Call it on the verifier of the connection's own TLS configuration right after the handshake: only then was a
    /// full handshake judged by these anchors. After a reload, [`PeerVerifier::recheck`] judges older connections.
    ///
    /// # Errors
    /// [`PeerRefused`] as in the handshake itself; the connection must be closed.
    pub fn peer(&self, connection: &CommonState, now: UnixTime) -> Result<VerifiedPeer, PeerRefused> {
        let chain = connection.peer_certificates().unwrap_or_default();
        match connection.handshake_kind() {
            Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest) => {
                let (leaf, _) = split(chain)?;
                let (identity, not_after) = self.peers.read(leaf)?;
                Ok(VerifiedPeer { identity, fingerprint: fingerprint(leaf), not_after, resumed: false })
            }
            Some(HandshakeKind::Resumed) => {
                let peer = self.recheck(chain, now)?;
                Ok(VerifiedPeer { resumed: true, ..peer })
            }
            None => Err(PeerRefused::new(Refusal::HandshakeFailed, "the handshake has not ended")),
        }
    }

    /// Judges a chain (leaf first) whose leaf's key was proved before: path and dates at `now`, identity, registry.
    ///
    /// # Errors
    /// [`PeerRefused`] as in the handshake itself.
    pub fn recheck(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<VerifiedPeer, PeerRefused> {
        let (leaf, intermediates) = split(chain)?;
        let (identity, not_after) = self.judge(leaf, intermediates, now)?;
        Ok(VerifiedPeer { identity, fingerprint: fingerprint(leaf), not_after, resumed: false })
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(PeerIdentity, UnixTime), PeerRefused> {
        self.chains.load().check(leaf, intermediates, now)?;
        let (identity, not_after) = self.peers.read(leaf)?;
        match (self.admit)(&identity) {
            Ok(()) => Ok((identity, not_after)),
            Err(refusal) => Err(PeerRefused::registry(refusal, &identity)),
        }
    }
}

/// The names that a client is told, so that it can choose among its certificates.
fn hints(anchors: &[TrustAnchor]) -> Vec<DistinguishedName> {
    anchors.iter().map(|anchor| DistinguishedName::from(anchor.subject_der().to_vec())).collect()
}

/// [`path::validate`] of a chain as rustls hands it over.
fn validate(
    leaf: &[u8],
    intermediates: &[CertificateDer<'_>],
    anchors: &[TrustAnchor],
    crls: &CrlSet,
    settings: &Settings,
    name: Option<&PeerName>,
    now: UnixTime,
) -> Result<ValidPath, PathRefused> {
    let others: Vec<&[u8]> = intermediates.iter().map(AsRef::as_ref).collect();
    path::validate(leaf, &others, anchors, crls, settings, name, seconds(now))
}

fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

fn split<'a, 'b>(
    chain: &'a [CertificateDer<'b>],
) -> Result<(&'a CertificateDer<'b>, &'a [CertificateDer<'b>]), PeerRefused> {
    chain
        .split_first()
        .ok_or_else(|| PeerRefused::new(Refusal::CertificateMissing, "the peer presented no certificate"))
}

impl ClientCertVerifier for PeerVerifier {
    judge_clients_by!(|this| judge of this, this.hints, this.signatures);
}

impl fmt::Debug for PeerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerVerifier").field("peers", &self.peers).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
