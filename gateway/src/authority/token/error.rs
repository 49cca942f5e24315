//! What can be wrong with a token. No text here ever holds a PIN.

use std::path::PathBuf;
use std::time::Duration;

/// Why a token's key is not to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The URI (RFC 7512).
    #[error("the key's URI `{uri}`: {reason}")]
    Uri {
        /// As it was given, escaped; without a value that may be a PIN.
        uri: String,
        /// What is wrong.
        reason: String,
    },
    /// The module cannot be loaded or used.
    #[error("PKCS#11 module `{}`: {reason}", module.display())]
    Module {
        /// The shared object.
        module: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The module does not answer.
    #[error("PKCS#11 module `{}` has not answered for {} s", module.display(), after.as_secs())]
    Silent {
        /// The shared object.
        module: PathBuf,
        /// How long it was waited for.
        after: Duration,
    },
    /// No slot has the token.
    #[error("PKCS#11 module `{}` has no token {token}", module.display())]
    NoToken {
        /// The shared object.
        module: PathBuf,
        /// Which token.
        token: String,
    },
    /// Several slots have a token of that description.
    #[error("PKCS#11 module `{}` has several tokens {token}; name its `serial`, too", module.display())]
    SeveralTokens {
        /// The shared object.
        module: PathBuf,
        /// Which token.
        token: String,
    },
    /// There is no PIN to log in with.
    #[error("token {token}: no PIN: {reason}")]
    NoPin {
        /// Which token.
        token: String,
        /// Where it was looked for.
        reason: String,
    },
    /// The token does not take the PIN.
    #[error("token {token}: the PIN is wrong; it is not tried again until it is another{left}")]
    WrongPin {
        /// Which token.
        token: String,
        /// What the token says about further attempts.
        left: &'static str,
    },
    /// The token takes no PIN any more.
    #[error("token {token}: its PIN is locked; the security officer can set a new one")]
    PinLocked {
        /// Which token.
        token: String,
    },
    /// There is no such key.
    #[error("token {token} has no private key {object}")]
    NoKey {
        /// Which token.
        token: String,
        /// Which object.
        object: String,
    },
    /// Several keys are called so.
    #[error("token {token} has several private keys {object}; name the `id`, too")]
    SeveralKeys {
        /// Which token.
        token: String,
        /// Which object.
        object: String,
    },
    /// A key that is to be made is there.
    #[error("token {token} has a key {object}, and nothing is overwritten; `--existing-key` takes it")]
    Exists {
        /// Which token.
        token: String,
        /// Which object.
        object: String,
    },
    /// The key is not one that an authority may have.
    #[error("token {token}, key {object}: {reason}")]
    Unfit {
        /// Which token.
        token: String,
        /// Which object.
        object: String,
        /// Why.
        reason: &'static str,
    },
    /// The token did not do what it was asked.
    #[error("token {token}: {operation}: {reason}")]
    Failed {
        /// Which token.
        token: String,
        /// The function of PKCS#11.
        operation: String,
        /// Its return value.
        reason: String,
    },
}
