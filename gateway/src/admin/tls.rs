//! The TLS that operators come through, followed on disk.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use certs::profile::{UnknownProfile, operators_config};
use certs::verifier::OperatorVerifier;
use certs::{Profile, ServerIdentity};
use rustls::ServerConfig;
use rustls::pki_types::UnixTime;
use tokio_rustls::TlsAcceptor;

use crate::clock::TlsTime;
use crate::config::ListenerTls;
use crate::files::Watched;
use crate::snapshot::{CertificateEnd, Purpose};

/// Operators' certificates are verified against their own anchors, which are not the devices'. Files that change are
/// taken for the next connection; where they cannot be used, what is in force stays, and is told until they can.
pub struct OperatorsTls {
    files: ListenerTls,
    config: ArcSwap<ServerConfig>,
    ends: ArcSwap<Vec<CertificateEnd>>,
    followed: Mutex<(Watched, Option<String>)>,
}

impl OperatorsTls {
    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn load(files: &ListenerTls) -> Result<Self, String> {
        let pairs = files.identities.iter().flat_map(|files| [&files.certificate_file, &files.key_file]);
        let watched = Watched::new(pairs.chain(&files.client_ca_file).cloned().collect());
        let (config, ends) = read(files)?;
        Ok(Self {
            files: files.clone(),
            config: ArcSwap::from_pointee(config),
            ends: ArcSwap::from_pointee(ends),
            followed: Mutex::new((watched, None)),
        })
    }

    /// What the next connection is accepted by.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }

    /// When its certificates end.
    #[must_use]
    pub fn ends(&self) -> Arc<Vec<CertificateEnd>> {
        self.ends.load_full()
    }

    /// What an operator should know.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        followed.1.as_ref().map(|problem| format!("admin listener: {problem}"))
    }

    /// Looks at the files, and takes what has changed and is good. None where nothing has changed.
    ///
    /// # Errors
    /// What is wrong with which file; the old ones stay in force.
    pub fn look(&self) -> Option<Result<(), String>> {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        if !followed.0.settled() {
            return None;
        }
        let outcome = read(&self.files).map(|(config, ends)| {
            self.config.store(Arc::new(config));
            self.ends.store(Arc::new(ends));
        });
        followed.1 = outcome.as_ref().err().cloned();
        Some(outcome)
    }
}

fn read(tls: &ListenerTls) -> Result<(ServerConfig, Vec<CertificateEnd>), String> {
    let profile: Profile = tls.profile.parse().map_err(|error: UnknownProfile| error.to_string())?;
    let anchors = crate::listen::anchors(tls).map_err(|error| error.to_string())?;
    let files = tls.identities.first().ok_or("there is no certificate")?;
    let identity =
        ServerIdentity::load_files(&files.certificate_file, &files.key_file).map_err(|error| error.to_string())?;
    let verifier = Arc::new(OperatorVerifier::new(&anchors, profile));
    let config =
        operators_config(profile, &identity, verifier, Arc::new(TlsTime)).map_err(|error| error.to_string())?;
    let end = |purpose, not_after: UnixTime| CertificateEnd {
        purpose,
        name: "admin".to_owned(),
        not_after: not_after.as_secs(),
    };
    let ends =
        vec![end(Purpose::AdminServer, identity.not_after()), end(Purpose::OperatorAuthorities, anchors.not_after())];
    Ok((config, ends))
}
