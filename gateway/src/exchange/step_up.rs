//! The answer to a request that a stronger or fresher authentication would get permitted (R9, RFC 9470).
//!
//! A browser is sent to the login page and comes back; a program is told what is missing. Where nobody here can ask the user for
//! more, the policies' own refusal stands.

use std::sync::Arc;

use http::header::{ACCEPT, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request};
use policy::account::form::local_target;
use policy::judge::StepUp;
use policy::route::Route;
use policy::session::Kind;
use policy::{AuthenticationLevel, Party, Refusal, Subject};

use super::account::{Own, see_other};
use super::trail::Trail;
use crate::accounts::page::LOGIN;
use crate::answer::problem_with;
use crate::body::{FullBody, RequestBody};
use crate::listen::Connection;
use crate::oidc::PAGES;
use crate::session::Session;
use crate::snapshot::Snapshot;

/// A denied request, and what it lacks.
pub(super) struct Lacking<'a> {
    pub(super) connection: &'a Connection,
    pub(super) snapshot: &'a Snapshot,
    pub(super) subject: &'a Subject,
    pub(super) route: &'a Route,
    pub(super) step_up: StepUp,
    /// How long ago the user was proved, nanoseconds.
    pub(super) age_ns: Option<u64>,
}

/// Who can ask the user for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks<'a> {
    /// The gateway's own login page.
    Page,
    /// The provider of that name.
    Provider(&'a str),
    /// Whoever issues the tokens.
    Issuer,
}

impl Lacking<'_> {
    /// The answer; none where nobody can ask for more.
    pub(super) fn answer(&self, request: &Request<RequestBody>, trail: &Trail) -> Option<Own> {
        let carried = trail.carried();
        let asks = self.asks(carried.as_ref().map(|carried| &carried.session), trail.is_borne())?;
        let back = match asks {
            Asks::Page | Asks::Provider(_) if self.is_browser(request) => request.uri().path_and_query(),
            Asks::Page | Asks::Provider(_) | Asks::Issuer => None,
        };
        let mut own = match back.and_then(|back| local_target(back.as_str())) {
            Some(back) => see_other(&self.login(asks, back)),
            None => Own { response: self.problem(asks, trail), reason: None },
        };
        own.reason = Some(Refusal::StepUpRequired);
        Some(own)
    }

    /// The one place where kinds of sessions differ in how their users prove more.
    fn asks<'a>(&self, session: Option<&'a Arc<Session>>, is_borne: bool) -> Option<Asks<'a>> {
        let takes_tokens = self.route.token().is_some();
        if is_borne {
            return Some(Asks::Issuer);
        }
        let has_page = self.connection.listener.login_page && matches!(self.subject.party, Party::Device { .. });
        let page = has_page.then_some(Asks::Page);
        match session.map(|session| (session.kind, session)) {
            Some((Kind::Local, _)) => page,
            // A backend's session cannot be raised. One of ours beside it can be, and is the same user's.
            Some((Kind::Learnt, _)) => page,
            // Only the provider can say that its user proved more. That it will prove it by more than it did, nobody knows: whoever
            // is sent there for that might be sent there for ever.
            Some((Kind::Oidc, session)) => {
                let is_served = self.connection.listener.oidc.iter().any(|served| **served == *session.realm);
                let is_enough = self.step_up.level <= session.proof().level;
                (is_served && is_enough).then_some(Asks::Provider(&session.realm))
            }
            None => page.or(takes_tokens.then_some(Asks::Issuer)),
        }
    }

    /// A person is there to be sent elsewhere, and comes back to the same page. What a login's query holds goes nowhere.
    fn is_browser(&self, request: &Request<RequestBody>) -> bool {
        matches!(*request.method(), Method::GET | Method::HEAD)
            && self.route.login().is_none()
            && takes_html(request.headers())
    }

    fn login(&self, asks: Asks<'_>, back: &str) -> String {
        let StepUp { level, max_age_s } = self.step_up;
        if let Asks::Provider(_) = asks {
            return format!("{}?return={}", login_of(asks), encoded(back));
        }
        let mut login = format!("{LOGIN}?return={}&level={}", encoded(back), level.label());
        if let Some(max_age_s) = max_age_s {
            login.push_str(&format!("&age={max_age_s}"));
        }
        login
    }

    /// RFC 9457, with members that say what is there and what is missing.
    fn problem(&self, asks: Asks<'_>, trail: &Trail) -> http::Response<FullBody> {
        let StepUp { level, max_age_s } = self.step_up;
        let mut more = format!(
            ",\"level\":\"{}\",\"required_level\":\"{}\"",
            self.subject.authentication_level.label(),
            level.label()
        );
        if let Some(age_ns) = self.age_ns {
            more.push_str(&format!(",\"age\":{}", age_ns.div_ceil(1_000_000_000)));
        }
        if let Some(max_age_s) = max_age_s {
            more.push_str(&format!(",\"max_age\":{max_age_s}"));
        }
        if asks != Asks::Issuer {
            more.push_str(&format!(",\"login\":\"{}\"", login_of(asks)));
        }
        let mut response = problem_with(Refusal::StepUpRequired, trail.id(), &more);
        if asks == Asks::Issuer
            && let Ok(challenge) = HeaderValue::from_str(&self.challenge(trail.is_borne()))
        {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }

    /// RFC 9470 section 3.
    fn challenge(&self, is_borne: bool) -> String {
        let mut parts = Vec::new();
        if is_borne {
            parts.push("error=\"insufficient_user_authentication\"".to_owned());
        }
        if self.step_up.level == AuthenticationLevel::TwoFactor {
            let issuers = self.route.token().into_iter().flat_map(|token| &token.issuers);
            let issuers = issuers.filter_map(|name| self.snapshot.token_issuer(name));
            let mut values: Vec<String> =
                issuers.flat_map(|issuer| issuer.config.rules.two_factor_acr.clone()).collect();
            // What stands between quotes, separated by spaces (RFC 9110 section 5.6.4).
            values.retain(|value| value.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte)));
            values.dedup();
            if !values.is_empty() {
                parts.push(format!("acr_values=\"{}\"", values.join(" ")));
            }
        }
        if let Some(max_age_s) = self.step_up.max_age_s {
            parts.push(format!("max_age=\"{max_age_s}\""));
        }
        if parts.is_empty() { "Bearer".to_owned() } else { format!("Bearer {}", parts.join(", ")) }
    }
}

/// Where a user proves more.
fn login_of(asks: Asks<'_>) -> String {
    match asks {
        Asks::Provider(name) => format!("{PAGES}{name}/login"),
        Asks::Page | Asks::Issuer => LOGIN.to_owned(),
    }
}

/// Whether a page is asked for, by name: programs that take anything are told in JSON.
fn takes_html(headers: &HeaderMap) -> bool {
    let ranges =
        headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    ranges.into_iter().any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_html = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"));
        let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        is_html && weight.is_none_or(|weight| weight.parse::<f32>().is_ok_and(|weight| weight > 0.0))
    })
}

/// A value of a query: all but what is never anything else is encoded (RFC 3986 section 2.3).
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_asked_for_by_name() {
        let asks = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(ACCEPT, HeaderValue::from_static(value));
            }
            takes_html(&headers)
        };
        for yes in [
            "text/html",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "application/json;q=0.1, TEXT/HTML;q=0.5",
        ] {
            assert!(asks(&[yes]), "{yes}");
        }
        assert!(asks(&["application/json", "text/html"]));
        for no in ["", "*/*", "text/*", "application/json", "text/html;q=0", "text/html;q=x", "text/htmlx"] {
            assert!(!asks(&[no]), "{no}");
        }
        assert!(!asks(&[]));
    }

    #[test]
    fn a_target_comes_back_as_it_was() {
        for target in ["/", "/fhir/Patient?name=a&b=%20+c", "/a;b=c,'d'/e@f:g!$()*"] {
            let query = format!("return={}", encoded(target));
            assert!(query.bytes().all(|byte| byte.is_ascii_graphic() && !b"&+;#".contains(&byte)));
            let found: Vec<_> = policy::target::form_pairs(query.as_bytes()).collect();
            assert_eq!(found, [("return".into(), target.into())]);
        }
    }
}
