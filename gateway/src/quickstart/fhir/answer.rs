//! Answers in FHIR's own media type: resources, and `OperationOutcome` for what went wrong (FHIR R4, RESTful API).

use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

/// FHIR's JSON.
pub(super) const FHIR_JSON: &str = "application/fhir+json";

/// What went wrong: a status and an `OperationOutcome`.
#[derive(Debug)]
pub(super) struct Fault {
    status: StatusCode,
    code: &'static str,
    diagnostics: String,
}

impl Fault {
    /// `code` is from the value set `issue-type`.
    pub(super) fn new(status: StatusCode, code: &'static str, diagnostics: impl Into<String>) -> Self {
        Self { status, code, diagnostics: diagnostics.into() }
    }

    pub(super) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", format!("there is no `{what}`"))
    }

    pub(super) fn invalid(diagnostics: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", diagnostics)
    }
}

impl From<Fault> for Response<Full<Bytes>> {
    fn from(fault: Fault) -> Self {
        let outcome = json!({
            "resourceType": "OperationOutcome",
            "issue": [{ "severity": "error", "code": fault.code, "diagnostics": fault.diagnostics }],
        });
        body(fault.status, &outcome)
    }
}

/// An answer with a resource, or anything else in JSON.
pub(super) fn body(status: StatusCode, resource: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(resource.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(FHIR_JSON));
    response
}

/// An answer with one resource and its version as entity tag; `location` after a creation.
pub(super) fn resource(status: StatusCode, resource: &Value, location: Option<String>) -> Response<Full<Bytes>> {
    let mut response = body(status, resource);
    let version = resource.pointer("/meta/versionId").and_then(Value::as_str).unwrap_or("1");
    set(&mut response, ETAG, &format!("W/\"{version}\""));
    if let Some(location) = location {
        set(&mut response, LOCATION, &location);
    }
    response
}

/// 204, as a deletion answers.
pub(super) fn nothing() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn set(response: &mut Response<Full<Bytes>>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
