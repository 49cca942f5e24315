//! The one waker of a connection that has no task of its own.
//!
//! A pooled connection is polled by whichever task uses it. Handing that task's waker down would leave it registered
//! in the socket and the timer after the task is done with the connection: the next user would then
//! wake the previous one, and an idle connection would keep a finished task's memory. So the connection is always
//! polled with the same waker, and that one passes the wake on to the current user, if there is one.

use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use futures_util::task::AtomicWaker;

#[derive(Debug, Default)]
struct Target(AtomicWaker);

impl Wake for Target {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake();
    }
}

/// A waker that outlives its users. Wakes reach the task that polled last.
#[derive(Debug)]
pub(super) struct Relay {
    target: Arc<Target>,
    waker: Waker,
}

impl Relay {
    pub(super) fn new() -> Self {
        let target = Arc::new(Target::default());
        Self { waker: Waker::from(Arc::clone(&target)), target }
    }

    /// Makes the task of `cx` the one to wake, and gives the waker to poll with.
    pub(super) fn attach(&self, cx: &Context<'_>) -> &Waker {
        self.target.0.register(cx.waker());
        &self.waker
    }

    /// Nobody waits any more.
    pub(super) fn detach(&self) {
        drop(self.target.0.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn wakes_reach_the_last_user_only_and_nobody_when_detached() {
        let counts = [Arc::new(Count(AtomicUsize::new(0))), Arc::new(Count(AtomicUsize::new(0)))];
        let wakers: Vec<Waker> = counts.iter().map(|count| Waker::from(Arc::clone(count))).collect();
        let relay = Relay::new();
        let seen = || (counts[0].0.load(Ordering::Relaxed), counts[1].0.load(Ordering::Relaxed));

        relay.attach(&Context::from_waker(&wakers[0]));
        relay.attach(&Context::from_waker(&wakers[1]));
        relay.waker.wake_by_ref();
        assert_eq!(seen(), (0, 1));
        relay.attach(&Context::from_waker(&wakers[0]));
        relay.detach();
        relay.waker.wake_by_ref();
        assert_eq!(seen(), (0, 1));
        assert_eq!(Arc::strong_count(&counts[0]), 2, "a detached relay keeps no task alive");
    }
}
