//! The token endpoint: what is sent there, and what comes back (RFC 6749 sections 4.1.3, 5.1 and 5.2).

use serde_json::Value;

use super::form;
use crate::token::{MAX_TOKEN_BYTES, json};

/// The longest answer that is read, in bytes.
pub const MAX_ANSWER_BYTES: usize = 128 * 1024;

/// A code, and what it needs to be worth something.
#[derive(Debug, Clone, Copy)]
pub struct Grant<'a> {
    /// The code.
    pub code: &'a str,
    /// Where it was sent to.
    pub redirect_uri: &'a str,
    /// The secret of RFC 7636.
    pub verifier: &'a str,
    /// The client and its assertion (RFC 7523 section 2.2); none where the client is known by `Authorization`.
    pub assertion: Option<(&'a str, &'a str)>,
}

impl Grant<'_> {
    /// The body of the request.
    #[must_use]
    pub fn form(&self) -> String {
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", self.code),
            ("redirect_uri", self.redirect_uri),
            ("code_verifier", self.verifier),
        ];
        if let Some((client_id, assertion)) = self.assertion {
            let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
            fields.extend([("client_id", client_id), ("client_assertion_type", kind), ("client_assertion", assertion)]);
        }
        form(&fields)
    }
}

/// What a provider gives for a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// An ID token, which nobody has looked at. Other tokens are not wanted and were dropped.
    IdToken(String),
    /// The code is worth nothing: used, too old, or another's.
    Worthless,
    /// The provider does not know the gateway, or does not take its request: an operator has to see to that.
    Refused,
    /// No answer that can be read.
    Unreadable,
}

/// Reads an answer.
#[must_use]
pub fn answered(status: u16, body: &[u8]) -> Answered {
    if body.len() > MAX_ANSWER_BYTES {
        return Answered::Unreadable;
    }
    let Some(said) = json::object(body) else { return Answered::Unreadable };
    let text = |name: &str| said.get(name).and_then(Value::as_str);
    match status {
        200 => match text("id_token") {
            Some(token) if !token.is_empty() && token.len() <= MAX_TOKEN_BYTES => Answered::IdToken(token.to_owned()),
            _ => Answered::Unreadable,
        },
        400 | 401 | 403 => match text("error") {
            Some("invalid_grant") => Answered::Worthless,
            Some(_) => Answered::Refused,
            None => Answered::Unreadable,
        },
        _ => Answered::Unreadable,
    }
}
