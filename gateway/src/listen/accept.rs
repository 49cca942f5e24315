//! Accepting connections on one worker.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use certs::PeerRefused;
use gateway_audit::record::Stage;
use policy::Refusal;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

use super::arrival::{Arrival, Connection};
use super::gate::{Gate, Pass, Source};
use super::peer::Peer;
use super::proxied::{self, Before};
use super::tls::{Arrived, Protocol as Spoken};
use super::{h1, h2};
use crate::clock::Clock as _;
use crate::config::{ProxyProtocol, is_among};
use crate::worker::Worker;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;
/// Pause after the system refuses a connection for want of something, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Opens a listening socket that other workers share by `SO_REUSEPORT`.
///
/// # Errors
/// The system's, naming the address by the caller.
pub fn bind(address: SocketAddr) -> std::io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until the worker drains.
pub(crate) async fn accept_loop(worker: Rc<Worker>, name: Arc<str>, socket: TcpListener, gate: Gate) {
    let mut drain = worker.drain_signal();
    // A passed socket need not be where the configuration says, and a port of 0 is never the true one.
    let port = socket.local_addr().map_or(0, |address| address.port());
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.wait() => return,
            accepted = socket.accept() => accepted,
        };
        let (stream, source) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(listener = %name, %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let snapshot = worker.snapshot();
        let Some(door) = snapshot.door(&name) else { continue };
        let listener = Arc::clone(&door.listener);
        let arrival = Arrival {
            source,
            accepted: Instant::now(),
            id: worker.next_id(),
            listener,
            port,
            local: stream.local_addr().ok().map(|address| address.ip()),
            proxy: None,
            tunnel: None,
        };
        let _ = stream.set_nodelay(true);
        serve(&worker, arrival, stream, &gate);
    }
}

/// A stream that a peer opened, by whatever carries it.
pub(crate) trait Carrier: AsyncRead + AsyncWrite + Unpin + 'static {
    /// Whether the first byte is that of a TLS handshake (RFC 8446 5.1); it is not taken away.
    ///
    /// # Errors
    /// The carrier's; also where the stream ends before its first byte.
    fn begins_with_tls(&mut self) -> impl Future<Output = std::io::Result<bool>>;
}

/// The content type of a TLS handshake message.
pub(crate) const TLS_HANDSHAKE: u8 = 0x16;

impl Carrier for TcpStream {
    async fn begins_with_tls(&mut self) -> std::io::Result<bool> {
        let mut first = [0];
        match self.peek(&mut first).await? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(first == [TLS_HANDSHAKE]),
        }
    }
}

/// Lets a stream in and serves it in a task of its own, or refuses it.
pub(crate) fn serve<S: Carrier>(worker: &Rc<Worker>, arrival: Arrival, stream: S, gate: &Gate) {
    let address = arrival.source.ip();
    let limits = &arrival.listener.limits;
    let is_proxy = |proxies: &ProxyProtocol| is_among(&proxies.from, address);
    let entered = match (&arrival.tunnel, &arrival.listener.proxy_protocol) {
        (Some(_), _) => gate.enter(Source::inside(address), limits),
        (None, Some(proxies)) if is_proxy(proxies) => gate.enter_through_proxy(limits),
        (None, _) => gate.enter(Source::of(address), limits),
    };
    match entered {
        Ok(pass) => {
            worker.metrics.connections(&arrival.listener.name).inc();
            spawn_local(serve_to_its_end(Rc::clone(worker), arrival, stream, pass));
        }
        Err(refusal) => {
            drop(stream);
            let refused = PeerRefused { refusal, detail: String::new(), device: None };
            worker.refuse_arrival(&arrival, &refused, Stage::Accept);
        }
    }
}

/// One connection, from the handshake to its end.
async fn serve_to_its_end<S: Carrier>(worker: Rc<Worker>, mut arrival: Arrival, mut stream: S, mut pass: Pass) {
    let listener = Arc::clone(&arrival.listener);
    let _counted = Counted(worker.metrics.connections(&listener.name));
    let opening = worker.opens();
    let snapshot = worker.snapshot();
    let Some(door) = snapshot.door(&listener.name) else { return };
    let arriving =
        async {
            if let Some(proxies) = &listener.proxy_protocol {
                let before = proxied::receive(proxies, &mut arrival, &mut stream).await?;
                if !pass.is_known() {
                    pass.comes_from(Source::of(arrival.source.ip()), &listener.limits)
                        .map_err(|refusal| PeerRefused { refusal, detail: String::new(), device: None })?;
                }
                if before == Before::Check {
                    return Ok(Arrived::Check);
                }
            }
            door.tls.arrive(stream, listener.speaks_tls(), worker.clock.now().unix_ns).await
        };
    let outcome = match tokio::time::timeout(listener.limits.handshake_timeout, arriving).await {
        Ok(outcome) => outcome,
        Err(_) => Err(PeerRefused { refusal: Refusal::HandshakeTimeout, detail: String::new(), device: None }),
    };
    pass.end_handshake();
    let outcome = outcome.and_then(|arrived| match arrived {
        Arrived::Validated => Ok(Err("acme-validation")),
        Arrived::Check => Ok(Err("proxy-check")),
        Arrived::Peer(established) => {
            let peer = Peer::new(arrival.tunnel.as_deref(), established.shown, &snapshot)?;
            Ok(Ok((peer, established.stream, established.parameters)))
        }
    });
    let (peer, stream, parameters) = match outcome {
        Ok(Ok(established)) => established,
        Ok(Err(what)) => {
            worker.metrics.handshake(&listener.name, what);
            tracing::debug!(listener = %listener.name, source = %arrival.source, what, "a connection was no client's");
            return;
        }
        Err(refused) => {
            worker.refuse_arrival(&arrival, &refused, Stage::Handshake);
            return;
        }
    };
    worker.metrics.handshake(&listener.name, "ok");
    let is_stream = listener.stream(arrival.port).is_some();
    let is_h2 = parameters.as_ref().is_some_and(|parameters| parameters.protocol == Spoken::H2);
    let connection = Connection::new(Rc::clone(&worker), arrival, peer, parameters, (door, &snapshot));
    let _live = worker.live.register(&connection, &snapshot);
    let _present = connection.peer.device().map(|device| worker.present.enter(&device.site));
    drop((snapshot, opening));
    connection.opened();
    if let Err(refusal) = connection.takes_version(&listener) {
        connection.refused(refusal, "TLS 1.2, and the site is not among `tls12_sites` of the listener");
        connection.closed(Some(refusal));
        return;
    }
    let cause = if is_stream {
        crate::exchange::serve_stream(stream, &connection).await
    } else if is_h2 {
        let served = pin!(h2::serve(stream, &connection));
        match connection.control.run(served).await {
            Ok(Ok(())) => None,
            Ok(Err(refusal)) | Err(refusal) => Some(refusal),
        }
    } else {
        let served = pin!(h1::serve(stream, &connection));
        connection.control.run(served).await.err()
    };
    connection.closed(cause);
}

/// A connection that is counted until this is dropped.
pub(super) struct Counted(pub(super) prometheus::IntGauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
