//! `Sekisho-Identity`: who asks, told to a backend by a short-lived signed token (R13).
//!
//! A JWT (RFC 7519) signed with ES256 (RFC 7518 3.4). A signature costs as much as a request, so a token is made once
//! per subject, certificate and service and reused while it is fresh.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use serde::Serialize;

use policy::{ActingFor, EntityVersions, Party, RoleName, ServiceName, SiteName, Subject, UserName};

mod key;

pub use key::{KeyError, SigningKey};

/// How long a token is valid, in seconds.
pub const LIFETIME_S: u64 = 60;
/// A token with less time left, in seconds, is not sent any more.
pub const FRESH_S: u64 = 20;

/// Why a token could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the identity token cannot be signed")]
pub struct CannotSign;

#[derive(Clone, PartialEq, Eq, Hash)]
struct CacheKey {
    party: Party,
    level: i64,
    versions: EntityVersions,
    acting_for: Option<Arc<ActingFor>>,
    certificate: Option<[u8; 32]>,
    service: ServiceName,
}

struct Token {
    value: HeaderValue,
    expires: u64,
    /// Roles are not part of the key, as the versions imply them; compared all the same.
    roles: smallvec::SmallVec<[RoleName; 4]>,
    audience: Box<str>,
}

/// One worker's tokens. Bounded; when full, those that are no longer fresh go first, then all.
pub struct Identities {
    key: Arc<SigningKey>,
    issuer: Box<str>,
    capacity: usize,
    tokens: RefCell<HashMap<CacheKey, Rc<Token>>>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: Cow<'a, str>,
    iat: u64,
    exp: u64,
    /// Absent for a patient.
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<&'a str>,
    /// Absent where no device is known: for a user with a certificate of their own, and for a patient.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    /// Whom the user acts for.
    #[serde(skip_serializing_if = "Option::is_none")]
    acting_for: Option<&'a str>,
    /// The patient who asks: who vouches, `/` and what they call the patient.
    #[serde(skip_serializing_if = "Option::is_none")]
    patient: Option<String>,
    roles: Vec<&'a str>,
    /// How strongly the user is known: `device`, `user` or `two-factor`.
    level: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<Confirmation<'a>>,
}

/// RFC 8705 3.1: the token belongs to the holder of this certificate.
#[derive(Serialize)]
struct Confirmation<'a> {
    #[serde(rename = "x5t#S256")]
    thumbprint: &'a str,
}

/// What a token says, besides when.
#[derive(Debug, Clone, Copy)]
pub struct Statement<'a> {
    /// Who asks.
    pub subject: &'a Subject,
    /// The device's SPIFFE ID, the token's `sub`; that of others is `user:` with site and user, or `patient:`.
    pub spiffe_id: Option<&'a str>,
    /// SHA-256 of the certificate's DER; none where the key of a tunnel alone proves the device.
    pub certificate_sha256: Option<&'a [u8; 32]>,
    /// The service asked.
    pub service: &'a ServiceName,
    /// That service's `identity_audience`.
    pub audience: &'a str,
}

impl Identities {
    /// Tokens signed by `key` in the name of `issuer` (the trust domain); at most `capacity` are kept.
    #[must_use]
    pub fn new(key: Arc<SigningKey>, issuer: &str, capacity: usize) -> Self {
        Self { key, issuer: issuer.into(), capacity: capacity.max(1), tokens: RefCell::default() }
    }

    /// The value of `Sekisho-Identity`; `now` in seconds since 1970.
    ///
    /// # Errors
    /// [`CannotSign`] if the cryptographic library refuses, which it has no reason to.
    pub fn token(&self, statement: &Statement<'_>, now: u64) -> Result<HeaderValue, CannotSign> {
        let subject = statement.subject;
        let key = CacheKey {
            party: subject.party.clone(),
            level: subject.authentication_level.level(),
            versions: subject.versions,
            acting_for: subject.acting_for.clone(),
            certificate: statement.certificate_sha256.copied(),
            service: statement.service.clone(),
        };
        let mut tokens = self.tokens.borrow_mut();
        if let Some(token) = tokens.get(&key)
            && is_fresh(token, now)
            && token.roles == subject.roles
            && *token.audience == *statement.audience
        {
            return Ok(token.value.clone());
        }
        let value = self.sign(statement, now)?;
        if tokens.len() >= self.capacity {
            tokens.retain(|_, token| is_fresh(token, now));
            if tokens.len() >= self.capacity {
                tokens.clear();
            }
        }
        let token = Token {
            value: value.clone(),
            expires: now.saturating_add(LIFETIME_S),
            roles: subject.roles.clone(),
            audience: statement.audience.into(),
        };
        tokens.insert(key, Rc::new(token));
        Ok(value)
    }

    fn sign(&self, statement: &Statement<'_>, now: u64) -> Result<HeaderValue, CannotSign> {
        let subject = statement.subject;
        let thumbprint = statement.certificate_sha256.map(|sha256| URL_SAFE_NO_PAD.encode(sha256));
        let claims = Claims {
            iss: &self.issuer,
            aud: statement.audience,
            sub: sub(statement)?,
            iat: now,
            exp: now.saturating_add(LIFETIME_S),
            site: subject.site().map(SiteName::as_str),
            device: subject.device().map(|device| device.device.as_str()),
            user: subject.user().map(UserName::as_str),
            acting_for: subject.acting_for.as_deref().map(|acting| acting.user.as_str()),
            patient: subject.patient().map(ToString::to_string),
            roles: subject.roles.iter().map(RoleName::as_str).collect(),
            level: subject.authentication_level.label(),
            cnf: thumbprint.as_deref().map(|thumbprint| Confirmation { thumbprint }),
        };
        let claims = serde_json::to_vec(&claims).map_err(|_| CannotSign)?;
        let mut token = String::with_capacity(256 + claims.len() * 4 / 3);
        token.push_str(self.key.header());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(&claims, &mut token);
        let signature = self.key.sign(token.as_bytes()).ok_or(CannotSign)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        HeaderValue::from_maybe_shared(bytes::Bytes::from(token)).map_err(|_| CannotSign)
    }
}

/// A device's is its SPIFFE ID, also where a user is known. Who has no device has a name in another scheme, so that nobody
/// takes one for the other.
fn sub<'a>(statement: &Statement<'a>) -> Result<Cow<'a, str>, CannotSign> {
    Ok(match &statement.subject.party {
        Party::Device { .. } => statement.spiffe_id.ok_or(CannotSign)?.into(),
        Party::User { site, user } => format!("user:{site}/{user}").into(),
        Party::Patient(patient) => format!("patient:{}/{}", patient.issuer(), escaped(patient.id())).into(),
    })
}

/// As a part of a URI (RFC 3986 2.1, 3.3): RFC 7519 wants one where there is a colon.
fn escaped(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@:/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // INVARIANT: writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Enough time left for the request to arrive; and not from a future that a clock step has taken back.
fn is_fresh(token: &Token, now: u64) -> bool {
    token.expires >= now.saturating_add(FRESH_S) && token.expires <= now.saturating_add(LIFETIME_S)
}

#[cfg(test)]
mod tests;
