//! UDP sockets: one for each worker at one port, and datagrams in batches.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket as StdSocket};

use gateway_tunnel::{MAX_DATAGRAM, Path, Transmit};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Ipv6DontFrag;
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// What the kernel may hold for a worker that is busy, bytes; it gives less where it is not allowed more.
const KERNEL_BUFFER: usize = 4 << 20;
/// The longest train of datagrams that is sent or received at once, in bytes.
const TRAIN: usize = 64 * 1024;

/// Opens a socket that other workers share by `SO_REUSEPORT`.
///
/// # Errors
/// The system's, naming the address by the caller.
pub(crate) fn bind(address: SocketAddr) -> io::Result<StdSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // As much of it as `net.core.rmem_max` allows.
    let _ = socket.set_recv_buffer_size(KERNEL_BUFFER);
    let _ = socket.set_send_buffer_size(KERNEL_BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A worker's socket.
pub(super) struct Datagrams {
    socket: UdpSocket,
    state: UdpSocketState,
    buffer: Vec<u8>,
    metas: [RecvMeta; BATCH_SIZE],
    /// Room for one message of a batch.
    room: usize,
}

impl Datagrams {
    /// # Errors
    /// The system's.
    pub(super) fn new(socket: StdSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let is_ipv6 = socket.local_addr()?.is_ipv6();
        // As WireGuard everywhere: a path that is narrower than the tunnel takes the outer packet in fragments.
        if is_ipv6 {
            set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DONT)?;
            setsockopt(&socket, Ipv6DontFrag, &false)?;
        } else {
            set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT)?;
        }
        let room = if state.gro_segments() > 1 { TRAIN } else { MAX_DATAGRAM + 1 };
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            state,
            buffer: vec![0; room * BATCH_SIZE],
            metas: [RecvMeta::default(); BATCH_SIZE],
            room,
        })
    }

    /// Returns once there is something to receive.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Returns once there is room to send.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    /// How many datagrams one call can send.
    pub(super) fn most_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Receives a batch and hands over each datagram of it. `false` if there was none.
    ///
    /// # Errors
    /// The system's; a socket that is only not ready is none.
    pub(super) fn receive(&mut self, mut take: impl FnMut(Path, &[u8])) -> io::Result<bool> {
        let Self { socket, state, buffer, metas, room } = self;
        let mut slices: Vec<IoSliceMut<'_>> = buffer.chunks_mut(*room).map(IoSliceMut::new).collect();
        let received = socket.try_io(Interest::READABLE, || state.recv((&*socket).into(), &mut slices, metas));
        let count = match received {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        for (meta, bytes) in metas.iter().zip(buffer.chunks(*room)).take(count) {
            let path = Path { remote: meta.addr, local: meta.dst_ip };
            let bytes = bytes.get(..meta.len).unwrap_or(bytes);
            if bytes.is_empty() {
                take(path, bytes);
            }
            bytes.chunks(meta.stride.max(1)).for_each(|datagram| take(path, datagram));
        }
        Ok(count > 0)
    }

    /// Sends a batch.
    ///
    /// # Errors
    /// `WouldBlock` alone: then it is to be sent again later. What cannot be sent otherwise is lost, as on any network.
    pub(super) fn send(&self, transmit: &Transmit, bytes: &[u8]) -> io::Result<()> {
        let Err(error) = self.send_as(transmit, bytes, transmit.segment_size) else { return Ok(()) };
        if error.kind() == io::ErrorKind::WouldBlock {
            return Err(error);
        }
        // Segments larger than the route's MTU cannot be offloaded; one by one they are sent in fragments.
        let segments = transmit.segment_size.unwrap_or(usize::MAX).max(1);
        let has_several = transmit.segment_size.is_some();
        for datagram in bytes.chunks(segments).take(if has_several { usize::MAX } else { 0 }) {
            if let Err(error) = self.send_as(transmit, datagram, None) {
                tracing::debug!(remote = %transmit.path.remote, %error, "a datagram of a tunnel cannot be sent");
            }
        }
        Ok(())
    }

    fn send_as(&self, transmit: &Transmit, contents: &[u8], segment_size: Option<usize>) -> io::Result<()> {
        let transmit = quinn_udp::Transmit {
            destination: transmit.path.remote,
            ecn: None,
            contents,
            segment_size,
            src_ip: transmit.path.local,
        };
        self.socket.try_io(Interest::WRITABLE, || self.state.try_send((&self.socket).into(), &transmit))
    }
}
