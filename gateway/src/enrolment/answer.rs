//! The operations of EST (RFC 7030 3.2.2, as RFC 8951 has them), and the lists.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use certs::VerifiedPeer;
use certs::issue::{MAX_REQUEST_BYTES, RequestError, RequestedKey, certificates_only};
use gateway_audit::record::Stage;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use policy::{Blame, DeviceId, Refusal};
use tokio::time::Instant;

use super::EstServer;
use super::refused::{Refused, by_certificate, by_code};
use super::slots::Slot;
use crate::authority::{CRL_FOLDER, Ca, DAY, ISSUING_CRL, ROOT_CRL, code};
use crate::store::{Origin, Renewal, Right};

type Answer = Response<Full<Bytes>>;

const EST: &str = "/.well-known/est/";
const PKCS10: &str = "application/pkcs10";
const PKCS7: &str = "application/pkcs7-mime";
const CERTS_ONLY: &str = "application/pkcs7-mime; smime-type=certs-only";
const CRL: &str = "application/pkix-crl";

/// Base64 of the largest request, with room for line breaks.
const MAX_BODY: usize = MAX_REQUEST_BYTES * 3 / 2;

/// Answers a request on the EST listener.
pub(super) async fn est(
    server: &EstServer,
    slot: &Slot,
    peer: Option<&VerifiedPeer>,
    source: SocketAddr,
    request: Request<Incoming>,
) -> Answer {
    let path = request.uri().path().to_owned();
    let Some(operation) = path.strip_prefix(EST) else { return crl(&server.ca, request.method(), &path) };
    let is_get = request.method() == Method::GET;
    let is_post = request.method() == Method::POST;
    let credentials = if operation == "simpleenroll" { credentials(request.headers()) } else { None };
    let claimed = credentials.as_ref().map(|(device, _)| device);
    let done = match operation {
        "cacerts" if is_get => return encoded(PKCS7, &certificates_only(&server.ca.chain())),
        // Nothing has to be in a request: names and extensions come from the registry.
        "csrattrs" if is_get => return plain(StatusCode::NO_CONTENT, ""),
        "simpleenroll" if is_post => enrol(server, slot, credentials.as_ref(), source, request).await,
        "simplereenroll" if is_post => renew(server, peer, source, request).await,
        "cacerts" | "csrattrs" | "simpleenroll" | "simplereenroll" => {
            Err(Refused::Http(StatusCode::METHOD_NOT_ALLOWED, "not by this method"))
        }
        _ => Err(Refused::Http(StatusCode::NOT_FOUND, "there is nothing here")),
    };
    let refused = match done {
        Ok(certificate) => {
            server.refusals.metrics.enrolments.with_label_values(&[operation, "issued"]).inc();
            return encoded(CERTS_ONLY, &certificates_only(&[&certificate]));
        }
        Err(refused) => refused,
    };
    if let Some(refusal) = refused.refusal() {
        let (label, detail) = (refusal.label(), refused.detail());
        server.refusals.metrics.enrolments.with_label_values(&[operation, label]).inc();
        let claimed = if operation == "simplereenroll" { peer.and_then(VerifiedPeer::device) } else { claimed };
        server.refusals.record(source, refusal, &detail, claimed, Stage::Enrolment);
        if refusal.blame() == Blame::Service {
            tracing::error!(%source, operation, reason = label, %detail, "enrolment failed");
        } else {
            // The record tells it, and a stranger must not fill the diagnostics.
            tracing::debug!(%source, operation, reason = label, %detail, "refused to enrol");
        }
    }
    answer_to(&refused)
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
async fn enrol(
    server: &EstServer,
    slot: &Slot,
    credentials: Option<&(DeviceId, String)>,
    source: SocketAddr,
    request: Request<Incoming>,
) -> Result<Vec<u8>, Refused> {
    let (id, hash) = credentials.ok_or(Refused::Code("there is no code, or none that can be read"))?;
    let attempt = server.guard.borrow_mut().attempt(source.ip(), Instant::now());
    if !attempt.pause.is_zero() {
        tokio::time::sleep(attempt.pause).await;
    }
    let store = server.store().await.map_err(by_code)?;
    let now = server.refusals.now();
    store.code_check(id, hash, now.as_secs()).await.map_err(by_code)?;
    // Whoever has the code does not guess, whatever else is wrong.
    server.guard.borrow_mut().succeeded(&attempt);
    slot.keep();
    let key = requested(request).await?;
    let issued = server.ca.certify(&key, id, Origin::Code, None, now)?;
    let actor = format!("device {id} from {}", source.ip());
    store.certificate_add(&actor, &issued.entry, Right::Code(hash), now.as_secs()).await.map_err(by_code)?;
    tracing::info!(device = %id, serial = %issued.entry.serial, "a device enrolled");
    Ok(issued.certified.der)
}

/// RFC 7030 4.2.2: the device renews by the certificate that it has, which is ours, valid, not revoked, near its end and
/// not renewed before. A device that lost the answer asks again with the same key, and gets the same certificate.
async fn renew(
    server: &EstServer,
    peer: Option<&VerifiedPeer>,
    source: SocketAddr,
    request: Request<Incoming>,
) -> Result<Vec<u8>, Refused> {
    let peer = peer.ok_or(Refused::Renewal("a certificate is needed"))?;
    let id = peer.device().ok_or(Refused::Renewal("the certificate is no device's"))?;
    let now = server.refusals.now();
    let store = server.store().await.map_err(by_certificate)?;
    let old = store.certificate_of(id, &certs::hex(peer.fingerprint())).await.map_err(by_certificate)?;
    let old = old.ok_or(Refused::Renewal("the certificate was not issued here"))?;
    if old.revoked_at.is_some() || old.not_after <= now.as_secs() {
        return Err(Refused::Renewal("the certificate is not valid"));
    }
    let window = (DAY * server.ca.settings().renew_days).as_secs();
    if old.not_after > now.as_secs().saturating_add(window) {
        return Err(Refused::Renewal("it is too early"));
    }
    let key = requested(request).await?;
    let key_hash = certs::hex(&key.fingerprint());
    let renewal = Renewal { old: &old.serial, key: &key_hash };
    if let Some(before) = store.renewal_before(renewal).await.map_err(by_certificate)? {
        return Ok(before);
    }
    let issued = server.ca.certify(&key, id, Origin::Renewal, None, now)?;
    let actor = format!("device {id} from {}", source.ip());
    let der = issued.certified.der;
    let before = store.certificate_renew(&actor, &issued.entry, &der, renewal, now.as_secs()).await;
    if let Some(before) = before.map_err(by_certificate)? {
        return Ok(before);
    }
    tracing::info!(device = %id, serial = %issued.entry.serial, "a device renewed its certificate");
    Ok(der)
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
    let refused = |status, why: &str| Refused::Request(status, why.to_owned());
    if !kind.eq_ignore_ascii_case(PKCS10) {
        return Err(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "application/pkcs10 is needed"));
    }
    let body = Limited::new(request.into_body(), MAX_BODY).collect().await;
    let body = body.map_err(|_| refused(StatusCode::PAYLOAD_TOO_LARGE, "too large or cut off"))?.to_bytes();
    let letters: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let der = STANDARD.decode(letters).map_err(|_| RequestError::Form)?;
    Ok(RequestedKey::from_der(&der)?)
}

/// The label first, as everywhere, then what the peer can mend.
fn answer_to(refused: &Refused) -> Answer {
    let label = refused.refusal().map_or("", Refusal::label);
    match refused {
        Refused::Http(status, text) => plain(*status, format!("{text}\n")),
        Refused::Code(_) => {
            let challenge = HeaderValue::from_static("Basic realm=\"sekisho enrolment\", charset=\"UTF-8\"");
            let text = format!("{label}: a valid enrolment code is needed\n");
            with(plain(StatusCode::UNAUTHORIZED, text), WWW_AUTHENTICATE, challenge)
        }
        Refused::Request(status, why) => plain(*status, format!("{label}: {why}\n")),
        Refused::Renewal(why) => plain(StatusCode::FORBIDDEN, format!("{label}: {why}\n")),
        Refused::Unavailable(_) => {
            plain(StatusCode::SERVICE_UNAVAILABLE, format!("{label}: not possible at present\n"))
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
