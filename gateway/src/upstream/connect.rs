//! Opening a connection to a backend, and the byte stream over it.

use std::future::{Future as _, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use certs::verifier::noting;
use rustix::net::{RecvFlags, recv};
use rustls::pki_types::ServerName;
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::client::{self, Client};
use super::error::Failure;
use crate::config::Backend;

#[derive(Debug)]
enum Inner {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Bytes to and from a backend.
#[derive(Debug)]
pub(super) struct Stream {
    inner: Inner,
    /// The address at the other end.
    peer: Option<SocketAddr>,
    /// Whose connection the other end was told that it is.
    client: Option<Client>,
}

/// Addresses of one name that are tried, one after the other, before a connection is given up.
const MOST_TRIED: usize = 4;

/// What a connection begins with, before TLS, at a backend that wants to know whose it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Introduced {
    /// The client; none of a connection of the gateway's own.
    pub(super) client: Option<Client>,
}

impl Introduced {
    fn header(self) -> Result<Vec<u8>, Failure> {
        self.client.map_or_else(client::local, Client::header)
    }
}

/// How to reach and recognise a backend over TLS.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    pub(super) config: Arc<rustls::ClientConfig>,
    pub(super) server_name: ServerName<'static>,
}

impl Stream {
    /// Connects, without a deadline of its own.
    ///
    /// Where the host is a name, `known` are its addresses if they were resolved already; they take turns by `turn`.
    pub(super) async fn open(
        backend: &Backend,
        known: Option<Arc<Box<[SocketAddr]>>>,
        turn: usize,
        tls: Option<&Tls>,
        http2: bool,
        introduced: Option<Introduced>,
    ) -> Result<Self, Failure> {
        let connected = match (backend.address, known) {
            (Some(address), _) => TcpStream::connect(address).await,
            (None, Some(known)) => {
                let (before, after) = known.split_at(turn.checked_rem(known.len()).unwrap_or_default());
                let inline: SmallVec<[SocketAddr; MOST_TRIED]> =
                    after.iter().chain(before).copied().take(MOST_TRIED).collect();
                TcpStream::connect(&inline[..]).await
            }
            (None, None) => TcpStream::connect((backend.host.as_str(), backend.port)).await,
        };
        let mut tcp = connected.map_err(|error| Failure::Connect(error.to_string()))?;
        tcp.set_nodelay(true).map_err(|error| Failure::Connect(error.to_string()))?;
        let peer = tcp.peer_addr().ok();
        let client = match introduced {
            None => None,
            Some(introduced) => {
                tcp.write_all(&introduced.header()?).await.map_err(|error| Failure::Connect(error.to_string()))?;
                introduced.client
            }
        };
        let Some(tls) = tls else { return Ok(Self { inner: Inner::Plain(tcp), peer, client }) };

        let mut connect = pin!(TlsConnector::from(Arc::clone(&tls.config)).connect(tls.server_name.clone(), tcp));
        // What rustls hands on says which alert was sent; the verifier says which certificate, and why.
        let mut refused = None;
        let outcome = poll_fn(|context| {
            let (outcome, noted) = noting(|| connect.as_mut().poll(context));
            refused = refused.take().or(noted);
            outcome
        });
        let stream = outcome
            .await
            .map_err(|error| Failure::Tls(refused.map_or_else(|| error.to_string(), |refused| refused.to_string())))?;
        let protocol = stream.get_ref().1.alpn_protocol();
        let agreed = if http2 { protocol == Some(b"h2") } else { matches!(protocol, None | Some(b"http/1.1")) };
        if !agreed {
            return Err(Failure::Tls("the backend does not speak the protocol configured".into()));
        }
        Ok(Self { inner: Inner::Tls(Box::new(stream)), peer, client })
    }

    /// Whose connection the other end was told that it is; none where it was told nothing, or that it is the gateway's own.
    pub(super) const fn client(&self) -> Option<Client> {
        self.client
    }

    /// The address at the other end.
    pub(super) const fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Whether the peer has said nothing at this moment, neither bytes nor the end. The runtime's view is as old as its
    /// last turn, so the kernel is asked. Under TLS bytes may be the protocol's own, such as a ticket: they are taken in,
    /// and only what they mean counts.
    pub(super) fn is_quiet(&mut self) -> bool {
        let (tcp, session) = match &mut self.inner {
            Inner::Plain(tcp) => {
                let mut byte = [0_u8; 1];
                let peeked = recv(&*tcp, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
                return matches!(peeked, Err(rustix::io::Errno::WOULDBLOCK));
            }
            Inner::Tls(stream) => stream.get_mut(),
        };
        let mut buffer = [0_u8; 4096];
        loop {
            let says_nothing =
                |state: rustls::IoState| state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed();
            if !session.process_new_packets().is_ok_and(says_nothing) {
                return false;
            }
            let mut bytes = match recv(&*tcp, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return false,
                Ok((_, length)) => buffer.get(..length).unwrap_or_default(),
                Err(error) => return error == rustix::io::Errno::WOULDBLOCK,
            };
            while !bytes.is_empty() {
                if !session.read_tls(&mut bytes).is_ok_and(|read| read > 0)
                    || !session.process_new_packets().is_ok_and(says_nothing)
                {
                    return false;
                }
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Inner::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        }
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
