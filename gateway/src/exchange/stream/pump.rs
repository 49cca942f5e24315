//! Moves bytes between two sockets and a machine that understands them.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use gateway_clinical::{dicom, hl7};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::raw::Traffic;
use crate::listen::{ByteStream, Control};
use crate::upstream::Opened;

/// Bytes that wait for the machine, at most, of each side.
const BUFFER: usize = 16 * 1024;
/// What was said last gets so long to be read.
const LINGER: Duration = Duration::from_secs(1);
/// The same where the connection is cut.
const FAREWELL: Duration = Duration::from_millis(100);
/// Bytes that are read away meanwhile.
const LINGER_BYTES: usize = 1 << 20;

/// An end of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The clinic.
    Client,
    /// The backend.
    Server,
}

/// What understands a protocol: bytes and time in, bytes and events out.
pub(super) trait Machine {
    type Event;
    fn handle(&mut self, from: Side, bytes: &[u8], now: Instant) -> usize;
    fn wants(&self, from: Side) -> bool;
    fn poll_event(&mut self) -> Option<Self::Event>;
    fn output(&self, to: Side) -> &[u8];
    fn sent(&mut self, to: Side, count: usize);
    fn hang_up(&mut self, side: Side);
    fn poll_timeout(&self) -> Option<Instant>;
    fn handle_timeout(&mut self, now: Instant);
    fn cut(&mut self);
    fn is_closed(&self) -> bool;
}

macro_rules! machine {
    ($type:ty, $event:ty, $side:path, $client:ident, $server:ident) => {
        impl Machine for $type {
            type Event = $event;
            fn handle(&mut self, from: Side, bytes: &[u8], now: Instant) -> usize {
                <$type>::handle(self, from.into(), bytes, now)
            }
            fn wants(&self, from: Side) -> bool {
                <$type>::wants(self, from.into())
            }
            fn poll_event(&mut self) -> Option<$event> {
                <$type>::poll_event(self)
            }
            fn output(&self, to: Side) -> &[u8] {
                <$type>::output(self, to.into())
            }
            fn sent(&mut self, to: Side, count: usize) {
                <$type>::sent(self, to.into(), count);
            }
            fn hang_up(&mut self, side: Side) {
                <$type>::hang_up(self, side.into());
            }
            fn poll_timeout(&self) -> Option<Instant> {
                <$type>::poll_timeout(self)
            }
            fn handle_timeout(&mut self, now: Instant) {
                <$type>::handle_timeout(self, now);
            }
            fn cut(&mut self) {
                <$type>::cut(self);
            }
            fn is_closed(&self) -> bool {
                <$type>::is_closed(self)
            }
        }

        impl From<Side> for $side {
            fn from(side: Side) -> Self {
                match side {
                    Side::Client => Self::$client,
                    Side::Server => Self::$server,
                }
            }
        }
    };
}
machine!(dicom::Association, dicom::Event, dicom::Side, Requestor, Acceptor);
machine!(hl7::Link, hl7::Event, hl7::Side, Sender, Receiver);

/// A machine and its sockets.
pub(super) struct Pump<M> {
    pub(super) machine: M,
    pub(super) traffic: Traffic,
    client: Leg<Box<dyn ByteStream>>,
    server: Option<Leg<Opened>>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<M: Machine> Pump<M> {
    pub(super) fn new(machine: M, client: Box<dyn ByteStream>, traffic: Traffic) -> Self {
        Self { machine, traffic, client: Leg::new(client), server: None, timer: None }
    }

    /// The backend is connected.
    pub(super) fn connect(&mut self, server: Opened) {
        self.server = Some(Leg::new(server));
    }

    /// The backend, where it is connected.
    pub(super) fn server(&self) -> Option<&Opened> {
        self.server.as_ref().map(|leg| &leg.stream)
    }

    /// Moves bytes until the machine has something to say. None once the gateway drains and `may_end` says that nothing is under way.
    pub(super) async fn next(&mut self, control: &Control, may_end: bool) -> Option<M::Event> {
        poll_fn(|cx| self.poll_next(cx, control, may_end)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, control: &Control, may_end: bool) -> Poll<Option<M::Event>> {
        loop {
            if let Some(event) = self.machine.poll_event() {
                return Poll::Ready(Some(event));
            }
            let now = Instant::now();
            let mut moved = self.client.turn(cx, &mut self.machine, Side::Client, &self.traffic, now);
            if let Some(server) = &mut self.server {
                moved |= server.turn(cx, &mut self.machine, Side::Server, &self.traffic, now);
            }
            if moved {
                continue;
            }
            if self.poll_timer(cx).is_ready() {
                self.machine.handle_timeout(Instant::now());
                continue;
            }
            let is_over = may_end && control.is_draining() && self.client.is_empty();
            return if is_over { Poll::Ready(None) } else { Poll::Pending };
        }
    }

    /// Ready once the machine's time is up.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = self.machine.poll_timeout() else { return Poll::Pending };
        let due = tokio::time::Instant::from_std(due);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(cx)
    }

    /// Says what is still to be said, to whoever listens, and closes.
    pub(super) async fn end(mut self, is_cut: bool) {
        if is_cut {
            self.machine.cut();
        }
        while self.machine.poll_event().is_some() {}
        let limit = if is_cut { FAREWELL } else { LINGER };
        let Self { machine, client, server, .. } = &mut self;
        let told = async {
            let client = client.say(machine.output(Side::Client), !is_cut);
            let server = async {
                if let Some(server) = server {
                    server.say(machine.output(Side::Server), false).await;
                }
            };
            tokio::join!(client, server);
        };
        let _ = tokio::time::timeout(limit, told).await;
    }
}

/// One socket.
struct Leg<S> {
    stream: S,
    buffer: Box<[u8]>,
    from: usize,
    to: usize,
    /// What was written is not all on its way.
    unflushed: bool,
    /// Nothing more comes, and the machine was told.
    ended: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Leg<S> {
    fn new(stream: S) -> Self {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Self { stream, buffer, from: 0, to: 0, unflushed: false, ended: false }
    }

    /// Nothing came that the machine has not taken.
    fn is_empty(&self) -> bool {
        self.from >= self.to
    }

    /// Moves what can be moved; whether anything was.
    fn turn<M: Machine>(
        &mut self,
        cx: &mut Context<'_>,
        machine: &mut M,
        side: Side,
        traffic: &Traffic,
        now: Instant,
    ) -> bool {
        let mut moved = false;
        if !self.ended {
            match self.write(cx, machine, side, traffic) {
                Ok(wrote) => moved |= wrote,
                Err(_) => return self.gone(machine, side),
            }
        }
        if !self.is_empty() && machine.wants(side) {
            let taken = machine.handle(side, self.buffer.get(self.from..self.to).unwrap_or_default(), now);
            self.from += taken;
            moved |= taken > 0;
        }
        if self.ended || !self.is_empty() || !machine.wants(side) || machine.is_closed() {
            return moved;
        }
        match self.read(cx) {
            Poll::Ready(Ok(0) | Err(_)) => self.gone(machine, side),
            Poll::Ready(Ok(read)) => {
                if side == Side::Client {
                    traffic.received(read);
                }
                true
            }
            Poll::Pending => moved,
        }
    }

    fn gone<M: Machine>(&mut self, machine: &mut M, side: Side) -> bool {
        let is_news = !std::mem::replace(&mut self.ended, true);
        if is_news {
            machine.hang_up(side);
        }
        is_news
    }

    fn write<M: Machine>(
        &mut self,
        cx: &mut Context<'_>,
        machine: &mut M,
        side: Side,
        traffic: &Traffic,
    ) -> io::Result<bool> {
        let mut wrote = false;
        loop {
            let output = machine.output(side);
            if output.is_empty() {
                break;
            }
            match Pin::new(&mut self.stream).poll_write(cx, output) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    machine.sent(side, count);
                    if side == Side::Client {
                        traffic.sent(count);
                    }
                    self.unflushed = true;
                    wrote = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(wrote),
            }
        }
        if self.unflushed && Pin::new(&mut self.stream).poll_flush(cx)?.is_ready() {
            self.unflushed = false;
        }
        Ok(wrote)
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(&mut self.buffer);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room))?;
        (self.from, self.to) = (0, room.filled().len());
        Poll::Ready(Ok(self.to))
    }

    /// Says goodbye with these bytes. Where it `waits`, what still comes is read away until the other end closes as well: it would turn
    /// the close into a reset, which takes what was said with it.
    async fn say(&mut self, bytes: &[u8], waits: bool) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let said = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await?;
            self.stream.shutdown().await?;
            let mut left = LINGER_BYTES;
            while waits && !self.ended {
                match self.stream.read(&mut self.buffer).await? {
                    0 => break,
                    read => left = left.checked_sub(read).ok_or(io::ErrorKind::FileTooLarge)?,
                }
            }
            Ok::<(), io::Error>(())
        };
        // Whoever has gone is told nothing.
        let _ = said.await;
    }
}
