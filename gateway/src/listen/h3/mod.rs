//! HTTP/3 on the server's side: the library's, over our own view of QUIC, inside our bounds.
//!
//! A request becomes what one of HTTP/2 becomes, and goes through the same pipeline. Between quinn and the library stands a
//! narrow interface (`streams`, `uni`): a sieve for each stream (`sieve`, `fields`) that lets through what RFC 9114 lets a
//! client send and the gateway bears to hold, and a budget for what costs a client nothing (`watch`). Each connection is a task
//! of its own, and a panic in the library ends that connection and no other.

mod accept;
mod answer;
mod body;
mod fault;
mod fields;
mod sieve;
mod streams;
mod uni;
mod watch;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, Stream as _};
use h3::error::{Code, StreamError};
use h3::server::RequestResolver;
use http::header::{CONTENT_LENGTH, TE};
use http::{HeaderMap, Method, Request};

use policy::Refusal;

use self::body::Begun;
use self::fault::code;
use self::streams::Quic;
use self::watch::Watch;
use super::Connection;
use super::arrival::ExchangeDeadline;
use super::deadline::Deadline;
use crate::body::{BodyError, RequestBody};
use crate::exchange::{self, ANSWER_GRACE};
use crate::quic::Windows;

pub(crate) use self::accept::accept_loop;
pub use self::body::H3Body;

/// The library answers a header list beyond its own bound by itself. That bound is so many times ours, so that what
/// breaks ours is answered and recorded like every refusal.
const OVERSIZE: usize = 4;
/// How long a connection that is told to go away has to take that.
const FAREWELL: Duration = Duration::from_secs(20);
/// How long it has to go by itself once nothing is under way any more, beyond some of its round trips: what closes it takes
/// away what is not yet acknowledged.
const GOODBYE: Duration = Duration::from_millis(50);
const GOODBYE_MOST: Duration = Duration::from_millis(500);

/// One stream's request and answer, and the time they have.
struct Task {
    work: Pin<Box<dyn Future<Output = ()>>>,
    deadline: ExchangeDeadline,
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.work.as_mut().poll(cx) {
            Poll::Pending => self.deadline.poll_expired(cx),
            Poll::Ready(()) => Poll::Ready(()),
        }
    }
}

type Library = h3::server::Connection<Quic, Bytes>;
type Resolver = RequestResolver<Quic, Bytes>;

/// What the connection's loop does next.
enum Step {
    Request(Box<Resolver>),
    GoAway,
    End,
}

/// Serves the connection until either side ends it.
///
/// # Errors
/// [`Refusal::ProtocolAbuse`] if the peer broke the bounds on HTTP/3.
async fn serve(quic: &quinn::Connection, connection: &Rc<Connection>, windows: &Windows) -> Result<(), Refusal> {
    let limits = &connection.listener.limits;
    let watch = Rc::new(Watch::new(quic.clone(), limits.h2_resets));
    let most_head = limits.header_bytes.saturating_mul(OVERSIZE);
    let served = run(quic, connection, windows, &watch, most_head).await;
    if served.is_none() {
        watch.close(code::NO_ERROR, "the peer answers nothing");
    }
    watch.close(code::NO_ERROR, "");
    tell(&watch, connection);
    if watch.is_abused() { Err(Refusal::ProtocolAbuse) } else { Ok(()) }
}

/// None if not even the connection's own streams could be opened in time.
async fn run(
    quic: &quinn::Connection,
    connection: &Rc<Connection>,
    windows: &Windows,
    watch: &Rc<Watch>,
    most_head: usize,
) -> Option<()> {
    let limits = &connection.listener.limits;
    let mut builder = h3::server::builder();
    builder.max_field_section_size(u64::try_from(most_head).unwrap_or(u64::MAX)).send_grease(false);
    let building = builder.build(Quic::new(watch, most_head));
    let mut library: Library = tokio::time::timeout(limits.header_timeout, building).await.ok()?.ok()?;
    let mut streams: FuturesUnordered<Task> = FuturesUnordered::new();
    let mut idle = Deadline::default();
    idle.set(limits.keepalive_timeout);
    let mut lease = None;
    let mut going_away = false;
    loop {
        let step = {
            let mut accepting = pin!(library.accept());
            poll_fn(|cx| {
                while let Poll::Ready(Some(())) = Pin::new(&mut streams).poll_next(cx) {}
                let accepted = accepting.as_mut().poll(cx);
                tell(watch, connection);
                match accepted {
                    Poll::Ready(Ok(Some(resolver))) => return Poll::Ready(Step::Request(Box::new(resolver))),
                    Poll::Ready(Ok(None) | Err(_)) => return Poll::Ready(Step::End),
                    Poll::Pending => {}
                }
                connection.follow(quic.remote_address());
                if connection.control.is_draining() && !going_away {
                    return Poll::Ready(Step::GoAway);
                }
                let patience = match going_away {
                    true => (quic.rtt() * 3 + GOODBYE).min(GOODBYE_MOST),
                    false => limits.keepalive_timeout,
                };
                if !streams.is_empty() {
                    idle.set(patience);
                    return Poll::Pending;
                }
                lease = None;
                // Pings keep a dead peer from staying; only requests keep a connection.
                idle.poll_expired(cx).map(|()| if going_away { Step::End } else { Step::GoAway })
            })
            .await
        };
        match step {
            Step::Request(resolver) => {
                if lease.is_none() {
                    lease = windows.lease(quic, limits.h3_window_bytes);
                }
                let work = Box::pin(exchange(*resolver, Rc::clone(connection), Rc::clone(watch)));
                streams.push(Task { work, deadline: connection.deadline(ANSWER_GRACE) });
            }
            Step::GoAway => {
                going_away = true;
                // The library names the last stream it has; the next one is the first that is not answered
                // (RFC 9114 5.2), and is refused if it comes.
                watch.refuse_more();
                let told = tokio::time::timeout(FAREWELL, library.shutdown(1)).await;
                if !matches!(told, Ok(Ok(()))) {
                    return Some(());
                }
                idle.set((quic.rtt() * 3 + GOODBYE).min(GOODBYE_MOST));
            }
            Step::End => return Some(()),
        }
    }
}

/// One request, from its first byte to its answer's last.
async fn exchange(resolver: Resolver, connection: Rc<Connection>, watch: Rc<Watch>) {
    let limits = &connection.listener.limits;
    let resolved = match tokio::time::timeout(limits.header_timeout, resolver.resolve_request()).await {
        Ok(Ok(resolved)) => resolved,
        Ok(Err(error)) => return unread(&error, &watch),
        Err(_) => return watch.note(Refusal::RequestTimeout, "a header section over HTTP/3 did not end in time"),
    };
    let (request, mut stream) = resolved;
    let expected = match check(&request) {
        Ok(expected) => expected,
        Err(why) => {
            watch.note(Refusal::RequestMalformed, why);
            let code = Code::from(u64::from(code::MESSAGE_ERROR));
            stream.stop_sending(code);
            stream.stop_stream(code);
            return;
        }
    };
    let (mut send, recv) = stream.split();
    let method = request.method().clone();
    let body = match H3Body::begin(recv, limits.body_bytes, expected, limits.body_idle_timeout).await {
        Ok(Begun::Empty) => RequestBody::Empty,
        Ok(Begun::Body(body)) => RequestBody::H3(body),
        Err(BodyError::Refused(refusal)) => {
            return watch.note(refusal, "a body is not as long as its head says, or cannot be read");
        }
        Err(BodyError::Broken(_) | BodyError::Idle) => return,
    };
    let response = exchange::handle(&connection, request.map(|()| body)).await;
    // Whatever goes wrong here is seen by the trail, which goes with the body.
    let _ = answer::send(response, &method, &mut send).await;
}

/// Records why a request never came to be one.
fn unread(error: &StreamError, watch: &Watch) {
    // Of everything else the watch knows, or the peer has gone.
    if matches!(error, StreamError::StreamError { .. }) {
        watch.note(Refusal::RequestMalformed, "the HTTP/3 library ended a stream");
    } else if matches!(error, StreamError::HeaderTooBig { .. }) {
        watch.note(Refusal::HeaderTooLarge, "the HTTP/3 library refused a header list beyond its bound");
    }
}

/// What RFC 9114 says of a request and the library does not look at; the length that its body must have.
fn check(request: &Request<()>) -> Result<Option<u64>, &'static str> {
    let headers = request.headers();
    let uri = request.uri();
    if request.method() != Method::CONNECT && (uri.scheme().is_none() || uri.path_and_query().is_none()) {
        return Err("`:scheme` or `:path` is missing");
    }
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
        if headers.contains_key(name) {
            return Err("a field of connections of HTTP/1.1");
        }
    }
    if headers.get_all(TE).iter().any(|te| te.as_bytes() != b"trailers") {
        return Err("`te` says something else than `trailers`");
    }
    length(headers)
}

fn length(headers: &HeaderMap) -> Result<Option<u64>, &'static str> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(None) };
    if lengths.any(|other| other != length) {
        return Err("there are two lengths");
    }
    let text = length.to_str().unwrap_or_default();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("`content-length` is no length");
    }
    text.parse().map(Some).map_err(|_| "`content-length` is beyond any length")
}

/// Records what was found, so that no breach of protocol goes unseen (C4).
fn tell(watch: &Watch, connection: &Connection) {
    for (refusal, why) in watch.take_faults() {
        connection.refused(refusal, why);
    }
}

#[cfg(test)]
mod tests;
