//! The handle of a live connection: ends it at once, or lets it finish what it is doing.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use policy::Refusal;

/// Held by the connection's task and by the worker's registry of live connections.
#[derive(Debug, Default)]
pub struct Control {
    cut: Cell<Option<Refusal>>,
    draining: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Control {
    /// Ends the connection, whatever it is doing. The first reason stays.
    pub fn cut(&self, reason: Refusal) {
        if self.cut.get().is_none() {
            self.cut.set(Some(reason));
            self.wake();
        }
    }

    /// Ends the connection once the requests under way are answered.
    pub fn drain(&self) {
        self.draining.set(true);
        self.wake();
    }

    /// No further request is wanted.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Why the connection was ended from outside.
    #[must_use]
    pub fn cut_reason(&self) -> Option<Refusal> {
        self.cut.get()
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn register(&self, waker: &Waker) {
        let mut registered = self.waker.borrow_mut();
        if !registered.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *registered = Some(waker.clone());
        }
    }

    /// Why it was ended, if it was; otherwise `cx` is told when it is.
    pub fn poll_cut(&self, cx: &mut Context<'_>) -> Option<Refusal> {
        if self.cut.get().is_none() {
            self.register(cx.waker());
        }
        self.cut.get()
    }

    /// Runs `task` until it ends or the connection is cut. The cut is looked at first, so that the cause that is
    /// recorded is the true one.
    pub async fn run<F: Future>(&self, mut task: Pin<&mut F>) -> Result<F::Output, Refusal> {
        std::future::poll_fn(|cx: &mut Context<'_>| {
            self.register(cx.waker());
            match self.cut.get() {
                Some(reason) => Poll::Ready(Err(reason)),
                None => task.as_mut().poll(cx).map(Ok),
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::rc::Rc;

    #[tokio::test]
    async fn a_cut_ends_a_task_that_waits_for_ever() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let control = Rc::new(Control::default());
                let held = Rc::clone(&control);
                let task = tokio::task::spawn_local(async move { held.run(pin!(std::future::pending::<()>())).await });
                tokio::task::yield_now().await;
                control.cut(Refusal::DeviceSuspended);
                control.cut(Refusal::Draining);
                assert_eq!(task.await.unwrap(), Err(Refusal::DeviceSuspended));
            })
            .await;
    }
}
