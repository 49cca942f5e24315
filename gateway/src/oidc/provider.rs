//! One provider: what it says of itself, its token endpoint, and what its tokens say.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Request};
use http_body_util::Full;
use policy::oidc::{Answered, Grant, answered};
use policy::token::{Fault, TokenType, Unverified};
use serde_json::{Map, Value, json};

use crate::accounts::random;
use crate::config::{ClientProof, Oidc};
use crate::token::{Discovered, Issuer, TokenError, basic};
use crate::upstream::identity::{KeyError, SigningKey};

/// How long an assertion of the gateway counts, seconds.
const ASSERTION_S: i64 = 60;

/// Why a provider cannot be used. The message names the file.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The authorities of its servers.
    #[error(transparent)]
    Issuer(#[from] TokenError),
    /// The secret.
    #[error("oidc provider `{provider}`: {message}")]
    Secret {
        /// The provider.
        provider: String,
        /// What is wrong.
        message: String,
    },
    /// The key.
    #[error("oidc provider `{provider}`: {source}")]
    Key {
        /// The provider.
        provider: String,
        /// What is wrong.
        source: KeyError,
    },
}

/// Why there is no ID token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The code is worth nothing.
    Worthless,
    /// The provider does not answer, or not in a way that can be read, or does not take the gateway for what it says it is.
    Unavailable,
}

/// How the gateway proves who it is.
enum Proof {
    Basic(HeaderValue),
    Key(SigningKey),
}

/// A provider. Shared by all workers.
pub struct Provider {
    /// What was configured.
    pub config: Oidc,
    /// Its keys, and what it says of itself.
    pub issuer: Arc<Issuer>,
    proof: Proof,
}

impl Provider {
    /// Reads what the configuration names. Of `old`, what was fetched stays where nothing has changed.
    ///
    /// # Errors
    /// [`ProviderError`] if a file is missing or cannot be used (C7).
    pub fn load(config: &Oidc, old: &[Arc<Self>]) -> Result<Self, ProviderError> {
        let provider = config.name().to_string();
        let proof = match &config.client {
            ClientProof::Secret(file) => {
                let secret = basic(&config.client_id, file);
                Proof::Basic(secret.map_err(|message| ProviderError::Secret { provider, message })?)
            }
            ClientProof::Key(file) => {
                let key = SigningKey::load(file);
                Proof::Key(key.map_err(|source| ProviderError::Key { provider, source })?)
            }
        };
        let same = |old: &&Arc<Self>| old.config.issuer == config.issuer && !old.issuer.has_files();
        let issuer = match old.iter().find(same) {
            Some(old) => Arc::clone(&old.issuer),
            None => Arc::new(Issuer::load(&config.issuer)?),
        };
        Ok(Self { config: config.clone(), issuer, proof })
    }

    /// Where the gateway's own key as a client is published, if it has one (RFC 7517).
    #[must_use]
    pub fn jwks(&self) -> Option<String> {
        match &self.proof {
            Proof::Basic(_) => None,
            Proof::Key(key) => Some(key.jwks_json()),
        }
    }

    /// What it says of itself; fetched now where it is not known. None: it cannot be asked.
    pub(crate) async fn discovered(&self) -> Option<Arc<Discovered>> {
        if let Some(known) = self.issuer.discovered() {
            return Some(known);
        }
        self.issuer.refetched().await;
        self.issuer.discovered()
    }

    /// Exchanges a code for an ID token, which nobody has looked at. `now_s` is seconds since 1970.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn exchange(&self, grant: Grant<'_>, now_s: i64) -> Result<String, Failure> {
        let provider = &**self.config.name();
        let discovered = self.discovered().await.ok_or(Failure::Unavailable)?;
        let url = &discovered.metadata.token_endpoint;
        let target = url.parse::<http::Uri>().map_err(|_| Failure::Unavailable)?;
        let target = target.path_and_query().map_or("/", |target| target.as_str());
        let mut request = Request::post(target)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(USER_AGENT, concat!("sekisho/", env!("CARGO_PKG_VERSION")));
        let assertion = match &self.proof {
            Proof::Basic(credentials) => {
                request = request.header(AUTHORIZATION, credentials.clone());
                None
            }
            Proof::Key(key) => Some(self.assertion(key, now_s).ok_or(Failure::Unavailable)?),
        };
        let assertion = assertion.as_deref().map(|assertion| (&*self.config.client_id, assertion));
        let body = Full::new(Bytes::from(Grant { assertion, ..grant }.form()));
        let request = request.body(body).map_err(|_| Failure::Unavailable)?;
        let answer = discovered.tokens.exchange(request).await.map_err(|error| {
            tracing::warn!(provider, %error, "a provider does not exchange a code");
            Failure::Unavailable
        })?;
        match answered(answer.status().as_u16(), answer.body()) {
            Answered::IdToken(token) => Ok(token),
            Answered::Worthless => Err(Failure::Worthless),
            Answered::Refused => {
                let status = answer.status().as_u16();
                tracing::error!(
                    provider,
                    status,
                    "a provider does not know the gateway: its client, its secret or its key"
                );
                Err(Failure::Unavailable)
            }
            Answered::Unreadable => {
                let status = answer.status().as_u16();
                tracing::warn!(provider, status, "a provider's answer to a code cannot be read");
                Err(Failure::Unavailable)
            }
        }
    }

    /// Who the gateway is, signed (RFC 7523 section 3). It is for the issuer and nobody else, so that no other provider can use it.
    fn assertion(&self, key: &SigningKey, now_s: i64) -> Option<String> {
        let (client, audience) = (&self.config.client_id, &self.config.rules().issuer);
        let id = URL_SAFE_NO_PAD.encode(random::<16>().ok()?);
        let claims = json!({
            "iss": client, "sub": client, "aud": audience, "jti": id, "iat": now_s, "exp": now_s.saturating_add(ASSERTION_S),
        });
        let message = format!("{}.{}", key.header(), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes())?);
        Some(format!("{message}.{signature}"))
    }

    /// The claims of a token of its own. Its keys are fetched again where it names one that nobody knows.
    ///
    /// # Errors
    /// `None`: its keys are not there, or too old; otherwise why the token is none of its.
    pub async fn claims(&self, token: &str, kind: TokenType) -> Result<Map<String, Value>, Option<Fault>> {
        match self.verify(token, kind) {
            Err(Some(Fault::UnknownKey) | None) if self.issuer.refetched().await => self.verify(token, kind),
            judged => judged,
        }
    }

    fn verify(&self, token: &str, kind: TokenType) -> Result<Map<String, Value>, Option<Fault>> {
        let read = Unverified::read(token).map_err(Some)?;
        let keys = self.issuer.keys().ok_or(None)?;
        read.verify(kind, &self.config.rules().algorithms, &keys.set).map_err(Some)
    }
}
