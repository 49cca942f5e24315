//! The bodies that cross the gateway, whatever protocol they came over.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use policy::Refusal;

use crate::listen::{H1Body, H2Body, H3Body};

/// Why a body ended before its end.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BodyError {
    /// The client broke a rule while its body was streaming; the upstream connection must not be used again.
    #[error("the request body was refused: {0}")]
    Refused(Refusal),
    /// The peer went away, or its bytes could not be read.
    #[error("the body ended early: {0}")]
    Broken(String),
    /// Nothing passed through a tunnel for as long as its route allows.
    #[error("nothing passed for too long")]
    Idle,
}

/// A body behind one pointer, for the places where the kinds meet. Lives on one worker, so it need not be `Send`.
pub type BoxBody = Pin<Box<dyn Body<Data = Bytes, Error = BodyError>>>;

/// The body of a request, from whichever door. Lives on one worker, so it need not be `Send`.
pub enum RequestBody {
    /// There is none.
    Empty,
    /// Read by our own HTTP/1.1 codec.
    H1(H1Body),
    /// Read by hyper's HTTP/2 server, within the listener's bound.
    H2(H2Body),
    /// Read from a stream of QUIC, within the listener's bounds.
    H3(Box<H3Body>),
    /// All of it was read before.
    Whole(FullBody),
    /// The request opens a WebSocket: bytes of it, which are nobody's to read before the backend has agreed (C3).
    Tunnel(BoxBody),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::H1(body) => Pin::new(body).poll_frame(cx),
            Self::H2(body) => Pin::new(body).poll_frame(cx),
            Self::H3(body) => Pin::new(body.as_mut()).poll_frame(cx),
            Self::Whole(body) => Pin::new(body).poll_frame(cx),
            Self::Tunnel(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::H1(body) => body.is_end_stream(),
            Self::H2(body) => body.is_end_stream(),
            Self::H3(body) => body.is_end_stream(),
            Self::Whole(body) => body.is_end_stream(),
            Self::Tunnel(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::H1(body) => body.size_hint(),
            Self::H2(body) => body.size_hint(),
            Self::H3(body) => body.size_hint(),
            Self::Whole(body) => body.size_hint(),
            Self::Tunnel(_) => SizeHint::default(),
        }
    }
}

/// What has come of a request's body.
#[derive(Debug, Default)]
pub struct Received {
    /// Bytes so far.
    pub bytes: Cell<u64>,
    /// Somebody wants the next byte, and it is the client's to send.
    pub awaited: Cell<bool>,
}

/// Sees a request's body pass.
pub trait Tap {
    /// The next bytes of it.
    fn sees(&self, bytes: &[u8]);
    /// It has ended.
    fn sees_end(&self);
}

/// A request's body, and how much of it has come.
pub struct CountedBody {
    body: RequestBody,
    received: Rc<Received>,
    tap: Option<Rc<dyn Tap>>,
}

impl CountedBody {
    /// Counts into `received`, and shows what passes to the tap.
    #[must_use]
    pub fn new(body: RequestBody, received: Rc<Received>, tap: Option<Rc<dyn Tap>>) -> Self {
        Self { body, received, tap }
    }
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        this.received.awaited.set(polled.is_pending());
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            this.received.bytes.set(this.received.bytes.get() + bytes);
        }
        if let Some(tap) = &this.tap {
            match &polled {
                Poll::Ready(Some(Ok(frame))) => {
                    frame.data_ref().into_iter().for_each(|data| tap.sees(data));
                    if this.body.is_end_stream() {
                        tap.sees_end();
                    }
                }
                Poll::Ready(None) => tap.sees_end(),
                Poll::Ready(Some(Err(_))) | Poll::Pending => {}
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that is already in memory, or none.
#[derive(Debug, Default)]
pub struct FullBody(Option<Bytes>);

impl FullBody {
    /// A body of these bytes.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Self(if bytes.is_empty() { None } else { Some(bytes) })
    }
}

impl Body for FullBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
