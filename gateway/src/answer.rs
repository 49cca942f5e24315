//! The one table from refusals to answers (RFC 9457). What strangers learn is a label, a title and a request id.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, RETRY_AFTER, SEC_WEBSOCKET_VERSION, WWW_AUTHENTICATE,
};
use http::{HeaderValue, Response, StatusCode};

use policy::Refusal;

use crate::body::FullBody;

/// The header that carries a request's id to the client, the backend and the record.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The start of every problem's `type`; the refusal's label follows.
pub const PROBLEM_TYPE: &str = "urn:sekisho:refusal:";

/// The status that a refusal is answered with. A refusal before there is a request has one as well, for the records.
#[must_use]
pub fn status_of(refusal: Refusal) -> StatusCode {
    match refusal {
        Refusal::RequestMalformed
        | Refusal::RequestAmbiguous
        | Refusal::ForwardedMalformed
        | Refusal::TargetNotNormal
        | Refusal::ProtocolAbuse
        | Refusal::HandshakeFailed
        | Refusal::ProxyHeader
        | Refusal::ProtocolTooOld
        | Refusal::EnrolmentRequest
        | Refusal::WebsocketMalformed
        | Refusal::LoginAmbiguous
        | Refusal::SessionAmbiguous
        | Refusal::LoginMalformed => StatusCode::BAD_REQUEST,
        Refusal::LoginEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Refusal::EnrolmentCode
        | Refusal::SessionRequired
        | Refusal::StepUpRequired
        | Refusal::SessionEnded
        | Refusal::TokenMissing
        | Refusal::TokenInvalid
        | Refusal::TokenExpired
        | Refusal::TokenNotBound => StatusCode::UNAUTHORIZED,
        Refusal::CertificateMissing
        | Refusal::CertificateMalformed
        | Refusal::CertificateUntrusted
        | Refusal::CertificateExpired
        | Refusal::CertificateNotYetValid
        | Refusal::CertificateRevoked
        | Refusal::RevocationUnknown
        | Refusal::CertificateName
        | Refusal::CertificatePolicy
        | Refusal::CertificateWeak
        | Refusal::CertificateTooLarge
        | Refusal::CertificatePurpose
        | Refusal::CertificateIdentity
        | Refusal::SiteUnregistered
        | Refusal::SiteSuspended
        | Refusal::DeviceUnregistered
        | Refusal::DeviceSuspended
        | Refusal::TunnelKeyUnknown
        | Refusal::TunnelIdentity
        | Refusal::UserUnregistered
        | Refusal::UserSuspended
        | Refusal::OriginRefused
        | Refusal::PolicyNoPermit
        | Refusal::PolicyForbid
        | Refusal::PolicyError
        | Refusal::SessionStolen
        | Refusal::ActingNotGranted
        | Refusal::EnrolmentRenewal
        | Refusal::LoginFailed
        | Refusal::LoginForm
        | Refusal::LoginCallback => StatusCode::FORBIDDEN,
        Refusal::RouteUnknown => StatusCode::NOT_FOUND,
        Refusal::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Refusal::RequestTimeout | Refusal::HandshakeTimeout => StatusCode::REQUEST_TIMEOUT,
        Refusal::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::TargetTooLong => StatusCode::URI_TOO_LONG,
        Refusal::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
        Refusal::Misdirected | Refusal::ServerNameUnknown => StatusCode::MISDIRECTED_REQUEST,
        Refusal::TooManyConnections
        | Refusal::TooManyHandshakes
        | Refusal::RateLimited
        | Refusal::QuotaRequests
        | Refusal::QuotaBytes
        | Refusal::QuotaConcurrency
        | Refusal::LoginPaused
        | Refusal::LoginLocked => StatusCode::TOO_MANY_REQUESTS,
        Refusal::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Refusal::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
        Refusal::UpgradeRefused => StatusCode::NOT_IMPLEMENTED,
        Refusal::BackendMalformed => StatusCode::BAD_GATEWAY,
        Refusal::AuditUnavailable
        | Refusal::AuditBusy
        | Refusal::ClockUnsynchronised
        | Refusal::Draining
        | Refusal::EnrolmentUnavailable
        | Refusal::LoginUnavailable
        | Refusal::TokenUnavailable
        | Refusal::ProviderUnavailable
        | Refusal::SessionUnavailable
        | Refusal::BackendUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::BackendTimeout => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// What a client must present, where that is why it is refused (RFC 9110 11.6.1, RFC 6750 3).
const fn challenge(refusal: Refusal) -> Option<HeaderValue> {
    if matches!(refusal, Refusal::TokenMissing) {
        return Some(HeaderValue::from_static("Bearer"));
    }
    if matches!(refusal, Refusal::TokenInvalid | Refusal::TokenExpired | Refusal::TokenNotBound) {
        return Some(HeaderValue::from_static("Bearer error=\"invalid_token\""));
    }
    None
}

/// What a person may read about a status. No refusal tells a stranger what a policy says.
fn title(refusal: Refusal, status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 if challenge(refusal).is_some() => "A valid access token is needed.",
        400 => "The request cannot be read safely.",
        401 => "Whoever asks has to prove who they are first.",
        403 => "Access is not permitted. Unauthorised use is recorded and may be prosecuted.",
        404 => "There is nothing here.",
        405 => "The method is not available.",
        408 => "The request did not arrive in time.",
        413 => "The request's content is too large.",
        414 => "The request's target is too long.",
        415 => "The request's content is not of a kind that is taken here.",
        417 => "The expectation cannot be met.",
        421 => "This connection is not for that host.",
        429 => "Too many at once. Please try again later.",
        431 => "The request's header fields are too large.",
        501 => "The gateway does not change the protocol here.",
        502 => "The service behind the gateway gave no valid answer.",
        503 => "The service is not available at the moment. Please try again later.",
        504 => "The service behind the gateway did not answer in time.",
        _ => "The gateway could not serve the request.",
    }
}

/// The answer to a refused request.
#[must_use]
pub fn problem(refusal: Refusal, request_id: &str) -> Response<FullBody> {
    problem_with(refusal, request_id, "")
}

/// The same with members of its own (RFC 9457 section 3.2): JSON that begins with a comma, or nothing.
#[must_use]
pub fn problem_with(refusal: Refusal, request_id: &str, members: &str) -> Response<FullBody> {
    let status = status_of(refusal);
    let label = refusal.told().label();
    let body = format!(
        "{{\"type\":\"{PROBLEM_TYPE}{label}\",\"title\":\"{}\",\"status\":{},\"instance\":\"urn:sekisho:request:{request_id}\"{members}}}",
        title(refusal, status),
        status.as_u16()
    );
    let mut response = Response::new(FullBody::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(challenge) = challenge(refusal) {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    if refusal == Refusal::WebsocketMalformed {
        // RFC 6455 section 4.4: which version would be taken.
        headers.insert(SEC_WEBSOCKET_VERSION, crate::websocket::VERSION);
    }
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(X_REQUEST_ID, id);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

/// The same answer to a HEAD: its fields say what a GET would be answered with, and there is no content (RFC 9110
/// section 9.3.2). HTTP/2 has no rule by which a client would skip it (RFC 9113 section 8.1.1).
#[must_use]
pub fn without_content(response: Response<FullBody>) -> Response<FullBody> {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = http_body::Body::size_hint(&body).exact() {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(parts, FullBody::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn whoever_guesses_is_told_the_same_whatever_the_guard_says() {
        let mut answers = Vec::new();
        for refusal in [Refusal::LoginPaused, Refusal::LoginLocked] {
            let response = problem(refusal, "0123");
            let head = format!("{} {:?}", response.status(), response.headers());
            answers.push((head, response.into_body().collect().await.unwrap().to_bytes()));
        }
        assert_eq!(answers[0], answers[1]);
    }

    #[tokio::test]
    async fn every_refusal_is_a_problem_with_a_stable_type() {
        for &refusal in Refusal::ALL {
            let response = problem(refusal, "0123");
            let status = response.status();
            assert!(status.is_client_error() || status.is_server_error(), "{refusal}");
            assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
            assert_eq!(response.headers()[X_REQUEST_ID], "0123");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(json["type"], format!("urn:sekisho:refusal:{}", refusal.told()));
            assert_eq!(json["status"], status.as_u16());
            assert_eq!(json["instance"], "urn:sekisho:request:0123");
            let head = without_content(problem(refusal, "0123"));
            assert_eq!(head.headers()[CONTENT_LENGTH], body.len().to_string());
            assert_eq!(head.headers()[CONTENT_TYPE], "application/problem+json");
            assert!(http_body::Body::is_end_stream(head.body()));
        }
    }
}
