//! An answer, written to its stream.

use std::future::poll_fn;
use std::pin::Pin;

use bytes::Bytes;
use h3::error::{Code, StreamError};
use h3::server::RequestStream;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body::Body as _;

use super::fault::code;
use super::streams::Sending;
use crate::exchange::ResponseBody;

/// Fields of one connection of HTTP/1.1, which have no meaning here (RFC 9114 4.2).
const OF_CONNECTIONS: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Sends all of it, and waits until the peer has it.
///
/// # Errors
/// The stream's; the peer then has no whole answer.
pub(super) async fn send(
    response: Response<ResponseBody>,
    method: &Method,
    stream: &mut RequestStream<Sending, Bytes>,
) -> Result<(), StreamError> {
    let (mut parts, mut body) = response.into_parts();
    for name in &OF_CONNECTIONS {
        parts.headers.remove(name);
    }
    if !parts.headers.contains_key(DATE) {
        parts.headers.insert(DATE, crate::listen::h1::date());
    }
    let is_bodiless = *method == Method::HEAD
        || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || parts.status.is_informational();
    if !is_bodiless
        && !parts.headers.contains_key(CONTENT_LENGTH)
        && let Some(length) = body.size_hint().exact()
    {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    stream.send_response(Response::from_parts(parts, ())).await?;
    while !is_bodiless && !body.is_end_stream() {
        let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await else { break };
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) if data.is_empty() => {}
            Ok(Ok(data)) => stream.send_data(data).await?,
            Ok(Err(frame)) => {
                if let Ok(trailers) = frame.into_trailers() {
                    stream.send_trailers(trailers).await?;
                }
                break;
            }
            Err(_) => {
                stream.stop_stream(Code::from(u64::from(code::INTERNAL_ERROR)));
                return Ok(());
            }
        }
    }
    // What is recorded of the answer does not wait for its last acknowledgement.
    drop(body);
    stream.finish().await
}
