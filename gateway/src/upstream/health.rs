//! Health checks: one question to one server, over a connection of its own, outside the pools and the pipeline.

use std::rc::Rc;
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, HeaderValue, TE, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::backend::BackendState;
use super::fleet::Servers;
use super::h2::Local;
use crate::config::{HealthCheck, HealthKind};

/// Bytes of an answer's body that are read; what lies beyond is not looked at.
const MOST_BODY: usize = 64 * 1024;
/// Bytes of an answer's head, at most.
const MOST_HEAD: usize = 32 * 1024;
const GRPC_PATH: &str = "/grpc.health.v1.Health/Check";

/// Checks a server once. To be called in a `LocalSet`.
///
/// # Errors
/// In words, why it does not pass.
pub(crate) async fn check(
    servers: &Arc<Servers>,
    place: usize,
    tls: Option<Arc<rustls::ClientConfig>>,
    check: &HealthCheck,
) -> Result<(), String> {
    let service = Rc::new(servers.service.clone());
    let backend = service.backends.get(place).ok_or("there is no such server")?;
    let state = BackendState::new(backend, &service, (servers, place), tls, Rc::default());
    let state = state.map_err(|error| error.to_string())?;
    let passed = timeout(check.timeout, ask(&state, check)).await;
    passed.unwrap_or_else(|_| Err(format!("no answer within {} ms", check.timeout.as_millis())))
}

async fn ask(state: &BackendState, check: &HealthCheck) -> Result<(), String> {
    let stream = TokioIo::new(state.stream().await.map_err(|error| error.to_string())?);
    let (request, method) = match &check.kind {
        HealthKind::Tcp => return Ok(()),
        HealthKind::Http { path, .. } => (Full::default(), (Method::GET, path.as_str())),
        HealthKind::Grpc { service } => (Full::new(question(service)), (Method::POST, GRPC_PATH)),
    };
    let mut request =
        Request::builder().method(method.0).uri(method.1).body(request).map_err(|error| error.to_string())?;
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("sekisho-health"));
    if matches!(check.kind, HealthKind::Grpc { .. }) {
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    }
    let broken = |error: hyper::Error| format!("no answer: {error}");
    let answer = if state.service.http2 {
        let (mut sender, connection) = http2::handshake(Local, stream).await.map_err(broken)?;
        drop(spawn_local(connection));
        sender.send_request(state.addressed(request)?).await
    } else {
        let shaken = http1::Builder::new().max_buf_size(MOST_HEAD).handshake(stream).await;
        let (mut sender, connection) = shaken.map_err(broken)?;
        drop(spawn_local(connection));
        request.headers_mut().insert(HOST, state.host.clone());
        sender.send_request(request).await
    };
    let (head, body) = answer.map_err(broken)?.into_parts();
    match &check.kind {
        HealthKind::Tcp => Ok(()),
        HealthKind::Http { status, body: wanted, .. } => {
            if !status.contains(&head.status.as_u16()) {
                return Err(format!("status {}", head.status.as_u16()));
            }
            match wanted {
                None => Ok(()),
                Some(wanted) => look(body, wanted.as_bytes()).await,
            }
        }
        HealthKind::Grpc { .. } => {
            if head.status != StatusCode::OK {
                return Err(format!("status {}", head.status.as_u16()));
            }
            let collected = Limited::new(body, MOST_BODY).collect().await;
            let collected = collected.map_err(|error| format!("no whole answer: {error}"))?;
            // An answer without a message has its trailers in its head.
            let trailers = collected.trailers().unwrap_or(&head.headers).clone();
            serves(&trailers, &collected.to_bytes())
        }
    }
}

/// Reads until the text is there, or as much as is read.
async fn look(mut body: hyper::body::Incoming, wanted: &[u8]) -> Result<(), String> {
    let mut read = BytesMut::new();
    let is_there = |read: &[u8]| read.windows(wanted.len()).any(|window| window == wanted);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("no whole answer: {error}"))?;
        let Some(data) = frame.data_ref() else { continue };
        let left = MOST_BODY.saturating_sub(read.len());
        // What overlaps is looked at again.
        let from = read.len().saturating_sub(wanted.len());
        read.extend_from_slice(data.get(..left.min(data.len())).unwrap_or_default());
        if is_there(read.get(from..).unwrap_or_default()) {
            return Ok(());
        }
        if data.len() >= left {
            break;
        }
    }
    Err("the body does not have the text".to_owned())
}

/// `HealthCheckRequest` with its gRPC frame: field 1 is the name of the service.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        put_varint(&mut message, service.len() as u64);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(&message);
    framed.freeze()
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8((value & 0x7f) as u8);
}

fn varint(bytes: &mut Bytes) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes.try_get_u8().ok()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Whether `grpc-status` is 0 and the one message is a `HealthCheckResponse` that says `SERVING`.
fn serves(trailers: &HeaderMap, body: &Bytes) -> Result<(), String> {
    match trailers.get("grpc-status").map(HeaderValue::as_bytes) {
        Some(b"0") => {}
        Some(status) => return Err(format!("gRPC status {}", status.escape_ascii())),
        None => return Err("the answer has no gRPC status".to_owned()),
    }
    match status_of(body.clone()) {
        Some(1) => Ok(()),
        Some(2) => Err("not serving".to_owned()),
        Some(other) => Err(format!("health status {other}")),
        None => Err("the answer is no health status".to_owned()),
    }
}

/// The field `status` of the message, 0 where it is left out.
fn status_of(mut body: Bytes) -> Option<u64> {
    let compressed = body.try_get_u8().ok()?;
    let length = body.try_get_u32().ok()? as usize;
    if compressed != 0 || length != body.len() {
        return None;
    }
    let mut status = 0;
    while !body.is_empty() {
        let key = varint(&mut body)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = varint(&mut body)?,
            (_, 0) => drop(varint(&mut body)?),
            (_, 1) => body = body.get(8..).map(|rest| body.slice_ref(rest))?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut body)?).ok()?;
                body = body.get(length..).map(|rest| body.slice_ref(rest))?;
            }
            (_, 5) => body = body.get(4..).map(|rest| body.slice_ref(rest))?,
            _ => return None,
        }
    }
    Some(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_question_and_its_answers_are_those_of_the_protocol() {
        assert_eq!(&question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&question("fhir")[..], b"\0\0\0\0\x06\x0a\x04fhir");
        let mut good = HeaderMap::new();
        good.insert("grpc-status", HeaderValue::from_static("0"));
        let said = |body: &'static [u8]| serves(&good, &Bytes::from_static(body));
        assert_eq!(said(b"\0\0\0\0\x02\x08\x01"), Ok(()));
        assert_eq!(said(b"\0\0\0\0\x06\x12\x02hi\x08\x01"), Ok(()), "unknown fields are passed over");
        for (body, why) in [
            (&b"\0\0\0\0\x02\x08\x02"[..], "not serving"),
            (b"\0\0\0\0\x00", "health status 0"),
            (b"\0\0\0\0\x02\x08\x03", "health status 3"),
            (b"\x01\0\0\0\x02\x08\x01", "no health status"),
            (b"\0\0\0\0\x03\x08\x01", "no health status"),
            (b"\0\0\0\0\x02\x12\x7f", "no health status"),
            (b"\0\0\0\0\x02\x0b\x01", "no health status"),
            (b"", "no health status"),
        ] {
            assert!(said(body).unwrap_err().contains(why), "{body:?}: {:?}", said(body));
        }
        let mut bad = HeaderMap::new();
        assert!(serves(&bad, &Bytes::new()).is_err());
        bad.insert("grpc-status", HeaderValue::from_static("5"));
        assert_eq!(serves(&bad, &Bytes::new()), Err("gRPC status 5".to_owned()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fall(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _: Option<u64> = status_of(Bytes::from(bytes));
        }
    }
}
