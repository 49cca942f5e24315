//! The authority's keys in a PKCS#11 token: an HSM, a smart card, or SoftHSM2.
//!
//! The module is a shared object that is loaded into the process; [`module`] gives it a thread of its own, which nothing
//! else runs on. Sessions stay open between signatures. A token that goes away is an error by name; the next signature
//! after it is back opens a new session.

mod driver;
mod error;
mod module;
mod pin;
mod uri;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use certs::issue::{IssueError, KeyKind, RemoteFault, RemoteKey, RemoteSigner};

use module::Module;

pub use error::TokenError;
pub use pin::{PIN_CREDENTIAL, PIN_VARIABLE, Pin};
pub use uri::{KeyUri, SCHEME};

/// The public half of a token's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Public {
    kind: KeyKind,
    point: Vec<u8>,
}

/// A private key on a token.
pub struct TokenKey {
    uri: KeyUri,
    pin: Pin,
    module: Module,
    fault: ArcSwapOption<String>,
}

impl TokenKey {
    /// A key that may or may not be there; the token is not asked.
    ///
    /// # Errors
    /// [`TokenError::Module`] if there can be no thread.
    pub fn new(uri: KeyUri, pin: Pin) -> Result<Arc<Self>, TokenError> {
        let module = Module::at(uri.module())?;
        Ok(Arc::new(Self { uri, pin, module, fault: ArcSwapOption::empty() }))
    }

    /// Makes the key on the token: sensitive, and not extractable.
    ///
    /// # Errors
    /// [`TokenError`]; [`TokenError::Exists`] if there is one.
    pub fn generate(self: &Arc<Self>, kind: KeyKind) -> Result<RemoteKey, IssueError> {
        let (uri, pin) = (self.uri.clone(), self.pin.clone());
        self.remote(self.module.ask(move |driver| driver.generate(&uri, &pin, kind)))
    }

    /// The key that is there.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn existing(self: &Arc<Self>) -> Result<RemoteKey, IssueError> {
        let (uri, pin) = (self.uri.clone(), self.pin.clone());
        self.remote(self.module.ask(move |driver| driver.public(&uri, &pin)))
    }

    /// Takes back a key that was made.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn destroy(&self) -> Result<(), TokenError> {
        let (uri, pin) = (self.uri.clone(), self.pin.clone());
        self.module.ask(move |driver| driver.destroy(&uri, &pin))
    }

    /// Why the last signature failed or was none of the authority's; none after a good one.
    #[must_use]
    pub fn fault(&self) -> Option<Arc<String>> {
        self.fault.load_full()
    }

    /// Says what came of the last signature, for whoever checked it.
    pub fn note(&self, fault: Option<String>) {
        self.fault.store(fault.map(Arc::new));
    }

    /// Which key.
    #[must_use]
    pub const fn uri(&self) -> &KeyUri {
        &self.uri
    }

    fn remote(self: &Arc<Self>, public: Result<Public, TokenError>) -> Result<RemoteKey, IssueError> {
        let public = public.map_err(|error| IssueError::Remote(error.into()))?;
        RemoteKey::new(public.kind, &public.point, Arc::clone(self) as Arc<dyn RemoteSigner>)
    }
}

impl RemoteSigner for TokenKey {
    fn sign_digest(&self, digest: &[u8]) -> Result<Vec<u8>, RemoteFault> {
        let (uri, pin, digest) = (self.uri.clone(), self.pin.clone(), digest.to_vec());
        let signed = self.module.ask(move |driver| driver.sign(&uri, &pin, &digest));
        if let Err(error) = &signed {
            self.note(Some(error.to_string()));
        }
        Ok(signed?)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("uri", &self.uri).finish_non_exhaustive()
    }
}
