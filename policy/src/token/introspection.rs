//! Asking an issuer about an opaque token (RFC 7662).

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::json;

/// The longest answer that is read, in bytes.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// What an issuer says of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pronounced {
    /// It is good, and says this. What is left out of it is missing.
    Active(Map<String, Value>),
    /// It is not, or not any more.
    Inactive,
}

/// The body of the question: a form of `token` and `token_type_hint` (RFC 7662 2.1).
#[must_use]
pub fn form(token: &str) -> String {
    let mut form = String::with_capacity(token.len() + 48);
    form.push_str("token=");
    for byte in token.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            form.push(char::from(byte));
        } else {
            // INVARIANT: writing to a string does not fail.
            let _ = write!(form, "%{byte:02X}");
        }
    }
    form.push_str("&token_type_hint=access_token");
    form
}

/// Reads the body of an answer of status 200; nothing if it is none. An issuer that leaves `iss` out, as RFC 7662 2.2
/// allows, speaks for itself.
#[must_use]
pub fn pronounced(body: &[u8], issuer: &str) -> Option<Pronounced> {
    if body.len() > MAX_ANSWER_BYTES {
        return None;
    }
    let mut claims = json::object(body)?;
    match claims.get("active")? {
        Value::Bool(false) => return Some(Pronounced::Inactive),
        Value::Bool(true) => {}
        Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => return None,
    }
    claims.entry("iss").or_insert_with(|| issuer.into());
    Some(Pronounced::Active(claims))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_a_form_and_an_answer_is_read_in_one_way() {
        assert_eq!(form("a+/=b~"), "token=a%2B%2F%3Db~&token_type_hint=access_token");
        assert_eq!(pronounced(br#"{"active":false,"exp":1}"#, "i"), Some(Pronounced::Inactive));
        let Some(Pronounced::Active(claims)) = pronounced(br#"{"active":true,"sub":"u"}"#, "i") else { panic!() };
        assert_eq!((&claims["iss"], &claims["sub"]), (&"i".into(), &"u".into()));
        let Some(Pronounced::Active(claims)) = pronounced(br#"{"active":true,"iss":"j"}"#, "i") else { panic!() };
        assert_eq!(claims["iss"], "j", "what the issuer says of another stays to be judged");
        for bad in [r#"{"active":"true"}"#, r#"{"active":true,"active":false}"#, "{}", "[]", "", r#"{"active":1}"#] {
            assert_eq!(pronounced(bad.as_bytes(), "i"), None, "{bad}");
        }
    }
}
