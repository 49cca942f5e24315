//! Where a token's PIN comes from: as passphrases do, never from the command line or the configuration.

use std::fmt;
use std::path::Path;

use super::uri::KeyUri;
use crate::authority::{CaError, Source};

/// The environment variable with a token's PIN.
pub const PIN_VARIABLE: &str = "SEKISHO_TOKEN_PIN";

/// The systemd credential with a token's PIN.
pub const PIN_CREDENTIAL: &str = "sekisho-token-pin";

/// Where to read the PIN when it is needed.
#[derive(Clone)]
pub enum Pin {
    /// Read anew for every login, so that a mended file counts.
    From(Source),
    /// Typed, and kept for further logins.
    Typed(String),
}

impl Pin {
    /// The file of the URI, or else the systemd credential, or else the variable.
    #[must_use]
    pub fn of(uri: &KeyUri) -> Self {
        let credential = std::env::var_os("CREDENTIALS_DIRECTORY")
            .map(|folder| Path::new(&folder).join(PIN_CREDENTIAL))
            .filter(|path| path.exists());
        Self::From(match (&uri.pin_file, credential) {
            (Some(file), _) => Source::File(file.clone()),
            (None, Some(path)) => Source::Credential(path),
            (None, None) => Source::Variable(PIN_VARIABLE),
        })
    }

    /// As [`Pin::of`]; where nothing says the PIN, it is asked for at the terminal.
    ///
    /// # Errors
    /// [`CaError::Passphrase`] if there is no terminal.
    pub fn of_or_ask(uri: &KeyUri) -> Result<Self, CaError> {
        let known = Self::of(uri);
        if let Self::From(Source::Variable(name)) = &known
            && std::env::var_os(name).is_none()
        {
            let words = format!("PIN of token {}", uri.token_name());
            return Source::Terminal(words.into()).read().map(Self::Typed);
        }
        Ok(known)
    }

    pub(super) fn read(&self) -> Result<String, CaError> {
        match self {
            Self::From(source) => source.read(),
            Self::Typed(pin) => Ok(pin.clone()),
        }
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(source) => f.debug_tuple("From").field(source).finish(),
            Self::Typed(_) => f.write_str("Typed(…)"),
        }
    }
}
