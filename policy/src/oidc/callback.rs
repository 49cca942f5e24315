//! What a browser comes back with (RFC 6749 section 4.1.2, RFC 9207), in its one reading.

use std::borrow::Cow;

use crate::Refusal;

/// The longest code that is taken, in bytes.
const MAX_CODE: usize = 2_048;
/// The length of a `state`: 32 random bytes in base64url.
const STATE: usize = 43;

/// What came of a login, as the browser tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// A code for the token endpoint.
    Code,
    /// The user, or whoever decides about the user, said no.
    Denied,
    /// The provider cannot at the moment.
    Unavailable,
    /// The provider does not take what the gateway asked: an operator has to see to that.
    Refused,
}

/// A query that a browser came back with. Nothing in it is believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// Which login it is about.
    pub state: String,
    /// What came of it.
    pub came: Came,
    /// The code, where one came; otherwise the provider's word for what went wrong.
    pub value: String,
    /// Who says so (RFC 9207).
    pub issuer: Option<String>,
}

impl Callback {
    /// Reads decoded pairs of a query. What providers add beside (`session_state`) is passed over (RFC 6749 section 4.1.2).
    ///
    /// # Errors
    /// [`Refusal::LoginAmbiguous`] if a parameter comes twice, or a code beside an error; [`Refusal::LoginMalformed`] if one is
    /// missing or none that a provider sends.
    pub fn read<'a>(pairs: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>) -> Result<Self, Refusal> {
        let (mut state, mut code, mut error, mut issuer) = (None, None, None, None);
        for (name, value) in pairs {
            let place = match &*name {
                "state" => &mut state,
                "code" => &mut code,
                "error" => &mut error,
                "iss" => &mut issuer,
                // A token in a query stands in logs, and nobody asked for one.
                "access_token" | "id_token" => return Err(Refusal::LoginMalformed),
                _ => continue,
            };
            if place.replace(value.into_owned()).is_some() {
                return Err(Refusal::LoginAmbiguous);
            }
        }
        let is_state = |state: &String| {
            state.len() == STATE && state.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        let state = state.filter(is_state).ok_or(Refusal::LoginMalformed)?;
        let is_plain = |text: &str| text.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
        if issuer.as_ref().is_some_and(|issuer| issuer.len() > MAX_CODE || !is_plain(issuer)) {
            return Err(Refusal::LoginMalformed);
        }
        let (came, value) = match (code, error) {
            (Some(code), None) if (1..=MAX_CODE).contains(&code.len()) && is_plain(&code) => (Came::Code, code),
            (None, Some(error)) if (1..=64).contains(&error.len()) && is_plain(&error) => (came(&error), error),
            (Some(_), Some(_)) => return Err(Refusal::LoginAmbiguous),
            _ => return Err(Refusal::LoginMalformed),
        };
        Ok(Self { state, came, value, issuer })
    }

    /// Whether it comes from that issuer, as far as it says (RFC 9207 section 2.4): an answer that names another was mixed up, and
    /// so was one without a name where the issuer gives it always.
    #[must_use]
    pub fn is_of(&self, issuer: &str, names_issuer: bool) -> bool {
        match &self.issuer {
            Some(named) => named == issuer,
            None => !names_issuer,
        }
    }
}

/// RFC 6749 section 4.1.2.1, OpenID Connect Core 1.0 section 3.1.2.6.
fn came(error: &str) -> Came {
    match error {
        "server_error" | "temporarily_unavailable" => Came::Unavailable,
        "access_denied"
        | "login_required"
        | "interaction_required"
        | "consent_required"
        | "account_selection_required"
        | "unmet_authentication_requirements" => Came::Denied,
        _ => Came::Refused,
    }
}
