//! HTTP/1.1 towards a backend, driven by whoever uses the connection.
//!
//! There is no task per connection: the future that hyper calls `Connection` is polled in the task of the request,
//! first while it waits for the answer's head, then by the answer's body. No wake crosses tasks, and a connection
//! that nobody uses does nothing.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::coop::unconstrained;
use tokio::time::Instant;

use super::body::{Continue, OutgoingBody, Progress};
use super::connect::{Stream, Wire};
use super::error::Failure;
use super::relay::Relay;
use super::watch::Watch;
use crate::config::Service;

/// The longest head of an answer, in bytes.
const MAX_HEAD: usize = 64 * 1024;

type Driver = http1::Connection<TokioIo<Stream>, OutgoingBody>;

/// One connection.
pub(super) struct H1 {
    sender: http1::SendRequest<OutgoingBody>,
    /// Gone once the connection has ended.
    driver: Option<Driver>,
    relay: Relay,
    watch: Watch,
    wire: Rc<Wire>,
    /// It has carried a whole exchange.
    pub(super) used: bool,
}

/// A request that got no answer over this connection.
pub(super) struct Unanswered {
    pub(super) failure: Failure,
    /// The request itself, where not a byte of it was sent.
    pub(super) unsent: Option<Box<Request<OutgoingBody>>>,
    /// Whether the connection ended before a byte of an answer.
    pub(super) silent: bool,
}

impl Unanswered {
    pub(super) fn of(failure: Failure) -> Self {
        Self { failure, unsent: None, silent: false }
    }
}

impl H1 {
    /// Takes a fresh byte stream.
    pub(super) async fn over(stream: Stream) -> Result<Self, Failure> {
        let wire = stream.wire();
        let (sender, driver) = http1::Builder::new()
            .max_header_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Failure::Connect(error.to_string()))?;
        let watch = Watch::new(Instant::now() + std::time::Duration::from_secs(60));
        Ok(Self { sender, driver: Some(driver), relay: Relay::new(), watch, wire, used: false })
    }

    /// Drives the connection as far as it goes. `false` once it has ended.
    fn drive(&mut self, cx: &Context<'_>) -> bool {
        let Some(driver) = &mut self.driver else { return false };
        let mut cx = Context::from_waker(self.relay.attach(cx));
        if Pin::new(driver).poll(&mut cx).is_ready() {
            self.driver = None;
        }
        self.driver.is_some()
    }

    fn poll_watch(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.watch.poll(&mut Context::from_waker(self.relay.attach(cx)))
    }

    /// Whether the exchange is over, both ways, and another may follow.
    pub(super) fn is_idle(&self) -> bool {
        self.driver.is_some() && self.sender.is_ready()
    }

    /// Nobody uses the connection until it is taken again.
    pub(super) fn rest(&mut self) {
        self.used = true;
        self.relay.detach();
    }

    /// Looks at an idle connection: `false` if it has ended or carries bytes that nobody asked for.
    pub(super) fn is_sound(&mut self) -> bool {
        self.wire.probe.set(true);
        let sound = self.drive(&Context::from_waker(Waker::noop()));
        self.relay.detach();
        sound && self.is_idle()
    }

    /// After the answer's body is gone: whether what is left of the exchange is there already, so that the connection
    /// can carry another. hyper closes it otherwise.
    pub(super) fn settle(&mut self) -> bool {
        self.drive(&Context::from_waker(Waker::noop()));
        self.is_idle()
    }

    /// Sends a request and waits for the answer's head.
    ///
    /// The head's deadline runs from the request's last byte; while its body streams, each silence is bounded.
    pub(super) async fn exchange(
        &mut self,
        mut request: Request<OutgoingBody>,
        progress: Option<&Progress>,
        go: Option<&Continue>,
        service: &Service,
        start: Instant,
    ) -> Result<Response<Incoming>, Unanswered> {
        if let Some(go) = go {
            expect_continue(&mut request, go);
        }
        self.wire.received.set(false);
        self.wire.probe.set(self.used);
        let sender = &mut self.sender;
        // What the channel wakes is polled right below.
        let answer = self.relay.muted(|| sender.try_send_request(request));
        // Outside of the cooperative budget: it is polled with a waker that does nothing, and a budget used up would
        // ask that one to wake it. Progress comes from the connection alone.
        let mut answer = pin!(unconstrained(answer));
        let mut deadline = Deadline::new(progress, service, start);
        let result = poll_fn(|cx| {
            let alive = self.drive(cx);
            let mut silent_cx = Context::from_waker(Waker::noop());
            match answer.as_mut().poll(&mut silent_cx) {
                Poll::Ready(result) => return Poll::Ready(Ok(result)),
                Poll::Pending if !alive => {
                    return Poll::Ready(Err(Failure::Closed("without an answer".into())));
                }
                Poll::Pending => {}
            }
            deadline.poll(&mut self.watch, &self.relay, cx).map(Err)
        })
        .await;
        match result {
            Ok(Ok(response)) => {
                if let Some(progress) = progress {
                    progress.answered.set(true);
                }
                Ok(response)
            }
            Ok(Err(mut error)) => {
                let unsent = error.take_message().map(Box::new);
                Err(Unanswered {
                    silent: !self.wire.received.get(),
                    failure: describe(error.error(), progress),
                    unsent,
                })
            }
            Err(failure) => {
                let silent = matches!(failure, Failure::Closed(_)) && !self.wire.received.get();
                Err(Unanswered { silent, ..Unanswered::of(failure) })
            }
        }
    }

    /// Drives the connection for the answer's body: `body` gets what arrives.
    pub(super) fn poll_body<R>(
        &mut self,
        cx: &Context<'_>,
        mut body: impl FnMut(&mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        let mut silent_cx = Context::from_waker(Waker::noop());
        // Taking a frame wakes the connection's side of the channel; it is polled when the next one is wanted.
        if let Poll::Ready(frame) = self.relay.muted(|| body(&mut silent_cx)) {
            return Poll::Ready(frame);
        }
        self.drive(cx);
        self.relay.muted(|| body(&mut silent_cx))
    }

    /// Moves the deadline for the body's next byte.
    pub(super) fn set_deadline(&mut self, at: Instant) {
        self.watch.set(at);
    }

    /// Ready once the deadline has passed.
    pub(super) fn poll_deadline(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.poll_watch(cx)
    }
}

/// Deadlines while there is no answer yet.
pub(super) struct Deadline<'a> {
    progress: Option<&'a Progress>,
    service: &'a Service,
    start: Instant,
    /// Whether the body was still streaming when the deadline was last set; `None` before that.
    streaming: Option<bool>,
}

impl<'a> Deadline<'a> {
    pub(super) fn new(progress: Option<&'a Progress>, service: &'a Service, start: Instant) -> Self {
        Self { progress, service, start, streaming: None }
    }

    pub(super) fn poll(&mut self, watch: &mut Watch, relay: &Relay, cx: &Context<'_>) -> Poll<Failure> {
        let mut cx = Context::from_waker(relay.attach(cx));
        self.poll_plain(watch, &mut cx)
    }

    pub(super) fn poll_plain(&mut self, watch: &mut Watch, cx: &mut Context<'_>) -> Poll<Failure> {
        match self.progress {
            None if self.streaming.is_none() => {
                watch.set(self.start + self.service.response_timeout);
                self.streaming = Some(false);
            }
            Some(progress) if !progress.ended.get() => {
                if progress.moved.take() || self.streaming.is_none() {
                    watch.set(Instant::now() + self.service.idle_timeout);
                    self.streaming = Some(true);
                }
            }
            Some(_) if self.streaming != Some(false) => {
                watch.set(Instant::now() + self.service.response_timeout);
                self.streaming = Some(false);
            }
            None | Some(_) => {}
        }
        watch.poll(cx).map(|()| match self.progress {
            Some(progress) if self.streaming == Some(true) => {
                if progress.starved.get() {
                    Failure::RequestStalled
                } else {
                    Failure::BodyTimeout
                }
            }
            None | Some(_) => Failure::HeadTimeout,
        })
    }
}

fn expect_continue(request: &mut Request<OutgoingBody>, go: &Continue) {
    let go: Arc<AtomicBool> = Arc::clone(go);
    hyper::ext::on_informational(request, move |response| {
        if response.status() == http::StatusCode::CONTINUE {
            go.store(true, Ordering::Relaxed);
        }
    });
}

/// What hyper's error means. A body that turned bad shows as an error of the connection, so it is asked first.
pub(super) fn describe(error: &hyper::Error, progress: Option<&Progress>) -> Failure {
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
