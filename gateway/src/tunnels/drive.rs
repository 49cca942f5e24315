//! The loop that carries datagrams and time between a socket and the tunnels.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_tunnel::{Event, StreamId, Transmit};
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{MissedTickBehavior, Sleep, sleep_until};

use super::endpoint::Wakers;
use super::hub::{Line, MAILBOX, Passed};
use super::publish::Publisher;
use super::stream::TunnelStream;
use crate::listen::{Arrival, Gate, serve};
use crate::worker::Worker;

/// Longer than anything here waits.
const LONG: Duration = Duration::from_secs(60 * 60);
/// What operators see is so old at most.
const PUBLISH: Duration = Duration::from_secs(1);
/// A pause after a socket fails, so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(20);
/// How long what is due waits while the socket is full.
const FULL: Duration = Duration::from_millis(5);
/// Batches that are sent until what has come is looked at again.
/// As many as are received at once, lest answers to strangers pile up.
const SENT_AT_ONCE: usize = quinn_udp::BATCH_SIZE;

/// Carries until the worker ends.
pub(crate) async fn drive(worker: Rc<Worker>, line: Line) {
    let gate = Gate::default();
    let mut publisher = Publisher::new(&worker.metrics.tunnels, &line.endpoint.listener);
    let mut driver = Driver { worker, line, gate, unsent: None, buffer: Vec::new(), handed: VecDeque::new() };
    let mut publish = tokio::time::interval(PUBLISH);
    publish.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut timer = Box::pin(sleep_until(tokio::time::Instant::now() + LONG));
    loop {
        driver.set(&mut timer);
        tokio::select! {
            readable = driver.line.datagrams.readable() => {
                if let Err(error) = readable.and_then(|()| driver.receive()) {
                    // An ICMP error about an earlier datagram comes this way as well, and means nothing here.
                    tracing::debug!(listener = %driver.line.endpoint.listener, %error, "a socket of tunnels failed");
                    tokio::time::sleep(PAUSE).await;
                }
            }
            writable = driver.line.datagrams.writable(), if driver.unsent.is_some() => {
                if writable.is_err() {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            Some(passed) = driver.line.mailbox.recv() => driver.take(passed),
            () = driver.line.endpoint.roused() => {}
            () = timer.as_mut() => driver.line.endpoint.with(|tunnels, now| tunnels.handle_timeout(now)),
            _ = publish.tick() => publisher.publish(&driver.line),
        }
        driver.tell();
        if driver.send() {
            driver.line.endpoint.rouse();
        }
        driver.tell();
        // Whoever was woken reads before more is received.
        tokio::task::yield_now().await;
    }
}

struct Driver {
    worker: Rc<Worker>,
    line: Line,
    gate: Gate,
    /// A batch that found no room.
    unsent: Option<Transmit>,
    /// Its bytes, or those of the next.
    buffer: Vec<u8>,
    /// Datagrams that are other workers'.
    handed: VecDeque<(usize, Passed)>,
}

impl Driver {
    fn set(&self, timer: &mut std::pin::Pin<Box<Sleep>>) {
        let due = self.line.endpoint.with(|tunnels, now| {
            let due = tunnels.poll_timeout().unwrap_or(now + LONG);
            // What is due may need room to send, and there is none yet.
            if self.unsent.is_some() { due.max(now + FULL) } else { due }
        });
        let due = tokio::time::Instant::from_std(due);
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let Self { line, handed, .. } = self;
        let (spread, number) = (line.endpoint.spread, line.endpoint.number);
        let endpoint = Rc::clone(&line.endpoint);
        endpoint.with(|tunnels, now| {
            line.datagrams.receive(|path, datagram| match spread.worker_of(datagram) {
                Some(worker) if worker != number => {
                    handed.push_back((worker, Passed { path, datagram: datagram.to_vec(), admitted: false }));
                }
                Some(_) | None => tunnels.handle_datagram(now, path, datagram),
            })
        })?;
        Ok(())
    }

    fn take(&mut self, first: Passed) {
        self.line.endpoint.clone().with(|tunnels, now| {
            // No more than waits now: others may go on filling it.
            let waiting = std::iter::from_fn(|| self.line.mailbox.try_recv().ok()).take(MAILBOX);
            for Passed { path, datagram, admitted } in std::iter::once(first).chain(waiting) {
                if admitted {
                    tunnels.handle_handed_over(now, path, &datagram);
                } else {
                    tunnels.handle_datagram(now, path, &datagram);
                }
            }
        });
    }

    /// Tells everybody what has happened.
    fn tell(&mut self) {
        while let Some(event) = self.line.endpoint.with(|tunnels, _| tunnels.poll_event()) {
            match event {
                Event::Opened { stream, peer, local, remote } => self.open(stream, peer, local.port(), remote),
                Event::Readable(stream) => self.wake(stream, |wakers| &wakers.read),
                Event::Writable(stream) => self.wake(stream, |wakers| &wakers.write),
                Event::Closed { stream, .. } => {
                    self.wake(stream, |wakers| &wakers.read);
                    self.wake(stream, |wakers| &wakers.write);
                }
                Event::HandOver { shard, path, datagram } => {
                    self.handed.push_back((usize::from(shard), Passed { path, datagram, admitted: true }));
                }
                Event::Dropped { site, counts } => {
                    self.worker.tunnel_drops(&self.line.endpoint.listener, site.as_ref(), &counts);
                }
                Event::SessionUp { peer, path } => {
                    tracing::debug!(site = %peer.site, device = %peer.device, remote = %path.remote, "a tunnel is up");
                }
                Event::SessionDown { peer } => {
                    tracing::debug!(site = %peer.site, device = %peer.device, "a tunnel is down");
                }
            }
        }
        while let Some((worker, passed)) = self.handed.pop_front() {
            let Some(other) = self.line.others.get(worker) else { continue };
            match other.try_send(passed) {
                Ok(()) => self.worker.metrics.tunnels.passed_on(&self.line.endpoint.listener, "passed"),
                Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                    self.worker.metrics.tunnels.passed_on(&self.line.endpoint.listener, "lost");
                }
            }
        }
    }

    fn wake(&self, stream: StreamId, which: impl Fn(&Wakers) -> &std::cell::RefCell<Option<std::task::Waker>>) {
        if let Some(wakers) = self.line.endpoint.wakers(stream) {
            Wakers::wake(which(&wakers));
        }
    }

    /// A stream becomes an arrival.
    fn open(&self, id: StreamId, peer: Arc<gateway_tunnel::PeerName>, port: u16, source: std::net::SocketAddr) {
        let stream = TunnelStream::new(&self.line.endpoint, id);
        let snapshot = self.worker.snapshot();
        let Some(door) = snapshot.door(&self.line.endpoint.listener) else { return };
        if self.worker.is_draining() {
            // Dropped, it is reset: the device comes again, to whoever serves then.
            return;
        }
        let arrival = Arrival {
            listener: Arc::clone(&door.listener),
            port,
            source,
            local: None,
            proxy: None,
            accepted: Instant::now(),
            id: self.worker.next_id(),
            tunnel: Some(peer),
        };
        serve(&self.worker, arrival, stream, &self.gate);
    }

    /// Sends what is to be sent. `true` if there is more.
    fn send(&mut self) -> bool {
        let most = self.line.datagrams.most_segments();
        for _ in 0..SENT_AT_ONCE {
            let transmit = match self.unsent.take() {
                Some(transmit) => transmit,
                None => {
                    self.buffer.clear();
                    let buffer = &mut self.buffer;
                    match self.line.endpoint.with(|tunnels, now| tunnels.poll_transmit(now, most, buffer)) {
                        Some(transmit) => transmit,
                        None => return false,
                    }
                }
            };
            let bytes = self.buffer.get(..transmit.size).unwrap_or(&self.buffer);
            if self.line.datagrams.send(&transmit, bytes).is_err() {
                self.unsent = Some(transmit);
                return false;
            }
        }
        true
    }
}
