//! What an ID token must say beside what every token must (OpenID Connect Core 1.0 sections 2 and 3.1.3.7).

use serde_json::{Map, Value};

use super::name;
use crate::session::Factors;
use crate::token::{Fault, Now, Rules, Said, numeric_date};

/// What the login that the token is for expects.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The gateway's name at the provider: `aud`, and nobody else.
    pub client_id: &'a str,
    /// What was sent along.
    pub nonce: &'a str,
    /// The earliest that the user may have proved anything, nanoseconds since 1970.
    pub earliest_ns: i64,
}

/// What a provider says of whoever logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Who it is in the registry's terms, where, and how strongly that is known.
    pub said: Said,
    /// What the provider calls the user.
    pub subject: String,
    /// What it calls the session, where it does.
    pub session: Option<String>,
    /// When the user proved it, nanoseconds since 1970.
    pub authenticated_ns: i64,
    /// By what.
    pub factors: Factors,
}

/// Judges the claims of an ID token whose signature was checked. `rules.audiences` is the client alone.
///
/// # Errors
/// [`Fault::Malformed`] says what is wrong with it.
pub fn judge(rules: &Rules, claims: &Map<String, Value>, expected: &Expected<'_>, now: Now) -> Result<Told, Fault> {
    let malformed = Fault::Malformed;
    let said = rules.judge(claims, now)?;
    // RFC 8693 section 4.1: somebody else is there, whom nobody asked for.
    if claims.contains_key("act") {
        return Err(malformed("somebody acts for its user (`act`)"));
    }
    let text =
        |name: &str| claims.get(name).map(|value| value.as_str().ok_or(malformed("a name is no text"))).transpose();
    let is_alone = match claims.get("aud") {
        Some(Value::String(audience)) => audience == expected.client_id,
        Some(Value::Array(audiences)) => audiences.len() == 1 && audiences.iter().all(|one| one == expected.client_id),
        _ => false,
    };
    // Section 3.1.3.7, 3: whoever else it is for could bring it here.
    if !is_alone {
        return Err(malformed("its `aud` is not this gateway alone"));
    }
    if text("azp")?.is_some_and(|party| party != expected.client_id) {
        return Err(malformed("its `azp` is another"));
    }
    if text("nonce")? != Some(expected.nonce) {
        return Err(malformed("its `nonce` is not that of this login"));
    }
    if !claims.contains_key("iat") {
        return Err(malformed("it has no `iat`"));
    }
    let subject = text("sub")?.and_then(name).ok_or(malformed("it has no `sub` of 1 to 255 printable characters"))?;
    let session = match text("sid")? {
        None => None,
        Some(sid) => Some(name(sid).ok_or(malformed("its `sid` is not 1 to 255 printable characters"))?.to_owned()),
    };
    let authenticated = claims.get("auth_time").ok_or(malformed("it has no `auth_time`, which `max_age` asks for"))?;
    let authenticated_ns = numeric_date(authenticated).ok_or(malformed("its `auth_time` is no date"))?;
    let slack_ns = i64::from(rules.leeway_s).saturating_mul(1_000_000_000).saturating_add(now.error_ns);
    if authenticated_ns > now.unix_ns.saturating_add(slack_ns) {
        return Err(malformed("its `auth_time` is in the future"));
    }
    // The date is in whole seconds.
    if authenticated_ns.saturating_add(slack_ns).saturating_add(1_000_000_000) <= expected.earliest_ns {
        return Err(malformed("its `auth_time` is longer ago than was asked for"));
    }
    Ok(Told { said, subject: subject.to_owned(), session, authenticated_ns, factors: factors(claims) })
}

/// What a provider says by what (RFC 8176): what it does not say is not assumed.
fn factors(claims: &Map<String, Value>) -> Factors {
    let methods = claims.get("amr").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let has = |wanted: &str| methods.iter().any(|method| method == wanted);
    let mut factors = Factors::PROVIDER;
    if has("pwd") {
        factors = factors.with(Factors::PASSWORD);
    }
    if has("otp") {
        factors = factors.with(Factors::TOTP);
    }
    factors
}
