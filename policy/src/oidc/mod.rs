//! Logins at an OpenID provider: the authorization code flow with PKCE, for browsers (OpenID Connect Core 1.0, RFC 6749, RFC 7636,
//! by the best practices of RFC 9700), and both ways of logging out (RP-Initiated Logout 1.0, Back-Channel Logout 1.0). Rows R1,
//! R5, R9, R10, C14.
//!
//! [`Metadata`] is what a provider says of itself, [`authorization_url`] where a browser is sent, [`Callback`] what it comes back
//! with. [`Grant`] asks for the ID token, whose signature [`token`](crate::token) checks and whose claims [`judge`] reads.
//! [`logout_token`] judges what the provider says behind the browser's back. Secrets and times come in as arguments.

mod answer;
mod callback;
mod id_token;
mod logout;
mod metadata;
mod request;
#[cfg(test)]
mod tests;

pub use answer::{Answered, Grant, MAX_ANSWER_BYTES, answered};
pub use callback::{Callback, Came};
pub use id_token::{Expected, Told, judge};
pub use logout::{End, LOGOUT_LIFETIME_S, Logout, Notices, logout_form, logout_token};
pub use metadata::{InvalidMetadata, MAX_METADATA_BYTES, Metadata, discovery_path, is_endpoint, origin_of};
pub use request::{Authorization, authorization_url, challenge, end_session_url};

/// The longest `sub` and `sid`, in bytes (OpenID Connect Core 1.0 section 2).
const MAX_NAME: usize = 255;

/// A name that a provider gives to a user or a session: printable ASCII, so that it stays one line wherever it is kept.
fn name(text: &str) -> Option<&str> {
    ((1..=MAX_NAME).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, 0x20..=0x7e))).then_some(text)
}

/// `application/x-www-form-urlencoded` of one text, such that nobody decodes it to another (WHATWG URL section 5.2).
fn encoded(text: &str, into: &mut String) {
    use std::fmt::Write as _;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            into.push(char::from(byte));
        } else {
            // INVARIANT: writing to a string does not fail.
            let _ = write!(into, "%{byte:02X}");
        }
    }
}

/// A form of these fields.
fn form(fields: &[(&str, &str)]) -> String {
    let mut form = String::with_capacity(512);
    for (name, value) in fields {
        if !form.is_empty() {
            form.push('&');
        }
        form.push_str(name);
        form.push('=');
        encoded(value, &mut form);
    }
    form
}

/// An address with these parameters behind those that it has (RFC 6749 section 3.1).
fn with_query(address: &str, fields: &[(&str, &str)]) -> String {
    let glue = match address.split_once('?') {
        None => "?",
        Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
        Some(_) => "&",
    };
    format!("{address}{glue}{}", form(fields))
}
