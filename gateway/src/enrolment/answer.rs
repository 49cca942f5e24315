//! The operations of EST (RFC 7030 3.2.2, as RFC 8951 has them), and the lists.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use certs::VerifiedPeer;
use certs::issue::{MAX_REQUEST_BYTES, RequestError, RequestedKey, certificates_only};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use policy::DeviceId;
use rustls::pki_types::UnixTime;
use tokio::time::Instant;

use super::{Desk, guard};
use crate::authority::{CRL_FOLDER, Ca, CaError, DAY, ISSUING_CRL, ROOT_CRL, code, hex};
use crate::store::{Origin, Right, StoreError};

type Answer = Response<Full<Bytes>>;

const EST: &str = "/.well-known/est/";
const PKCS10: &str = "application/pkcs10";
const PKCS7: &str = "application/pkcs7-mime";
const CERTS_ONLY: &str = "application/pkcs7-mime; smime-type=certs-only";
const CRL: &str = "application/pkix-crl";

/// Base64 of the largest request, with room for line breaks.
const MAX_BODY: usize = MAX_REQUEST_BYTES * 3 / 2;

/// Why somebody gets no certificate.
#[derive(Debug)]
enum Refused {
    /// There is nothing here, or not by this method.
    Http(StatusCode, &'static str),
    /// No code, or not a valid one. Which it is, nobody is told.
    Code,
    /// Too many failures.
    TooMany,
    /// The request itself.
    Request(RequestError),
    /// The certificate may not be renewed.
    Renewal(&'static str),
    /// Our own fault.
    Internal(CaError),
}

impl Refused {
    /// The label of the metric.
    const fn label(&self) -> &'static str {
        match self {
            Self::Http(..) => "http",
            Self::Code => "code",
            Self::TooMany => "too-many",
            Self::Request(_) => "request",
            Self::Renewal(_) => "renewal",
            Self::Internal(_) => "internal",
        }
    }
}

/// Answers a request on the EST listener.
pub(super) async fn est(
    desk: &Desk,
    peer: Option<&VerifiedPeer>,
    source: IpAddr,
    request: Request<Incoming>,
) -> Answer {
    let path = request.uri().path().to_owned();
    let Some(operation) = path.strip_prefix(EST) else { return crl(&desk.ca, request.method(), &path) };
    let is_get = request.method() == Method::GET;
    let is_post = request.method() == Method::POST;
    let done = match operation {
        "cacerts" if is_get => return encoded(PKCS7, &certificates_only(&desk.ca.chain())),
        // Nothing has to be in a request: names and extensions come from the registry.
        "csrattrs" if is_get => return plain(StatusCode::NO_CONTENT, ""),
        "simpleenroll" if is_post => enrol(desk, source, request).await,
        "simplereenroll" if is_post => renew(desk, peer, source, request).await,
        "cacerts" | "csrattrs" | "simpleenroll" | "simplereenroll" => {
            Err(Refused::Http(StatusCode::METHOD_NOT_ALLOWED, "not by this method\n"))
        }
        _ => Err(Refused::Http(StatusCode::NOT_FOUND, "there is nothing here\n")),
    };
    let outcome = done.as_ref().map_or_else(Refused::label, |_| "issued");
    // What does not exist is none of the operations that are counted.
    if matches!(operation, "simpleenroll" | "simplereenroll") {
        desk.metrics.enrolments.with_label_values(&[operation, outcome]).inc();
    }
    match done {
        Ok(certificate) => encoded(CERTS_ONLY, &certificates_only(&[&certificate])),
        Err(refused) => {
            // Strangers can ask for anything, of any length: only what is an operation is told aloud.
            if matches!(operation, "cacerts" | "csrattrs" | "simpleenroll" | "simplereenroll") {
                tracing::warn!(%source, operation, outcome, "refused to enrol");
            } else {
                tracing::debug!(%source, "asked for what is no operation of EST");
            }
            refusal(&refused)
        }
    }
}

/// Answers with a list of the authority.
pub(super) fn crl(ca: &Ca, method: &Method, path: &str) -> Answer {
    let known = [ROOT_CRL, ISSUING_CRL];
    let file = known.into_iter().find(|file| path.strip_prefix("/crl/") == Some(*file));
    let Some(file) = file else { return plain(StatusCode::NOT_FOUND, "there is nothing here\n") };
    if method != Method::GET && method != Method::HEAD {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
    }
    match std::fs::read(ca.crl_file(file)) {
        Ok(list) => answer(StatusCode::OK, CRL, list.into()),
        Err(error) => {
            tracing::error!(%error, file, folder = CRL_FOLDER, "a list cannot be read");
            plain(StatusCode::SERVICE_UNAVAILABLE, "the list cannot be read\n")
        }
    }
}

/// RFC 7030 4.2.1, with a one-time code for a password (3.2.3).
async fn enrol(desk: &Desk, source: IpAddr, request: Request<Incoming>) -> Result<Vec<u8>, Refused> {
    let (id, hash) = credentials(request.headers()).ok_or(Refused::Code)?;
    let counted = desk.guard.borrow_mut().attempt(source, &id, Instant::now());
    counted.ok_or(Refused::TooMany)?;
    let store = desk.store().await?;
    let now = UnixTime::now();
    store.code_check(&id, &hash, now.as_secs()).await?;
    // Whoever has the code does not guess, whatever else is wrong.
    desk.guard.borrow_mut().succeeded(source, &id);
    let key = requested(request).await?;
    let issued = desk.ca.certify(&key, &id, Origin::Code, None, now)?;
    let actor = format!("device {id} from {source}");
    store.certificate_add(&actor, &issued.entry, Right::Code(&hash), now.as_secs()).await?;
    tracing::info!(device = %id, serial = %issued.entry.serial, "a device enrolled");
    Ok(issued.certified.der)
}

/// RFC 7030 4.2.2: the device renews by the certificate that it has, which is ours, valid, not revoked, and near its
/// end.
async fn renew(
    desk: &Desk,
    peer: Option<&VerifiedPeer>,
    source: IpAddr,
    request: Request<Incoming>,
) -> Result<Vec<u8>, Refused> {
    let peer = peer.ok_or(Refused::Renewal("a certificate is needed"))?;
    let id = peer.device().ok_or(Refused::Renewal("the certificate is no device's"))?;
    let now = UnixTime::now();
    let store = desk.store().await?;
    let fingerprint = hex(peer.fingerprint());
    let all = store.certificates_of(id).await?;
    let old = all.into_iter().find(|entry| entry.fingerprint == fingerprint);
    let old = old.ok_or(Refused::Renewal("the certificate was not issued here"))?;
    if old.revoked_at.is_some() || old.not_after <= now.as_secs() {
        return Err(Refused::Renewal("the certificate is not valid"));
    }
    let window = (DAY * desk.ca.settings().renew_days).as_secs();
    if old.not_after > now.as_secs().saturating_add(window) {
        return Err(Refused::Renewal("it is too early"));
    }
    let key = requested(request).await?;
    let issued = desk.ca.certify(&key, id, Origin::Renewal, None, now)?;
    let actor = format!("device {id} from {source}");
    store.certificate_add(&actor, &issued.entry, Right::Renewal(&old.serial), now.as_secs()).await?;
    tracing::info!(device = %id, serial = %issued.entry.serial, "a device renewed its certificate");
    Ok(issued.certified.der)
}

/// The device and its code's hash out of HTTP Basic authentication (RFC 7617): `SITE/DEVICE` and the code.
fn credentials(headers: &HeaderMap) -> Option<(DeviceId, String)> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(only), None) = (all.next(), all.next()) else { return None };
    let (scheme, encoded) = only.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") || encoded.len() > 1_024 {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    let (site, device) = user.split_once('/')?;
    let id = DeviceId { site: site.parse().ok()?, device: device.parse().ok()? };
    Some((id, code::hash(password)))
}

/// The key out of a body: base64 of DER, line breaks or not.
async fn requested(request: Request<Incoming>) -> Result<RequestedKey, Refused> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case(PKCS10) {
        return Err(Refused::Http(StatusCode::UNSUPPORTED_MEDIA_TYPE, "application/pkcs10 is needed\n"));
    }
    let body = Limited::new(request.into_body(), MAX_BODY).collect().await;
    let body = body.map_err(|_| Refused::Http(StatusCode::PAYLOAD_TOO_LARGE, "too large or cut off\n"))?.to_bytes();
    let letters: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let der = STANDARD.decode(letters).map_err(|_| Refused::Request(RequestError::Form))?;
    RequestedKey::from_der(&der).map_err(Refused::Request)
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        // A device that is not there and a code that is wrong look the same.
        if matches!(error, StoreError::Code | StoreError::NotFound { .. } | StoreError::NotActive(_)) {
            Self::Code
        } else if matches!(error, StoreError::Renewal) {
            Self::Renewal("the certificate is not valid")
        } else {
            Self::Internal(error.into())
        }
    }
}

impl From<CaError> for Refused {
    fn from(error: CaError) -> Self {
        Self::Internal(error)
    }
}

fn refusal(refused: &Refused) -> Answer {
    match refused {
        Refused::Http(status, text) => plain(*status, *text),
        Refused::Code => {
            let challenge = HeaderValue::from_static("Basic realm=\"sekisho enrolment\", charset=\"UTF-8\"");
            with(plain(StatusCode::UNAUTHORIZED, "a valid enrolment code is needed\n"), WWW_AUTHENTICATE, challenge)
        }
        Refused::TooMany => {
            let wait = HeaderValue::from(guard::WINDOW.as_secs());
            with(plain(StatusCode::TOO_MANY_REQUESTS, "too many failures; try later\n"), RETRY_AFTER, wait)
        }
        Refused::Request(error) => plain(StatusCode::BAD_REQUEST, format!("{error}\n")),
        Refused::Renewal(why) => plain(StatusCode::FORBIDDEN, format!("{why}\n")),
        Refused::Internal(error) => {
            tracing::error!(%error, "enrolment failed");
            plain(StatusCode::SERVICE_UNAVAILABLE, "not possible at present\n")
        }
    }
}

/// Base64 without line breaks (RFC 8951 3.1, RFC 4648 3.1).
fn encoded(kind: &'static str, der: &[u8]) -> Answer {
    answer(StatusCode::OK, kind, STANDARD.encode(der).into())
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    answer(status, "text/plain; charset=utf-8", text.into())
}

fn with(mut response: Answer, name: HeaderName, value: HeaderValue) -> Answer {
    response.headers_mut().insert(name, value);
    response
}

fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    with(response, CACHE_CONTROL, HeaderValue::from_static("no-store"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Option<(DeviceId, String)> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        credentials(&headers)
    }

    #[test]
    fn credentials_are_a_device_and_a_code() {
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let (id, hash) = of(&basic("sakura/exam-1:ABCDE-12345")).unwrap();
        assert_eq!((id.to_string(), hash), ("sakura/exam-1".to_owned(), code::hash("abcde12345")));
        for bad in ["", "Basic", "Basic ??", "Bearer abc", &basic("sakura:x"), &basic("sakura/exam-1"), &basic("/:x")] {
            assert!(of(bad).is_none(), "{bad}");
        }
        assert!(of(&basic(&format!("a/b:{}", "x".repeat(2_000)))).is_none());
        let mut twice = HeaderMap::new();
        for _ in 0..2 {
            twice.append(AUTHORIZATION, HeaderValue::from_str(&basic("a/b:c")).unwrap());
        }
        assert!(credentials(&twice).is_none());
    }
}
