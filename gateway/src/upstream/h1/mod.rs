//! HTTP/1.1 towards a backend: our own codec, driven by whoever uses the connection.
//!
//! There is no task per connection. The request's task writes the request and reads the answer's head, then the
//! answer's body goes on reading. No wake crosses tasks, and a connection that nobody uses does nothing.
//! `gateway/decisions/` says why the codec is our own.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::Frame;
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;

use super::body::{OutgoingBody, Progress};
use super::client::Client;
use super::connect::Stream;
use super::deadline::Deadline;
use super::error::Failure;
use super::framing::{self, AnswerFraming};
use super::relay::Relay;
use super::watch::Watch;
use crate::body::BodyError;
use crate::config::Service;
use crate::listen::{ChunkedDecoder, Piece};
use crate::websocket;
use head::{AnswerHead, HeadScan};
use send::Sending;

mod head;
mod send;

/// Bytes read at once, at least; a head and a small body.
const READ_SIZE: usize = 8 * 1024;
/// Interim answers before the one that counts, at most: each costs the worker time and the client patience.
const MAX_INTERIM: u32 = 32;
/// Bytes read at once, at most.
const LONG_READ_SIZE: usize = 64 * 1024;

/// Where the body of the answer stands.
#[derive(Debug)]
enum AnswerBody {
    Done,
    Length(u64),
    Chunked(ChunkedDecoder),
    UntilClose,
}

/// One connection.
pub(super) struct H1 {
    stream: Stream,
    relay: Relay,
    watch: Watch,
    /// Bytes read and not yet understood.
    read: BytesMut,
    sending: Sending,
    answer: AnswerBody,
    /// Another exchange may follow this one.
    keep_alive: bool,
    /// It has carried a whole exchange.
    pub(super) used: bool,
}

/// A request that got no answer over this connection.
pub(super) struct Unanswered {
    pub(super) failure: Failure,
    /// The request itself, where not a byte of it was sent.
    pub(super) unsent: Option<Box<Request<OutgoingBody>>>,
    /// The same, where it was sent and the connection ended before a byte of an answer. Its body may be gone.
    pub(super) silent: Option<Box<Request<OutgoingBody>>>,
}

impl Unanswered {
    pub(super) fn of(failure: Failure) -> Self {
        Self { failure, unsent: None, silent: None }
    }
}

impl H1 {
    /// Takes a fresh byte stream.
    pub(super) fn over(stream: Stream) -> Self {
        Self {
            stream,
            relay: Relay::new(),
            watch: Watch::new(Instant::now() + Duration::from_secs(60)),
            read: BytesMut::new(),
            sending: Sending::default(),
            answer: AnswerBody::Done,
            keep_alive: true,
            used: false,
        }
    }

    /// Whether the exchange is over, both ways, and another may follow.
    pub(super) fn is_idle(&self) -> bool {
        self.keep_alive && matches!(self.answer, AnswerBody::Done) && self.read.is_empty() && self.sending.is_whole()
    }

    /// Nobody uses the connection until it is taken again.
    pub(super) fn rest(&mut self) {
        self.used = true;
        self.relay.detach();
    }

    /// The address at the other end.
    pub(super) const fn peer(&self) -> Option<SocketAddr> {
        self.stream.peer()
    }

    /// Whose connection the backend was told that it is.
    pub(super) const fn client(&self) -> Option<Client> {
        self.stream.client()
    }

    /// Looks at an idle connection: `false` if it has ended or carries bytes that nobody asked for.
    pub(super) fn is_sound(&mut self) -> bool {
        self.read.is_empty() && self.stream.is_quiet()
    }

    /// Sends a request and waits for the answer's head. The body, if there is one, is read with [`H1::poll_frame`].
    pub(super) async fn exchange(
        &mut self,
        request: Request<OutgoingBody>,
        expects_continue: bool,
        progress: Option<&Progress>,
        service: &Service,
        start: Instant,
    ) -> Result<Response<()>, Unanswered> {
        if self.used && !self.is_sound() {
            let failure = Failure::Closed("the idle connection had ended".into());
            return Err(Unanswered { failure, unsent: Some(Box::new(request)), silent: None });
        }
        let (parts, body) = request.into_parts();
        self.sending.begin(&parts, body, expects_continue);
        let mut received = false;
        let mut scan = HeadScan::default();
        let mut deadline = Deadline::new(progress, service, start);
        let head = poll_fn(|cx| self.poll_head(cx, &mut scan, &mut received, &mut deadline)).await;
        let answer = head.and_then(|head| self.begin_answer(&parts, head));
        answer.map_err(|failure| self.unanswered(failure, received, parts))
    }

    fn poll_head(
        &mut self,
        cx: &Context<'_>,
        scan: &mut HeadScan,
        received: &mut bool,
        deadline: &mut Deadline<'_>,
    ) -> Poll<Result<AnswerHead, Failure>> {
        let Self { stream, relay, watch, read, sending, .. } = self;
        let cx = &mut Context::from_waker(relay.attach(cx));
        loop {
            if let Poll::Ready(Err(error)) = sending.poll(stream, cx) {
                return Poll::Ready(Err(Failure::RequestBody(error)));
            }
            match scan.take(read)? {
                // 100 releases the body; the others are for nobody. Each waits within the head's deadline.
                Some(head) if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS => {
                    if head.status == StatusCode::CONTINUE {
                        sending.go();
                    }
                    if scan.count_interim() > MAX_INTERIM {
                        return Poll::Ready(Err(Failure::Malformed("too many interim answers".into())));
                    }
                    continue;
                }
                Some(head) => return Poll::Ready(Ok(head)),
                None => {}
            }
            match poll_read_more(stream, read, READ_SIZE, cx) {
                Poll::Ready(Ok(1..)) => *received = true,
                Poll::Ready(ended) => {
                    let error = sending.broken().or(ended.as_ref().err());
                    let reason = error.map_or_else(|| "without an answer".to_owned(), ToString::to_string);
                    return Poll::Ready(Err(Failure::Closed(reason)));
                }
                Poll::Pending => return deadline.poll(watch, cx).map(Err),
            }
        }
    }

    fn begin_answer(&mut self, asked: &Parts, head: AnswerHead) -> Result<Response<()>, Failure> {
        let AnswerHead { status, version, mut headers, keep_alive } = head;
        if self.sending.is_tunnel() {
            if status == StatusCode::SWITCHING_PROTOCOLS {
                return self.begin_tunnel(asked, version, headers);
            }
            if status.is_success() {
                return Err(Failure::UpgradeAnswer("it answered with success"));
            }
        }
        let framing = framing::check_answer(status, version, &mut headers)?;
        self.sending.answered();
        // An answer that announces a body where none can be may be followed by one.
        let announces = match (status, framing) {
            (StatusCode::NO_CONTENT, AnswerFraming::Length(length)) => length > 0,
            (StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED, AnswerFraming::Chunked) => true,
            _ => false,
        };
        self.keep_alive = keep_alive && !announces;
        let bodiless =
            asked.method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        self.answer = match framing {
            _ if bodiless => AnswerBody::Done,
            AnswerFraming::Length(0) => AnswerBody::Done,
            AnswerFraming::Length(length) => AnswerBody::Length(length),
            AnswerFraming::Chunked => AnswerBody::Chunked(ChunkedDecoder::of_an_answer()),
            AnswerFraming::UntilClose => {
                self.keep_alive = false;
                AnswerBody::UntilClose
            }
        };
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.version_mut() = version;
        *response.headers_mut() = headers;
        Ok(response)
    }

    /// The backend has agreed to another protocol: from here on the connection is the tunnel's.
    fn begin_tunnel(
        &mut self,
        asked: &Parts,
        version: Version,
        mut headers: HeaderMap,
    ) -> Result<Response<()>, Failure> {
        if version != Version::HTTP_11 {
            return Err(Failure::UpgradeAnswer("it answered in HTTP/1.0"));
        }
        websocket::agreed(&asked.headers, &mut headers).map_err(Failure::UpgradeAnswer)?;
        headers.remove(CONTENT_LENGTH);
        self.sending.open();
        self.keep_alive = false;
        self.answer = AnswerBody::UntilClose;
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = headers;
        Ok(response)
    }

    /// Sends what there is of the request, without reading the answer.
    pub(super) fn poll_onward(&mut self, cx: &Context<'_>) -> Result<(), BodyError> {
        let cx = &mut Context::from_waker(self.relay.attach(cx));
        match self.sending.poll(&mut self.stream, cx) {
            Poll::Ready(sent) => sent,
            Poll::Pending => Ok(()),
        }
    }

    fn unanswered(&mut self, failure: Failure, received: bool, parts: Parts) -> Unanswered {
        if received || !matches!(failure, Failure::Closed(_)) {
            return Unanswered::of(failure);
        }
        let body = self.sending.take_body().unwrap_or_else(OutgoingBody::empty);
        let request = Some(Box::new(Request::from_parts(parts, body)));
        if self.sending.has_started() {
            Unanswered { failure, unsent: None, silent: request }
        } else {
            Unanswered { failure, unsent: request, silent: None }
        }
    }

    /// The whole body of the answer, if it came with its head.
    pub(super) fn take_whole(&mut self) -> Option<Bytes> {
        match self.answer {
            AnswerBody::Done => Some(Bytes::new()),
            AnswerBody::Length(length) if length <= self.read.len() as u64 && self.sending.is_whole() => {
                self.answer = AnswerBody::Done;
                Some(self.read.split_to(usize::try_from(length).unwrap_or(usize::MAX)).freeze())
            }
            AnswerBody::Length(_) | AnswerBody::Chunked(_) | AnswerBody::UntilClose => None,
        }
    }

    /// Bytes of the answer's body that are still to come, where the head has said how many.
    pub(super) fn announced(&self) -> Option<u64> {
        match self.answer {
            AnswerBody::Done => Some(0),
            AnswerBody::Length(left) => Some(left),
            AnswerBody::Chunked(_) | AnswerBody::UntilClose => None,
        }
    }

    /// The next frame of the answer's body. What is left of the request's is sent meanwhile.
    pub(super) fn poll_frame(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { stream, relay, read, sending, answer, keep_alive, .. } = self;
        let cx = &mut Context::from_waker(relay.attach(cx));
        if let Poll::Ready(Err(error)) = sending.poll(stream, cx) {
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            match answer {
                AnswerBody::Done => return Poll::Ready(None),
                AnswerBody::Length(_) | AnswerBody::UntilClose if read.is_empty() => {}
                AnswerBody::Length(left) => {
                    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(read.len());
                    *left -= take as u64;
                    if *left == 0 {
                        *answer = AnswerBody::Done;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(read.split_to(take).freeze()))));
                }
                AnswerBody::UntilClose => return Poll::Ready(Some(Ok(Frame::data(read.split().freeze())))),
                AnswerBody::Chunked(decoder) => match decoder.next(read) {
                    Ok(Piece::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Ok(Piece::End(trailers)) => {
                        *answer = AnswerBody::Done;
                        return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                    }
                    Ok(Piece::Pending) => {}
                    Err(_) => return Poll::Ready(Some(Err(broken("the backend's chunks are malformed")))),
                },
            }
            let size = match answer {
                AnswerBody::Length(left) => {
                    usize::try_from(*left).unwrap_or(LONG_READ_SIZE).clamp(READ_SIZE, LONG_READ_SIZE)
                }
                // Most tunnels are idle most of the time, each with its buffer.
                AnswerBody::UntilClose if sending.is_tunnel() => READ_SIZE,
                AnswerBody::Done | AnswerBody::Chunked(_) | AnswerBody::UntilClose => LONG_READ_SIZE,
            };
            match std::task::ready!(poll_read_more(stream, read, size, cx)) {
                Ok(1..) => {}
                Ok(0) if matches!(answer, AnswerBody::UntilClose) => {
                    *answer = AnswerBody::Done;
                    *keep_alive = false;
                }
                Ok(0) => return Poll::Ready(Some(Err(broken("the backend closed before the end")))),
                Err(error) => return Poll::Ready(Some(Err(BodyError::Broken(error.to_string())))),
            }
        }
    }

    /// After the answer's body is gone: whether the end behind its last frame is there already, so that the connection
    /// can carry another exchange.
    pub(super) fn settle(&mut self) -> bool {
        if !matches!(self.answer, AnswerBody::Done) {
            let _: Poll<Option<_>> = self.poll_frame(&Context::from_waker(Waker::noop()));
        }
        self.is_idle()
    }

    /// Moves the deadline for the body's next byte.
    pub(super) fn set_deadline(&mut self, at: Instant) {
        self.watch.set(at);
    }

    /// Ready once the deadline has passed.
    pub(super) fn poll_deadline(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.watch.poll(&mut Context::from_waker(self.relay.attach(cx)))
    }
}

fn broken(text: &str) -> BodyError {
    BodyError::Broken(text.into())
}

/// Reads more bytes; 0 is the end of the stream.
fn poll_read_more(
    stream: &mut Stream,
    read: &mut BytesMut,
    size: usize,
    cx: &mut Context<'_>,
) -> Poll<std::io::Result<usize>> {
    read.reserve(size);
    pin!(stream.read_buf(read)).poll(cx)
}
