//! HTTP/2 towards a backend: one connection per backend and worker, shared by all its requests.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;

use super::body::{OutgoingBody, Progress};
use super::connect::Stream;
use super::deadline::Deadline;
use super::error::Failure;
use super::framing;
use super::h1::Unanswered;
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
pub(super) struct Local;

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
    let spare = request.body().is_end_stream().then(|| spare(&request));
    let mut answer = pin!(sender.try_send_request(request));
    let mut deadline = Deadline::new(progress, service, start);
    let mut watch = Watch::new(start + service.response_timeout);
    let result = poll_fn(|cx| {
        if let Poll::Ready(result) = answer.as_mut().poll(cx) {
            return Poll::Ready(Ok(result));
        }
        deadline.poll(&mut watch, cx).map(Err)
    })
    .await;
    match result {
        Ok(Ok(mut response)) => {
            framing::check_answer(response.status(), response.version(), response.headers_mut())
                .map_err(Unanswered::of)?;
            // hyper leaves its own marks there.
            response.extensions_mut().clear();
            Ok(response)
        }
        Ok(Err(mut error)) => {
            let unsent = error.take_message().map(Box::new);
            let failure = describe(error.error(), progress);
            // A stream that failed before its head has carried no byte of an answer.
            let silent = spare.filter(|_| matches!(failure, Failure::Closed(_))).map(Box::new);
            Err(Unanswered { failure, unsent, silent })
        }
        Err(failure) => Err(Unanswered::of(failure)),
    }
}

/// What must be remembered of a request to send it a second time: its head. It has no body.
fn spare(request: &Request<OutgoingBody>) -> Request<OutgoingBody> {
    let mut spare = Request::new(OutgoingBody::empty());
    *spare.method_mut() = request.method().clone();
    *spare.uri_mut() = request.uri().clone();
    *spare.version_mut() = request.version();
    *spare.headers_mut() = request.headers().clone();
    spare
}

/// What hyper's error means. A body that turned bad shows as an error of the connection, so it is asked first.
fn describe(error: &hyper::Error, progress: Option<&Progress>) -> Failure {
    if let Some(failed) = progress.and_then(|progress| progress.failed.borrow().clone()) {
        return Failure::RequestBody(failed);
    }
    if error.is_parse() || error.is_parse_too_large() || error.is_parse_status() {
        return Failure::Malformed(error.to_string());
    }
    let mut text = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        text.push_str(": ");
        text.push_str(&source.to_string());
    }
    Failure::Closed(text)
}

/// Whether the connection is known to have ended.
pub(super) fn is_sound(sender: &Sender) -> bool {
    sender.is_ready() && !sender.is_closed()
}
