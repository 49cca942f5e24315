//! What a person reads in a browser where no backend answers; programs get the problem as JSON.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY};
use http::{HeaderValue, Method, Request, Response};
use policy::Refusal;

use super::account::forms::language;
use crate::accounts::page::Language;
use crate::body::{FullBody, RequestBody};

/// The language of whoever reads the answer, if that is a person: browsers that go to a page name HTML first.
pub(super) fn reader(request: &Request<RequestBody>) -> Option<Language> {
    let headers = request.headers();
    let is_page = matches!(*request.method(), Method::GET | Method::HEAD)
        && headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/html"));
    is_page.then(|| language(headers))
}

/// The same answer as a page. `None` where the refusal is about something else than a backend that is away.
pub(super) fn page(refusal: Refusal, language: Language, request_id: &str) -> Option<Bytes> {
    if !matches!(refusal, Refusal::BackendUnavailable | Refusal::BackendTimeout) {
        return None;
    }
    let (title, text, id) = match language {
        Language::Japanese => (
            "ただいまご利用になれません",
            "このサービスは現在応答していません。しばらくしてから、もう一度お試しください。続く場合は、次の番号を添えてシステム管理者にご連絡ください。",
            "受付番号",
        ),
        Language::English => (
            "Not available at the moment",
            "This service does not answer. Please try again in a moment. If it goes on, tell your system administrator this number.",
            "Request",
        ),
    };
    let page = format!(
        "<!DOCTYPE html><html lang=\"{}\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><meta name=\"robots\" content=\"noindex\"></head>\
         <body><main><h1>{title}</h1><p role=\"alert\">{text}</p><p>{id}: <code>{request_id}</code></p></main></body></html>",
        language.tag()
    );
    Some(Bytes::from(page))
}

/// Puts the page in the place of the problem; status, `Retry-After` and the request's id stay.
pub(super) fn instead(problem: Response<FullBody>, page: Bytes, language: Language) -> Response<FullBody> {
    let mut answer = problem.map(|_| FullBody::new(page));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
    headers.insert(VARY, HeaderValue::from_static("Accept, Accept-Language"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_backend_that_is_away_has_a_page() {
        for refusal in Refusal::ALL {
            let page = page(*refusal, Language::English, "0123");
            let is_away = matches!(refusal, Refusal::BackendUnavailable | Refusal::BackendTimeout);
            assert_eq!(page.is_some(), is_away, "{refusal}");
        }
        let page = page(Refusal::BackendUnavailable, Language::Japanese, "0123").unwrap();
        let page = std::str::from_utf8(&page).unwrap();
        assert!(page.contains("lang=\"ja\"") && page.contains("<code>0123</code>"), "{page}");
    }
}
