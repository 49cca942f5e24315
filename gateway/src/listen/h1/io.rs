//! The byte stream of an HTTP/1.1 connection, shared by its loop and by the request body being read from it.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use policy::Refusal;

use super::chunked::{ChunkedDecoder, Piece};
use super::head::Framing;
use crate::body::BodyError;
use crate::listen::deadline::Deadline;

/// A stream that carries requests, whatever it is made of.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// Bytes read at once.
const READ_SIZE: usize = 8 * 1024;
/// The same within a body that is known to be as long: each read costs what a frame costs on its way to the backend.
const BODY_READ_SIZE: usize = 64 * 1024;
/// Bytes gathered before they are written; one TLS record.
pub(super) const WRITE_SIZE: usize = 16 * 1024;

/// Where the body of the current request stands.
#[derive(Debug)]
enum BodyState {
    Done,
    Length(u64),
    Chunked(ChunkedDecoder),
    /// Bytes of another protocol, to the end of the stream.
    Tunnel,
    Bad(Refusal),
}

/// The stream and everything read from it or waiting to be written.
pub struct Io {
    stream: Box<dyn Stream>,
    /// Bytes read and not yet understood.
    pub read: BytesMut,
    out: BytesMut,
    body: BodyState,
    body_left: u64,
    continue_due: bool,
    /// Strikes when the peer is silent for too long in its present state.
    deadline: Deadline,
    idle: Duration,
    /// Bytes have moved since the deadline was last set: it is set again when there is something to wait for.
    moved: bool,
}

/// The one owner of the stream lends it out in steps; nothing holds it across an await.
pub(super) type SharedIo = Rc<RefCell<Io>>;

impl Io {
    /// Wraps a stream. `idle` bounds the silence inside a body, both ways.
    pub fn new(stream: Box<dyn Stream>, idle: Duration) -> Self {
        Self {
            stream,
            read: BytesMut::new(),
            out: BytesMut::new(),
            body: BodyState::Done,
            body_left: 0,
            continue_due: false,
            deadline: Deadline::default(),
            idle,
            moved: true,
        }
    }

    /// Reads more bytes; 0 is the end of the stream.
    pub fn poll_read_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let length = match self.body {
            BodyState::Length(left) => usize::try_from(left).unwrap_or(usize::MAX).clamp(READ_SIZE, BODY_READ_SIZE),
            BodyState::Done | BodyState::Chunked(_) | BodyState::Tunnel | BodyState::Bad(_) => READ_SIZE,
        };
        // A buffer that still belongs to a living head is left to it; otherwise the room is used again.
        self.read.reserve(length);
        pin!(self.stream.read_buf(&mut self.read)).poll(cx)
    }

    /// Prepares for the body of the next request, of at most `limit` bytes.
    pub fn begin_body(&mut self, framing: Framing, expects_continue: bool, limit: u64) {
        self.body = match framing {
            Framing::None | Framing::Length(0) => BodyState::Done,
            Framing::Length(length) => BodyState::Length(length),
            Framing::Chunked => BodyState::Chunked(ChunkedDecoder::default()),
            Framing::Tunnel => BodyState::Tunnel,
        };
        self.body_left = limit;
        self.continue_due = expects_continue && !matches!(self.body, BodyState::Done);
    }

    /// The body was read to its end: what follows is the next request.
    pub fn body_is_done(&self) -> bool {
        matches!(self.body, BodyState::Done)
    }

    /// The client was told neither to send its body nor not to: nobody knows what its next byte is.
    pub fn continue_is_due(&self) -> bool {
        self.continue_due
    }

    /// Bytes that the client announced and that were not read, if it announced them.
    pub fn announced_rest(&self) -> Option<u64> {
        match self.body {
            BodyState::Done => Some(0),
            BodyState::Length(left) => Some(left),
            BodyState::Chunked(_) | BodyState::Tunnel | BodyState::Bad(_) => None,
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.continue_due {
            self.continue_due = false;
            self.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        let is_tunnel = matches!(self.body, BodyState::Tunnel);
        // A tunnel's directions do not wait for each other.
        if !self.out.is_empty() && !is_tunnel {
            ready!(self.poll_flush(cx)).map_err(|error| BodyError::Broken(error.to_string()))?;
        }
        loop {
            let piece = match &mut self.body {
                BodyState::Done => return Poll::Ready(None),
                BodyState::Bad(refusal) => return Poll::Ready(Some(Err(BodyError::Refused(*refusal)))),
                BodyState::Length(_) | BodyState::Tunnel if self.read.is_empty() => Piece::Pending,
                BodyState::Tunnel => {
                    self.moved = true;
                    return Poll::Ready(Some(Ok(Frame::data(self.read.split().freeze()))));
                }
                BodyState::Length(left) => {
                    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(self.read.len());
                    *left -= take as u64;
                    let is_last = *left == 0;
                    let data = self.read.split_to(take).freeze();
                    if is_last {
                        self.body = BodyState::Done;
                    }
                    Piece::Data(data)
                }
                BodyState::Chunked(decoder) => match decoder.next(&mut self.read) {
                    Ok(piece) => piece,
                    Err(refusal) => return Poll::Ready(Some(Err(self.spoil(refusal)))),
                },
            };
            match piece {
                Piece::Data(data) => {
                    let Some(left) = self.body_left.checked_sub(data.len() as u64) else {
                        return Poll::Ready(Some(Err(self.spoil(Refusal::BodyTooLarge))));
                    };
                    self.body_left = left;
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Piece::End(trailers) => {
                    self.body = BodyState::Done;
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                }
                Piece::Pending => match self.poll_read_more(cx) {
                    Poll::Ready(Ok(1..)) => self.moved = true,
                    Poll::Ready(Ok(0)) if is_tunnel => {
                        self.body = BodyState::Done;
                        return Poll::Ready(None);
                    }
                    Poll::Ready(Ok(0)) => {
                        self.body = BodyState::Bad(Refusal::RequestMalformed);
                        return Poll::Ready(Some(Err(BodyError::Broken("the client went away".into()))));
                    }
                    Poll::Ready(Err(error)) => {
                        self.body = BodyState::Bad(Refusal::RequestMalformed);
                        return Poll::Ready(Some(Err(BodyError::Broken(error.to_string()))));
                    }
                    // How long a tunnel may be idle is its route's to say.
                    Poll::Pending if is_tunnel => return Poll::Pending,
                    Poll::Pending => {
                        ready!(self.poll_idle(cx));
                        return Poll::Ready(Some(Err(self.spoil(Refusal::RequestTimeout))));
                    }
                },
            }
        }
    }

    fn spoil(&mut self, refusal: Refusal) -> BodyError {
        self.body = BodyState::Bad(refusal);
        BodyError::Refused(refusal)
    }

    /// Bytes to be written before anything else.
    pub fn out(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// Writes what waits, and `data` after it, without copying what is long. Ready when all of it is with TLS.
    pub fn poll_write_through(&mut self, cx: &mut Context<'_>, data: &mut Bytes) -> Poll<io::Result<()>> {
        if self.out.len() + data.len() <= WRITE_SIZE {
            self.out.extend_from_slice(data);
            data.clear();
            return Poll::Ready(Ok(()));
        }
        if !self.out.is_empty() && self.out.len() < WRITE_SIZE {
            // One full record rather than a small one and the rest.
            let take = (WRITE_SIZE - self.out.len()).min(data.len());
            self.out.extend_from_slice(&data.split_to(take));
        }
        ready!(self.poll_write_out(cx))?;
        while !data.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, data) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    data.advance(written);
                    self.moved = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.stalled(cx),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.out) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.out.advance(written);
                    self.moved = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.stalled(cx),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// From here on the peer has this long, whatever it does.
    pub fn strike_after(&mut self, period: Duration) {
        self.moved = false;
        self.deadline.set(period);
    }

    /// Ready once the time of [`Io::strike_after`] is over.
    pub fn poll_struck(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.deadline.poll_expired(cx)
    }

    /// From here on the peer may be silent for the idle time.
    pub fn restart_idle(&mut self) {
        self.moved = true;
    }

    /// Ready once nothing has moved for the idle time.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::take(&mut self.moved) {
            self.deadline.set(self.idle);
        }
        self.deadline.poll_expired(cx)
    }

    fn stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_idle(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Writes everything that waits and pushes it out of TLS into the socket.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_out(cx))?;
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Pending => self.stalled(cx),
            ready => ready,
        }
    }

    /// Says goodbye in TLS and in TCP.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_shutdown(cx) {
            Poll::Pending => self.stalled(cx),
            ready => ready,
        }
    }
}

/// The body of the request being served. It reads the connection's own stream, so there is one copy of nothing.
pub struct H1Body {
    io: SharedIo,
    length: Option<u64>,
}

impl H1Body {
    /// The body that [`Io::begin_body`] prepared.
    pub fn new(io: SharedIo, framing: Framing) -> Self {
        let length = match framing {
            Framing::None => Some(0),
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::Tunnel => None,
        };
        Self { io, length }
    }
}

impl Body for H1Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = ready!(this.io.borrow_mut().poll_body(cx));
        if let (Some(left), Some(Ok(frame))) = (&mut this.length, &frame) {
            *left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.length == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}
