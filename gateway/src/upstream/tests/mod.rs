//! Forwarding against backends that are scripts of bytes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

use policy::judge::{self, DecisionCache, Judge, JudgeOptions, PolicySource};
use policy::{Action, AuthenticationLevel, DeviceId, EntityVersions, Subject};
use smallvec::SmallVec;

use super::*;
use crate::body::FullBody;
use crate::config::Backend;

mod bodies;
mod endurance;
mod over_h2;
mod over_tls;
mod reuse;
mod several;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

thread_local! {
    /// A script of this thread's test has panicked.
    static FAILED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a test as a worker would: one thread, local tasks.
fn on_worker(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(20), test).await.expect("the test hangs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    });
    assert!(!FAILED.replace(false), "a backend saw something wrong");
}

/// A connection as the backend sees it.
struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Peer {
    /// Reads until `end` has come, and returns what came up to its end; whatever comes before the peer leaves, if it does.
    async fn read_to(&mut self, end: &[u8]) -> String {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                let read: Vec<u8> = self.buffer.drain(..at + end.len()).collect();
                return String::from_utf8(read).unwrap();
            }
            let mut chunk = [0; 65536];
            match self.stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return String::from_utf8(std::mem::take(&mut self.buffer)).unwrap(),
                Ok(length) => self.buffer.extend_from_slice(&chunk[..length]),
            }
        }
    }

    async fn head(&mut self) -> String {
        self.read_to(b"\r\n\r\n").await
    }

    async fn write(&mut self, bytes: &[u8]) {
        // The gateway may have gone; what it got is checked where it answers.
        drop(self.stream.write_all(bytes).await);
        // So that each write is a read of its own.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    /// Waits until the gateway closes, and returns what still came.
    async fn closed(&mut self) -> String {
        let mut rest = std::mem::take(&mut self.buffer);
        drop(self.stream.read_to_end(&mut rest).await);
        String::from_utf8(rest).unwrap()
    }

    fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// A backend: `script` runs for each connection, with its number. Counts connections.
async fn backend<F, S>(script: F) -> (SocketAddr, Rc<Cell<usize>>)
where
    F: Fn(usize, Peer) -> S + 'static,
    S: Future<Output = ()> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Rc::new(Cell::new(0));
    let counted = Rc::clone(&count);
    spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let index = counted.get();
            counted.set(index + 1);
            let script = spawn_local(script(index, Peer { stream, buffer: Vec::new() }));
            spawn_local(async move {
                if script.await.is_err_and(|error| error.is_panic()) {
                    FAILED.set(true);
                }
            });
        }
    });
    (address, count)
}

fn service(addresses: &[SocketAddr]) -> Service {
    Service {
        name: ServiceName::new("fhir").unwrap(),
        backends: addresses
            .iter()
            .map(|address| Backend {
                authority: address.to_string(),
                host: address.ip().to_string(),
                address: Some(*address),
                port: address.port(),
            })
            .collect(),
        tls: None,
        http2: false,
        proxy_protocol: false,
        idle_connections: 8,
        connect_timeout: Duration::from_secs(1),
        response_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_millis(300),
        keepalive: Duration::from_secs(30),
        identity_audience: "fhir".into(),
        resilience: crate::config::Resilience::default(),
    }
}

fn plain(service: &Service) -> Upstreams {
    Upstreams::new([(service, None)], Arc::default()).unwrap()
}

fn ours() -> headers::Ours {
    headers::Ours {
        client_cert: headers::client_cert(b"certificate"),
        request_id: HeaderValue::from_static("id-1"),
        forwarded: headers::forwarded([192, 0, 2, 1].into(), true, "gateway:8443", "gw1").unwrap(),
        identity: HeaderValue::from_static("a.b.c"),
    }
}

/// A permit as only the judge makes one.
fn permit() -> Permit {
    let text = "permit(principal, action, resource);".to_owned();
    let judge = Judge::load(vec![PolicySource { file: "all".to_owned(), text }], JudgeOptions::default()).unwrap();
    let device = DeviceId { site: "s".parse().unwrap(), device: "d".parse().unwrap() };
    let subject = Subject {
        party: policy::Party::Device { device, user: None },
        roles: SmallVec::new(),
        authentication_level: AuthenticationLevel::Device,
        versions: EntityVersions::default(),
        acting_for: None,
    };
    let context = judge::Context {
        transport: judge::Transport::Tls,
        tls_version: None,
        source: std::net::Ipv4Addr::LOCALHOST.into(),
        time: 0,
        authentication_age_ns: None,
        method: None,
        operation: None,
        resource_type: None,
        patients: &(),
    };
    let (service, class, route) = ("fhir".parse().unwrap(), "c".parse().unwrap(), "r".parse().unwrap());
    let request = judge::Request { action: Action::Read, service: &service, class: &class, route: &route, context };
    let mut cache = DecisionCache::new(1, std::hash::RandomState::new());
    judge.decide(&mut cache, &subject, &request).unwrap()
}

fn request(method: Method, body: &'static str) -> Request<FullBody> {
    let body = FullBody::new(Bytes::from_static(body.as_bytes()));
    Request::builder().method(method).uri("/fhir/Patient/1?_format=json").header("host", "gateway").body(body).unwrap()
}

fn get() -> Request<FullBody> {
    request(Method::GET, "")
}

async fn send<B>(upstreams: &Upstreams, request: Request<B>) -> Result<Answer, UpstreamError>
where
    B: Body<Data = Bytes, Error = BodyError> + 'static,
{
    upstreams.send(permit(), &ServiceName::new("fhir").unwrap(), request, ours(), Asked::default()).await
}

/// The whole answer, as a client gets it.
async fn read(answer: Answer) -> (u16, HeaderMap, Result<(String, Option<HeaderMap>), BodyError>) {
    let (parts, body) = answer.response.into_parts();
    let collected = body.collect().await.map(|collected| {
        let trailers = collected.trailers().cloned();
        (String::from_utf8(collected.to_bytes().to_vec()).unwrap(), trailers)
    });
    (parts.status.as_u16(), parts.headers, collected)
}

async fn text(answer: Answer) -> String {
    read(answer).await.2.unwrap().0
}

/// A body whose frames the test hands out one by one.
#[derive(Clone, Default)]
struct Fed(Rc<RefCell<Feed>>);

#[derive(Default)]
struct Feed {
    frames: VecDeque<Result<Frame<Bytes>, BodyError>>,
    ended: bool,
    waker: Option<std::task::Waker>,
    taken: usize,
}

impl Fed {
    fn push(&self, frame: Result<Frame<Bytes>, BodyError>) {
        let mut feed = self.0.borrow_mut();
        feed.frames.push_back(frame);
        feed.wake();
    }

    fn data(&self, text: &'static str) {
        self.push(Ok(Frame::data(Bytes::from_static(text.as_bytes()))));
    }

    fn end(&self) {
        let mut feed = self.0.borrow_mut();
        feed.ended = true;
        feed.wake();
    }

    /// How often a frame was taken.
    fn taken(&self) -> usize {
        self.0.borrow().taken
    }
}

impl Feed {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Body for Fed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut feed = self.0.borrow_mut();
        if let Some(frame) = feed.frames.pop_front() {
            feed.taken += 1;
            return Poll::Ready(Some(frame));
        }
        if feed.ended {
            return Poll::Ready(None);
        }
        feed.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

fn post(body: &Fed) -> Request<Fed> {
    Request::builder().method(Method::POST).uri("/fhir/Patient").body(body.clone()).unwrap()
}

fn errors(upstreams: &Upstreams) -> Vec<(&'static str, u64)> {
    upstreams
        .counters()
        .iter()
        .flat_map(|counters| counters.errors().filter(|(_, n)| *n > 0).collect::<Vec<_>>())
        .collect()
}
