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
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

use super::arrival::{Arrival, Connection};
use super::gate::{Gate, Pass};
use super::tls::{Arrived, Established};
use super::{h1, h2};
use crate::clock::Clock as _;
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
pub async fn accept_loop(worker: Rc<Worker>, name: Arc<str>, socket: TcpListener) {
    let gate = Rc::new(Gate::default());
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
        let arrival = Arrival { source, accepted: Instant::now(), id: worker.next_id(), listener, port };
        match gate.enter(source.ip(), &arrival.listener.limits) {
            Ok(pass) => {
                worker.metrics.connections(&arrival.listener.name).inc();
                spawn_local(serve(Rc::clone(&worker), arrival, stream, pass));
            }
            Err(refusal) => {
                drop(stream);
                let refused = PeerRefused { refusal, detail: String::new(), device: None };
                worker.refuse_arrival(&arrival, &refused, Stage::Accept);
            }
        }
    }
}

/// One connection, from the handshake to its end.
async fn serve(worker: Rc<Worker>, arrival: Arrival, stream: TcpStream, mut pass: Pass) {
    let listener = Arc::clone(&arrival.listener);
    let _counted = Counted(worker.metrics.connections(&listener.name));
    let opening = worker.opens();
    let _ = stream.set_nodelay(true);
    let snapshot = worker.snapshot();
    let Some(door) = snapshot.door(&listener.name) else { return };
    let handshake = door.tls.handshake(stream, worker.clock.now().unix_ns);
    let outcome = match tokio::time::timeout(listener.limits.handshake_timeout, handshake).await {
        Ok(outcome) => outcome,
        Err(_) => Err(PeerRefused { refusal: Refusal::HandshakeTimeout, detail: String::new(), device: None }),
    };
    pass.end_handshake();
    let Established { stream, peer, chain, parameters } = match outcome {
        Ok(Arrived::Peer(established)) => *established,
        Ok(Arrived::Validated) => {
            worker.metrics.handshake(&listener.name, "acme-validation");
            tracing::info!(listener = %listener.name, source = %arrival.source, "answered a validation of ACME");
            return;
        }
        Err(refused) => {
            worker.refuse_arrival(&arrival, &refused, Stage::Handshake);
            return;
        }
    };
    worker.metrics.handshake(&listener.name, "ok");
    let is_h2 = parameters.is_h2;
    let connection = Connection::new(Rc::clone(&worker), arrival, peer, chain, parameters, (door, &snapshot));
    let _live = worker.live.register(&connection, &snapshot);
    drop((snapshot, opening));
    connection.opened();
    let cause = if is_h2 {
        let served = pin!(h2::serve(Box::new(stream), &connection));
        match connection.control.run(served).await {
            Ok(Ok(())) => None,
            Ok(Err(refusal)) | Err(refusal) => Some(refusal),
        }
    } else {
        let served = pin!(h1::serve(Box::new(stream), &connection));
        connection.control.run(served).await.err()
    };
    connection.closed(cause);
}

struct Counted(prometheus::IntGauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
