//! The life of an HTTP/1.1 connection: a head, the exchange, its answer, and the next.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri, Version};

use policy::Refusal;

use super::head::{self, BadHead, Framing, Head, HeadLimits, HeadScan};
use super::io::{H1Body, Io, SharedIo, Stream};
use super::response::{AnswerTo, write_response, write_switch};
use super::tunnel;
use crate::body::RequestBody;
use crate::exchange::{self, ANSWER_GRACE, ResponseBody};
use crate::listen::Connection;
use crate::listen::deadline::Deadline;

/// Most bytes of an unread request body that are read away to keep a connection.
const DRAIN_BYTES: usize = 64 * 1024;
/// How long a closing connection waits for the client to notice, so that the answer is not lost to a reset.
const LINGER: Duration = Duration::from_secs(1);

/// Serves the connection until either side ends it.
pub(crate) async fn serve(stream: Box<dyn Stream>, connection: &Rc<Connection>) {
    let limits = &connection.listener.limits;
    let io: SharedIo = Rc::new(RefCell::new(Io::new(stream, limits.body_idle_timeout)));
    let head_limits = HeadLimits {
        target_bytes: limits.target_bytes,
        header_bytes: limits.header_bytes,
        header_count: limits.header_count,
    };
    // One timer for all exchanges: it is moved by a store.
    let mut end = Deadline::default();
    // What is no exchange any more has no bound but its own.
    let tunnelled = Cell::new(false);
    loop {
        let head = match read_head(&io, connection, &head_limits).await {
            Ok(Some(head)) => head,
            Ok(None) => break,
            Err(bad) => {
                let response = exchange::refuse(connection, bad.refusal, &bad.method, &bad.target).await;
                let to = AnswerTo {
                    method: Method::GET,
                    version: Version::HTTP_11,
                    takes_trailers: false,
                    keep_alive: false,
                };
                io.borrow_mut().restart_idle();
                let _ = write_response(&io, response, &to).await;
                break;
            }
        };
        let mut exchange = pin!(exchange_one(&io, connection, head, &tunnelled));
        if let Some(limit) = limits.request_timeout {
            end.set(limit + ANSWER_GRACE);
        }
        let exchanged = poll_fn(|cx| match exchange.as_mut().poll(cx) {
            Poll::Pending if limits.request_timeout.is_some() && !tunnelled.get() => {
                end.poll_expired(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
            polled @ (Poll::Pending | Poll::Ready(_)) => polled,
        });
        match exchanged.await {
            Ok(true) => {}
            Ok(false) => break,
            // A truncated answer must look truncated: no goodbye.
            Err(_) => return,
        }
    }
    close(&io).await;
}

/// Waits for the next head. `Ok(None)`: the client is done, or nothing more is wanted from it.
async fn read_head(io: &SharedIo, connection: &Connection, limits: &HeadLimits) -> Result<Option<Head>, BadHead> {
    let timeouts = &connection.listener.limits;
    let mut scan = HeadScan::default();
    let mut started = false;
    io.borrow_mut().strike_after(timeouts.keepalive_timeout);
    poll_fn(|cx| {
        let mut io = io.borrow_mut();
        loop {
            if !io.read.is_empty() {
                let is_first = !std::mem::replace(&mut started, true);
                match scan.find_end(&io.read, limits) {
                    Ok(Some(length)) => return Poll::Ready(head::take_head(&mut io.read, length, limits).map(Some)),
                    Ok(None) if is_first => io.strike_after(timeouts.header_timeout),
                    Ok(None) => {}
                    Err(refusal) => return Poll::Ready(Err(bad_head(&io, refusal))),
                }
            } else if connection.control.is_draining() {
                return Poll::Ready(Ok(None));
            }
            match io.poll_read_more(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) if started => return Poll::Ready(Err(bad_head(&io, Refusal::RequestMalformed))),
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Ok(None)),
                Poll::Pending => {
                    std::task::ready!(io.poll_struck(cx));
                    if started {
                        return Poll::Ready(Err(bad_head(&io, Refusal::RequestTimeout)));
                    }
                    return Poll::Ready(Ok(None));
                }
            }
        }
    })
    .await
}

fn bad_head(io: &Io, refusal: Refusal) -> BadHead {
    let (method, target) = head::describe(&io.read);
    BadHead { refusal, method, target }
}

/// One request and its answer. `Ok(true)`: the connection can carry another.
async fn exchange_one(
    io: &SharedIo,
    connection: &Rc<Connection>,
    mut head: Head,
    tunnelled: &Cell<bool>,
) -> io::Result<bool> {
    let limits = &connection.listener.limits;
    let mut to = AnswerTo {
        method: head.method.clone(),
        version: head.version,
        takes_trailers: head.takes_trailers,
        keep_alive: head.keep_alive,
    };
    let framing = head.framing;
    let websocket = head.websocket.take();
    io.borrow_mut().begin_body(framing, head.expects_continue, limits.body_bytes);
    io.borrow_mut().restart_idle();
    let response = if matches!(framing, Framing::Length(length) if length > limits.body_bytes) {
        exchange::refuse(connection, Refusal::BodyTooLarge, head.method.as_str(), &head.target).await
    } else {
        match request_of(head, io) {
            Ok(request) => handle(io, connection, request).await?,
            Err(bad) => exchange::refuse(connection, bad.refusal, &bad.method, &bad.target).await,
        }
    };
    if let Some(accept) = &websocket {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            tunnelled.set(true);
            let (parts, body) = response.into_parts();
            write_switch(io.borrow_mut().out(), &parts.headers, accept);
            drop(parts);
            io.borrow_mut().restart_idle();
            return tunnel::carry(io, body).await.map(|()| false);
        }
        // Whoever asked for another protocol may be sending it already (C3).
        to.keep_alive = false;
    }
    {
        let io = io.borrow();
        let unread = !io.body_is_done();
        // An answer that overtakes its request: the rest is read away if it is announced and short, and otherwise
        // nothing after it can be told from a new request (C2).
        let too_much = io.continue_is_due() || io.announced_rest().is_none_or(|rest| rest > DRAIN_BYTES as u64);
        let lost = unread && response.body().is_answer() && too_much;
        to.keep_alive &= !lost && !connection.control.is_draining();
    }
    io.borrow_mut().restart_idle();
    let keep_alive = write_response(io, response, &to).await?;
    Ok(keep_alive && drain(io).await)
}

/// Runs the exchange, and gives it up when the client's stream breaks.
async fn handle(
    io: &SharedIo,
    connection: &Rc<Connection>,
    request: Request<RequestBody>,
) -> io::Result<Response<ResponseBody>> {
    let mut exchange = pin!(exchange::handle(connection, request));
    let mut half_closed = false;
    poll_fn(|cx| {
        if let Poll::Ready(response) = exchange.as_mut().poll(cx) {
            return Poll::Ready(Ok(response));
        }
        let mut io = io.borrow_mut();
        while io.body_is_done() && !half_closed && io.read.len() < DRAIN_BYTES {
            match io.poll_read_more(cx) {
                Poll::Ready(Ok(0)) => half_closed = true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        Poll::Pending
    })
    .await
}

/// The request as the exchange takes it: in origin-form, its authority in `Host`.
fn request_of(head: Head, io: &SharedIo) -> Result<Request<RequestBody>, BadHead> {
    let target = head.target.clone();
    let bad = |refusal| BadHead { refusal, method: head.method.as_str().to_owned(), target: target.clone() };
    let origin = exchange::origin_form(&head.target, &head.headers).map_err(bad)?;
    let uri = Uri::from(head::path_and_query(origin).map_err(bad)?);
    let body = match head.framing {
        Framing::None | Framing::Length(0) => RequestBody::Empty,
        framing @ (Framing::Length(_) | Framing::Chunked) => RequestBody::H1(H1Body::new(Rc::clone(io), framing)),
        framing @ Framing::Tunnel => RequestBody::Tunnel(Box::pin(H1Body::new(Rc::clone(io), framing))),
    };
    let mut request = Request::new(body);
    *request.method_mut() = head.method;
    *request.uri_mut() = uri;
    *request.version_mut() = head.version;
    *request.headers_mut() = head.headers;
    Ok(request)
}

/// Reads away what is left of a request body. `true`: the stream stands at the next request.
async fn drain(io: &SharedIo) -> bool {
    if io.borrow().body_is_done() {
        return true;
    }
    let announced = io.borrow().announced_rest();
    if io.borrow().continue_is_due() || announced.is_some_and(|rest| rest > DRAIN_BYTES as u64) {
        return false;
    }
    io.borrow_mut().strike_after(LINGER);
    let mut body = H1Body::new(Rc::clone(io), Framing::Chunked);
    let mut left = DRAIN_BYTES;
    poll_fn(|cx| {
        loop {
            use http_body::Body as _;
            match std::task::ready!(std::pin::Pin::new(&mut body).poll_frame(cx)) {
                Some(Ok(frame)) => match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                    Some(rest) => left = rest,
                    None => return Poll::Ready(false),
                },
                Some(Err(_)) => return Poll::Ready(false),
                None => return Poll::Ready(io.borrow().body_is_done()),
            }
        }
    })
    .await
}

/// Closes so that the client can still read the answer: our side first, then a moment for the other's.
async fn close(io: &SharedIo) {
    io.borrow_mut().strike_after(LINGER);
    let _ = poll_fn(|cx| io.borrow_mut().poll_shutdown(cx)).await;
    let mut left = DRAIN_BYTES * 4;
    poll_fn(|cx| {
        let mut io = io.borrow_mut();
        loop {
            io.read.clear();
            match io.poll_read_more(cx) {
                Poll::Ready(Ok(read @ 1..)) if left > read => left -= read,
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return io.poll_struck(cx),
            }
        }
    })
    .await;
}
