//! The workers' threads.

use std::collections::HashMap;
use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use policy::Refusal;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, LocalSet, spawn_local};

use crate::audit::{Audit as Log, Lane};
use crate::listen::{Gate, accept_loop, accept_quic};
use crate::quic;
use crate::tunnels::{Line, Share, drive};
use crate::worker::{Shared, Worker};

/// A pause between two looks at whether the last connection has gone.
const DRAIN_LOOK: Duration = Duration::from_millis(10);
/// What was written into tunnels gets so long to arrive.
const FLUSH: Duration = Duration::from_secs(2);
/// Cut connections get so long to write their last records.
const CUT_GRACE: Duration = Duration::from_millis(200);

/// Which workers serve: each writes of itself, readiness reads.
#[derive(Debug)]
pub(super) struct Roster(Box<[AtomicBool]>);

impl Roster {
    pub(super) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| AtomicBool::new(false)).collect())
    }

    /// # Errors
    /// Names the workers that do not serve.
    pub(super) fn condition(&self) -> Result<(), String> {
        let serves = |worker: &AtomicBool| worker.load(Ordering::Relaxed);
        let missing = self.0.iter().enumerate().filter(|(_, worker)| !serves(worker));
        let missing: Vec<_> = missing.map(|(index, _)| index.to_string()).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("not serving: worker {}", missing.join(", "))) }
    }
}

/// What became of one worker's start.
pub(super) type Report = (usize, Result<(), String>);

/// A worker's place in the roster. Whatever ends the worker, a panic included, takes it off, and its start is reported
/// once.
pub(super) struct Place {
    roster: Arc<Roster>,
    index: usize,
    report: Option<mpsc::UnboundedSender<Report>>,
}

impl Place {
    pub(super) fn new(roster: &Arc<Roster>, index: usize, report: mpsc::UnboundedSender<Report>) -> Self {
        Self { roster: Arc::clone(roster), index, report: Some(report) }
    }

    fn tell(&mut self, started: Result<(), String>) {
        self.set(started.is_ok());
        if let Some(report) = self.report.take() {
            let _ = report.send((self.index, started));
        }
    }

    fn set(&self, serves: bool) {
        if let Some(place) = self.roster.0.get(self.index) {
            place.store(serves, Ordering::Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.tell(Err("it ended".to_owned()));
    }
}

/// One worker's part.
pub(super) struct Part {
    pub(super) place: Place,
    pub(super) shared: Shared,
    pub(super) log: Arc<Log>,
    pub(super) sockets: Vec<(Arc<str>, StdListener)>,
    /// Its share of each listener's tunnels.
    pub(super) tunnels: Vec<Share>,
    /// Its share of each listener's QUIC.
    pub(super) quic: Vec<quic::Share>,
    /// Set once every worker has started: nobody is served by half a gateway.
    pub(super) go: watch::Receiver<bool>,
    /// Set once connections that still live are to be cut.
    pub(super) cut: watch::Receiver<bool>,
}

/// Starts a worker. It ends once the gateway drains and its connections are gone; `true` if none had to be cut.
pub(super) fn spawn(part: Part) -> std::io::Result<JoinHandle<bool>> {
    std::thread::Builder::new().name(format!("worker-{}", part.place.index)).spawn(move || main(part))
}

fn main(mut part: Part) -> bool {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => LocalSet::new().block_on(&runtime, work(part)),
        Err(error) => {
            part.place.tell(Err(error.to_string()));
            false
        }
    }
}

async fn work(part: Part) -> bool {
    let Part { mut place, shared, log, sockets, tunnels, quic, mut go, mut cut } = part;
    let (lane, driver) = log.lane();
    spawn_local(driver);
    let Ready { worker, sockets, lines, quic } = match prepare(shared, place.index, lane, sockets, (tunnels, quic)) {
        Ok(prepared) => prepared,
        Err(error) => {
            place.tell(Err(error));
            return false;
        }
    };
    worker.take_keys().await;
    place.tell(Ok(()));
    if go.wait_for(|go| *go).await.is_err() {
        return true;
    }
    let judging = spawn_local(Rc::clone(&worker).keep_judging());
    spawn_local(worker.keep_pools());
    let mut doors = JoinSet::new();
    // A listener's bounds are for all who come to it, by whatever protocol.
    let mut gates: HashMap<Arc<str>, Gate> = HashMap::new();
    for (name, socket) in sockets {
        let gate = gates.entry(Arc::clone(&name)).or_default().clone();
        doors.spawn_local(accept_loop(Rc::clone(&worker), name, socket, gate));
    }
    for line in quic {
        let gate = gates.entry(Arc::clone(&line.listener)).or_default().clone();
        doors.spawn_local(accept_quic(Rc::clone(&worker), line, gate));
    }
    for line in lines {
        doors.spawn_local(drive(Rc::clone(&worker), line));
    }
    tokio::select! {
        biased;
        () = async { worker.drain_signal().wait().await } => {}
        _ = doors.join_next() => {
            tracing::error!(worker = place.index, "a listener's loop has ended");
            place.set(false);
            worker.drain_signal().wait().await;
        }
        _ = judging => {
            // Nobody here would learn any more that a device was suspended: nobody stays, and nobody comes.
            tracing::error!(worker = place.index, "what judges live connections has ended: all of this worker are cut");
            place.set(false);
            doors.shutdown().await;
            worker.live.drain();
            worker.live.cut_all(Refusal::InternalError);
            worker.drain_signal().wait().await;
        }
    }
    worker.live.drain();
    let gone = async {
        while !worker.is_idle() {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    };
    let flushed = async {
        gone.await;
        // What the last connections wrote is still to be acknowledged. A device that is not there any more holds nobody up.
        let quiet = async {
            while !worker.are_tunnels_quiet() {
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        let _ = tokio::time::timeout(FLUSH, quiet).await;
    };
    let clean = tokio::select! {
        () = flushed => true,
        _ = cut.wait_for(|cut| *cut) => {
            let had_to_cut = !worker.is_idle();
            worker.live.cut_all(Refusal::Draining);
            tokio::time::sleep(CUT_GRACE).await;
            !had_to_cut
        }
    };
    worker.tell_limited(Duration::ZERO, true);
    worker.tell_tunnel_drops();
    clean
}

type Doors<S> = Vec<(Arc<str>, S)>;

/// What a worker serves with.
struct Ready {
    worker: Rc<Worker>,
    sockets: Doors<TcpListener>,
    lines: Vec<Line>,
    quic: Vec<quic::Line>,
}

/// All that can fail before a worker serves.
fn prepare(
    shared: Shared,
    index: usize,
    lane: Lane,
    sockets: Doors<StdListener>,
    (tunnels, quic): (Vec<Share>, Vec<quic::Share>),
) -> Result<Ready, String> {
    let worker = Worker::new(shared, index, lane).map_err(|error| error.to_string())?;
    let open = |(name, socket)| match TcpListener::from_std(socket) {
        Ok(socket) => Ok((name, socket)),
        Err(error) => Err(format!("listener `{name}`: {error}")),
    };
    let sockets = sockets.into_iter().map(open).collect::<Result<_, _>>()?;
    let lines: Vec<Line> = tunnels.into_iter().map(Share::open).collect::<Result<_, _>>()?;
    lines.iter().for_each(|line| worker.takes_tunnels(line.endpoint()));
    let snapshot = worker.snapshot();
    let quic = quic.into_iter().map(|share| {
        let listener = snapshot.door(share.listener()).and_then(|door| Some((door.tls.quic()?, &door.listener.limits)));
        let (tls, limits) = listener.ok_or("a listener of HTTP/3 is not configured")?;
        share.open(Arc::clone(tls), limits)
    });
    let quic = quic.collect::<Result<_, String>>()?;
    Ok(Ready { worker, sockets, lines, quic })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_is_gone_is_named_and_reported_once() {
        let roster = Arc::new(Roster::new(3));
        let (report, mut reports) = mpsc::unbounded_channel();
        let mut places: Vec<_> = (0..3).map(|index| Place::new(&roster, index, report.clone())).collect();
        assert_eq!(roster.condition(), Err("not serving: worker 0, 1, 2".to_owned()));
        places.iter_mut().for_each(|place| place.tell(Ok(())));
        assert_eq!(roster.condition(), Ok(()));
        let lost = places.remove(1);
        let died = std::thread::spawn(move || {
            let _lost = lost;
            panic!("of a worker, for a test");
        });
        assert!(died.join().is_err());
        assert_eq!(roster.condition(), Err("not serving: worker 1".to_owned()));
        drop(Place::new(&roster, 2, report));
        let told: Vec<_> = std::iter::from_fn(|| reports.try_recv().ok()).collect();
        assert_eq!(told, [(0, Ok(())), (1, Ok(())), (2, Ok(())), (2, Err("it ended".to_owned()))]);
    }
}
