//! Accepting connections of QUIC on one worker: the same gate, verifier and records as on TCP.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use certs::PeerRefused;
use futures_util::FutureExt as _;
use gateway_audit::record::Stage;
use policy::Refusal;
use quinn::{ConnectionError, Incoming, VarInt};
use tokio::task::spawn_local;

use super::fault::code;
use crate::clock::Clock as _;
use crate::listen::accept::Counted;
use crate::listen::gate::{Gate, Pass, Source};
use crate::listen::{Arrival, Connection, Parameters, Peer, ShownCertificate};
use crate::quic::{Line, Proof};
use crate::snapshot::Door;
use crate::worker::Worker;

/// Accepts for as long as the worker runs.
pub(crate) async fn accept_loop(worker: Rc<Worker>, line: Line, gate: Gate) {
    let line = Rc::new(line);
    while let Some(incoming) = line.endpoint.accept().await {
        if worker.is_draining() {
            // Connections that live go on; whoever comes is told at once to go elsewhere, by TCP perhaps.
            incoming.refuse();
        } else {
            admit(&worker, &line, &gate, incoming);
        }
    }
}

/// Lets a connection begin, asks for a proof of its address, or refuses it.
fn admit(worker: &Rc<Worker>, line: &Rc<Line>, gate: &Gate, incoming: Incoming) {
    let snapshot = worker.snapshot();
    let Some(door) = snapshot.door(&line.listener) else { return incoming.refuse() };
    let limits = &door.listener.limits;
    let address = incoming.remote_address();
    let source = Source::of(address.ip());
    // Whose address is not proved is nobody: no place is taken for it while places are few, nor a record made of it.
    if incoming.may_retry() && gate.is_pressed(source, limits) {
        worker.metrics.quic.retries.with_label_values(&[&*line.listener]).inc();
        // It was asked whether it may be.
        let _ = incoming.retry();
        return;
    }
    let arrival = Arrival {
        source: address,
        accepted: Instant::now(),
        id: worker.next_id(),
        listener: Arc::clone(&door.listener),
        port: line.port,
        local: incoming.local_ip(),
        proxy: None,
        tunnel: None,
    };
    match gate.enter(source, limits) {
        Ok(pass) => {
            worker.metrics.connections(&arrival.listener.name).inc();
            spawn_local(serve_to_its_end(Rc::clone(worker), Rc::clone(line), arrival, incoming, pass));
        }
        Err(refusal) => {
            incoming.refuse();
            let refused = PeerRefused { refusal, detail: String::new(), device: None };
            worker.refuse_arrival(&arrival, &refused, Stage::Accept);
        }
    }
}

/// One connection, from the handshake to its end.
async fn serve_to_its_end(worker: Rc<Worker>, line: Rc<Line>, arrival: Arrival, incoming: Incoming, mut pass: Pass) {
    let listener = Arc::clone(&arrival.listener);
    let _counted = Counted(worker.metrics.connections(&listener.name));
    let opening = worker.opens();
    let snapshot = worker.snapshot();
    let Some(door) = snapshot.door(&listener.name) else { return incoming.refuse() };
    let now_ns = worker.clock.now().unix_ns;
    let shaking = handshake(&line, door, incoming, now_ns);
    let outcome = match tokio::time::timeout(listener.limits.handshake_timeout, shaking).await {
        Ok(outcome) => outcome,
        Err(_) => Err(refused(Refusal::HandshakeTimeout, String::new())),
    };
    pass.end_handshake();
    let outcome = outcome.and_then(|(quic, shown, parameters)| {
        // Whoever is refused here has a connection, and is told that it is over when it is dropped.
        let peer = Peer::new(None, Some(shown), &snapshot)?;
        Ok((peer, quic, parameters))
    });
    let (peer, quic, parameters) = match outcome {
        Ok(established) => established,
        Err(refused) => {
            worker.refuse_arrival(&arrival, &refused, Stage::Handshake);
            return;
        }
    };
    worker.metrics.handshake(&listener.name, "ok");
    let connection = Connection::new(Rc::clone(&worker), arrival, peer, Some(parameters), (door, &snapshot));
    let _live = worker.live.register(&connection, &snapshot);
    let _present = connection.peer.device().map(|device| worker.present.enter(&device.site));
    drop((snapshot, opening));
    connection.opened();
    let cause = {
        // The library is young: what it panics about is this connection's, whose state goes with it.
        let served = pin!(AssertUnwindSafe(super::serve(&quic, &connection, &line.windows)).catch_unwind());
        match connection.control.run(served).await {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(refusal))) | Err(refusal) => Some(refusal),
            Ok(Err(_)) => {
                tracing::error!(listener = %listener.name, "HTTP/3 panicked: its connection is ended");
                worker.metrics.quic.panics.with_label_values(&[&listener.name]).inc();
                Some(Refusal::InternalError)
            }
        }
    };
    quic.close(VarInt::from_u32(code::NO_ERROR), b"");
    connection.closed(cause);
}

fn refused(refusal: Refusal, detail: String) -> PeerRefused {
    PeerRefused { refusal, detail, device: None }
}

/// Runs the handshake and reads who is there.
async fn handshake(
    line: &Line,
    door: &Door,
    incoming: Incoming,
    now_unix_ns: i64,
) -> Result<(quinn::Connection, ShownCertificate, Parameters), PeerRefused> {
    if now_unix_ns < 0 {
        // No certificate is valid then, and the library's ticket keys cannot be asked without a panic.
        incoming.refuse();
        return Err(refused(Refusal::ClockUnsynchronised, "the clock is before 1970".to_owned()));
    }
    let Some(tls) = door.tls.quic() else {
        incoming.refuse();
        return Err(refused(Refusal::Draining, String::new()));
    };
    let proof = Arc::<Proof>::default();
    let shaken = match line.accept(incoming, tls, &door.listener.limits, &proof) {
        Ok(connecting) => connecting.await,
        Err(error) => Err(error),
    };
    match (shaken, proof.take()) {
        (_, Some(Err(refused))) => Err(refused),
        (Ok(quic), Some(Ok((shown, parameters)))) => Ok((quic, shown, parameters)),
        (Ok(_), None) => Err(refused(Refusal::HandshakeFailed, "the handshake proved nobody".to_owned())),
        (Err(ConnectionError::TimedOut), _) => Err(refused(Refusal::HandshakeTimeout, String::new())),
        (Err(error), _) => Err(refused(Refusal::HandshakeFailed, error.to_string())),
    }
}
