//! A certificate that may be shown, and is judged where it is.

use std::sync::Arc;

use rustls::server::danger::ClientCertVerifier;

use crate::PeerVerifier;
use crate::verifier::judge_clients_by;

/// Lets in whoever has no certificate, and judges as everywhere whoever has one.
#[derive(Debug)]
pub(super) struct Optional(pub(super) Arc<PeerVerifier>);

impl ClientCertVerifier for Optional {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    judge_clients_by!(|this| verify_client_cert of this.0, this.0.root_hint_subjects(), this.0.signatures());
}
