//! A backend's answer, and its body.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::backend::BackendState;
use super::body::Progress;
use super::h1::H1;
use super::headers;
use super::watch::Watch;
use crate::body::BodyError;

/// An answer whose head is here.
#[derive(Debug)]
pub struct Answer {
    /// The answer, its fields cleaned.
    pub response: Response<UpstreamBody>,
    /// Host and port of the backend that gave it.
    pub backend: Arc<str>,
    /// How it came about.
    pub timings: Timings,
}

/// How an answer came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// From the call to the answer's head, everything included.
    pub head: Duration,
    /// Of that, opening connections.
    pub connect: Duration,
    /// How often the request was sent, at least 1.
    pub attempts: u8,
    /// The answer came over a connection that had carried others before.
    pub reused: bool,
}

/// The body of a backend's answer. On HTTP/1.1 reading it drives the connection; dropping it early closes that.
pub struct UpstreamBody {
    incoming: Incoming,
    source: Source,
}

enum Source {
    /// All there is has arrived.
    Complete,
    H1(H1Source),
    H2 {
        idle: Duration,
        watch: Option<Watch>,
        progress: Option<Rc<Progress>>,
        moved: bool,
    },
}

struct H1Source {
    /// Taken out when the exchange is over.
    connection: Option<Box<H1>>,
    backend: Rc<BackendState>,
    progress: Option<Rc<Progress>>,
    moved: bool,
}

impl std::fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamBody").finish_non_exhaustive()
    }
}

impl UpstreamBody {
    pub(super) fn over_h1(
        incoming: Incoming,
        connection: Box<H1>,
        backend: Rc<BackendState>,
        progress: Option<Rc<Progress>>,
    ) -> Self {
        let mut source = H1Source { connection: Some(connection), backend, progress, moved: true };
        // A small answer came with its head: the connection is free before the answer is forwarded.
        let source = if source.release() { Source::Complete } else { Source::H1(source) };
        Self { incoming, source }
    }

    pub(super) fn over_h2(incoming: Incoming, idle: Duration, progress: Option<Rc<Progress>>) -> Self {
        Self { incoming, source: Source::H2 { idle, watch: None, progress, moved: true } }
    }
}

impl H1Source {
    /// Gives the connection back if both directions of the exchange are complete.
    fn release(&mut self) -> bool {
        if self.connection.as_ref().is_some_and(|connection| connection.is_idle())
            && let Some(connection) = self.connection.take()
        {
            self.backend.put_idle(connection);
        }
        self.connection.is_none()
    }

    fn poll_frame(
        &mut self,
        incoming: &mut Incoming,
        cx: &Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
        match connection.poll_body(cx, |cx| Pin::new(&mut *incoming).poll_frame(cx)) {
            Poll::Ready(frame) => {
                self.moved = true;
                Poll::Ready(frame.map(|frame| frame.map_err(|error| blame(self.progress.as_deref(), &error))))
            }
            Poll::Pending => {
                if self.progress.as_ref().is_some_and(|progress| progress.moved.take()) {
                    self.moved = true;
                }
                if std::mem::take(&mut self.moved) {
                    connection.set_deadline(Instant::now() + self.backend.service.idle_timeout);
                }
                connection.poll_deadline(cx).map(|()| Some(Err(silence())))
            }
        }
    }
}

impl Drop for H1Source {
    /// The last frame may have been taken without asking for the end behind it.
    fn drop(&mut self) {
        let sending = self.progress.as_ref().is_some_and(|progress| !progress.ended.get());
        if !sending
            && let Some(connection) = &mut self.connection
            && connection.settle()
        {
            self.release();
        }
    }
}

/// A request body that turned bad ends the answer too, and is then the reason.
fn blame(progress: Option<&Progress>, error: &hyper::Error) -> BodyError {
    progress.and_then(|progress| progress.failed.borrow().clone()).unwrap_or_else(|| broken(error))
}

fn broken(error: &hyper::Error) -> BodyError {
    let mut text = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        text.push_str(": ");
        text.push_str(&source.to_string());
    }
    BodyError::Broken(text)
}

fn silence() -> BodyError {
    BodyError::Broken("the backend fell silent".into())
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { incoming, source } = &mut *self;
        let polled = match source {
            Source::Complete => {
                Pin::new(incoming).poll_frame(&mut Context::from_waker(Waker::noop())).map_err(|error| broken(&error))
            }
            Source::H1(h1) => {
                let polled = h1.poll_frame(incoming, cx);
                if h1.release() {
                    self.source = Source::Complete;
                }
                polled
            }
            Source::H2 { idle, watch, progress, moved } => match Pin::new(incoming).poll_frame(cx) {
                Poll::Ready(frame) => {
                    *moved = true;
                    Poll::Ready(frame.map(|frame| frame.map_err(|error| blame(progress.as_deref(), &error))))
                }
                Poll::Pending => {
                    *moved |= progress.as_ref().is_some_and(|progress| progress.moved.take());
                    let watch = match watch {
                        Some(watch) => {
                            if *moved {
                                watch.set(Instant::now() + *idle);
                            }
                            watch
                        }
                        None => watch.insert(Watch::new(Instant::now() + *idle)),
                    };
                    *moved = false;
                    watch.poll(cx).map(|()| Some(Err(silence())))
                }
            },
        };
        polled.map(|frame| {
            frame.map(|frame| {
                frame.map(|mut frame| {
                    if let Some(trailers) = frame.trailers_mut() {
                        headers::clean_trailers(trailers);
                    }
                    frame
                })
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
