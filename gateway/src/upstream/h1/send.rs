//! The request's way to the backend: its head, and its body as it comes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::request::Parts;
use http_body::Body as _;
use tokio::io::AsyncWrite as _;
use tokio::time::{Sleep, sleep};

use super::head;
use crate::body::BodyError;
use crate::listen::{put_chunk_size, put_last_chunk};
use crate::upstream::body::OutgoingBody;
use crate::upstream::connect::Stream;
use crate::upstream::framing::Length;

/// How long a client that expects `100-continue` is kept waiting for a backend that says nothing (RFC 9110 10.1.1: a
/// client does not wait for ever either).
const CONTINUE_PATIENCE: Duration = Duration::from_secs(1);
/// Bytes gathered before they are written. Longer data is not copied.
const GATHER: usize = 16 * 1024;

/// Where the sending of a request stands.
#[derive(Default)]
pub(super) struct Sending {
    out: BytesMut,
    /// Data that is written after `out`, as it is.
    data: Bytes,
    /// What is still to come of the body.
    body: Option<OutgoingBody>,
    chunked: bool,
    /// The body is held back until the backend asks for it, or this has passed.
    expectation: Option<Pin<Box<Sleep>>>,
    tunnel: Option<Tunnel>,
    /// A byte of the request was handed to the connection.
    started: bool,
    /// All is written and flushed.
    finished: bool,
    /// Why writing failed. What the backend still says is read all the same: it may have answered early.
    broken: Option<io::Error>,
}

/// Where a body stands that is a tunnel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tunnel {
    /// The backend has not agreed: not a byte is read of it (C3).
    Shut,
    Open,
    /// The client has ended its side.
    Ended,
}

impl Sending {
    /// Prepares for a request.
    pub(super) fn begin(&mut self, parts: &Parts, body: OutgoingBody, expects_continue: bool) {
        let body_length = body.length();
        self.chunked = body_length == Length::Unknown;
        self.body = (!body.is_end_stream()).then_some(body);
        self.expectation = (expects_continue && self.body.is_some()).then(|| Box::pin(sleep(CONTINUE_PATIENCE)));
        self.tunnel = (body_length == Length::Tunnel).then_some(Tunnel::Shut);
        self.started = false;
        self.finished = false;
        head::write(&mut self.out, parts);
    }

    /// The backend wants the body.
    pub(super) fn go(&mut self) {
        self.expectation = None;
    }

    /// The backend has agreed to the other protocol.
    pub(super) fn open(&mut self) {
        self.tunnel = self.tunnel.map(|_| Tunnel::Open);
    }

    /// Whether the request asks for another protocol.
    pub(super) const fn is_tunnel(&self) -> bool {
        self.tunnel.is_some()
    }

    /// A final answer is there. A body that the backend did not ask for is not sent any more, and the connection ends
    /// with the answer.
    pub(super) fn answered(&mut self) {
        if self.expectation.take().is_some() || self.tunnel == Some(Tunnel::Shut) {
            self.body = None;
            self.broken = Some(io::Error::other("the backend did not want the body"));
        }
    }

    /// Whether a byte of the request may have reached the backend.
    pub(super) fn has_started(&self) -> bool {
        self.started
    }

    /// Whether the whole request was sent.
    pub(super) fn is_whole(&self) -> bool {
        self.finished && self.broken.is_none()
    }

    /// Why not, if writing failed.
    pub(super) fn broken(&self) -> Option<&io::Error> {
        self.broken.as_ref()
    }

    /// The body as far as it was not sent: all of it, if nothing was.
    pub(super) fn take_body(&mut self) -> Option<OutgoingBody> {
        self.body.take()
    }

    /// Sends as much as goes. Ready when nothing is left to do, also because writing failed.
    ///
    /// # Errors
    /// The body turned bad; the connection must be dropped.
    pub(super) fn poll(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        if self.finished || self.broken.is_some() {
            return Poll::Ready(Ok(()));
        }
        loop {
            match self.poll_write(stream, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    self.broken = Some(error);
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => return Poll::Pending,
            }
            let Some(body) = &mut self.body else {
                if self.tunnel == Some(Tunnel::Ended) {
                    // Whoever hears nothing more may still speak.
                    if let Err(error) = ready!(Pin::new(&mut *stream).poll_shutdown(cx)) {
                        self.broken = Some(error);
                    }
                }
                self.finished = true;
                return Poll::Ready(Ok(()));
            };
            if self.tunnel == Some(Tunnel::Shut) {
                return Poll::Pending;
            }
            if let Some(patience) = &mut self.expectation {
                ready!(patience.as_mut().poll(cx));
                self.expectation = None;
            }
            // Frames that are there already go out together.
            while self.out.len() < GATHER && self.data.is_empty() {
                match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => put_data(&mut self.out, &mut self.data, data, self.chunked),
                        Err(frame) => {
                            if self.chunked {
                                put_last_chunk(&mut self.out, frame.into_trailers().ok().as_ref());
                            }
                            self.body = None;
                            break;
                        }
                    },
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) => {
                        if self.chunked {
                            put_last_chunk(&mut self.out, None);
                        }
                        self.tunnel = self.tunnel.map(|_| Tunnel::Ended);
                        self.body = None;
                        break;
                    }
                    Poll::Pending if self.out.is_empty() => return Poll::Pending,
                    Poll::Pending => break,
                }
            }
        }
    }

    fn poll_write(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let written = ready!(Pin::new(&mut *stream).poll_write(cx, &self.out))?;
            advance(&mut self.out, written)?;
            self.started = true;
        }
        while !self.data.is_empty() {
            let written = ready!(Pin::new(&mut *stream).poll_write(cx, &self.data))?;
            advance(&mut self.data, written)?;
            if self.data.is_empty() && self.chunked {
                self.out.put_slice(b"\r\n");
            }
        }
        Pin::new(stream).poll_flush(cx)
    }
}

fn advance(buffer: &mut impl bytes::Buf, written: usize) -> io::Result<()> {
    if written == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    buffer.advance(written);
    Ok(())
}

fn put_data(out: &mut BytesMut, long: &mut Bytes, data: Bytes, chunked: bool) {
    if data.is_empty() {
        // An empty chunk would be the last one.
        return;
    }
    if chunked {
        put_chunk_size(out, data.len());
    }
    if out.len() + data.len() > GATHER {
        *long = data;
        return;
    }
    out.put_slice(&data);
    if chunked {
        out.put_slice(b"\r\n");
    }
}
