//! The body on its way to a backend, watched and kept within its declared length.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::framing::Length;
use super::headers;
use crate::body::{BodyError, BoxBody};

/// How long a client that expects `100-continue` is kept waiting for a backend that says nothing (RFC 9110 10.1.1: a
/// client does not wait for ever either).
const CONTINUE_PATIENCE: Duration = Duration::from_secs(1);

/// What the request's body has come to; shared between the body, which hyper owns, and whoever waits for the answer.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The last byte was handed to the connection.
    pub(super) ended: Cell<bool>,
    /// A frame was handed over since this was last cleared.
    pub(super) moved: Cell<bool>,
    /// The next byte is the client's to send.
    pub(super) starved: Cell<bool>,
    /// The answer's head is there.
    pub(super) answered: Cell<bool>,
    /// Why the body turned bad.
    pub(super) failed: RefCell<Option<BodyError>>,
}

/// Set when the backend says `100 Continue`. hyper wants its callback to be `Send`, hence the atomic.
pub(super) type Continue = Arc<AtomicBool>;

struct Expectation {
    go: Continue,
    patience: Pin<Box<Sleep>>,
}

struct Source {
    body: BoxBody,
    /// Bytes that must still come; `None` if no length was declared.
    remaining: Option<u64>,
    progress: Rc<Progress>,
    expectation: Option<Expectation>,
}

/// The body that hyper sends to a backend.
pub(super) struct OutgoingBody(Option<Source>);

impl OutgoingBody {
    /// No body.
    pub(super) const fn empty() -> Self {
        Self(None)
    }

    /// `body`, of the length that the head declares. With `go`, nothing is sent before the backend asks for it.
    pub(super) fn streaming(body: BoxBody, length: Length, go: Option<Continue>) -> (Self, Rc<Progress>) {
        let progress = Rc::new(Progress::default());
        let remaining = match length {
            Length::Empty => Some(0),
            Length::Exact(length) => Some(length),
            Length::Unknown => None,
        };
        let expectation = go.map(|go| Expectation { go, patience: Box::pin(sleep(CONTINUE_PATIENCE)) });
        (Self(Some(Source { body, remaining, progress: Rc::clone(&progress), expectation })), progress)
    }
}

impl Source {
    fn poll_go(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(expectation) = &mut self.expectation {
            if !expectation.go.load(Ordering::Relaxed) {
                // A final answer came instead: the client will not be asked for its body, and the connection is
                // dropped with the answer's end. The connection is polled when the backend's bytes come, and polls
                // this body after it has read them, so no wake is needed here.
                if self.progress.answered.get() {
                    return Poll::Pending;
                }
                ready!(expectation.patience.as_mut().poll(cx));
            }
            self.expectation = None;
        }
        Poll::Ready(())
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.progress.failed.replace(Some(error.clone()));
        Poll::Ready(Some(Err(error)))
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        ready!(self.poll_go(cx));
        self.progress.starved.set(true);
        let frame = ready!(self.body.as_mut().poll_frame(cx));
        self.progress.starved.set(false);
        self.progress.moved.set(true);
        let mut frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return self.fail(error),
            None => return self.finish(),
        };
        if let Some(data) = frame.data_ref() {
            if let Some(remaining) = &mut self.remaining {
                match remaining.checked_sub(data.len() as u64) {
                    Some(rest) => *remaining = rest,
                    None => return self.fail(BodyError::Broken("longer than its Content-Length".into())),
                }
            }
            if self.remaining == Some(0) || self.body.is_end_stream() {
                if self.remaining.is_some_and(|rest| rest != 0) {
                    return self.fail(BodyError::Broken("shorter than its Content-Length".into()));
                }
                self.progress.ended.set(true);
            }
        } else if let Some(trailers) = frame.trailers_mut() {
            if self.remaining.is_some_and(|rest| rest != 0) {
                return self.fail(BodyError::Broken("shorter than its Content-Length".into()));
            }
            headers::clean_trailers(trailers);
            self.progress.ended.set(true);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn finish(&mut self) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.remaining.is_some_and(|rest| rest != 0) {
            return self.fail(BodyError::Broken("shorter than its Content-Length".into()));
        }
        self.progress.ended.set(true);
        Poll::Ready(None)
    }
}

impl Body for OutgoingBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.as_mut().map_or(Poll::Ready(None), |source| source.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        // Not while a declared byte is missing: the end must be polled, so that the shortage is seen.
        self.0.as_ref().is_none_or(|source| source.progress.ended.get() && source.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            None => SizeHint::with_exact(0),
            Some(source) => source.remaining.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
