//! TLS towards receivers: only the configured authorities count.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use certs::profile::{ClientSettings, client_config};
use certs::verifier::BackendVerifier;
use certs::{Anchors, Profile, ServerIdentity};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Fault;
use crate::clock::TlsTime;

/// Receivers may be old; TLS 1.2 with ECDHE and AEAD is as low as it gets.
const PROFILE: Profile = Profile::CryptrecHighTls12;

/// `tls` of a destination.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// The authorities that the receiver's certificate must come from, PEM.
    pub ca_file: PathBuf,
    /// The name in the receiver's certificate; the host of its address unless given.
    pub server_name: Option<String>,
    /// This process's own certificate, PEM, where the receiver wants one.
    pub certificate_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
}

impl TlsSettings {
    pub(super) fn absolute(&mut self, folder: &std::path::Path) {
        for path in
            [Some(&mut self.ca_file), self.certificate_file.as_mut(), self.key_file.as_mut()].into_iter().flatten()
        {
            *path = folder.join(&*path);
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let is_whole = self.certificate_file.is_some() == self.key_file.is_some();
        if is_whole { Ok(()) } else { Err("`certificate_file` and `key_file` go together".to_owned()) }
    }
}

/// What handshakes need. Files are read for each of them, so that a certificate may be replaced at any time.
#[derive(Debug)]
pub(super) struct Tls {
    settings: TlsSettings,
    name: ServerName<'static>,
    alpn: &'static [&'static [u8]],
}

impl Tls {
    /// Checks that the files can be used.
    ///
    /// # Errors
    /// [`Fault::State`] names the file.
    pub(super) fn new(settings: &TlsSettings, address: &str, alpn: &'static [&'static [u8]]) -> Result<Self, Fault> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = settings.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']').to_owned());
        let name = name.map_err(|_| Fault::Receiver(format!("`{}` is no name for a server", host.escape_debug())))?;
        let tls = Self { settings: settings.clone(), name, alpn };
        tls.config()?;
        Ok(tls)
    }

    fn config(&self) -> Result<Arc<ClientConfig>, Fault> {
        let file = |path: &std::path::Path| {
            let file = path.display().to_string();
            move |cause: String| Fault::State { file, cause }
        };
        let of_ca = file(&self.settings.ca_file);
        let authorities = Anchors::load_file(&self.settings.ca_file).map_err(|error| of_ca(error.to_string()))?;
        let identity = match (&self.settings.certificate_file, &self.settings.key_file) {
            (Some(certificate), Some(key)) => {
                let loaded = ServerIdentity::load_files(certificate, key);
                Some(loaded.map_err(|error| file(certificate)(error.to_string()))?)
            }
            _ => None,
        };
        let settings = ClientSettings {
            profile: PROFILE,
            verifier: Arc::new(BackendVerifier::new(&authorities, PROFILE)),
            identity: identity.as_ref(),
            alpn: self.alpn,
            clock: Arc::new(TlsTime),
        };
        let config = client_config(settings);
        config.map(Arc::new).map_err(|error| file(&self.settings.ca_file)(error.to_string()))
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// What went wrong.
    pub(super) async fn connect(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = self.config().map_err(|fault| io::Error::other(fault.to_string()))?;
        socket.set_nodelay(true)?;
        TlsConnector::from(config).connect(self.name.clone(), socket).await
    }
}
