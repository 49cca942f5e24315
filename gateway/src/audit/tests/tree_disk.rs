//! Tiles in memory, on a disk that forgets what was not synced and fails on demand.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use gateway_audit::note::{KeyKind, Signer, VerifierKey};
use gateway_audit::tiles::Files;

use super::faults::{Disk, Fault, Faults};
use crate::audit::{Storage, Target, TreeStorage};

#[derive(Debug, Default)]
struct Inner {
    now: BTreeMap<String, Vec<u8>>,
    durable: BTreeMap<String, Vec<u8>>,
    faults: Faults,
}

#[derive(Debug, Default)]
pub(super) struct TreeDisk {
    inner: Mutex<Inner>,
}

pub(super) fn signer() -> Signer {
    Signer::new("log.example/gw1/lane-1", KeyKind::Log, &[3; 32]).unwrap()
}

pub(super) fn verifier_key() -> VerifierKey {
    signer().verifier().clone()
}

pub(super) fn target(segments: Arc<Disk>, tree: Arc<TreeDisk>) -> Target {
    Target { segments: segments as Arc<dyn Storage>, tree, signer: signer(), sealing: super::keys::sealing() }
}

impl TreeDisk {
    /// Makes calls that write fail, counted from here.
    pub(super) fn fail(&self, fault: Fault) {
        self.inner.lock().unwrap().faults.set(fault);
    }

    /// Calls that write since the last [`fail`](Self::fail).
    pub(super) fn calls(&self) -> u64 {
        self.inner.lock().unwrap().faults.calls
    }

    /// The disk after a power cut: of what was not synced, `keep` says what is there.
    pub(super) fn crash(&self, mut keep: impl FnMut(&str, &[u8]) -> Option<Vec<u8>>) -> Self {
        let inner = self.inner.lock().unwrap();
        let mut durable = inner.durable.clone();
        for (path, bytes) in &inner.now {
            if durable.get(path) != Some(bytes) {
                // None: either the old file or no file.
                if let Some(kept) = keep(path, bytes) {
                    durable.insert(path.clone(), kept);
                }
            }
        }
        let inner = Inner { now: durable.clone(), durable, ..Inner::default() };
        Self { inner: Mutex::new(inner) }
    }

    /// What is there now, by path.
    pub(super) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.inner.lock().unwrap().now.clone()
    }

    /// A disk with these files, all durable.
    pub(super) fn with(files: BTreeMap<String, Vec<u8>>) -> Self {
        Self { inner: Mutex::new(Inner { now: files.clone(), durable: files, ..Inner::default() }) }
    }
}

impl TreeStorage for TreeDisk {
    fn read(&self, path: &str, _: usize) -> io::Result<Option<Vec<u8>>> {
        Ok(self.inner.lock().unwrap().now.get(path).cloned())
    }

    fn put(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.inner.lock().unwrap();
        inner.faults.call()?;
        inner.now.insert(path.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn put_durable(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.inner.lock().unwrap();
        inner.faults.call()?;
        inner.now.insert(path.to_owned(), bytes.to_vec());
        inner.durable.insert(path.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut inner = self.inner.lock().unwrap();
        inner.faults.call()?;
        inner.now.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_all(&self) -> io::Result<()> {
        let mut inner = self.inner.lock().unwrap();
        inner.faults.call()?;
        inner.durable = inner.now.clone();
        Ok(())
    }
}

/// The files as a verifier reads them.
pub(super) struct View<'a>(pub(super) &'a BTreeMap<String, Vec<u8>>);

impl Files for View<'_> {
    type Error = std::convert::Infallible;

    fn read(&mut self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, Self::Error> {
        Ok(self.0.get(path).map(|bytes| bytes.get(..=limit).unwrap_or(bytes).to_vec()))
    }
}
