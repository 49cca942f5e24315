//! Opening a connection to a backend, and the byte stream over it.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, recv};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::Failure;
use crate::config::Backend;

/// What a connection's user wants to know about the bytes below hyper.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// A byte has arrived since the flag was last cleared.
    pub(super) received: Cell<bool>,
    /// Look into the socket itself before the next read: the runtime's view of it is as old as its last turn, and a
    /// request must not be sent over a connection that has ended or already carries bytes.
    pub(super) probe: Cell<bool>,
}

#[derive(Debug)]
enum Inner {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Bytes to and from a backend.
#[derive(Debug)]
pub(super) struct Stream {
    inner: Inner,
    wire: Rc<Wire>,
}

/// How to reach and recognise a backend over TLS.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    pub(super) config: Arc<rustls::ClientConfig>,
    pub(super) server_name: ServerName<'static>,
}

impl Stream {
    /// Connects, without a deadline of its own.
    pub(super) async fn open(backend: &Backend, tls: Option<&Tls>, http2: bool) -> Result<Self, Failure> {
        let connected = match backend.address {
            Some(address) => TcpStream::connect(address).await,
            None => TcpStream::connect((backend.host.as_str(), backend.port)).await,
        };
        let tcp = connected.map_err(|error| Failure::Connect(error.to_string()))?;
        tcp.set_nodelay(true).map_err(|error| Failure::Connect(error.to_string()))?;
        let wire = Rc::new(Wire::default());
        let Some(tls) = tls else { return Ok(Self { inner: Inner::Plain(tcp), wire }) };

        let stream = TlsConnector::from(Arc::clone(&tls.config))
            .connect(tls.server_name.clone(), tcp)
            .await
            .map_err(|error| Failure::Tls(error.to_string()))?;
        let protocol = stream.get_ref().1.alpn_protocol();
        let agreed = if http2 { protocol == Some(b"h2") } else { matches!(protocol, None | Some(b"http/1.1")) };
        if !agreed {
            return Err(Failure::Tls("the backend does not speak the protocol configured".into()));
        }
        Ok(Self { inner: Inner::Tls(Box::new(stream)), wire })
    }

    pub(super) fn wire(&self) -> Rc<Wire> {
        Rc::clone(&self.wire)
    }

    /// What the socket holds at this moment: `None` nothing, `Some(0)` its end, else bytes. Under TLS bytes may be
    /// the protocol's own, so only the end counts there.
    fn look(&self) -> io::Result<Option<usize>> {
        let tcp = match &self.inner {
            Inner::Plain(tcp) => tcp,
            Inner::Tls(tls) => tls.get_ref().0,
        };
        let mut byte = [0_u8; 1];
        match recv(tcp, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Ok(Some(0)),
            Ok(_) if matches!(self.inner, Inner::Tls(_)) => Ok(None),
            Ok((_, length)) => Ok(Some(length)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.wire.probe.take() {
            match self.look()? {
                None => {}
                Some(0) => return Poll::Ready(Ok(())),
                Some(_) => return Poll::Ready(Err(io::Error::other("bytes that nobody asked for"))),
            }
        }
        let before = buffer.filled().len();
        ready!(match &mut self.inner {
            Inner::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Inner::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        })?;
        if buffer.filled().len() > before {
            self.wire.received.set(true);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.inner {
            Inner::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Inner::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Inner::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Inner::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.inner {
            Inner::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, slices),
            Inner::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
