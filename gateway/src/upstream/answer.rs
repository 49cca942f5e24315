//! A backend's answer, and its body.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Response;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::backend::Visit;
use super::body::Progress;
use super::h1::H1;
use super::headers;
use super::watch::Watch;
use crate::body::BodyError;

/// An answer whose head is here.
#[derive(Debug)]
pub struct Answer {
    /// The answer, its fields cleaned.
    pub response: Response<UpstreamBody>,
    /// Host and port of the backend that gave it.
    pub backend: Arc<str>,
    /// How it came about.
    pub timings: Timings,
}

/// How an answer came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// From the call to the answer's head, everything included.
    pub head: Duration,
    /// Of that, opening connections.
    pub connect: Duration,
    /// How often the request was sent, at least 1.
    pub attempts: u8,
    /// The answer came over a connection that had carried others before.
    pub reused: bool,
}

/// The body of a backend's answer. On HTTP/1.1 reading it drives the connection; dropping it early closes that.
pub struct UpstreamBody(Source);

enum Source {
    /// All of it has arrived.
    Whole(Bytes),
    H1(H1Source),
    H2(Box<H2Source>),
    /// Some of it was read ahead.
    Ahead {
        read: Bytes,
        rest: Box<UpstreamBody>,
    },
}

struct H1Source {
    /// Taken out when the exchange is over.
    connection: Option<Box<H1>>,
    visit: Visit,
    /// The status says that the backend serves.
    good: bool,
    progress: Option<Rc<Progress>>,
    moved: bool,
    /// It is a tunnel, through which nothing may pass for so long.
    tunnel: Option<Duration>,
}

struct H2Source {
    incoming: Incoming,
    visit: Visit,
    good: bool,
    /// The backend's part is over, and it was told how.
    told: bool,
    idle: Duration,
    watch: Option<Watch>,
    progress: Option<Rc<Progress>>,
    moved: bool,
}

impl std::fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamBody").finish_non_exhaustive()
    }
}

impl UpstreamBody {
    pub(super) fn over_h1(
        mut connection: Box<H1>,
        visit: Visit,
        good: bool,
        (progress, tunnel): (Option<Rc<Progress>>, Option<Duration>),
    ) -> Self {
        // A small answer came with its head: the connection is free before the answer is forwarded.
        let whole = connection.take_whole();
        if good && whole.is_some() {
            visit.succeeded();
        }
        let mut source = H1Source { connection: Some(connection), visit, good, progress, moved: true, tunnel };
        source.release();
        match whole {
            Some(bytes) => Self(Source::Whole(bytes)),
            None => Self(Source::H1(source)),
        }
    }

    /// The body, where all of it has arrived.
    #[must_use]
    pub fn whole(&self) -> Option<&Bytes> {
        match &self.0 {
            Source::Whole(bytes) => Some(bytes),
            Source::H1(_) | Source::H2(_) | Source::Ahead { .. } => None,
        }
    }

    /// Reads on until the body ends or more than `most` bytes of it are here. Whoever reads it later gets all of it, but for
    /// trailers of a body that ends.
    ///
    /// # Errors
    /// [`BodyError`] if it ends early.
    pub async fn read_ahead(self, most: usize) -> Result<Self, BodyError> {
        if self.whole().is_some() {
            return Ok(self);
        }
        let mut rest = self;
        let mut read = BytesMut::new();
        while read.len() <= most {
            let Some(frame) = poll_fn(|cx| Pin::new(&mut rest).poll_frame(cx)).await else {
                return Ok(Self(Source::Whole(read.freeze())));
            };
            if let Ok(data) = frame?.into_data() {
                read.extend_from_slice(&data);
            }
        }
        Ok(Self(Source::Ahead { read: read.freeze(), rest: Box::new(rest) }))
    }

    /// Moves what the client sends on to the backend, without taking anything from it.
    ///
    /// # Errors
    /// [`BodyError`] if the client's side has broken.
    pub(crate) fn poll_onward(&mut self, cx: &Context<'_>) -> Result<(), BodyError> {
        match &mut self.0 {
            Source::H1(H1Source { connection: Some(connection), moved, progress, .. }) => {
                connection.poll_onward(cx)?;
                *moved |= progress.as_ref().is_some_and(|progress| progress.moved.take());
                Ok(())
            }
            Source::H1(_) | Source::H2(_) | Source::Whole(_) | Source::Ahead { .. } => Ok(()),
        }
    }

    pub(super) fn over_h2(incoming: Incoming, visit: Visit, good: bool, progress: Option<Rc<Progress>>) -> Self {
        let idle = visit.backend.service.idle_timeout;
        let mut source = H2Source { incoming, visit, good, told: false, idle, watch: None, progress, moved: true };
        if source.incoming.is_end_stream() {
            source.tell(None);
        }
        Self(Source::H2(Box::new(source)))
    }
}

impl H1Source {
    /// Gives the connection back if both directions of the exchange are complete.
    fn release(&mut self) {
        if self.connection.as_ref().is_some_and(|connection| connection.is_idle())
            && let Some(connection) = self.connection.take()
        {
            self.visit.backend.put_idle(connection);
        }
    }

    /// The backend's part is over: well, or why not.
    fn tell(&self, broken: Option<&BodyError>) {
        match broken {
            None if self.good => self.visit.succeeded(),
            Some(BodyError::Broken(_)) => self.visit.failed(BROKEN_BODY),
            // Not the backend's doing, or it was told by its status.
            None | Some(BodyError::Refused(_) | BodyError::Idle) => {}
        }
    }

    fn poll_frame(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
        let frame = match connection.poll_frame(cx) {
            Poll::Ready(frame) => {
                self.moved = true;
                let is_over = connection.announced() == Some(0);
                let frame = frame.map(|frame| {
                    // A request body that turned bad ends the answer too, and is then the reason.
                    frame.map_err(|error| match self.progress.as_ref().and_then(|p| p.failed.borrow().clone()) {
                        Some(ours) => ours,
                        None => {
                            self.tell(Some(&error));
                            error
                        }
                    })
                });
                if is_over && !matches!(frame, Some(Err(_))) {
                    self.tell(None);
                }
                frame
            }
            Poll::Pending => {
                self.moved |= self.progress.as_ref().is_some_and(|progress| progress.moved.take());
                if std::mem::take(&mut self.moved) {
                    let service = self.visit.backend.service.idle_timeout;
                    let has_ended = self.progress.as_ref().is_some_and(|progress| progress.ended.get());
                    let idle = self.tunnel.map_or(service, |idle| if has_ended { idle.min(HALF_CLOSED) } else { idle });
                    connection.set_deadline(Instant::now() + idle);
                }
                std::task::ready!(connection.poll_deadline(cx));
                if self.tunnel.is_some() {
                    return Poll::Ready(Some(Err(BodyError::Idle)));
                }
                // A client that stopped sending keeps the backend waiting as well.
                if self.progress.as_ref().is_none_or(|progress| progress.ended.get()) {
                    self.visit.failed(SILENT_BODY);
                }
                Some(Err(silence()))
            }
        };
        self.release();
        Poll::Ready(frame)
    }
}

impl Drop for H1Source {
    /// The last frame may have been taken without asking for the end behind it.
    fn drop(&mut self) {
        if self.connection.as_mut().is_some_and(|connection| connection.settle()) {
            self.release();
        }
    }
}

impl H2Source {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
            self.moved = true;
            let ours = self.progress.as_ref().is_some_and(|progress| progress.failed.borrow().is_some());
            match &frame {
                Some(Err(_)) if !ours => self.tell(Some(BROKEN_BODY)),
                None => self.tell(None),
                Some(Ok(_)) if self.incoming.is_end_stream() => self.tell(None),
                Some(_) => {}
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| blame(self.progress.as_deref(), &error))));
        }
        self.moved |= self.progress.as_ref().is_some_and(|progress| progress.moved.take());
        let watch = match &mut self.watch {
            Some(watch) => {
                if self.moved {
                    watch.set(Instant::now() + self.idle);
                }
                watch
            }
            none => none.insert(Watch::new(Instant::now() + self.idle)),
        };
        self.moved = false;
        std::task::ready!(watch.poll(cx));
        if self.progress.as_ref().is_none_or(|progress| progress.ended.get()) {
            self.tell(Some(SILENT_BODY));
        }
        Poll::Ready(Some(Err(silence())))
    }

    fn tell(&mut self, broken: Option<&str>) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        match broken {
            None if self.good => self.visit.succeeded(),
            Some(why) => self.visit.failed(why),
            None => {}
        }
    }
}

/// How long a backend may still say nothing through a tunnel whose client has ended its side.
const HALF_CLOSED: Duration = Duration::from_secs(10);

/// Why a backend whose answer had begun counts as failed.
const BROKEN_BODY: &str = "broken-body";
const SILENT_BODY: &str = "silent-body";

/// A request body that turned bad ends the answer too, and is then the reason.
fn blame(progress: Option<&Progress>, error: &hyper::Error) -> BodyError {
    progress.and_then(|progress| progress.failed.borrow().clone()).unwrap_or_else(|| broken(error))
}

fn broken(error: &hyper::Error) -> BodyError {
    let mut text = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        text.push_str(": ");
        text.push_str(&source.to_string());
    }
    BodyError::Broken(text)
}

fn silence() -> BodyError {
    BodyError::Broken("the backend fell silent".into())
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut polled = match &mut self.0 {
            Source::Whole(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Source::Whole(bytes) => return Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Source::H1(h1) => h1.poll_frame(cx),
            Source::H2(h2) => h2.poll_frame(cx),
            Source::Ahead { read, .. } if !read.is_empty() => {
                return Poll::Ready(Some(Ok(Frame::data(std::mem::take(read)))));
            }
            Source::Ahead { rest, .. } => return Pin::new(&mut **rest).poll_frame(cx),
        };
        if let Poll::Ready(Some(Ok(frame))) = &mut polled
            && let Some(trailers) = frame.trailers_mut()
        {
            headers::clean_trailers(trailers);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Whole(bytes) => bytes.is_empty(),
            Source::H1(h1) => h1.connection.is_none(),
            Source::H2(h2) => h2.incoming.is_end_stream(),
            Source::Ahead { read, rest } => read.is_empty() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::H1(h1) => h1
                .connection
                .as_ref()
                .map_or(Some(0), |connection| connection.announced())
                .map_or_else(SizeHint::default, SizeHint::with_exact),
            Source::H2(h2) => h2.incoming.size_hint(),
            Source::Ahead { read, rest } => {
                let whole = rest.size_hint().exact().map(|left| left + read.len() as u64);
                whole.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}
