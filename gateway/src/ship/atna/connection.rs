//! A connection that is written once, and read to its end by the receiver.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Socket;
use crate::ship::tls::Tls;

/// Written at once; each piece must be taken within the timeout, so that a slow receiver is not a dead one.
const PIECE: usize = 64 * 1024;

/// Towards one receiver.
pub(super) struct Connection {
    socket: Socket,
    timeout: Duration,
}

impl Connection {
    /// Connects and shakes hands.
    ///
    /// # Errors
    /// What went wrong.
    pub(super) async fn open(address: &str, tls: &Tls, limit: Duration) -> Result<Self, String> {
        let opened = async {
            let socket = TcpStream::connect(address).await.map_err(|error| format!("cannot connect: {error}"))?;
            let socket = tls.connect(socket).await.map_err(|error| format!("TLS: {error}"))?;
            Ok(Self { socket, timeout: limit })
        };
        timeout(limit, opened).await.map_err(|_| "it does not answer".to_owned())?
    }

    /// Writes everything.
    ///
    /// # Errors
    /// If the receiver does not take it.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        for piece in bytes.chunks(PIECE) {
            let written = timeout(self.timeout, self.socket.write_all(piece)).await;
            written
                .map_err(|_| "it takes nothing any more".to_owned())?
                .map_err(|error| format!("cannot write: {error}"))?;
        }
        let flushed = timeout(self.timeout, self.socket.flush()).await;
        flushed.map_err(|_| "it takes nothing any more".to_owned())?.map_err(|error| format!("cannot write: {error}"))
    }

    /// Says whether the receiver has not ended it.
    ///
    /// # Errors
    /// If it has.
    pub(super) async fn is_open(&mut self) -> Result<(), String> {
        let mut byte = [0];
        match timeout(Duration::ZERO, self.socket.read(&mut byte)).await {
            Err(_) => Ok(()),
            Ok(Ok(0)) => Err("it ended the connection".to_owned()),
            Ok(Ok(_)) => Err("it says something, and syslog's receivers say nothing".to_owned()),
            Ok(Err(error)) => Err(format!("it broke the connection: {error}")),
        }
    }

    /// Ends it, and waits until the receiver has done so too, which it does when it has read everything.
    ///
    /// # Errors
    /// If it breaks the connection instead, or does nothing.
    pub(super) async fn end(&mut self) -> Result<(), String> {
        let ended = async {
            self.socket.shutdown().await.map_err(|error| format!("cannot end the connection: {error}"))?;
            let mut byte = [0];
            match self.socket.read(&mut byte).await {
                Ok(0) => Ok(()),
                // Many receivers close without `close_notify`. Nothing is read here that could be cut off, and where
                // nobody had been there to read what was sent, a reset would follow.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
                Ok(_) => Err("it says something, and syslog's receivers say nothing".to_owned()),
                Err(error) => Err(format!("it broke the connection: {error}")),
            }
        };
        let ended = timeout(self.timeout, ended).await;
        ended.map_err(|_| "it does not end the connection: it may not have read everything".to_owned())?
    }

    /// Says whether no reset came since.
    ///
    /// # Errors
    /// If one did.
    pub(super) fn is_unbroken(&self) -> Result<(), String> {
        match self.socket.get_ref().0.take_error() {
            Ok(None) => Ok(()),
            Ok(Some(error)) | Err(error) => Err(format!("it broke the connection after its end: {error}")),
        }
    }
}
