//! HTTP/2 on the server's side: hyper's, inside our bounds.

mod body;
mod tunnel;
mod watch;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, Stream as _};
use http::StatusCode;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use policy::Refusal;

use self::watch::{Findings, Watched};
use super::Connection;
use super::arrival::ExchangeDeadline;
use super::deadline::Deadline;
use super::h1::Stream;
use crate::body::RequestBody;
use crate::exchange::{self, ANSWER_GRACE, ResponseBody};
use crate::websocket;

pub use self::body::H2Body;

/// Bytes a peer may send ahead on one stream, and on one connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of an answer that wait for the peer's window, per stream.
const SEND_BUFFER: usize = 64 * 1024;
/// Resets of streams that were not yet handed to us, and of streams that the library reset itself.
const PENDING_RESETS: usize = 20;
const LOCAL_RESETS: usize = 64;
/// A peer that does not answer a ping for so long is gone.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// The library answers a header list beyond its own bound by itself. That bound is so many times ours, so that what
/// breaks ours is answered and recorded like every refusal.
const OVERSIZE: usize = 4;

/// One stream's request and answer, and the time they have.
struct Task {
    work: Pin<Box<dyn Future<Output = ()>>>,
    /// None for a tunnel's work, which its route bounds.
    deadline: Option<ExchangeDeadline>,
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.work.as_mut().poll(cx) {
            // A peer that takes no answer leaves the library with nothing to poll; the stream's own time ends it.
            Poll::Pending => self.deadline.as_mut().map_or(Poll::Pending, |deadline| deadline.poll_expired(cx)),
            Poll::Ready(()) => Poll::Ready(()),
        }
    }
}

/// Hands the streams' tasks to their connection: they live and die with it, so that cutting the connection cuts
/// every request on it.
#[derive(Clone)]
struct Streams {
    started: Rc<RefCell<Vec<Task>>>,
    connection: Rc<Connection>,
    /// A stream has just become a tunnel: the library's next work is that tunnel's.
    tunnels: Rc<Cell<bool>>,
}

impl Streams {
    fn start(&self, work: impl Future<Output = ()> + 'static, deadline: Option<ExchangeDeadline>) {
        self.started.borrow_mut().push(Task { work: Box::pin(work), deadline });
    }
}

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, work: F) {
        let deadline = (!self.tunnels.take()).then(|| self.connection.deadline(ANSWER_GRACE));
        self.start(work, deadline);
    }
}

/// Serves the connection until either side ends it.
///
/// # Errors
/// [`Refusal::ProtocolAbuse`] if the peer broke the bounds on HTTP/2, [`Refusal::RequestTimeout`] if a header section of
/// it did not end in time.
pub(super) async fn serve(stream: Box<dyn Stream>, connection: &Rc<Connection>) -> Result<(), Refusal> {
    let limits = &connection.listener.limits;
    let findings: Rc<Findings> = Rc::default();
    let tasks = Streams { started: Rc::default(), connection: Rc::clone(connection), tunnels: Rc::default() };
    let io = Watched::new(stream, limits.h2_resets, limits.header_timeout, Rc::clone(&findings));
    let service = service_fn(|mut request: http::Request<Incoming>| {
        let connection = Rc::clone(connection);
        let socket = tunnel::take(&mut request);
        let streams = tasks.clone();
        streams.tunnels.set(false);
        // Boxed here, since the library moves what it is given several times.
        Box::pin(async move {
            let (body_bytes, idle) =
                (connection.listener.limits.body_bytes, connection.listener.limits.body_idle_timeout);
            if let Some(socket) = socket {
                let request = request.map(|_| socket.body());
                return Ok(open(&connection, request, socket, &streams).await);
            }
            // Whoever streams both ways is silent while nothing happens: the whole exchange is bounded.
            let whole = connection.listener.limits.request_timeout.filter(|_| exchange::is_grpc_call(&request));
            let idle = whole.unwrap_or(idle);
            let request = request.map(|incoming| {
                if http_body::Body::is_end_stream(&incoming) {
                    RequestBody::Empty
                } else {
                    RequestBody::H2(H2Body::new(incoming, body_bytes, idle))
                }
            });
            Ok::<_, Infallible>(exchange::handle(&connection, request).await)
        })
    });
    let mut builder = hyper::server::conn::http2::Builder::new(tasks.clone());
    if connection.worker.snapshot().routes.routes().any(|route| route.websocket().is_some()) {
        builder.enable_connect_protocol();
    }
    let mut serving = pin!(
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.h2_concurrent_streams)
            .max_header_list_size(u32::try_from(limits.header_bytes.saturating_mul(OVERSIZE)).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_local_error_reset_streams(LOCAL_RESETS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .serve_connection(TokioIo::new(io), service)
    );
    let mut streams: FuturesUnordered<Task> = FuturesUnordered::new();
    let mut idle = Deadline::default();
    idle.set(limits.keepalive_timeout);
    let mut going_away = false;
    poll_fn(|cx| {
        loop {
            let served = serving.as_mut().poll(cx);
            streams.extend(tasks.started.borrow_mut().drain(..));
            let mut finished = false;
            while let Poll::Ready(Some(())) = Pin::new(&mut streams).poll_next(cx) {
                finished = true;
            }
            tell(&findings, connection);
            if served.is_ready() {
                return Poll::Ready(());
            }
            // A finished stream has left frames with the connection, which then wants to be polled again.
            if !finished && tasks.started.borrow().is_empty() {
                break;
            }
        }
        if connection.control.is_draining() && !going_away {
            going_away = true;
            serving.as_mut().graceful_shutdown();
            cx.waker().wake_by_ref();
        }
        if streams.is_empty() {
            // Pings keep a dead peer from staying; only requests keep a connection.
            if idle.poll_expired(cx).is_ready() {
                if std::mem::replace(&mut going_away, true) {
                    return Poll::Ready(());
                }
                serving.as_mut().graceful_shutdown();
                idle.set(PING_TIMEOUT);
                cx.waker().wake_by_ref();
            }
        } else {
            idle.set(limits.keepalive_timeout);
        }
        Poll::Pending
    })
    .await;
    tell(&findings, connection);
    if findings.late.get() {
        connection.refused(Refusal::RequestTimeout, "a header section over HTTP/2 did not end in time");
        return Err(Refusal::RequestTimeout);
    }
    if findings.abuse.get() { Err(Refusal::ProtocolAbuse) } else { Ok(()) }
}

/// Takes a request through the pipeline that opens a WebSocket. Where it does, the stream is one from here on, whose answer
/// is any success (RFC 8441 section 5.1); so nothing else is answered with one.
async fn open(
    connection: &Rc<Connection>,
    request: http::Request<RequestBody>,
    socket: tunnel::Socket,
    streams: &Streams,
) -> http::Response<ResponseBody> {
    let has_version = websocket::has_version(request.headers());
    let (method, target) = (request.method().clone(), request.uri().path_and_query().cloned());
    let target = target.as_ref().map_or("", |target| target.as_str());
    let refuse = |refusal| exchange::refuse(connection, refusal, method.as_str(), target.as_bytes());
    if let Err(refusal) = has_version {
        return refuse(refusal).await;
    }
    let response = exchange::handle(connection, request).await;
    if response.status().is_success() {
        drop(response);
        return refuse(Refusal::InternalError).await;
    }
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    streams.start(socket.carry(body, connection.listener.limits.body_idle_timeout), None);
    streams.tunnels.set(true);
    parts.status = StatusCode::OK;
    http::Response::from_parts(parts, ResponseBody::empty())
}

/// Records what the library refused by itself, so that no breach of protocol goes unseen (C4). The library bounds how
/// many there can be on one connection.
fn tell(findings: &Findings, connection: &Connection) {
    for _ in 0..findings.malformed.take() {
        connection.refused(Refusal::RequestMalformed, "the HTTP/2 library ended a stream or the connection");
    }
    for _ in 0..findings.oversized.take() {
        connection.refused(Refusal::HeaderTooLarge, "the HTTP/2 library answered a header list beyond its bound");
    }
}
