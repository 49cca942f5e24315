//! What a browser sends to the gateway's own pages, in its one reading (C14).

use bytes::Bytes;
use http::header::{ACCEPT_LANGUAGE, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, COOKIE, ORIGIN};
use http::{HeaderMap, HeaderValue, Request};
use policy::account::form::{Form, local_target};
use policy::session::cookie;
use policy::target::CanonicalTarget;
use policy::{AuthenticationLevel, Refusal};
use zeroize::Zeroize as _;

use super::answer::Wanted;
use crate::accounts::page::Language;
use crate::body::RequestBody;
use crate::exchange::login::{values, whole};
use crate::exchange::trail::Trail;

/// Most bytes of a form: two passwords of the longest, each byte of them encoded.
const MAX_FORM_BYTES: usize = 16 * 1024;

/// Fields of any of the forms.
const FIELDS: [&str; 9] = ["csrf", "return", "level", "account", "password", "code", "new", "repeat", "for"];

/// The fields of a form.
#[derive(Clone, Copy)]
pub(in crate::exchange) struct Posted<'a> {
    pub(in crate::exchange) account: Option<&'a str>,
    pub(in crate::exchange) password: Option<&'a str>,
    pub(in crate::exchange) code: Option<&'a str>,
    pub(in crate::exchange) new: Option<&'a str>,
    pub(in crate::exchange) repeat: Option<&'a str>,
    pub(in crate::exchange) acts_for: Option<&'a str>,
    pub(in crate::exchange) goal: Wanted<'a>,
}

impl<'a> Posted<'a> {
    /// # Errors
    /// [`Refusal::LoginMalformed`] if the browser is to be sent elsewhere.
    pub(in crate::exchange) fn of(form: &'a Form<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            account: form.get("account"),
            password: form.get("password"),
            code: form.get("code"),
            new: form.get("new"),
            repeat: form.get("repeat"),
            acts_for: form.get("for"),
            goal: Wanted {
                target: form.get("return").map(local).transpose()?,
                level: form.get("level").map(level).transpose()?,
            },
        })
    }
}

fn local(text: &str) -> Result<&str, Refusal> {
    local_target(text).ok_or(Refusal::LoginMalformed)
}

fn level(text: &str) -> Result<AuthenticationLevel, Refusal> {
    let levels = [AuthenticationLevel::User, AuthenticationLevel::TwoFactor];
    levels.into_iter().find(|level| level.label() == text).ok_or(Refusal::LoginMalformed)
}

/// What the query of a GET says.
#[derive(Debug, Default)]
pub(in crate::exchange) struct Query {
    /// Where the browser wants to go.
    pub(in crate::exchange) target: Option<String>,
    /// How strongly the user must be known there.
    pub(in crate::exchange) level: Option<AuthenticationLevel>,
    /// What a page of ours gave along: its reader wants it.
    pub(in crate::exchange) go: Option<String>,
}

/// Reads the query of a GET. An age is for whoever reads the address: whoever proves anything proves it now.
///
/// # Errors
/// [`Refusal::LoginAmbiguous`] if the query says something else, or says it twice; [`Refusal::LoginMalformed`] if that is no path
/// of this host, or no level.
pub(in crate::exchange) fn query_of(target: &CanonicalTarget<'_>) -> Result<Query, Refusal> {
    let (mut query, mut age) = (Query::default(), None);
    for (name, value) in target.query_pairs() {
        let is_first = match &*name {
            "return" => query.target.replace(local(&value)?.to_owned()).is_none(),
            "level" => query.level.replace(level(&value)?).is_none(),
            "go" => query.go.replace(value.into_owned()).is_none(),
            "age" => age.replace(value.parse::<u64>().map_err(|_| Refusal::LoginMalformed)?).is_none(),
            _ => false,
        };
        if !is_first {
            return Err(Refusal::LoginAmbiguous);
        }
    }
    Ok(query)
}

/// Reads the body whole.
///
/// # Errors
/// [`Refusal::LoginEncoding`] unless it is a form in UTF-8; [`Refusal::LoginAmbiguous`] if a password comes beside it.
pub(in crate::exchange) async fn body(request: &mut Request<RequestBody>, trail: &mut Trail) -> Result<Bytes, Refusal> {
    let headers = request.headers();
    if headers.contains_key(AUTHORIZATION) {
        return Err(Refusal::LoginAmbiguous);
    }
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(Refusal::LoginEncoding);
    }
    match &values(headers, CONTENT_TYPE.as_str())[..] {
        [one] if is_form(one) => {}
        _ => return Err(Refusal::LoginEncoding),
    }
    whole(request.body_mut(), MAX_FORM_BYTES, trail).await
}

/// The bytes of a form, overwritten when dropped: passwords are in them.
pub(super) struct Wiped(pub(super) Bytes);

impl Drop for Wiped {
    fn drop(&mut self) {
        // It was read into one piece of memory that nobody else holds.
        if let Ok(mut bytes) = std::mem::take(&mut self.0).try_into_mut() {
            bytes.zeroize();
        }
    }
}

fn is_form(content_type: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(content_type) else { return false };
    let mut parts = text.split(';').map(str::trim);
    let is_form = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/x-www-form-urlencoded"));
    is_form && parts.all(|parameter| parameter.eq_ignore_ascii_case("charset=utf-8"))
}

/// Reads a form.
///
/// # Errors
/// Those of [`Form::read`].
pub(in crate::exchange) fn read(body: &Bytes) -> Result<Form<'_>, Refusal> {
    Form::read(body, &FIELDS)
}

/// Whether a form was sent by a page of this very host (RFC 6454 section 7): every browser says so with a POST.
pub(in crate::exchange) fn is_from_here(headers: &HeaderMap, authority: &HeaderValue) -> bool {
    let (mut origins, Ok(authority)) = (headers.get_all(ORIGIN).iter(), authority.to_str()) else { return false };
    let (Some(origin), None) = (origins.next(), origins.next()) else { return false };
    let Some(host) = origin.to_str().ok().and_then(|origin| origin.strip_prefix("https://")) else { return false };
    let bare = |text: &'_ str| text.strip_suffix(":443").unwrap_or(text).to_ascii_lowercase();
    bare(host) == bare(authority)
}

/// The value of a cookie of ours; none where there is none.
///
/// # Errors
/// [`Refusal::SessionAmbiguous`] if it can be read in two ways.
pub(in crate::exchange) fn cookie(headers: &HeaderMap, name: &str) -> Result<Option<String>, Refusal> {
    let fields = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let value = cookie::find(fields, name)?;
    Ok(value.and_then(|value| String::from_utf8(value.into_owned()).ok()).filter(|value| !value.is_empty()))
}

/// The language that the reader likes.
pub(in crate::exchange) fn language(headers: &HeaderMap) -> Language {
    Language::of(headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_comes_from_here_or_from_elsewhere() {
        let authority = HeaderValue::from_static("gw.example:8443");
        let is = |origins: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for origin in origins {
                headers.append(ORIGIN, HeaderValue::from_static(origin));
            }
            is_from_here(&headers, &authority)
        };
        assert!(is(&["https://gw.example:8443"]) && is(&["https://GW.example:8443"]));
        for bad in [
            &[][..],
            &["null"],
            &["http://gw.example:8443"],
            &["https://gw.example"],
            &["https://gw.example:8443.evil.example"],
            &["https://evil.example"],
            &["https://gw.example:8443", "https://evil.example"],
            &["https://gw.example:8443/"],
        ] {
            assert!(!is(bad), "{bad:?}");
        }
        let mut headers = HeaderMap::new();
        headers.append(ORIGIN, HeaderValue::from_static("https://gw.example"));
        assert!(is_from_here(&headers, &HeaderValue::from_static("gw.example:443")));
    }

    #[test]
    fn a_form_is_of_one_type() {
        for good in ["application/x-www-form-urlencoded", "application/x-www-form-urlencoded; charset=UTF-8"] {
            assert!(is_form(good.as_bytes()));
        }
        for bad in ["multipart/form-data", "application/x-www-form-urlencoded; charset=shift_jis", "text/plain", ""] {
            assert!(!is_form(bad.as_bytes()), "{bad}");
        }
    }
}
