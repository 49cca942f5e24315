//! Answers with pages, and the cookies that they set.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, LOCATION, REFERRER_POLICY,
    RETRY_AFTER, SET_COOKIE, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use policy::{AuthenticationLevel, Refusal};

use crate::accounts::page::{self, Alert, Language, Page, View};
pub(in crate::exchange) use crate::accounts::{SESSION_COOKIE, STAGE_COOKIE};
use crate::answer::status_of;
use crate::body::FullBody;
use crate::config;

/// An answer of the gateway's own, and why it is no permission.
pub(in crate::exchange) struct Own {
    pub(in crate::exchange) response: Response<FullBody>,
    pub(in crate::exchange) reason: Option<Refusal>,
}

impl Own {
    /// Sets a cookie that no script reads and no other site sends.
    pub(in crate::exchange) fn cookie(self, name: &str, value: &str) -> Self {
        self.set(&format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Strict"))
    }

    /// Sets a cookie that no script reads, and that comes along when a user arrives from elsewhere: a browser that comes back from
    /// a provider, and the page that it is sent on to, would be without a stricter one (RFC 6265bis section 5.2).
    pub(in crate::exchange) fn cookie_for_arrivals(self, name: &str, value: &str) -> Self {
        self.set(&format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax"))
    }

    /// Lets the page's forms be answered with a way to that origin as well.
    pub(in crate::exchange) fn leads_to(mut self, origin: &str) -> Self {
        let policy =
            page::CONTENT_SECURITY_POLICY.replace("form-action 'self'", &format!("form-action 'self' {origin}"));
        // INVARIANT: an origin is visible ASCII.
        if let Ok(policy) = HeaderValue::from_str(&policy) {
            self.response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
        }
        self
    }

    /// Has a cookie forgotten.
    pub(in crate::exchange) fn clear(mut self, name: &str) -> Self {
        clear(self.response.headers_mut(), name);
        self
    }

    fn set(mut self, cookie: &str) -> Self {
        set(self.response.headers_mut(), cookie);
        self
    }
}

fn set(headers: &mut HeaderMap, cookie: &str) {
    // INVARIANT: names are ours, and values base64url.
    if let Ok(mut cookie) = HeaderValue::from_str(cookie) {
        cookie.set_sensitive(true);
        headers.append(SET_COOKIE, cookie);
    }
}

fn clear(headers: &mut HeaderMap, name: &str) {
    set(headers, &format!("{name}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0"));
}

/// Has the cookies of ours forgotten that an answer does not set.
pub(in crate::exchange) fn forget(headers: &mut HeaderMap) {
    for name in [SESSION_COOKIE, STAGE_COOKIE] {
        let sets = |cookie: &HeaderValue| {
            cookie.as_bytes().strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
        };
        if !headers.get_all(SET_COOKIE).iter().any(sets) {
            clear(headers, name);
        }
    }
}

/// What a login is for, as a form says it.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::exchange) struct Wanted<'a> {
    /// Where the browser wants to go.
    pub(in crate::exchange) target: Option<&'a str>,
    /// How strongly the user must be known there.
    pub(in crate::exchange) level: Option<AuthenticationLevel>,
}

/// A page on its way.
pub(in crate::exchange) struct Reply<'a> {
    config: &'a config::Account,
    language: Language,
    token: String,
    page: Page<'a>,
    target: Option<&'a str>,
    level: Option<AuthenticationLevel>,
    alert: Option<Alert>,
    reason: Option<Refusal>,
    status: StatusCode,
    retry_after_s: Option<u64>,
    cleared: Vec<&'static str>,
}

impl<'a> Reply<'a> {
    pub(in crate::exchange) const fn new(
        config: &'a config::Account,
        language: Language,
        token: String,
        page: Page<'a>,
    ) -> Self {
        let (target, level, alert, reason, retry_after_s) = (None, None, None, None, None);
        let status = StatusCode::OK;
        Self { config, language, token, page, target, level, alert, reason, status, retry_after_s, cleared: Vec::new() }
    }

    /// What the login is for.
    pub(in crate::exchange) fn goal(mut self, goal: Wanted<'a>) -> Self {
        self.target = goal.target;
        self.level = goal.level;
        self
    }

    /// A refusal, told on the page.
    pub(in crate::exchange) fn alert(mut self, alert: Alert, refusal: Refusal) -> Self {
        if status_of(refusal) == StatusCode::SERVICE_UNAVAILABLE {
            self.retry_after_s = Some(5);
        }
        self.alert = Some(alert);
        self.reason = Some(refusal);
        self.status = status_of(refusal);
        self
    }

    /// Something to be done better, which is no refusal.
    pub(in crate::exchange) fn warn(mut self, alert: Alert) -> Self {
        self.alert = Some(alert);
        self.status = StatusCode::UNPROCESSABLE_ENTITY;
        self
    }

    pub(in crate::exchange) const fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    pub(in crate::exchange) fn clear(mut self, cookie: &'static str) -> Self {
        self.cleared.push(cookie);
        self
    }

    pub(in crate::exchange) fn own(self) -> Own {
        let notice = match self.language {
            Language::Japanese => &self.config.notice_ja,
            Language::English => &self.config.notice_en,
        };
        let view = View {
            language: self.language,
            notice: notice.as_deref(),
            token: &self.token,
            target: self.target,
            level: self.level,
            alert: self.alert,
            page: self.page,
        };
        let mut response = Response::new(FullBody::new(Bytes::from(view.html())));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(self.language.tag()));
        headers.insert(VARY, HeaderValue::from_static("Accept-Language, Cookie"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(page::CONTENT_SECURITY_POLICY));
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        headers.insert(HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        guarded(&mut response);
        let own = Own { response, reason: self.reason };
        self.cleared.into_iter().fold(own, Own::clear)
    }
}

/// Nobody keeps it, and nobody takes it for something else. The origin of a form must be told to ourselves, or no form would come
/// from here.
fn guarded(response: &mut Response<FullBody>) {
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
}

/// Sends the browser to a path of this host.
pub(in crate::exchange) fn see_other(target: &str) -> Own {
    let mut response = Response::new(FullBody::default());
    *response.status_mut() = StatusCode::SEE_OTHER;
    // INVARIANT: local targets are visible ASCII.
    let location = HeaderValue::from_str(target).unwrap_or(HeaderValue::from_static(page::LOGIN));
    response.headers_mut().insert(LOCATION, location);
    guarded(&mut response);
    Own { response, reason: None }
}

/// How the pages look.
pub(in crate::exchange) fn style() -> Own {
    let mut response = Response::new(FullBody::new(Bytes::from_static(page::CSS.as_bytes())));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=3600"));
    guarded(&mut response);
    Own { response, reason: None }
}
