//! QUIC as the library wants it, over quinn: what it reads comes through a [`Sieve`], and what it leaves unfinished is reset,
//! so that nobody takes half an answer for a whole one.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use quinn::{ConnectionError, ReadError, StoppedError, VarInt, WriteError};

use std::cell::Cell;

use super::fault::{Fault, code};
use super::sieve::Sieve;
use super::uni::Incoming;
use super::watch::Watch;

/// Bytes that are taken from a stream at once.
const PIECE: usize = 64 * 1024;

type Accepting = Pin<Box<dyn Future<Output = Result<(quinn::SendStream, quinn::RecvStream), ConnectionError>>>>;
type Opening = Pin<Box<dyn Future<Output = Result<quinn::SendStream, ConnectionError>>>>;

/// One connection.
pub(super) struct Quic {
    watch: Rc<Watch>,
    accepting: Option<Accepting>,
    incoming: Incoming,
    opener: Opener,
    /// Bytes of a field section, as it comes.
    most_head: usize,
}

impl Quic {
    /// The connection that `watch` watches.
    pub(super) fn new(watch: &Rc<Watch>, most_head: usize) -> Self {
        Self {
            watch: Rc::clone(watch),
            accepting: None,
            incoming: Incoming::new(watch),
            opener: Opener { watch: Rc::clone(watch), opening: None },
            most_head,
        }
    }
}

pub(super) fn connection_error(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: close.error_code.into_inner() }
        }
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        other @ (ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::Reset
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted) => ConnectionErrorIncoming::Undefined(Arc::new(other)),
    }
}

/// What a stream that met a fault of the whole connection says.
pub(super) fn closed_here() -> StreamErrorIncoming {
    let connection_error = connection_error(ConnectionError::LocallyClosed);
    StreamErrorIncoming::ConnectionErrorIncoming { connection_error }
}

/// INVARIANT: there is one, since both have 62 bits.
fn stream_id(id: quinn::StreamId) -> Option<StreamId> {
    StreamId::try_from(VarInt::from(id).into_inner()).ok()
}

impl quic::Connection<Bytes> for Quic {
    type RecvStream = Receiving;
    type OpenStreams = Opener;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Receiving, ConnectionErrorIncoming>> {
        self.incoming.poll_control(cx).map_err(connection_error)
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bidi, ConnectionErrorIncoming>> {
        loop {
            let accepting = self.accepting.get_or_insert_with(|| {
                let quic = self.watch.quic().clone();
                Box::pin(async move { quic.accept_bi().await })
            });
            let accepted = ready!(accepting.as_mut().poll(cx));
            self.accepting = None;
            let (mut send, mut recv) = accepted.map_err(connection_error)?;
            if let Some(id) = stream_id(recv.id())
                && self.watch.takes(id.into_inner())
            {
                return Poll::Ready(Ok(Bidi::new(&self.watch, id, (send, recv), self.most_head)));
            }
            let rejected = VarInt::from_u32(code::REQUEST_REJECTED);
            let _ = send.reset(rejected);
            let _ = recv.stop(rejected);
        }
    }

    fn opener(&self) -> Opener {
        Opener { watch: Rc::clone(&self.watch), opening: None }
    }
}

impl quic::OpenStreams<Bytes> for Quic {
    type BidiStream = Bidi;
    type SendStream = Sending;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bidi, StreamErrorIncoming>> {
        self.opener.poll_open_bidi(cx)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Sending, StreamErrorIncoming>> {
        self.opener.poll_open_send(cx)
    }

    fn close(&mut self, code: h3::error::Code, _: &[u8]) {
        self.watch.closed_by_library(code.value());
    }
}

/// Opens streams of the gateway's own.
pub(super) struct Opener {
    watch: Rc<Watch>,
    opening: Option<Opening>,
}

impl quic::OpenStreams<Bytes> for Opener {
    type BidiStream = Bidi;
    type SendStream = Sending;

    /// A server opens none (RFC 9114 6.1).
    fn poll_open_bidi(&mut self, _: &mut Context<'_>) -> Poll<Result<Bidi, StreamErrorIncoming>> {
        Poll::Ready(Err(StreamErrorIncoming::Unknown("a server opens no request".into())))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Sending, StreamErrorIncoming>> {
        let opening = self.opening.get_or_insert_with(|| {
            let quic = self.watch.quic().clone();
            Box::pin(async move { quic.open_uni().await })
        });
        let opened = ready!(opening.as_mut().poll(cx));
        self.opening = None;
        Poll::Ready(match opened {
            Ok(stream) => match stream_id(stream.id()) {
                Some(id) => Ok(Sending::new(&self.watch, id, stream, Rc::default(), false)),
                None => Err(StreamErrorIncoming::Unknown("the stream has no number".into())),
            },
            Err(error) => {
                Err(StreamErrorIncoming::ConnectionErrorIncoming { connection_error: connection_error(error) })
            }
        })
    }

    fn close(&mut self, code: h3::error::Code, _: &[u8]) {
        self.watch.closed_by_library(code.value());
    }
}

/// What a request's stream is reset with, where that is known better than "cancelled".
type Ending = Rc<Cell<Option<u32>>>;

type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>>>>;

/// The gateway's side of a stream.
pub(super) struct Sending {
    id: StreamId,
    stream: quinn::SendStream,
    writing: Option<WriteBuf<Bytes>>,
    /// Resolves once the peer has all of it.
    finished: Option<Stopped>,
    ending: Ending,
    is_answer: bool,
    watch: Rc<Watch>,
}

impl Sending {
    fn new(watch: &Rc<Watch>, id: StreamId, stream: quinn::SendStream, ending: Ending, is_answer: bool) -> Self {
        Self { id, stream, writing: None, finished: None, ending, is_answer, watch: Rc::clone(watch) }
    }

    fn stopped(&self, code: VarInt) -> StreamErrorIncoming {
        self.watch.reset();
        StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() }
    }
}

impl quic::SendStream<Bytes> for Sending {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        while let Some(writing) = &mut self.writing {
            if !writing.has_remaining() {
                self.writing = None;
                break;
            }
            match ready!(Pin::new(&mut self.stream).poll_write(cx, writing.chunk())) {
                Ok(written) => writing.advance(written),
                Err(error) => {
                    self.writing = None;
                    return Poll::Ready(Err(match error {
                        WriteError::Stopped(code) => self.stopped(code),
                        WriteError::ConnectionLost(error) => {
                            let connection_error = connection_error(error);
                            StreamErrorIncoming::ConnectionErrorIncoming { connection_error }
                        }
                        other @ (WriteError::ClosedStream | WriteError::ZeroRttRejected) => {
                            StreamErrorIncoming::Unknown(Box::new(other))
                        }
                    }));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        if self.writing.is_some() {
            return Err(StreamErrorIncoming::Unknown("the last piece is not yet written".into()));
        }
        self.writing = Some(data.into());
        Ok(())
    }

    /// Ready once the peer has all of it: whoever closes the connection after that takes nothing away.
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        let finished = match &mut self.finished {
            Some(finished) => finished,
            none => {
                if let Err(error) = self.stream.finish() {
                    return Poll::Ready(Err(StreamErrorIncoming::Unknown(Box::new(error))));
                }
                none.insert(Box::pin(self.stream.stopped()))
            }
        };
        Poll::Ready(match ready!(finished.as_mut().poll(cx)) {
            Ok(None) => Ok(()),
            Ok(Some(code)) => Err(self.stopped(code)),
            Err(error) => Err(StreamErrorIncoming::Unknown(Box::new(error))),
        })
    }

    fn reset(&mut self, reset_code: u64) {
        let _ = self.stream.reset(VarInt::from_u64(reset_code).unwrap_or(VarInt::from_u32(code::INTERNAL_ERROR)));
    }

    fn send_id(&self) -> StreamId {
        self.id
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if self.is_answer && self.finished.is_none() {
            let code = self.ending.get().unwrap_or(code::REQUEST_CANCELLED);
            // Where it was reset before, that stays.
            let _ = self.stream.reset(VarInt::from_u32(code));
        }
    }
}

/// The peer's side of a stream.
pub(super) struct Receiving {
    id: StreamId,
    stream: quinn::RecvStream,
    sieve: Sieve,
    ready: VecDeque<Bytes>,
    /// Nothing more is read.
    ended: bool,
    ending: Ending,
    watch: Rc<Watch>,
}

impl Receiving {
    /// The peer's control stream; its type was read, and is told to the library again.
    pub(super) fn control(watch: &Rc<Watch>, stream: quinn::RecvStream) -> Option<Self> {
        let ready = VecDeque::from([Bytes::from_static(&[0])]);
        let id = stream_id(stream.id())?;
        Some(Self {
            id,
            stream,
            sieve: Sieve::control(),
            ready,
            ended: false,
            ending: Rc::default(),
            watch: Rc::clone(watch),
        })
    }

    /// Has the next bytes looked at.
    fn take(&mut self, bytes: Option<Bytes>) -> Result<(), Fault> {
        let Some(bytes) = bytes else { return self.sieve.end() };
        let before = self.sieve.held();
        let taken = self.sieve.push(bytes, &mut self.ready);
        let held = self.watch.holds(before, self.sieve.held());
        self.watch.count(taken?);
        held
    }

    fn failed(&mut self, fault: Fault) -> StreamErrorIncoming {
        self.ended = true;
        self.ready.clear();
        if self.watch.fault(fault) {
            return closed_here();
        }
        self.ending.set(Some(fault.code));
        let _ = self.stream.stop(VarInt::from_u32(fault.code));
        StreamErrorIncoming::StreamTerminated { error_code: u64::from(fault.code) }
    }
}

impl quic::RecvStream for Receiving {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Poll::Ready(Ok(Some(bytes)));
            }
            if self.ended {
                return Poll::Ready(Ok(None));
            }
            let read = ready!(pin!(self.stream.read_chunk(PIECE, true)).poll(cx));
            let bytes = match read {
                Ok(chunk) => chunk.map(|chunk| chunk.bytes),
                Err(error) => {
                    self.ended = true;
                    return Poll::Ready(Err(match error {
                        ReadError::Reset(code) => {
                            self.watch.reset();
                            StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() }
                        }
                        ReadError::ConnectionLost(error) => {
                            let connection_error = connection_error(error);
                            StreamErrorIncoming::ConnectionErrorIncoming { connection_error }
                        }
                        other @ (ReadError::ClosedStream
                        | ReadError::IllegalOrderedRead
                        | ReadError::ZeroRttRejected) => StreamErrorIncoming::Unknown(Box::new(other)),
                    }));
                }
            };
            self.ended = bytes.is_none();
            if let Err(fault) = self.take(bytes) {
                return Poll::Ready(Err(self.failed(fault)));
            }
        }
    }

    fn stop_sending(&mut self, error_code: u64) {
        self.ended = true;
        let code = u32::try_from(error_code).unwrap_or(code::INTERNAL_ERROR);
        self.ending.set(Some(code));
        let _ = self.stream.stop(VarInt::from_u32(code));
    }

    fn recv_id(&self) -> StreamId {
        self.id
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let _ = self.watch.holds(self.sieve.held(), 0);
        if !self.ended {
            // The rest of a request whose answer needs no more of it (RFC 9114 4.1.1).
            let code = self.ending.get().unwrap_or(code::NO_ERROR);
            let _ = self.stream.stop(VarInt::from_u32(code));
        }
    }
}

/// A request's stream.
pub(super) struct Bidi {
    send: Sending,
    recv: Receiving,
}

impl Bidi {
    fn new(
        watch: &Rc<Watch>,
        id: StreamId,
        (send, recv): (quinn::SendStream, quinn::RecvStream),
        most_head: usize,
    ) -> Self {
        let ending = Ending::default();
        let recv = Receiving {
            id,
            stream: recv,
            sieve: Sieve::request(most_head),
            ready: VecDeque::new(),
            ended: false,
            ending: Rc::clone(&ending),
            watch: Rc::clone(watch),
        };
        Self { send: Sending::new(watch, id, send, ending, true), recv }
    }
}

impl quic::BidiStream<Bytes> for Bidi {
    type SendStream = Sending;
    type RecvStream = Receiving;

    fn split(self) -> (Sending, Receiving) {
        (self.send, self.recv)
    }
}

impl quic::SendStream<Bytes> for Bidi {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(cx)
    }

    fn reset(&mut self, reset_code: u64) {
        self.send.reset(reset_code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

impl quic::RecvStream for Bidi {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.recv.poll_data(cx)
    }

    fn stop_sending(&mut self, error_code: u64) {
        self.recv.stop_sending(error_code);
    }

    fn recv_id(&self) -> StreamId {
        self.recv.recv_id()
    }
}
