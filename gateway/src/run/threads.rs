//! The workers' threads.

use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use policy::Refusal;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_local};

use crate::audit::Audit as Log;
use crate::listen::accept_loop;
use crate::worker::{Shared, Worker};

/// A pause between two looks at whether the last connection has gone.
const DRAIN_LOOK: Duration = Duration::from_millis(10);
/// Cut connections get so long to write their last records.
const CUT_GRACE: Duration = Duration::from_millis(200);

/// One worker's part.
pub(super) struct Part {
    pub(super) index: usize,
    pub(super) shared: Shared,
    pub(super) log: Arc<Log>,
    pub(super) sockets: Vec<(Arc<str>, StdListener)>,
    /// Set once connections that still live are to be cut.
    pub(super) cut: watch::Receiver<bool>,
}

/// Starts a worker. It ends once the gateway drains and its connections are gone; `true` if none had to be cut.
pub(super) fn spawn(part: Part) -> std::io::Result<JoinHandle<bool>> {
    std::thread::Builder::new().name(format!("worker-{}", part.index)).spawn(move || main(part))
}

fn main(part: Part) -> bool {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(worker = part.index, %error, "cannot start a worker");
            return false;
        }
    };
    LocalSet::new().block_on(&runtime, work(part))
}

async fn work(part: Part) -> bool {
    let Part { index, shared, log, sockets, mut cut } = part;
    let (lane, driver) = log.lane();
    spawn_local(driver);
    let worker = match Worker::new(shared, index, lane) {
        Ok(worker) => worker,
        Err(error) => {
            tracing::error!(worker = index, %error, "cannot start a worker");
            return false;
        }
    };
    spawn_local(Rc::clone(&worker).keep_judging());
    spawn_local(worker.keep_pools());
    for (name, socket) in sockets {
        match TcpListener::from_std(socket) {
            Ok(socket) => drop(spawn_local(accept_loop(Rc::clone(&worker), name, socket))),
            Err(error) => {
                tracing::error!(worker = index, listener = %name, %error, "cannot accept connections");
                return false;
            }
        }
    }
    worker.drain_signal().wait().await;
    worker.live.drain();
    let gone = async {
        while !worker.is_idle() {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    };
    let clean = tokio::select! {
        () = gone => true,
        _ = cut.wait_for(|cut| *cut) => {
            let had_to_cut = !worker.is_idle();
            worker.live.cut_all(Refusal::Draining);
            tokio::time::sleep(CUT_GRACE).await;
            !had_to_cut
        }
    };
    worker.tell_limited(Duration::ZERO, true);
    clean
}
