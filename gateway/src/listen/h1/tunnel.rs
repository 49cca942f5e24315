//! The bytes of another protocol that an HTTP/1.1 connection carries once both sides have agreed to it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use http_body::Body as _;

use super::io::SharedIo;
use crate::exchange::ResponseBody;

/// Writes what the backend says until it ends; reading that drives the other direction as well, which goes on while this
/// client takes nothing.
///
/// # Errors
/// The client's stream failed or stalled, or the tunnel was cut: the connection must then be dropped without a goodbye.
pub(super) async fn carry(io: &SharedIo, mut body: ResponseBody) -> io::Result<()> {
    let mut pending = Bytes::new();
    let mut ended = false;
    poll_fn(|cx| {
        loop {
            if !pending.is_empty() {
                let written = io.borrow_mut().poll_write_through(cx, &mut pending)?;
                if written.is_pending() {
                    body.poll_onward(cx).map_err(io::Error::other)?;
                    return Poll::Pending;
                }
            } else if ended {
                return io.borrow_mut().poll_flush(cx);
            } else {
                match Pin::new(&mut body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => pending = frame.into_data().unwrap_or_default(),
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(io::Error::other(error))),
                    Poll::Ready(None) => ended = true,
                    Poll::Pending => {
                        let _: Poll<()> = io.borrow_mut().poll_flush(cx)?;
                        return Poll::Pending;
                    }
                }
            }
        }
    })
    .await
}
