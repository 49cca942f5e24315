//! A request body over HTTP/2, within the listener's bounds.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use policy::Refusal;

use crate::body::BodyError;
use crate::listen::deadline::Deadline;

/// Counts what hyper hands over, and how long it takes.
pub struct H2Body {
    incoming: Incoming,
    left: u64,
    idle: Duration,
    deadline: Option<Deadline>,
}

impl H2Body {
    /// At most `limit` bytes, never silent for longer than `idle`.
    pub fn new(incoming: Incoming, limit: u64, idle: Duration) -> Self {
        Self { incoming, left: limit, idle, deadline: None }
    }
}

impl Body for H2Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(deadline) = &mut this.deadline {
                    deadline.set(this.idle);
                }
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                match this.left.checked_sub(length) {
                    Some(left) => {
                        this.left = left;
                        Poll::Ready(Some(Ok(frame)))
                    }
                    None => Poll::Ready(Some(Err(BodyError::Refused(Refusal::BodyTooLarge)))),
                }
            }
            Poll::Ready(Some(Err(error))) => {
                let is_framing = std::error::Error::source(&error)
                    .is_some_and(|source| source.to_string().contains("PROTOCOL_ERROR"));
                Poll::Ready(Some(Err(if is_framing {
                    BodyError::Refused(Refusal::RequestMalformed)
                } else {
                    BodyError::Broken(error.to_string())
                })))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let idle = this.idle;
                let deadline = this.deadline.get_or_insert_with(|| {
                    let mut deadline = Deadline::default();
                    deadline.set(idle);
                    deadline
                });
                ready!(deadline.poll_expired(cx));
                Poll::Ready(Some(Err(BodyError::Refused(Refusal::RequestTimeout))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
