//! A worker's socket, as quinn wants it: batches in and out, what is another worker's passed on, and what others pass taken.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket as StdSocket};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use quinn::udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::meters::Passing;
use super::steering::worker_of;
use crate::tunnels::Spread;

/// A datagram that came to another worker.
pub(super) struct Passed {
    remote: SocketAddr,
    local: Option<IpAddr>,
    ecn: Option<EcnCodepoint>,
    bytes: Vec<u8>,
}

/// See the module.
pub(super) struct Steered {
    socket: UdpSocket,
    state: UdpSocketState,
    number: usize,
    spread: Spread,
    mailbox: Mutex<mpsc::Receiver<Passed>>,
    others: Vec<mpsc::Sender<Passed>>,
    passing: Passing,
}

impl fmt::Debug for Steered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steered").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Steered {
    /// # Errors
    /// The system's.
    pub(super) fn new(
        socket: StdSocket,
        (number, spread): (usize, Spread),
        mailbox: mpsc::Receiver<Passed>,
        others: Vec<mpsc::Sender<Passed>>,
        passing: Passing,
    ) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let socket = UdpSocket::from_std(socket)?;
        Ok(Self { socket, state, number, spread, mailbox: Mutex::new(mailbox), others, passing })
    }

    /// Passes on what is another's, and leaves the rest where it was, at the beginning of the buffer.
    fn sort(&self, buffer: &mut [u8], meta: &mut RecvMeta) {
        let stride = meta.stride.max(1);
        let others = |datagram: &[u8]| worker_of(self.spread, datagram).filter(|worker| *worker != self.number);
        let received = buffer.get(..meta.len).unwrap_or_default();
        if !received.chunks(stride).any(|datagram| others(datagram).is_some()) {
            return;
        }
        let mut own = Vec::with_capacity(meta.len);
        for datagram in received.chunks(stride) {
            match others(datagram).and_then(|worker| self.others.get(worker)) {
                None => own.extend_from_slice(datagram),
                Some(other) => {
                    let bytes = datagram.to_vec();
                    let passed = Passed { remote: meta.addr, local: meta.dst_ip, ecn: meta.ecn, bytes };
                    match other.try_send(passed) {
                        Ok(()) => self.passing.passed.inc(),
                        // As on any network.
                        Err(_) => self.passing.lost.inc(),
                    }
                }
            }
        }
        // All but the last are as long as the stride, and their order stays.
        buffer.iter_mut().zip(&own).for_each(|(to, from)| *to = *from);
        meta.len = own.len();
    }

    /// What others have passed.
    fn poll_mailbox(&self, cx: &mut Context<'_>, buffers: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> usize {
        let mut mailbox = self.mailbox.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = 0;
        for (buffer, meta) in buffers.iter_mut().zip(metas) {
            let Poll::Ready(Some(passed)) = mailbox.poll_recv(cx) else { break };
            let Some(place) = buffer.get_mut(..passed.bytes.len()) else { continue };
            place.copy_from_slice(&passed.bytes);
            *meta = RecvMeta::default();
            meta.addr = passed.remote;
            meta.dst_ip = passed.local;
            meta.ecn = passed.ecn;
            meta.len = passed.bytes.len();
            meta.stride = passed.bytes.len();
            count += 1;
        }
        count
    }
}

impl AsyncUdpSocket for Steered {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_io(Interest::WRITABLE, || self.state.send((&self.socket).into(), transmit))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let count = self.poll_mailbox(cx, buffers, metas);
        if count > 0 {
            return Poll::Ready(Ok(count));
        }
        loop {
            ready!(self.socket.poll_recv_ready(cx))?;
            let received =
                self.socket.try_io(Interest::READABLE, || self.state.recv((&self.socket).into(), buffers, metas));
            match received {
                Ok(count) => {
                    for (buffer, meta) in buffers.iter_mut().zip(metas.iter_mut()).take(count) {
                        self.sort(buffer, meta);
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Of an earlier datagram, and no end of the socket; quinn takes this one as such.
                Err(_) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

type Waiting = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

/// Waits for room; each connection has its own, since a socket remembers one waiter alone.
struct Poller {
    socket: Arc<Steered>,
    waiting: Option<Waiting>,
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").finish_non_exhaustive()
    }
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let socket = &this.socket;
        let waiting = this.waiting.get_or_insert_with(|| {
            let socket = Arc::clone(socket);
            Box::pin(async move { socket.socket.writable().await })
        });
        let ready = ready!(waiting.as_mut().poll(cx));
        this.waiting = None;
        Poll::Ready(ready)
    }
}
