//! Streams that the peer opens in its direction alone (RFC 9114 6.2): its control stream, which the library reads, and those
//! of QPACK, which it does not. Where no dynamic table is offered, next to nothing may stand in them (RFC 9204 3.2.3, 4.3, 4.4).

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use quinn::{ConnectionError, ReadError, RecvStream, VarInt};

use super::fault::{Fault, code};
use super::sieve::{Counts, varint};
use super::streams::Receiving;
use super::watch::Watch;

const CONTROL: u64 = 0;
const PUSH: u64 = 1;
const ENCODER: u64 = 2;
const DECODER: u64 = 3;
/// A stream's type, in the longest form.
const LONGEST_TYPE: usize = 8;
/// Bytes of instructions that are taken at once.
const PIECE: usize = 1024;

const TWICE: Fault = Fault::connection(code::STREAM_CREATION_ERROR, "a stream is there twice that comes once");
const PUSHED: Fault = Fault::connection(code::STREAM_CREATION_ERROR, "a client pushes nothing");
const CLOSED: Fault = Fault::connection(code::CLOSED_CRITICAL_STREAM, "a stream of QPACK was closed");
const ENCODED: Fault = Fault::connection(code::ENCODER_STREAM_ERROR, "an instruction for a table that was not offered");
const DECODED: Fault = Fault::connection(code::DECODER_STREAM_ERROR, "an acknowledgement of what was never sent");

/// Capacity zero, the only one there may be.
const NO_CAPACITY: u8 = 0x20;

/// What is read of a stream of QPACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instructions {
    /// The peer's encoder's.
    Encoder,
    /// Its decoder's; whether it is inside a stream's number.
    Decoder { in_number: bool },
}

impl Instructions {
    /// Takes bytes; how many instructions they complete.
    ///
    /// # Errors
    /// The fault.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<u32, Fault> {
        let mut count = 0;
        for byte in bytes {
            match self {
                Self::Encoder if *byte == NO_CAPACITY => count += 1,
                Self::Encoder => return Err(ENCODED),
                Self::Decoder { in_number: true } => *self = Self::Decoder { in_number: byte & 0x80 != 0 },
                // A stream was cancelled: a decoder may say so of any.
                Self::Decoder { in_number: false } if (0x40..0x80).contains(byte) => {
                    count += 1;
                    *self = Self::Decoder { in_number: *byte == 0x7f };
                }
                Self::Decoder { in_number: false } => return Err(DECODED),
            }
        }
        Ok(count)
    }
}

type Accepting = Pin<Box<dyn Future<Output = Result<RecvStream, ConnectionError>>>>;

/// A stream whose type is not yet known.
struct Typing {
    stream: RecvStream,
    bytes: Vec<u8>,
}

/// See the module.
pub(super) struct Incoming {
    watch: Rc<Watch>,
    accepting: Option<Accepting>,
    typing: Vec<Typing>,
    has_control: bool,
    qpack: Vec<(RecvStream, Instructions)>,
    /// The peer broke a rule, and the connection is over.
    over: bool,
}

impl Incoming {
    pub(super) fn new(watch: &Rc<Watch>) -> Self {
        Self {
            watch: Rc::clone(watch),
            accepting: None,
            typing: Vec::new(),
            has_control: false,
            qpack: Vec::new(),
            over: false,
        }
    }

    /// The peer's control stream, once; everything else is dealt with here.
    pub(super) fn poll_control(&mut self, cx: &mut Context<'_>) -> Poll<Result<Receiving, ConnectionError>> {
        if self.over {
            return Poll::Ready(Err(ConnectionError::LocallyClosed));
        }
        match self.poll(cx) {
            Ok(polled) => polled,
            Err(fault) => {
                self.over = true;
                self.watch.fault(fault);
                Poll::Ready(Err(ConnectionError::LocallyClosed))
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Result<Poll<Result<Receiving, ConnectionError>>, Fault> {
        loop {
            let accepting = self.accepting.get_or_insert_with(|| {
                let quic = self.watch.quic().clone();
                Box::pin(async move { quic.accept_uni().await })
            });
            match accepting.as_mut().poll(cx) {
                Poll::Pending => break,
                Poll::Ready(Err(error)) => return Ok(Poll::Ready(Err(error))),
                Poll::Ready(Ok(stream)) => {
                    self.accepting = None;
                    self.watch.count(Counts { idle_frames: 1, ..Counts::default() });
                    self.typing.push(Typing { stream, bytes: Vec::new() });
                }
            }
        }
        self.poll_qpack(cx)?;
        let mut at = 0;
        while let Some(typing) = self.typing.get_mut(at) {
            match poll_type(typing, cx) {
                Poll::Pending => at += 1,
                Poll::Ready(kind) => {
                    let stream = self.typing.swap_remove(at).stream;
                    if let Some(kind) = kind
                        && let Some(control) = self.typed(stream, kind)?
                    {
                        return Ok(Poll::Ready(Ok(control)));
                    }
                    self.poll_qpack(cx)?;
                }
            }
        }
        Ok(Poll::Pending)
    }

    fn typed(&mut self, mut stream: RecvStream, kind: u64) -> Result<Option<Receiving>, Fault> {
        let has = |encoder: bool| {
            self.qpack.iter().any(|(_, instructions)| (*instructions == Instructions::Encoder) == encoder)
        };
        match kind {
            CONTROL if self.has_control => Err(TWICE),
            CONTROL => {
                self.has_control = true;
                Ok(Receiving::control(&self.watch, stream))
            }
            PUSH => Err(PUSHED),
            ENCODER | DECODER if has(kind == ENCODER) => Err(TWICE),
            ENCODER => {
                self.qpack.push((stream, Instructions::Encoder));
                Ok(None)
            }
            DECODER => {
                self.qpack.push((stream, Instructions::Decoder { in_number: false }));
                Ok(None)
            }
            _ => {
                let _ = stream.stop(VarInt::from_u32(code::STREAM_CREATION_ERROR));
                Ok(None)
            }
        }
    }

    fn poll_qpack(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        for (stream, instructions) in &mut self.qpack {
            while let Poll::Ready(read) = pin!(stream.read_chunk(PIECE, true)).poll(cx) {
                match read {
                    Ok(Some(chunk)) => {
                        let count = instructions.take(&chunk.bytes)?;
                        self.watch.count(Counts { idle_frames: count, ..Counts::default() });
                    }
                    Ok(None) | Err(ReadError::Reset(_)) => return Err(CLOSED),
                    // Whoever waits for the connection learns it.
                    Err(_) => break,
                }
            }
        }
        Ok(())
    }
}

/// The stream's type; none if it ended before.
fn poll_type(typing: &mut Typing, cx: &mut Context<'_>) -> Poll<Option<u64>> {
    loop {
        if let Some((kind, _)) = varint(&typing.bytes) {
            return Poll::Ready(Some(kind));
        }
        // No byte more than the type has: what follows is another's to read.
        let missing = match typing.bytes.first() {
            None => 1,
            Some(first) => (1_usize << (first >> 6)).min(LONGEST_TYPE).saturating_sub(typing.bytes.len()).max(1),
        };
        match pin!(typing.stream.read_chunk(missing, true)).poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(Some(chunk))) => typing.bytes.extend_from_slice(&chunk.bytes),
            Poll::Ready(Ok(None) | Err(_)) => return Poll::Ready(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_table_is_refused() {
        let encoder = |bytes: &[u8]| Instructions::Encoder.take(bytes);
        assert_eq!(encoder(&[0x20, 0x20]), Ok(2));
        for bad in [0x21_u8, 0x3f, 0x00, 0x40, 0x80, 0xc0] {
            assert_eq!(encoder(&[0x20, bad]), Err(ENCODED), "{bad:x}");
        }
        let mut decoder = Instructions::Decoder { in_number: false };
        assert_eq!(decoder.take(&[0x41, 0x7f]), Ok(2));
        assert_eq!(decoder.take(&[0x80]), Ok(0), "the number goes on");
        assert_eq!(decoder.take(&[0x01, 0x44]), Ok(1));
        for bad in [0x80_u8, 0xff, 0x00, 0x01, 0x3f] {
            assert_eq!(decoder.clone().take(&[bad]), Err(DECODED), "{bad:x}");
        }
    }
}
