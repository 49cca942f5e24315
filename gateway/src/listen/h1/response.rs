//! Writing an HTTP/1.1 answer: the head, its framing, and the body as it comes.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use http_body::Body;

use super::fields::{put_chunk_size, put_fields, put_last_chunk};
use super::io::SharedIo;
use crate::body::BodyError;

/// What the request says about its answer.
#[derive(Debug, Clone)]
pub(super) struct AnswerTo {
    /// HEAD has an answer without a body.
    pub method: Method,
    /// HTTP/1.0 knows no chunks.
    pub version: Version,
    /// The client takes trailers.
    pub takes_trailers: bool,
    /// Both sides keep the connection open.
    pub keep_alive: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AnswerFraming {
    None,
    Length,
    Chunked,
    Close,
}

/// Writes the whole answer. `Ok(true)` means that the connection can carry another request.
///
/// # Errors
/// The client's stream failed or stalled, or the body broke after the head was written: the connection must then
/// be dropped without a goodbye, so that the client sees a truncated answer as such.
pub(super) async fn write_response<B>(io: &SharedIo, response: Response<B>, to: &AnswerTo) -> io::Result<bool>
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin,
{
    let (parts, mut body) = response.into_parts();
    let framing = answer_framing(parts.status, &parts.headers, &body, to);
    let keep_alive = to.keep_alive && framing != AnswerFraming::Close;
    let length = body.size_hint().exact();
    write_head(io.borrow_mut().out(), parts.status, &parts.headers, framing, length, keep_alive);
    drop(parts);
    let mut pending = Bytes::new();
    let mut ended = framing == AnswerFraming::None;
    poll_fn(|cx| {
        let mut io_error = None;
        while !ended || !pending.is_empty() {
            if !pending.is_empty() {
                ready!(io.borrow_mut().poll_write_through(cx, &mut pending))?;
                if framing == AnswerFraming::Chunked {
                    io.borrow_mut().out().extend_from_slice(b"\r\n");
                }
                continue;
            }
            match Pin::new(&mut body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => {
                        if framing == AnswerFraming::Chunked {
                            put_chunk_size(io.borrow_mut().out(), data.len());
                        }
                        pending = data;
                    }
                    Err(frame) => {
                        if let (Ok(trailers), AnswerFraming::Chunked) = (frame.into_trailers(), framing) {
                            put_last_chunk(io.borrow_mut().out(), to.takes_trailers.then_some(&trailers));
                        }
                        ended = true;
                    }
                },
                Poll::Ready(None) => {
                    if framing == AnswerFraming::Chunked {
                        put_last_chunk(io.borrow_mut().out(), None);
                    }
                    ended = true;
                }
                Poll::Ready(Some(Err(error))) => {
                    io_error = Some(io::Error::other(error));
                    ended = true;
                }
                Poll::Pending => {
                    // What is there goes out while the backend thinks about the rest.
                    let _: Poll<()> = match io.borrow_mut().poll_flush(cx)? {
                        Poll::Ready(()) | Poll::Pending => Poll::Pending,
                    };
                    return Poll::Pending;
                }
            }
        }
        match io_error {
            Some(error) => Poll::Ready(Err(error)),
            None => io.borrow_mut().poll_flush(cx),
        }
    })
    .await?;
    Ok(keep_alive)
}

/// Writes the answer that changes the protocol to WebSocket (RFC 6455 section 4.2.2).
pub(super) fn write_switch(out: &mut BytesMut, headers: &HeaderMap, accept: &HeaderValue) {
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n");
    out.extend_from_slice(b"sec-websocket-accept: ");
    out.extend_from_slice(accept.as_bytes());
    out.extend_from_slice(b"\r\n");
    put_fields(out, headers);
    out.extend_from_slice(b"\r\n");
}

/// RFC 9112 section 6.3, from the writer's side.
fn answer_framing<B: Body>(status: StatusCode, headers: &HeaderMap, body: &B, to: &AnswerTo) -> AnswerFraming {
    let bodiless = to.method == Method::HEAD
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED;
    if bodiless {
        AnswerFraming::None
    } else if headers.contains_key(CONTENT_LENGTH) || body.size_hint().exact().is_some() {
        AnswerFraming::Length
    } else if to.version == Version::HTTP_11 {
        AnswerFraming::Chunked
    } else {
        AnswerFraming::Close
    }
}

fn write_head(
    out: &mut BytesMut,
    status: StatusCode,
    headers: &HeaderMap,
    framing: AnswerFraming,
    length: Option<u64>,
    keep_alive: bool,
) {
    out.reserve(256 + headers.len() * 48);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.put_u8(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    put_fields(out, headers);
    if framing == AnswerFraming::Length && !headers.contains_key(CONTENT_LENGTH) {
        out.extend_from_slice(b"content-length: ");
        out.extend_from_slice(itoa::Buffer::new().format(length.unwrap_or(0)).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if framing == AnswerFraming::Chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    if !keep_alive {
        out.extend_from_slice(b"connection: close\r\n");
    }
    if !headers.contains_key(DATE) {
        write_date(out);
    }
    out.extend_from_slice(b"\r\n");
}

fn write_date(out: &mut BytesMut) {
    out.extend_from_slice(b"date: ");
    out.extend_from_slice(date().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// `Date` of a backend that sends none (RFC 9110 section 6.6.1), made once a second on each worker.
pub(in super::super) fn date() -> HeaderValue {
    thread_local! {
        static DATE_VALUE: RefCell<(i64, HeaderValue)> = const { RefCell::new((i64::MIN, HeaderValue::from_static(""))) };
    }
    let now = jiff::Timestamp::now();
    DATE_VALUE.with_borrow_mut(|(second, value)| {
        if *second != now.as_second() {
            *second = now.as_second();
            let text = now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            // INVARIANT: letters, digits, spaces and colons are a header's value.
            *value = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""));
        }
        value.clone()
    })
}
