//! What a provider says behind the browser's back: that a user or a session of its own is over (OpenID Connect Back-Channel
//! Logout 1.0).

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value};

use super::name;
use crate::account::form::Form;
use crate::token::{Fault, Now, numeric_date};

/// How old a logout token may be, seconds; what it names itself is remembered for longer than that.
pub const LOGOUT_LIFETIME_S: u32 = 300;
/// The event that makes a token one (section 2.4).
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// Most tokens that are remembered.
const MOST: usize = 65_536;

/// Whose sessions are over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// What the provider calls the user.
    pub subject: Option<String>,
    /// What it calls the session. Without it all of the user's are meant.
    pub session: Option<String>,
}

/// A logout token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logout {
    /// Whose sessions are over.
    pub end: End,
    /// What it names itself.
    pub id: String,
    /// When the provider made it by its own clock, nanoseconds since 1970.
    pub made_ns: i64,
}

/// Takes the logout token out of a form (section 2.5).
#[must_use]
pub fn logout_form(body: &[u8]) -> Option<String> {
    Form::read(body, &["logout_token"]).ok()?.get("logout_token").map(str::to_owned)
}

/// Judges the claims of a logout token whose signature was checked (section 2.6).
///
/// # Errors
/// [`Fault`].
pub fn logout_token(
    claims: &Map<String, Value>,
    (issuer, client_id): (&str, &str),
    leeway_s: u32,
    now: Now,
) -> Result<Logout, Fault> {
    let malformed = Fault::Malformed;
    let text =
        |name: &str| claims.get(name).map(|value| value.as_str().ok_or(malformed("a name is no text"))).transpose();
    if text("iss")? != Some(issuer) {
        return Err(malformed("its `iss` is another"));
    }
    let is_ours = match claims.get("aud") {
        Some(Value::String(audience)) => audience == client_id,
        Some(Value::Array(audiences)) => audiences.iter().any(|audience| audience == client_id),
        _ => false,
    };
    if !is_ours {
        return Err(malformed("its `aud` is another"));
    }
    let is_logout = claims.get("events").and_then(Value::as_object).and_then(|events| events.get(EVENT));
    if !is_logout.is_some_and(Value::is_object) {
        return Err(malformed("its `events` tell of no log-out"));
    }
    // An ID token has one: neither is ever taken for the other.
    if claims.contains_key("nonce") {
        return Err(malformed("it has a `nonce`"));
    }
    let named = |claim: &'static str| match text(claim)? {
        None => Ok(None),
        Some(found) => {
            name(found).map(|found| Some(found.to_owned())).ok_or(malformed("a name is too long or not plain"))
        }
    };
    let end = End { subject: named("sub")?, session: named("sid")? };
    if end.subject.is_none() && end.session.is_none() {
        return Err(malformed("it names neither `sub` nor `sid`"));
    }
    let id = named("jti")?.ok_or(malformed("it has no `jti`"))?;
    let at =
        |name: &str| claims.get(name).map(|value| numeric_date(value).ok_or(malformed("a date is none"))).transpose();
    let seconds = |s: u32| i64::from(s).saturating_mul(1_000_000_000);
    let made_ns = at("iat")?.ok_or(malformed("it has no `iat`"))?;
    let latest_ns = now.unix_ns.saturating_add(now.error_ns);
    if made_ns > latest_ns.saturating_add(seconds(leeway_s)) {
        return Err(Fault::NotYet);
    }
    let is_old = latest_ns.saturating_sub(made_ns) > seconds(LOGOUT_LIFETIME_S);
    if is_old || at("exp")?.is_some_and(|expires_ns| expires_ns <= latest_ns) {
        return Err(Fault::Expired);
    }
    Ok(Logout { end, id, made_ns })
}

/// Logout tokens that came, and when each came first: however often one comes again, it ends what was there then and nothing later, so
/// that a provider may send it again until it is told that it was obeyed, and whoever else does gains nothing. Bounded: of too many the
/// oldest is forgotten, since a log-out too many harms less than one too few.
#[derive(Debug, Default)]
pub struct Notices {
    known: HashMap<String, u64>,
    by_time: BTreeSet<(u64, String)>,
}

impl Notices {
    /// When the token came first, and whether that is now. `id` is what it names itself, with the provider before it; times are
    /// monotonic nanoseconds.
    pub fn first(&mut self, id: &str, now_ns: u64, leeway_s: u32) -> (u64, bool) {
        let life_s = u64::from(LOGOUT_LIFETIME_S) + 2 * u64::from(leeway_s) + 60;
        while let Some((until_ns, ..)) = self.by_time.first()
            && (*until_ns <= now_ns || self.by_time.len() >= MOST)
        {
            if let Some((_, id)) = self.by_time.pop_first() {
                self.known.remove(&id);
            }
        }
        if let Some(first_ns) = self.known.get(id) {
            return (*first_ns, false);
        }
        self.known.insert(id.to_owned(), now_ns);
        self.by_time.insert((now_ns.saturating_add(life_s.saturating_mul(1_000_000_000)), id.to_owned()));
        (now_ns, true)
    }
}
