//! Step 7: the body that goes back to the client, and the end of its trail.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::trail::Trail;
use crate::body::{BodyError, FullBody};
use crate::upstream::UpstreamBody;

/// The body of an answer.
pub struct ResponseBody(Kind);

enum Kind {
    /// Made by the gateway.
    Own(FullBody),
    /// Comes from a backend. The trail is last, so that it is dropped last.
    Forwarded { body: UpstreamBody, trail: Box<Trail> },
}

impl ResponseBody {
    /// An answer of the gateway's own.
    pub(super) fn own(body: FullBody) -> Self {
        Self(Kind::Own(body))
    }

    /// A backend's answer; its end is recorded.
    pub(super) fn forwarded(body: UpstreamBody, mut trail: Trail) -> Self {
        if body.is_end_stream() {
            trail.reached_end();
        }
        Self(Kind::Forwarded { body, trail: Box::new(trail) })
    }

    /// No body.
    pub(crate) fn empty() -> Self {
        Self(Kind::Own(FullBody::default()))
    }

    /// Moves what the client of a tunnel sends on to the backend, while it takes nothing itself.
    ///
    /// # Errors
    /// Why the tunnel ends.
    pub(crate) fn poll_onward(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        let Kind::Forwarded { body, trail } = &mut self.0 else { return Ok(()) };
        if let Some(ended) = trail.is_cut(cx) {
            return Err(BodyError::Refused(ended));
        }
        let moved = body.poll_onward(cx);
        trail.passes();
        moved
    }

    /// The gateway made this answer, so nobody reads the rest of the request.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        matches!(self.0, Kind::Own(_))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().0 {
            Kind::Own(body) => Pin::new(body).poll_frame(cx),
            Kind::Forwarded { body, trail } => {
                if let Some(ended) = trail.is_cut(cx) {
                    return Poll::Ready(Some(Err(BodyError::Refused(ended))));
                }
                let polled = Pin::new(&mut *body).poll_frame(cx);
                trail.passes();
                match &polled {
                    Poll::Ready(Some(Ok(frame))) => {
                        trail.sends(frame.data_ref().map_or(&[], |data| data));
                        if body.is_end_stream() {
                            trail.reached_end();
                        }
                    }
                    Poll::Ready(None) => trail.reached_end(),
                    Poll::Ready(Some(Err(BodyError::Idle))) => trail.fell_silent(),
                    Poll::Ready(Some(Err(_))) | Poll::Pending => {}
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Own(body) => body.is_end_stream(),
            Kind::Forwarded { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Own(body) => body.size_hint(),
            Kind::Forwarded { body, .. } => body.size_hint(),
        }
    }
}
