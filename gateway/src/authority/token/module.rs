//! One thread for each PKCS#11 module of the process: it alone calls the module, so that nothing depends on whether the
//! module minds several threads, and nobody waits for a module that hangs longer than [`ANSWER`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::TokenError;
use super::driver::Driver;

/// A module answers within this time, or its token is as good as gone.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce(&mut Driver) + Send>;

/// The threads, by the module's path: a module is initialised once in a process (PKCS#11 5.4).
static MODULES: Mutex<BTreeMap<PathBuf, Module>> = Mutex::new(BTreeMap::new());

/// A module's thread.
#[derive(Clone)]
pub(super) struct Module {
    path: Arc<Path>,
    jobs: Sender<Job>,
    /// Somebody has given up waiting for the job in hand.
    is_stuck: Arc<AtomicBool>,
}

impl Module {
    /// The thread of the module at that path. The module itself is loaded when it is first needed.
    pub(super) fn at(path: &Path) -> Result<Self, TokenError> {
        let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = modules.get(path) {
            return Ok(module.clone());
        }
        let (jobs, inbox) = channel::<Job>();
        let mut driver = Driver::new(path);
        let work = move || {
            for job in inbox {
                job(&mut driver);
            }
        };
        std::thread::Builder::new().name("pkcs11".to_owned()).spawn(work).map_err(|error| TokenError::Module {
            module: path.to_owned(),
            reason: format!("cannot start its thread: {error}"),
        })?;
        let module = Self { path: path.into(), jobs, is_stuck: Arc::default() };
        modules.insert(path.to_owned(), module.clone());
        Ok(module)
    }

    /// Does something on the module's thread, and waits for it.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Driver) -> Result<T, TokenError> + Send + 'static,
    ) -> Result<T, TokenError> {
        let silent = || TokenError::Silent { module: self.path.to_path_buf(), after: ANSWER };
        // Nobody queues behind a call that hangs.
        if self.is_stuck.load(Ordering::Acquire) {
            return Err(silent());
        }
        let (answer, asked) = sync_channel(1);
        let is_stuck = Arc::clone(&self.is_stuck);
        let job: Job = Box::new(move |driver| {
            let done = work(driver);
            // Whoever has given up does not listen. In this order: see below.
            let _ = answer.send(done);
            is_stuck.store(false, Ordering::Release);
        });
        let gone = || TokenError::Module { module: self.path.to_path_buf(), reason: "its thread has ended".to_owned() };
        self.jobs.send(job).map_err(|_| gone())?;
        match asked.recv_timeout(ANSWER) {
            Ok(done) => done,
            Err(RecvTimeoutError::Timeout) => {
                self.is_stuck.store(true, Ordering::Release);
                // Either the answer came just now, or the job takes the mark back after it has sent its answer.
                asked.try_recv().map_err(|_| silent())?.inspect(|_| self.is_stuck.store(false, Ordering::Release))
            }
            Err(RecvTimeoutError::Disconnected) => Err(gone()),
        }
    }
}
