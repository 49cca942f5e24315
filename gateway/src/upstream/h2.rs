//! HTTP/2 towards a backend: one connection per backend and worker, shared by all its requests.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;

use super::body::{OutgoingBody, Progress};
use super::connect::Stream;
use super::error::Failure;
use super::h1::{Deadline, Unanswered, describe};
use super::watch::Watch;
use crate::config::Service;

const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest head of an answer, in bytes.
const MAX_HEAD: u32 = 64 * 1024;

pub(super) type Sender = http2::SendRequest<OutgoingBody>;

/// Runs hyper's futures on this worker.
#[derive(Debug, Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        drop(tokio::task::spawn_local(future));
    }
}

/// Takes a fresh byte stream. The connection ends by itself once every sender is gone and every stream is done.
pub(super) async fn over(stream: Stream) -> Result<Sender, Failure> {
    let (sender, connection) = http2::Builder::new(Local)
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_header_list_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Failure::Connect(error.to_string()))?;
    drop(tokio::task::spawn_local(async move {
        // How it ended is known to each request that was on it.
        drop(connection.await);
    }));
    Ok(sender)
}

/// Sends a request and waits for the answer's head; deadlines as on HTTP/1.1.
pub(super) async fn exchange(
    mut sender: Sender,
    request: Request<OutgoingBody>,
    progress: Option<&Progress>,
    service: &Service,
    start: Instant,
) -> Result<Response<Incoming>, Unanswered> {
    let mut answer = pin!(sender.try_send_request(request));
    let mut deadline = Deadline::new(progress, service, start);
    let mut watch = Watch::new(start + service.response_timeout);
    let result = poll_fn(|cx| {
        if let Poll::Ready(result) = answer.as_mut().poll(cx) {
            return Poll::Ready(Ok(result));
        }
        deadline.poll_plain(&mut watch, cx).map(Err)
    })
    .await;
    match result {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(mut error)) => Err(Unanswered {
            unsent: error.take_message().map(Box::new),
            // A stream that failed before its head has carried no byte of an answer.
            silent: true,
            failure: describe(error.error(), progress),
        }),
        Err(failure) => Err(Unanswered { failure, unsent: None, silent: false }),
    }
}

/// Whether the connection is known to have ended.
pub(super) fn is_sound(sender: &Sender) -> bool {
    sender.is_ready() && !sender.is_closed()
}
