//! One listener's tunnels on one worker: what its loop, its streams and whoever follows the registry have in common.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Instant;

use gateway_tunnel::{DropCounts, StreamId, Tunnels};
use policy::SiteName;
use tokio::sync::Notify;

use super::follow::Followed;
use super::steering::Spread;

/// Whoever waits for a stream.
#[derive(Default)]
pub(super) struct Wakers {
    pub(super) read: RefCell<Option<Waker>>,
    pub(super) write: RefCell<Option<Waker>>,
}

impl Wakers {
    pub(super) fn wait(place: &RefCell<Option<Waker>>, cx: &Context<'_>) {
        let mut place = place.borrow_mut();
        if !place.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *place = Some(cx.waker().clone());
        }
    }

    pub(super) fn wake(place: &RefCell<Option<Waker>>) {
        let waker = place.borrow_mut().take();
        waker.into_iter().for_each(Waker::wake);
    }
}

/// See the module. Everything here is one thread's.
pub(crate) struct Endpoint {
    /// The listener.
    pub(super) listener: Arc<str>,
    /// This worker's number among those that have tunnels.
    pub(super) number: usize,
    /// Among how many.
    pub(super) spread: Spread,
    tunnels: RefCell<Tunnels>,
    streams: RefCell<HashMap<StreamId, Rc<Wakers>>>,
    /// There is something to send, or to tell.
    roused: Notify,
    /// The keys of the registry that it goes by.
    pub(super) followed: RefCell<Followed>,
}

impl Endpoint {
    pub(super) fn new(listener: Arc<str>, number: usize, spread: Spread, tunnels: Tunnels) -> Rc<Self> {
        Rc::new(Self {
            listener,
            number,
            spread,
            tunnels: RefCell::new(tunnels),
            streams: RefCell::default(),
            roused: Notify::new(),
            followed: RefCell::default(),
        })
    }

    /// Calls the tunnels, with the time.
    pub(super) fn with<R>(&self, call: impl FnOnce(&mut Tunnels, Instant) -> R) -> R {
        call(&mut self.tunnels.borrow_mut(), Instant::now())
    }

    /// Has the loop look for what is to be sent.
    pub(super) fn rouse(&self) {
        self.roused.notify_one();
    }

    /// Returns once somebody rouses.
    pub(super) async fn roused(&self) {
        self.roused.notified().await;
    }

    /// Wakes whoever reads or writes the stream from now on.
    pub(super) fn follow(&self, stream: StreamId) -> Rc<Wakers> {
        let wakers = Rc::<Wakers>::default();
        self.streams.borrow_mut().insert(stream, Rc::clone(&wakers));
        wakers
    }

    pub(super) fn forget(&self, stream: StreamId) {
        self.streams.borrow_mut().remove(&stream);
    }

    pub(super) fn wakers(&self, stream: StreamId) -> Option<Rc<Wakers>> {
        self.streams.borrow().get(&stream).map(Rc::clone)
    }

    /// The listener's name.
    pub(crate) fn listener(&self) -> &str {
        &self.listener
    }

    /// What was dropped and is still to be told.
    pub(crate) fn take_reports(&self) -> Vec<(Option<SiteName>, DropCounts)> {
        self.with(|tunnels, _| tunnels.take_reports())
    }

    /// No stream is there any more, lingering ones included.
    pub(crate) fn is_quiet(&self) -> bool {
        self.tunnels.borrow().streams() == 0
    }
}
