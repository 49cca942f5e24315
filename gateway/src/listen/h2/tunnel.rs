//! WebSockets over HTTP/2 (RFC 8441): a stream that carries another protocol once both sides have agreed to it.

use std::cell::RefCell;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{Method, Request};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWrite as _};

use crate::body::{BodyError, RequestBody};
use crate::exchange::ResponseBody;
use crate::listen::deadline::Deadline;
use crate::websocket;

/// Bytes read at once. Most tunnels are idle most of the time, each with its buffer.
const READ_SIZE: usize = 8 * 1024;

enum State {
    /// The answer that opens the stream has not been sent.
    Waiting(OnUpgrade),
    Open(TokioIo<Upgraded>),
    Gone,
}

/// A stream that is to become a tunnel, shared by both of its directions.
#[derive(Clone)]
pub(super) struct Socket(Rc<RefCell<State>>);

/// Makes of an extended CONNECT for a WebSocket the GET that it stands for (RFC 8441 section 5): whatever door a request comes
/// by, one and the same is judged and recorded. Others stay what they are, and are refused.
pub(super) fn take(request: &mut Request<Incoming>) -> Option<Socket> {
    let is_websocket = |protocol: &Protocol| protocol.as_str() == websocket::PROTOCOL;
    if request.method() != Method::CONNECT || !request.extensions().get::<Protocol>().is_some_and(is_websocket) {
        return None;
    }
    let upgrade = hyper::upgrade::on(&mut *request);
    request.extensions_mut().remove::<Protocol>();
    *request.method_mut() = Method::GET;
    Some(Socket(Rc::new(RefCell::new(State::Waiting(upgrade)))))
}

impl Socket {
    /// What the client sends, for whoever forwards it.
    pub(super) fn body(&self) -> RequestBody {
        RequestBody::Tunnel(Box::pin(Received { socket: self.clone(), read: BytesMut::new() }))
    }

    /// Polls the stream once it is open.
    fn poll_open<T>(
        &self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut TokioIo<Upgraded>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut state = self.0.borrow_mut();
        if let State::Waiting(upgrade) = &mut *state {
            match ready!(Pin::new(upgrade).poll(cx)) {
                Ok(upgraded) => *state = State::Open(TokioIo::new(upgraded)),
                Err(error) => {
                    *state = State::Gone;
                    return Poll::Ready(Err(io::Error::other(error)));
                }
            }
        }
        match &mut *state {
            State::Open(stream) => poll(Pin::new(stream), cx),
            State::Waiting(_) | State::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Writes what the backend says until it ends; reading that drives the other direction as well, which goes on while this
    /// client takes nothing. A client that takes nothing for `stall` is given up.
    pub(super) async fn carry(self, mut body: ResponseBody, stall: Duration) {
        let mut pending = Bytes::new();
        let mut ended = false;
        let mut stalled: Option<Deadline> = None;
        poll_fn(|cx| {
            loop {
                if pending.is_empty() && !ended {
                    match Pin::new(&mut body).poll_frame(cx) {
                        Poll::Ready(Some(Ok(frame))) => pending = frame.into_data().unwrap_or_default(),
                        Poll::Ready(Some(Err(_))) => return Poll::Ready(()),
                        Poll::Ready(None) => ended = true,
                        Poll::Pending => return Poll::Pending,
                    }
                    continue;
                }
                let moved = match pending.is_empty() {
                    true => self.poll_open(cx, |stream, cx| stream.poll_shutdown(cx)),
                    false => {
                        let written = self.poll_open(cx, |stream, cx| stream.poll_write(cx, &pending));
                        written.map_ok(|written| pending.advance(written))
                    }
                };
                match moved {
                    Poll::Ready(Ok(())) if ended && pending.is_empty() => return Poll::Ready(()),
                    Poll::Ready(Ok(())) => stalled = None,
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => {
                        if body.poll_onward(cx).is_err() {
                            return Poll::Ready(());
                        }
                        let deadline = stalled.get_or_insert_with(|| {
                            let mut deadline = Deadline::default();
                            deadline.set(stall);
                            deadline
                        });
                        return deadline.poll_expired(cx);
                    }
                }
            }
        })
        .await;
        drop(body);
        // Both directions are over: whatever holds the other half finds nothing.
        self.0.replace(State::Gone);
    }
}

/// What the client sends.
struct Received {
    socket: Socket,
    read: BytesMut,
}

impl Body for Received {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { socket, read } = self.get_mut();
        read.reserve(READ_SIZE);
        let polled = socket.poll_open(cx, |stream, cx| pin!(stream.get_mut().read_buf(&mut *read)).poll(cx));
        Poll::Ready(match ready!(polled) {
            Ok(0) => None,
            Ok(_) => Some(Ok(Frame::data(read.split().freeze()))),
            Err(error) => Some(Err(BodyError::Broken(error.to_string()))),
        })
    }

    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
