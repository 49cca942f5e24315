//! Identity providers whose tokens are taken.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use policy::token::Rules;

/// One identity provider (R1, R9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenIssuer {
    /// What its tokens must be.
    pub rules: Arc<Rules>,
    /// How it is known that a token is one of its own.
    pub source: TokenSource,
}

/// How a token is proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// By keys in a file (a JWK set), which is followed.
    File(PathBuf),
    /// By keys that are fetched in the background.
    Fetched {
        /// Where from: `https`, or `http` on a loopback address.
        url: String,
        /// The only authorities that may vouch for that server; none for plain text.
        ca_file: Option<PathBuf>,
        /// From one fetch to the next.
        refresh: Duration,
        /// How long keys are believed after they should have been fetched again.
        grace: Duration,
        /// The longest that a fetch may take.
        timeout: Duration,
        /// Where they are kept for the next start.
        cache: PathBuf,
    },
    /// By keys that are fetched from where the issuer's own document says (OpenID Connect Discovery 1.0).
    Discovered {
        /// The only authorities that may vouch for its servers; none for plain text.
        ca_file: Option<PathBuf>,
        /// From one fetch of document and keys to the next.
        refresh: Duration,
        /// How long keys are believed after they should have been fetched again.
        grace: Duration,
        /// The longest that an answer may take.
        timeout: Duration,
        /// Where keys are kept for the next start.
        cache: PathBuf,
    },
    /// By asking about each (RFC 7662).
    Introspection(Introspection),
}

/// Whom to ask about opaque tokens, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introspection {
    /// The endpoint: `https`, or `http` on a loopback address.
    pub url: String,
    /// The only authorities that may vouch for it; none for plain text.
    pub ca_file: Option<PathBuf>,
    /// The name of the gateway as a client, and the file with its secret, for `Authorization: Basic`.
    pub basic: Option<(String, PathBuf)>,
    /// The gateway's certificate and key as a client (RFC 8705 2).
    pub identity: Option<(PathBuf, PathBuf)>,
    /// How long an answer counts.
    pub cache: Duration,
    /// The longest that an answer may take.
    pub timeout: Duration,
}
