//! What a provider says of itself (OpenID Connect Discovery 1.0 section 3, RFC 8414).

use std::net::IpAddr;

use serde_json::Value;

use crate::token::json;

/// The longest document that is read, in bytes.
pub const MAX_METADATA_BYTES: usize = 64 * 1024;
/// The longest address in it, in bytes.
const MAX_ADDRESS: usize = 1024;

/// What a login needs of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Where browsers are sent.
    pub authorization_endpoint: String,
    /// Where codes are exchanged.
    pub token_endpoint: String,
    /// Where its keys are.
    pub jwks_uri: String,
    /// Where browsers log out, if they can (RP-Initiated Logout 1.0).
    pub end_session_endpoint: Option<String>,
    /// Every answer names its issuer (RFC 9207): one that does not is somebody else's.
    pub names_issuer: bool,
}

/// Why a document is none that a login can go by. It never holds a part of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMetadata {
    /// Longer than anybody's.
    #[error("it is longer than {MAX_METADATA_BYTES} bytes")]
    TooLong,
    /// No JSON object, or one that can be read in two ways.
    #[error("it is no JSON object, or has a name twice")]
    Malformed,
    /// It is about another issuer, and so is whatever it says (OpenID Connect Discovery 1.0 section 4.3).
    #[error("its `issuer` is another")]
    Issuer,
    /// An address is missing, or none that a browser or the gateway may be sent to.
    #[error("its `{0}` is missing, or no `https` address (plain `http` for a loopback address alone)")]
    Address(&'static str),
    /// It says what it can do, and that is too little.
    #[error("its `{0}` does not have `{1}`")]
    Lacks(&'static str, &'static str),
}

/// Where the document of an issuer stands, as a path of the issuer's host: behind the issuer's own path (section 4 of Discovery).
/// Nothing for what is no address.
#[must_use]
pub fn discovery_path(issuer: &str) -> Option<String> {
    let rest = issuer.strip_prefix("https://").or_else(|| issuer.strip_prefix("http://"))?;
    let path = rest.find('/').map_or("", |at| rest.split_at(at).1);
    let path = path.strip_suffix('/').unwrap_or(path);
    (is_endpoint(issuer) && !issuer.contains('?')).then(|| format!("{path}/.well-known/openid-configuration"))
}

/// Scheme, host and port of an address (RFC 6454), as it is written. Nothing for what is no address.
#[must_use]
pub fn origin_of(address: &str) -> Option<&str> {
    let after = address.find("://")? + 3;
    let (scheme, rest) = address.split_at(after);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':' | b'[' | b']');
    let is_good = !authority.is_empty() && authority.bytes().all(is_plain);
    let length = scheme.len() + authority.len();
    if is_good { address.get(..length) } else { None }
}

/// Whether an address may be asked, or a browser sent there: `https`, or `http` on a loopback address; no user, no fragment,
/// nothing that has to be encoded.
#[must_use]
pub fn is_endpoint(address: &str) -> bool {
    let is_plain =
        |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'#' | b'`' | b'{' | b'}');
    let Some(origin) = origin_of(address) else { return false };
    if address.len() > MAX_ADDRESS || !address.bytes().all(is_plain) {
        return false;
    }
    if origin.starts_with("https://") {
        return true;
    }
    let Some(authority) = origin.strip_prefix("http://") else { return false };
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

impl Metadata {
    /// Reads the document of the issuer.
    ///
    /// # Errors
    /// [`InvalidMetadata`].
    pub fn parse(bytes: &[u8], issuer: &str) -> Result<Self, InvalidMetadata> {
        if bytes.len() > MAX_METADATA_BYTES {
            return Err(InvalidMetadata::TooLong);
        }
        let document = json::object(bytes).ok_or(InvalidMetadata::Malformed)?;
        if document.get("issuer").and_then(Value::as_str) != Some(issuer) {
            return Err(InvalidMetadata::Issuer);
        }
        let address = |name: &'static str| match document.get(name) {
            Some(Value::String(text)) if is_endpoint(text) => Ok(text.clone()),
            _ => Err(InvalidMetadata::Address(name)),
        };
        // What a provider does not list, it may do all the same; what it lists is all it does.
        let lists = |name: &'static str, wanted: &'static str| match document.get(name) {
            None => Ok(()),
            Some(Value::Array(all)) if all.iter().any(|known| known == wanted) => Ok(()),
            Some(_) => Err(InvalidMetadata::Lacks(name, wanted)),
        };
        lists("code_challenge_methods_supported", "S256")?;
        lists("response_types_supported", "code")?;
        lists("grant_types_supported", "authorization_code")?;
        let ends = "end_session_endpoint";
        Ok(Self {
            authorization_endpoint: address("authorization_endpoint")?,
            token_endpoint: address("token_endpoint")?,
            jwks_uri: address("jwks_uri")?,
            end_session_endpoint: document.contains_key(ends).then(|| address(ends)).transpose()?,
            names_issuer: document.get("authorization_response_iss_parameter_supported") == Some(&Value::Bool(true)),
        })
    }
}
