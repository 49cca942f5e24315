//! Connections to backends that carry no HTTP.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use policy::{Permit, ServiceName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::backend::Visit;
use super::connect::Stream;
use super::error::{Failure, UpstreamError};
use super::{Asked, Upstreams};

/// A connection to a server, counted among what is under way there until it is dropped.
pub(crate) struct Opened {
    stream: Stream,
    visit: Visit,
}

impl Opened {
    /// Host and port of the server.
    pub(crate) fn backend(&self) -> Arc<str> {
        Arc::clone(&self.visit.backend.name)
    }

    /// The server broke what was under way.
    pub(crate) fn failed(&self, why: &str) {
        self.visit.failed(why);
    }
}

impl Upstreams {
    /// Opens a connection to a server of a service that speaks no HTTP, for whoever was permitted something there. What is sent over
    /// it spends permits of its own.
    ///
    /// # Errors
    /// As [`Upstreams::send`].
    pub(crate) async fn open(
        &self,
        _permit: &Permit,
        service: &ServiceName,
        asked: Asked,
    ) -> Result<Opened, UpstreamError> {
        let state = self.find(service).filter(|state| state.service.is_stream);
        let unknown =
            || UpstreamError { backend: None, failure: Failure::ServiceUnknown, sent: false, retry_after: None };
        let state = state.ok_or_else(unknown)?;
        let (stream, visit) = state.open_stream(asked.affinity, asked.client).await?;
        Ok(Opened { stream, visit })
    }
}

impl AsyncRead for Opened {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Opened {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
