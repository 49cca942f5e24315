//! The compact serialisation of a signed token (RFC 7515 3.1, RFC 7519 7.2), read strictly.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::keys::KeySet;
use super::rules::TokenType;
use super::{Fault, json};

/// The longest token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// The longest header of a token as it is written, in bytes.
const MAX_HEADER: usize = 4 * 1024;

/// Parameters by which a token would bring its own key, or ask for what is not done here (RFC 8725 3.10, RFC 7515
/// 4.1.11). `x5c` and `x5t` only describe a key and are not read.
const REFUSED: &[&str] = &["jku", "jwk", "x5u", "crit", "b64", "cty", "enc", "zip"];

/// A token whose signature nobody has looked at.
#[derive(Debug)]
pub struct Unverified<'t> {
    algorithm: Algorithm,
    key_id: String,
    kind: Option<String>,
    /// What is signed.
    message: &'t str,
    signature: Vec<u8>,
    claims: Map<String, Value>,
}

/// Whether a token has the form of a signed JWT; what has not is opaque.
#[must_use]
pub fn is_compact(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl<'t> Unverified<'t> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`Fault::Malformed`] says what is wrong with it.
    pub fn read(token: &'t str) -> Result<Self, Fault> {
        let malformed = Fault::Malformed;
        if token.len() > MAX_TOKEN_BYTES {
            return Err(malformed("it is too long"));
        }
        let (message, signature) = token.rsplit_once('.').ok_or(malformed("it has no signature"))?;
        let (header, payload) = message.split_once('.').ok_or(malformed("it has no payload"))?;
        if header.len() > MAX_HEADER {
            return Err(malformed("its header is too long"));
        }
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed("it is not base64url"));
        let header = json::object(&decode(header)?).ok_or(malformed("its header is not unambiguous JSON"))?;
        if REFUSED.iter().any(|name| header.contains_key(*name)) {
            return Err(malformed("its header brings its own key or asks for an extension"));
        }
        let text = |name: &str, fault| header.get(name).map(|value| value.as_str().ok_or(fault)).transpose();
        let algorithm = text("alg", malformed("`alg` is not a name"))?.ok_or(malformed("it has no `alg`"))?;
        let algorithm = algorithm.parse().map_err(|_| malformed("its `alg` is never accepted"))?;
        let key_id = text("kid", malformed("`kid` is not a name"))?.ok_or(malformed("it names no key"))?.to_owned();
        let kind = text("typ", malformed("`typ` is not a name"))?.map(str::to_owned);
        let signature = decode(signature)?;
        if signature.is_empty() {
            return Err(malformed("it has no signature"));
        }
        let claims = json::object(&decode(payload)?).ok_or(malformed("its payload is not unambiguous JSON"))?;
        Ok(Self { algorithm, key_id, kind, message, signature, claims })
    }

    /// Who it says has issued it; nothing is proved by that.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }

    /// Checks type, algorithm and signature, and gives the claims away.
    ///
    /// # Errors
    /// [`Fault::UnknownKey`] if the issuer has no key of that name, which another set of keys may change; otherwise
    /// [`Fault::Malformed`].
    pub fn verify(self, kind: TokenType, algorithms: &[Algorithm], keys: &KeySet) -> Result<Map<String, Value>, Fault> {
        if !kind.takes(self.kind.as_deref()) {
            return Err(Fault::Malformed("its `typ` is that of another kind of token"));
        }
        if !algorithms.contains(&self.algorithm) {
            return Err(Fault::Malformed("its `alg` is not among those of its issuer"));
        }
        if !keys.knows(&self.key_id) {
            return Err(Fault::UnknownKey);
        }
        if keys.verify(&self.key_id, self.algorithm, self.message.as_bytes(), &self.signature) {
            Ok(self.claims)
        } else {
            Err(Fault::Malformed("its signature is not that of the key it names"))
        }
    }
}
