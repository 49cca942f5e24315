//! A request body over HTTP/3, within the listener's bounds, and as long as its head says (RFC 9114 4.1.2).

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use h3::error::StreamError;
use h3::server::RequestStream;
use http_body::{Body, Frame, SizeHint};

use policy::Refusal;

use super::fault::code;
use super::streams::Receiving;
use crate::body::BodyError;
use crate::listen::deadline::Deadline;

/// Where it stands.
enum State {
    Data,
    Trailers,
    Over,
}

/// See the module.
pub struct H3Body {
    stream: RequestStream<Receiving, Bytes>,
    /// What was read before anybody asked for it.
    first: Option<Bytes>,
    state: State,
    /// Bytes that may still come.
    left: u64,
    /// Bytes that must still come, where the head says so.
    expected: Option<u64>,
    idle: Duration,
    deadline: Option<Deadline>,
}

/// What is known of a request's body when its head is there.
pub(super) enum Begun {
    /// There is none.
    Empty,
    /// There may be one.
    Body(Box<H3Body>),
}

impl H3Body {
    /// At most `limit` bytes, `expected` ones where the head says how many, never silent for longer than `idle`.
    ///
    /// # Errors
    /// What is wrong with it already.
    pub(super) async fn begin(
        stream: RequestStream<Receiving, Bytes>,
        limit: u64,
        expected: Option<u64>,
        idle: Duration,
    ) -> Result<Begun, BodyError> {
        let mut body = Self { stream, first: None, state: State::Data, left: limit, expected, idle, deadline: None };
        // Most requests end with their head, and then it is known by now.
        let begun = std::future::poll_fn(|cx| Poll::Ready(body.poll_piece(cx))).await;
        match begun {
            Poll::Pending => {}
            Poll::Ready(Ok(Some(bytes))) => body.first = Some(bytes),
            Poll::Ready(Ok(None)) if expected.is_none_or(|expected| expected == 0) => {
                if let Poll::Ready(Ok(None)) =
                    std::future::poll_fn(|cx| Poll::Ready(body.stream.poll_recv_trailers(cx))).await
                {
                    return Ok(Begun::Empty);
                }
                body.state = State::Trailers;
            }
            Poll::Ready(Ok(None)) => return Err(body.misses()),
            Poll::Ready(Err(error)) => return Err(error),
        }
        Ok(Begun::Body(Box::new(body)))
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyError>> {
        Poll::Ready(match ready!(self.stream.poll_recv_data(cx)) {
            Ok(data) => Ok(data.map(|mut data| data.copy_to_bytes(data.remaining()))),
            Err(error) => Err(broken(&error)),
        })
    }

    /// It is longer or shorter than the head says: the stream is reset, whatever was answered.
    fn misses(&mut self) -> BodyError {
        self.state = State::Over;
        self.stream.stop_sending(h3::error::Code::from(u64::from(code::MESSAGE_ERROR)));
        BodyError::Refused(Refusal::RequestMalformed)
    }

    fn taken(&mut self, bytes: Bytes) -> Result<Frame<Bytes>, BodyError> {
        if let Some(deadline) = &mut self.deadline {
            deadline.set(self.idle);
        }
        let length = bytes.len() as u64;
        if let Some(expected) = &mut self.expected {
            match expected.checked_sub(length) {
                Some(rest) => *expected = rest,
                None => return Err(self.misses()),
            }
        }
        let Some(left) = self.left.checked_sub(length) else {
            self.state = State::Over;
            return Err(BodyError::Refused(Refusal::BodyTooLarge));
        };
        self.left = left;
        Ok(Frame::data(bytes))
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let idle = self.idle;
        let deadline = self.deadline.get_or_insert_with(|| {
            let mut deadline = Deadline::default();
            deadline.set(idle);
            deadline
        });
        ready!(deadline.poll_expired(cx));
        self.state = State::Over;
        Poll::Ready(Some(Err(BodyError::Refused(Refusal::RequestTimeout))))
    }
}

/// What the library says of a stream that ended early.
fn broken(error: &StreamError) -> BodyError {
    let is_ours = matches!(error, StreamError::RemoteTerminate { code, .. } if *code == u64::from(code::MESSAGE_ERROR));
    if is_ours || matches!(error, StreamError::StreamError { .. } | StreamError::HeaderTooBig { .. }) {
        return BodyError::Refused(Refusal::RequestMalformed);
    }
    BodyError::Broken(error.to_string())
}

impl Body for H3Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            match this.state {
                State::Over => return Poll::Ready(None),
                State::Data => {
                    let piece = match this.first.take() {
                        Some(first) => Poll::Ready(Ok(Some(first))),
                        None => this.poll_piece(cx),
                    };
                    match piece {
                        Poll::Pending => return this.poll_idle(cx),
                        Poll::Ready(Ok(Some(bytes))) if bytes.is_empty() => {}
                        Poll::Ready(Ok(Some(bytes))) => return Poll::Ready(Some(this.taken(bytes))),
                        Poll::Ready(Ok(None)) if this.expected.is_some_and(|expected| expected > 0) => {
                            return Poll::Ready(Some(Err(this.misses())));
                        }
                        Poll::Ready(Ok(None)) => this.state = State::Trailers,
                        Poll::Ready(Err(error)) => {
                            this.state = State::Over;
                            return Poll::Ready(Some(Err(error)));
                        }
                    }
                }
                State::Trailers => {
                    let trailers = match this.stream.poll_recv_trailers(cx) {
                        Poll::Pending => return this.poll_idle(cx),
                        Poll::Ready(trailers) => trailers,
                    };
                    this.state = State::Over;
                    match trailers {
                        Ok(None) => return Poll::Ready(None),
                        Ok(Some(fields)) => return Poll::Ready(Some(Ok(Frame::trailers(fields)))),
                        Err(error) => return Poll::Ready(Some(Err(broken(&error)))),
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Over)
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().map_or(0, |first| first.len() as u64);
        match (&self.state, self.expected) {
            (State::Data, Some(expected)) => SizeHint::with_exact(expected),
            (State::Data, None) => {
                let mut hint = SizeHint::new();
                hint.set_lower(first);
                hint
            }
            (State::Trailers | State::Over, _) => SizeHint::with_exact(0),
        }
    }
}
