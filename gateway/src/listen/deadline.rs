//! A deadline that is moved at every step of a connection and hardly ever strikes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Longer than any connection lives.
const NEVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// One timer per connection. Moving it later costs a store: the timer itself is moved when it fires too early.
#[derive(Debug)]
pub(crate) struct Deadline {
    timer: Pin<Box<Sleep>>,
    at: Instant,
}

impl Default for Deadline {
    fn default() -> Self {
        let at = Instant::now() + NEVER;
        Self { timer: Box::pin(tokio::time::sleep_until(at)), at }
    }
}

impl Deadline {
    /// Strikes after `period` from now.
    pub(crate) fn set(&mut self, period: Duration) {
        self.at = Instant::now() + period.min(NEVER);
        if self.at < self.timer.deadline() {
            self.timer.as_mut().reset(self.at);
        }
    }

    /// Ready once the time has come.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if self.timer.deadline() >= self.at {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    async fn expired(deadline: &mut Deadline) {
        poll_fn(|cx| deadline.poll_expired(cx)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_strikes_when_set_and_moves_both_ways() {
        let mut deadline = Deadline::default();
        let start = Instant::now();
        deadline.set(Duration::from_secs(60));
        deadline.set(Duration::from_secs(5));
        expired(&mut deadline).await;
        assert_eq!(start.elapsed().as_secs(), 5);

        deadline.set(Duration::from_secs(5));
        deadline.set(Duration::from_secs(60));
        expired(&mut deadline).await;
        assert_eq!(start.elapsed().as_secs(), 65);
    }
}
