//! Where a browser is sent: to log in (OpenID Connect Core 1.0 section 3.1.2.1, RFC 7636), and to log out (RP-Initiated Logout 1.0
//! section 2).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2_11::{Digest as _, Sha256};

use super::with_query;

/// What is asked of a provider.
#[derive(Debug, Clone, Copy)]
pub struct Authorization<'a> {
    /// Who the gateway is there.
    pub client_id: &'a str,
    /// Where the browser comes back to, exactly.
    pub redirect_uri: &'a str,
    /// What is wanted, parted by blanks; `openid` is among it.
    pub scope: &'a str,
    /// Known by this browser's device alone, and good for one login.
    pub state: &'a str,
    /// What the ID token must repeat.
    pub nonce: &'a str,
    /// The secret that the code is worth nothing without (RFC 7636 section 4.1).
    pub verifier: &'a str,
    /// The longest ago that the user may have proved anything, seconds; 0 is anew.
    pub max_age_s: u64,
    /// Values of `acr` that are wanted, the best first; none: whatever the provider does.
    pub acr_values: &'a [String],
}

/// S256 of a verifier (RFC 7636 section 4.2).
#[must_use]
pub fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

/// Where the browser is sent to log in.
#[must_use]
pub fn authorization_url(endpoint: &str, of: &Authorization<'_>) -> String {
    let (challenge, max_age, acr) = (challenge(of.verifier), of.max_age_s.to_string(), of.acr_values.join(" "));
    let mut fields = vec![
        ("response_type", "code"),
        ("client_id", of.client_id),
        ("redirect_uri", of.redirect_uri),
        ("scope", of.scope),
        ("state", of.state),
        ("nonce", of.nonce),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
        ("max_age", &max_age),
    ];
    if of.max_age_s == 0 {
        // The same by Core section 3.1.2.1, for providers that know one of the two.
        fields.push(("prompt", "login"));
    }
    if !acr.is_empty() {
        fields.push(("acr_values", &acr));
    }
    with_query(endpoint, &fields)
}

/// Where the browser is sent to log out. Without the ID token that began the session, the provider asks the user first.
#[must_use]
pub fn end_session_url(endpoint: &str, client_id: &str, hint: Option<&str>, back: &str, state: &str) -> String {
    let mut fields = vec![("client_id", client_id), ("post_logout_redirect_uri", back), ("state", state)];
    if let Some(hint) = hint {
        fields.push(("id_token_hint", hint));
    }
    with_query(endpoint, &fields)
}
