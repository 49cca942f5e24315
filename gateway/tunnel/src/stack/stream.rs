//! A stream's state, beside that of its socket, and what a caller does with it.

use std::time::{Duration, Instant};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;
use smoltcp::wire::TcpSeqNumber;

use super::{Flow, Stack, Surroundings};
use crate::event::{Cause, Event};

/// A connection must be complete after this time.
const HALF_OPEN: Duration = Duration::from_secs(10);

/// What was given up and has been sent waits this long for the other end to finish, too.
const LINGER: Duration = Duration::from_secs(60);

/// Why a read or write did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// Nothing to read or no room to write. An event tells when to try again.
    #[error("the stream is not ready")]
    Blocked,
    /// The stream was cut, or its writing side is finished already.
    #[error("the stream is closed")]
    Closed,
    /// There is no such stream: its peer was removed, or it was released.
    #[error("there is no such stream")]
    Unknown,
}

pub(super) struct Stream {
    pub(super) handle: SocketHandle,
    pub(super) flow: Flow,
    /// Its peer's place in the table of peers.
    pub(super) peer: usize,
    /// What it has of the budget, in bytes.
    pub(super) reserved: usize,
    born: Instant,
    half_open: bool,
    wants_to_read: bool,
    wants_to_write: bool,
    /// The caller writes no more.
    finished: bool,
    /// The other end writes no more, and all it wrote has come.
    remote_finished: bool,
    /// Cut, and the caller was told.
    cut: bool,
    /// The caller is through with it.
    released: bool,
    /// Until when the other end may take its time then.
    linger_until: Option<Instant>,
    /// The number after the last that was sent.
    pub(super) sent: Option<TcpSeqNumber>,
    /// What had come and was not read when the socket forgot it. Within what is reserved.
    rest: Vec<u8>,
}

impl Stream {
    pub(super) fn new(handle: SocketHandle, flow: Flow, peer: usize, reserved: usize, born: Instant) -> Self {
        Self {
            handle,
            flow,
            peer,
            reserved,
            born,
            half_open: true,
            wants_to_read: false,
            wants_to_write: false,
            finished: false,
            remote_finished: false,
            cut: false,
            released: false,
            linger_until: None,
            sent: None,
            rest: Vec::new(),
        }
    }

    pub(super) fn is_half_open(&self) -> bool {
        self.half_open
    }

    pub(super) fn open(&mut self) {
        self.half_open = false;
    }

    pub(super) fn half_open_until(&self) -> Option<Instant> {
        self.half_open.then(|| self.born.checked_add(HALF_OPEN)).flatten()
    }

    pub(super) fn linger_until(&self) -> Option<Instant> {
        self.linger_until
    }

    /// Whether it is there only until the network has forgotten it.
    pub(super) fn lingers(&self) -> bool {
        self.released
    }

    /// Whether the caller has it.
    pub(super) fn is_the_callers(&self) -> bool {
        !self.half_open && !self.released
    }
}

impl Stack {
    /// Looks at a stream whose socket something happened to.
    pub(super) fn look(&mut self, around: &mut Surroundings<'_>, number: u64) {
        let Some(socket) = self.socket(number) else { return };
        let (state, may_send, can_send) = (socket.state(), socket.may_send(), socket.can_send());
        let (can_read, over) =
            (socket.can_recv(), socket.state() == State::Closed && socket.remote_endpoint().is_none());
        let Some(stream) = self.streams.get_mut(&number) else { return };
        if stream.half_open {
            match state {
                State::SynReceived => {
                    self.give_up(around, number, around.now);
                    return;
                }
                // The segment was none, or it was taken back: a socket may listen no longer.
                State::Listen | State::Closed | State::SynSent => return self.remove(around, number),
                State::Established
                | State::FinWait1
                | State::FinWait2
                | State::CloseWait
                | State::Closing
                | State::LastAck
                | State::TimeWait => self.opened(around, number),
            }
        }
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.remote_finished |= matches!(state, State::CloseWait | State::LastAck | State::Closing | State::TimeWait);
        if state == State::TimeWait && can_read && !stream.released {
            let socket = self.sockets.get_mut::<smoltcp::socket::tcp::Socket<'static>>(stream.handle);
            drain(socket, &mut stream.rest);
        }
        if stream.released {
            // More came for a caller that is gone: the other end must not think that somebody reads it.
            if can_read && state != State::Closed && state != State::TimeWait {
                self.sockets.get_mut::<smoltcp::socket::tcp::Socket<'static>>(stream.handle).abort();
            }
            if over {
                self.remove(around, number);
            } else if stream.linger_until.is_some_and(|until| until <= around.now) {
                self.stop_lingering(around, number);
            }
            return;
        }
        let in_order = stream.finished && stream.remote_finished;
        let cut = state == State::Closed && !in_order && !stream.cut;
        stream.cut |= cut;
        let readable = stream.wants_to_read && (can_read || stream.remote_finished || stream.cut);
        let writable = stream.wants_to_write && (can_send || !may_send);
        stream.wants_to_read &= !readable;
        stream.wants_to_write &= !writable;
        let id = self.id(number);
        if cut {
            around.events.push_back(Event::Closed { stream: id, cause: Cause::Reset });
        }
        if readable {
            around.events.push_back(Event::Readable(id));
        }
        if writable {
            around.events.push_back(Event::Writable(id));
        }
    }

    /// A stream that was given up is still there. As long as it has something to send, that goes on; smoltcp gives up when
    /// nothing is acknowledged any more.
    fn stop_lingering(&mut self, around: &mut Surroundings<'_>, number: u64) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let socket = self.sockets.get_mut::<smoltcp::socket::tcp::Socket<'static>>(stream.handle);
        stream.linger_until = around.now.checked_add(LINGER);
        if socket.state() == State::Closed {
            self.remove(around, number);
        } else if socket.send_queue() == 0 {
            socket.abort();
        }
    }

    /// Reads. 0 bytes are the end.
    pub(crate) fn read_with(&mut self, number: u64, take: impl FnOnce(&[u8]) -> usize) -> Result<usize, StreamError> {
        let stream =
            self.streams.get_mut(&number).filter(|stream| stream.is_the_callers()).ok_or(StreamError::Unknown)?;
        let socket = self.sockets.get_mut::<smoltcp::socket::tcp::Socket<'static>>(stream.handle);
        if !stream.rest.is_empty() {
            let bytes = stream.rest.as_slice();
            let taken = take(bytes).min(bytes.len());
            stream.rest.drain(..taken);
            return Ok(taken);
        }
        if socket.can_recv() {
            let take = |bytes: &mut [u8]| {
                let taken = take(bytes).min(bytes.len());
                (taken, taken)
            };
            return socket.recv(take).map_err(|_| StreamError::Closed);
        }
        if stream.remote_finished {
            return Ok(0);
        }
        if stream.cut || !socket.may_recv() {
            return Err(StreamError::Closed);
        }
        stream.wants_to_read = true;
        Err(StreamError::Blocked)
    }

    /// Writes as much as there is room for.
    pub(crate) fn write(&mut self, number: u64, data: &[u8]) -> Result<usize, StreamError> {
        let stream =
            self.streams.get_mut(&number).filter(|stream| stream.is_the_callers()).ok_or(StreamError::Unknown)?;
        let socket = self.sockets.get_mut::<smoltcp::socket::tcp::Socket<'static>>(stream.handle);
        match socket.send_slice(data) {
            Ok(0) if !data.is_empty() => {
                stream.wants_to_write = true;
                Err(StreamError::Blocked)
            }
            Ok(length) => Ok(length),
            Err(_) => Err(StreamError::Closed),
        }
    }

    /// How many bytes were written and have not been acknowledged.
    pub(crate) fn unsent(&mut self, number: u64) -> Result<usize, StreamError> {
        self.socket(number).map(|socket| socket.send_queue()).ok_or(StreamError::Unknown)
    }

    /// Ends the writing side, after what was written.
    pub(crate) fn finish(&mut self, number: u64) -> Result<(), StreamError> {
        let stream =
            self.streams.get_mut(&number).filter(|stream| stream.is_the_callers()).ok_or(StreamError::Unknown)?;
        stream.finished = true;
        self.sockets.get_mut::<smoltcp::socket::tcp::Socket<'static>>(stream.handle).close();
        Ok(())
    }

    /// The caller is through with a stream. What was written before it was finished is still sent; a stream that is not finished,
    /// or of which not all was read, is reset.
    pub(crate) fn release(&mut self, around: &mut Surroundings<'_>, number: u64, reset: bool) {
        let Some(stream) = self.streams.get_mut(&number).filter(|stream| stream.is_the_callers()) else { return };
        stream.released = true;
        stream.linger_until = around.now.checked_add(LINGER);
        self.lingering.insert(number);
        let unread = !std::mem::take(&mut stream.rest).is_empty();
        let socket = self.sockets.get_mut::<smoltcp::socket::tcp::Socket<'static>>(stream.handle);
        if reset || unread || !stream.finished || socket.can_recv() {
            socket.abort();
        }
        self.look(around, number);
    }
}

fn drain(socket: &mut smoltcp::socket::tcp::Socket<'static>, rest: &mut Vec<u8>) {
    while socket.can_recv() {
        let taken = socket.recv(|bytes| {
            rest.extend_from_slice(bytes);
            (bytes.len(), bytes.len())
        });
        if taken.unwrap_or(0) == 0 {
            break;
        }
    }
}
