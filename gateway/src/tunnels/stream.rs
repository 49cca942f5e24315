//! A TCP connection out of a tunnel, as a stream like any other.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use gateway_tunnel::{StreamError, StreamId};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::endpoint::{Endpoint, Wakers};
use crate::listen::Carrier;

/// The content type of a TLS handshake message (RFC 8446 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// A stream, which is given up when dropped: what was finished is still sent, what was not is reset.
pub(super) struct TunnelStream {
    endpoint: Rc<Endpoint>,
    id: StreamId,
    wakers: Rc<Wakers>,
    /// A byte that was looked at and is still to be read.
    first: Option<u8>,
}

impl TunnelStream {
    pub(super) fn new(endpoint: &Rc<Endpoint>, id: StreamId) -> Self {
        Self { endpoint: Rc::clone(endpoint), id, wakers: endpoint.follow(id), first: None }
    }

    fn write(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.endpoint.with(|tunnels, now| tunnels.write(now, self.id, data)) {
            Ok(length) => {
                self.endpoint.rouse();
                Poll::Ready(Ok(length))
            }
            Err(StreamError::Blocked) => {
                Wakers::wait(&self.wakers.write, cx);
                // What is there has to leave before there is room.
                self.endpoint.rouse();
                Poll::Pending
            }
            Err(StreamError::Closed | StreamError::Unknown) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        // What lay in the buffer before is the caller's.
        let before = buffer.filled().len();
        if let Some(first) = self.first.take() {
            buffer.put_slice(&[first]);
        }
        let has_first = buffer.filled().len() > before;
        let take = |bytes: &[u8]| {
            let length = bytes.len().min(buffer.remaining());
            buffer.put_slice(bytes.get(..length).unwrap_or_default());
            length
        };
        let read = self.endpoint.with(|tunnels, now| tunnels.read_with(now, self.id, take));
        match read {
            Ok(length) => {
                if length > 0 {
                    // The window is wider, which the other end has to be told.
                    self.endpoint.rouse();
                }
                Poll::Ready(Ok(()))
            }
            Err(_) if has_first => Poll::Ready(Ok(())),
            Err(StreamError::Blocked) => {
                Wakers::wait(&self.wakers.read, cx);
                Poll::Pending
            }
            Err(StreamError::Closed | StreamError::Unknown) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.write(cx, data)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut written = 0;
        for slice in slices.iter().filter(|slice| !slice.is_empty()) {
            match self.write(cx, slice) {
                Poll::Ready(Ok(length)) => {
                    written += length;
                    if length < slice.len() {
                        break;
                    }
                }
                Poll::Ready(Err(_)) | Poll::Pending if written > 0 => break,
                other @ (Poll::Ready(Err(_)) | Poll::Pending) => return other,
            }
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // One that is gone already is as good as finished.
        let _ = self.endpoint.with(|tunnels, now| tunnels.finish(now, self.id));
        self.endpoint.rouse();
        Poll::Ready(Ok(()))
    }
}

impl Carrier for TunnelStream {
    async fn begins_with_tls(&mut self) -> io::Result<bool> {
        let mut first = [0];
        if tokio::io::AsyncReadExt::read(self, &mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let [first] = first;
        self.first = Some(first);
        Ok(first == TLS_HANDSHAKE)
    }
}

impl Drop for TunnelStream {
    fn drop(&mut self) {
        self.endpoint.forget(self.id);
        self.endpoint.with(|tunnels, now| tunnels.release(now, self.id));
        self.endpoint.rouse();
    }
}
