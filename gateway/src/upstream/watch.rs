//! A deadline that is moved often and expires seldom.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// One timer, registered again only when it fires too early or must fire sooner: moving the deadline further into the
/// future, which every request and every frame does, writes one field.
#[derive(Debug)]
pub(super) struct Watch {
    sleep: Pin<Box<Sleep>>,
    at: Instant,
}

impl Watch {
    pub(super) fn new(at: Instant) -> Self {
        Self { sleep: Box::pin(sleep_until(at)), at }
    }

    /// Moves the deadline.
    pub(super) fn set(&mut self, at: Instant) {
        self.at = at;
        if at < self.sleep.deadline() {
            self.sleep.as_mut().reset(at);
        }
    }

    /// Ready once the deadline has passed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if self.sleep.deadline() >= self.at {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(self.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn the_deadline_moves_both_ways() {
        let start = Instant::now();
        let mut watch = Watch::new(start + Duration::from_secs(10));
        watch.set(start + Duration::from_secs(25));
        poll_fn(|cx| watch.poll(cx)).await;
        assert_eq!((Instant::now() - start).as_secs(), 25);
        watch.set(start + Duration::from_secs(60));
        watch.set(start + Duration::from_secs(30));
        poll_fn(|cx| watch.poll(cx)).await;
        assert_eq!((Instant::now() - start).as_secs(), 30);
    }
}
