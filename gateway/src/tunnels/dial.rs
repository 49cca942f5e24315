//! A connection through a WireGuard tunnel, as a device without an interface makes one: no root, and nothing of this machine is
//! changed.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use gateway_tunnel::StreamError;
use gateway_tunnel::client::{Client, ClientConfig, ConnectionId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::UdpSocket;
use tokio::time::sleep_until;

/// What is under way between a connection and its tunnel, each way, in bytes.
const UNDER_WAY: usize = 64 * 1024;
/// The longest datagram that is received, in bytes.
const DATAGRAM: usize = 2048;

/// Opens a tunnel to `endpoint` and in it a connection to `to`, which is carried by a task of its own until either end is over.
/// Nobody has answered yet when this returns.
///
/// # Errors
/// The system's; or the device has no address by which `to` can be reached.
pub async fn dial(config: &ClientConfig, endpoint: SocketAddr, to: SocketAddr) -> io::Result<DuplexStream> {
    let any: SocketAddr = if endpoint.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(endpoint).await?;
    let mut seed = [0; 8];
    aws_lc_rs::rand::fill(&mut seed).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    let now = Instant::now();
    let mut client = Client::new(now, config, u64::from_be_bytes(seed));
    let connection = client.connect(now, to).map_err(|error| io::Error::other(format!("{to}: {error}")))?;
    let (near, far) = tokio::io::duplex(UNDER_WAY);
    let carrier = Carrier { socket, endpoint, client, connection, far, to_write: Vec::new(), finished: false };
    tokio::spawn(carrier.carry());
    Ok(near)
}

struct Carrier {
    socket: UdpSocket,
    endpoint: SocketAddr,
    client: Client,
    connection: ConnectionId,
    far: DuplexStream,
    /// What the near end wrote and the tunnel has no room for yet.
    to_write: Vec<u8>,
    /// The near end writes no more.
    finished: bool,
}

impl Carrier {
    async fn carry(mut self) {
        let mut datagram = vec![0; DATAGRAM];
        let mut piece = vec![0; UNDER_WAY / 2];
        while self.step(&mut piece).await {
            let timer = sleep_until(self.client.poll_timeout(Instant::now()).into());
            let may_read = !self.finished && self.to_write.is_empty();
            tokio::select! {
                received = self.socket.recv(&mut datagram) => {
                    // An error is ICMP's about an earlier datagram; the tunnel tries again by itself.
                    if let Some(bytes) = received.ok().and_then(|length| datagram.get(..length)) {
                        self.client.handle_datagram(Instant::now(), self.endpoint.ip(), bytes);
                    }
                }
                read = self.far.read(&mut piece), if may_read => match read {
                    Ok(0) | Err(_) => self.finished = true,
                    Ok(length) => self.to_write.extend_from_slice(piece.get(..length).unwrap_or_default()),
                },
                () = timer => self.client.handle_timeout(Instant::now()),
            }
        }
        self.client.close(Instant::now(), self.connection);
        self.send().await;
    }

    /// Carries what can be carried at this moment. `false` once the connection is over.
    async fn step(&mut self, piece: &mut [u8]) -> bool {
        let now = Instant::now();
        if !self.to_write.is_empty()
            && let Ok(length) = self.client.write(now, self.connection, &self.to_write)
        {
            self.to_write.drain(..length);
        }
        if self.finished && self.to_write.is_empty() {
            self.client.finish(now, self.connection);
        }
        let goes_on = loop {
            match self.client.read(Instant::now(), self.connection, piece) {
                Err(StreamError::Blocked) => break true,
                Ok(0) | Err(StreamError::Closed | StreamError::Unknown) => {
                    let _ = self.far.shutdown().await;
                    break false;
                }
                Ok(length) => {
                    if self.far.write_all(piece.get(..length).unwrap_or_default()).await.is_err() {
                        break false;
                    }
                }
            }
        };
        self.send().await;
        goes_on
    }

    async fn send(&mut self) {
        while let Some(datagram) = self.client.poll_transmit() {
            let _ = self.socket.send(&datagram).await;
        }
    }
}
