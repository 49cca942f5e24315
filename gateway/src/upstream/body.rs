//! The body on its way to a backend, watched and kept within its declared length.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::framing::Length;
use super::headers;
use crate::body::{BodyError, BoxBody};

/// What the request's body has come to; shared between the body, which its sender owns, and whoever waits for the answer.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The last byte was handed to the connection.
    pub(super) ended: Cell<bool>,
    /// A frame was handed over: the body cannot be sent again.
    pub(super) touched: Cell<bool>,
    /// A frame was handed over since this was last cleared.
    pub(super) moved: Cell<bool>,
    /// The next byte is the client's to send.
    pub(super) starved: Cell<bool>,
    /// Why the body turned bad.
    pub(super) failed: RefCell<Option<BodyError>>,
}

struct Source {
    body: BoxBody,
    /// Bytes that must still come; `None` if no length was declared.
    remaining: Option<u64>,
    tunnel: bool,
    progress: Rc<Progress>,
}

/// The body that is sent to a backend.
pub(super) struct OutgoingBody(Option<Source>);

impl OutgoingBody {
    /// No body.
    pub(super) const fn empty() -> Self {
        Self(None)
    }

    /// `body`, of the length that the head declares.
    pub(super) fn streaming(body: BoxBody, length: Length) -> (Self, Rc<Progress>) {
        let progress = Rc::new(Progress::default());
        let remaining = match length {
            Length::Empty => Some(0),
            Length::Exact(length) => Some(length),
            Length::Unknown | Length::Tunnel => None,
        };
        let tunnel = length == Length::Tunnel;
        (Self(Some(Source { body, remaining, tunnel, progress: Rc::clone(&progress) })), progress)
    }

    /// How it is framed.
    pub(super) fn length(&self) -> Length {
        match &self.0 {
            None => Length::Empty,
            Some(Source { tunnel: true, .. }) => Length::Tunnel,
            Some(Source { remaining: Some(left), .. }) => Length::Exact(*left),
            Some(Source { remaining: None, .. }) => Length::Unknown,
        }
    }
}

impl Source {
    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.progress.failed.replace(Some(error.clone()));
        Poll::Ready(Some(Err(error)))
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.progress.starved.set(true);
        let frame = ready!(self.body.as_mut().poll_frame(cx));
        self.progress.starved.set(false);
        self.progress.moved.set(true);
        self.progress.touched.set(true);
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
