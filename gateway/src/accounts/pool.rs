//! Threads that hash passwords, behind everything else: a login may wait, the requests of whoever has logged in may not.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::AccountError;

/// What a thread does next, with a runtime for the store.
type Job = Box<dyn FnOnce(&Handle) + Send>;

/// The threads, and the queue before them.
pub struct Pool {
    jobs: SyncSender<Job>,
    runtime: Handle,
    /// Ends the runtime when dropped.
    _alive: oneshot::Sender<()>,
}

/// Why nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overloaded;

impl Pool {
    /// Starts so many threads; so many jobs may wait for them. They end once the pool is dropped.
    ///
    /// # Errors
    /// [`AccountError::Thread`].
    pub fn start(threads: usize, queue: usize) -> Result<Self, AccountError> {
        let (jobs, waiting) = sync_channel::<Job>(queue);
        let waiting = Arc::new(Mutex::new(waiting));
        // One that always runs: connections go back to the store's pool by tasks of their own, after whoever used them is done, and
        // hold the store's lock until then.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(AccountError::Thread)?;
        let (alive, over) = oneshot::channel();
        let handle = runtime.handle().clone();
        let keep = move || drop(runtime.block_on(over));
        let runtime = handle;
        std::thread::Builder::new().name("accounts".to_owned()).spawn(keep).map_err(AccountError::Thread)?;
        for index in 0..threads {
            let handle = runtime.clone();
            let waiting = Arc::clone(&waiting);
            let name = format!("hash-{index}");
            let work = move || {
                step_back();
                while let Some(job) = next(&waiting) {
                    // A job that panics takes nobody along: whoever waits for it hears that nothing was done.
                    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(&handle)));
                    if done.is_err() {
                        tracing::error!("a thread that hashes passwords has panicked, and goes on");
                    }
                }
            };
            std::thread::Builder::new().name(name).spawn(work).map_err(AccountError::Thread)?;
        }
        Ok(Self { jobs, runtime, _alive: alive })
    }

    /// Does what only waits, for the store: on none of the threads, and behind nobody.
    ///
    /// # Errors
    /// [`Overloaded`] if it panics.
    pub async fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Overloaded> {
        self.runtime.spawn(work).await.map_err(|_| Overloaded)
    }

    /// Does the work on one of the threads, once its turn has come and `begins` says that it is still to be done. `share` is kept
    /// until it is over, whether or not anybody still waits for it.
    ///
    /// # Errors
    /// [`Overloaded`] if as many wait as may.
    pub async fn run<T: Send + 'static>(
        &self,
        share: impl Send + 'static,
        begins: impl FnOnce() -> bool + Send + 'static,
        work: impl FnOnce(&Handle) -> T + Send + 'static,
    ) -> Result<T, Overloaded> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |handle| {
            // Whoever asked may be gone, and then nothing is to be done.
            if !answer.is_closed() && begins() {
                let done = work(handle);
                // Whoever hears of it may come again at once.
                drop(share);
                let _ = answer.send(done);
            }
        });
        match self.jobs.try_send(job) {
            Ok(()) => answered.await.map_err(|_| Overloaded),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(Overloaded),
        }
    }
}

fn next(waiting: &Mutex<Receiver<Job>>) -> Option<Job> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// Puts this thread behind the others: on Linux niceness is a thread's own.
fn step_back() {
    let own = Some(rustix::thread::gettid());
    if let Err(error) = rustix::process::setpriority_process(own, 19) {
        tracing::warn!(%error, "threads that hash passwords run at the same priority as those that serve");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_refuses_and_a_panic_ends_no_thread() {
        let pool = Arc::new(Pool::start(1, 1).unwrap());
        assert_eq!(pool.run((), || true, |_| 7).await, Ok(7));
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (begun, running) = std::sync::mpsc::channel::<()>();
        let slow = {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move {
                pool.run(
                    (),
                    || true,
                    move |_| {
                        let _ = begun.send(());
                        wait.recv().is_ok()
                    },
                )
                .await
            })
        };
        tokio::task::yield_now().await;
        running.recv().unwrap();
        let waiting = {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move { pool.run((), || true, |_| 8).await })
        };
        tokio::task::yield_now().await;
        assert_eq!(pool.run((), || true, |_| 9).await, Err(Overloaded));
        go.send(()).unwrap();
        assert_eq!(slow.await.unwrap(), Ok(true));
        assert_eq!(waiting.await.unwrap(), Ok(8));
        assert_eq!(
            pool.run((), || true, |_| std::panic::resume_unwind(Box::new("x"))).await.map(|()| 0),
            Err(Overloaded)
        );
        assert_eq!(pool.run((), || true, |_| 10).await, Ok(10));
        assert_eq!(pool.wait(async { 11 }).await, Ok(11));
        let nice =
            pool.run((), || true, |_| rustix::process::getpriority_process(Some(rustix::thread::gettid())).ok()).await;
        assert_eq!(nice, Ok(Some(19)));
    }

    /// What nobody waits for any more is not done, and holds its share of the queue until its turn.
    #[tokio::test]
    async fn a_job_that_was_given_up_is_not_done() {
        let pool = Arc::new(Pool::start(1, 8).unwrap());
        let share = Arc::new(());
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (begun, running) = std::sync::mpsc::channel::<()>();
        let work = move |_: &Handle| begun.send(()).is_ok() && wait.recv().is_ok();
        let slow = tokio::spawn({
            let (pool, share) = (Arc::clone(&pool), Arc::clone(&share));
            async move { pool.run(share, || true, work).await }
        });
        tokio::task::yield_now().await;
        running.recv().unwrap();
        let asked = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let begins = {
            let asked = Arc::clone(&asked);
            move || !asked.swap(true, std::sync::atomic::Ordering::Relaxed)
        };
        let gone = tokio::time::timeout(std::time::Duration::ZERO, pool.run(Arc::clone(&share), begins, |_| ()));
        assert!(gone.await.is_err());
        assert_eq!(Arc::strong_count(&share), 3, "both jobs hold it");
        go.send(()).unwrap();
        assert_eq!(slow.await.unwrap(), Ok(true));
        assert_eq!(pool.run((), || false, |_| ()).await, Err(Overloaded), "given up by whoever counts it");
        assert_eq!(pool.run((), || true, |_| 1).await, Ok(1));
        assert!(!asked.load(std::sync::atomic::Ordering::Relaxed));
        for _ in 0..100 {
            assert_eq!(pool.run(Arc::clone(&share), || true, |_| 1).await, Ok(1));
            assert_eq!(Arc::strong_count(&share), 1, "whoever has an answer may come again at once");
        }
    }
}
