//! What gRPC asks of a proxy (gRPC over HTTP/2, and `http-grpc-status-mapping`): refusals in its own terms, and a deadline
//! that the caller may shorten.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use policy::Refusal;

use crate::answer::status_of;
use crate::body::FullBody;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_TIMEOUT: &str = "grpc-timeout";

/// Whether a request is a call of gRPC, whose answer has its status in trailers. `application/grpc-web` is HTTP like any other.
pub fn is_call<B>(request: &Request<B>) -> bool {
    let Some(kind) = request.headers().get(CONTENT_TYPE) else { return false };
    let kind = kind.as_bytes().strip_prefix(GRPC.as_bytes());
    request.version() >= Version::HTTP_2 && kind.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// The status code of a refusal.
const fn code_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "16",
        403 => "7",
        404 | 405 | 501 => "12",
        408 | 504 => "4",
        413 | 429 | 431 => "8",
        502 | 503 => "14",
        _ => "13",
    }
}

/// A refusal as an answer of trailers only, in place of the problem that another client would get; its fields stay.
pub(super) fn instead(problem: Response<FullBody>, refusal: Refusal) -> Response<FullBody> {
    let mut answer = Response::new(FullBody::default());
    *answer.headers_mut() = problem.into_parts().0.headers;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC);
    headers.insert(GRPC_STATUS, HeaderValue::from_static(code_of(status_of(refusal))));
    headers.insert(GRPC_MESSAGE, HeaderValue::from_static(refusal.told().label()));
    answer
}

/// How long the backend may take: what the route says, or less where the caller waits for less.
pub(super) fn deadline(is_call: bool, headers: &HeaderMap, route: Option<Duration>) -> Option<Duration> {
    let asked = headers.get(GRPC_TIMEOUT).filter(|_| is_call).and_then(|value| timeout(value.as_bytes()));
    match (asked, route) {
        (Some(asked), Some(route)) => Some(asked.min(route)),
        (asked, route) => asked.or(route),
    }
}

/// `TimeoutValue TimeoutUnit`: one to eight digits and a letter. What is something else is the backend's to refuse.
fn timeout(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(value * 3600)),
        b'M' => Some(Duration::from_secs(value * 60)),
        b'S' => Some(Duration::from_secs(value)),
        b'm' => Some(Duration::from_millis(value)),
        b'u' => Some(Duration::from_micros(value)),
        b'n' => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::problem;

    fn of(version: Version, kind: &'static str) -> Request<()> {
        Request::post("/x").version(version).header("content-type", kind).body(()).unwrap()
    }

    #[test]
    fn a_call_is_known_by_its_content_type_over_http2() {
        for (kind, call) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;x=y", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(is_call(&of(Version::HTTP_2, kind)), call, "{kind}");
            assert!(!is_call(&of(Version::HTTP_11, kind)), "{kind}");
        }
    }

    #[test]
    fn every_refusal_has_a_status_of_grpc() {
        for &refusal in Refusal::ALL {
            let answer = instead(problem(refusal, "0123"), refusal);
            assert_eq!(answer.status(), StatusCode::OK);
            assert_ne!(answer.headers()[GRPC_STATUS], "0");
            assert_eq!(answer.headers()["x-request-id"], "0123");
            assert!(http_body::Body::is_end_stream(answer.body()));
        }
        let code = |refusal| instead(problem(refusal, "0"), refusal).headers()[GRPC_STATUS].clone();
        assert_eq!(code(Refusal::PolicyNoPermit), "7");
        assert_eq!(code(Refusal::BackendUnavailable), "14");
        assert_eq!(code(Refusal::BackendTimeout), "4");
        assert_eq!(code(Refusal::RouteUnknown), "12");
        assert_eq!(code(Refusal::TokenMissing), "16");
    }

    #[test]
    fn a_caller_shortens_the_deadline_and_never_lengthens_it() {
        let second = Duration::from_secs(1);
        for (text, wanted) in [
            ("500m", Some(Duration::from_millis(500))),
            ("2S", Some(second)),
            ("99999999H", Some(second)),
            ("7n", Some(Duration::from_nanos(7))),
            ("123456789m", Some(second)),
            ("m", Some(second)),
            ("-1S", Some(second)),
            ("1x", Some(second)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_TIMEOUT, HeaderValue::from_static(text));
            assert_eq!(deadline(true, &headers, Some(second)), wanted, "{text}");
            assert_eq!(deadline(false, &headers, None), None, "{text}");
        }
        assert_eq!(deadline(true, &HeaderMap::new(), None), None);
    }
}
