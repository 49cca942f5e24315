//! OpenID providers at which users log in.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use policy::token::Rules;

use super::{TokenIssuer, TokenSource};

/// One provider (R1, R9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oidc {
    /// What it is called here, what its tokens must be, and where its keys come from.
    pub issuer: TokenIssuer,
    /// Who the gateway is there.
    pub client_id: String,
    /// How the gateway proves that.
    pub client: ClientProof,
    /// Where browsers know the gateway by: each has its redirect URI at the provider. Lower case, without the default port.
    pub origins: Vec<String>,
    /// What is asked for, parted by blanks; `openid` is among it.
    pub scope: String,
    /// Values of `acr` that are asked for.
    pub acr_values: Vec<String>,
    /// The longest ago that a user may have proved anything to the provider when a session begins, seconds.
    pub max_age_s: u64,
    /// How long a login there may take.
    pub login: Duration,
}

impl Oidc {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.issuer.rules.name
    }

    /// What its tokens must be.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.issuer.rules
    }

    /// The longest that one answer of the provider may take, and the only authorities that vouch for it.
    #[must_use]
    pub fn reach(&self) -> (Duration, Option<&PathBuf>) {
        match &self.issuer.source {
            TokenSource::Discovered { timeout, ca_file, .. } => (*timeout, ca_file.as_ref()),
            TokenSource::File(_) | TokenSource::Fetched { .. } | TokenSource::Introspection(_) => {
                (Duration::ZERO, None)
            }
        }
    }
}

/// How the gateway proves at a token endpoint who it is (OpenID Connect Core 1.0 section 9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientProof {
    /// `client_secret_basic`: a secret in a file.
    Secret(PathBuf),
    /// `private_key_jwt`: an ES256 key in a file.
    Key(PathBuf),
}

/// Where providers say that sessions are over (Back-Channel Logout 1.0).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackChannel {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Certificate and key; none on a loopback address alone.
    pub identity: Option<(PathBuf, PathBuf)>,
}
