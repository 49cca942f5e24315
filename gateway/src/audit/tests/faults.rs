//! A disk in memory that forgets what was not synced, fails on demand and can be held.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex};

use crate::audit::{LogFile, Storage};

#[derive(Debug, Clone, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Writes since the last sync.
    unsynced: Vec<(u64, Vec<u8>)>,
    failed: bool,
}

type Shared = Arc<Mutex<Content>>;

#[derive(Debug, Default)]
struct Inner {
    names: BTreeMap<String, Shared>,
    durable_names: BTreeMap<String, Shared>,
    faults: Faults,
    /// Bytes that may still be allocated.
    space: Option<u64>,
    held: bool,
    /// Everything that was ever given to a write, whatever came of it.
    history: Vec<Vec<u8>>,
    sync_delay: std::time::Duration,
}

/// Which calls fail, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    /// The first call that fails, counted from the fault's setting.
    pub(super) first: u64,
    /// How many calls fail.
    pub(super) count: u64,
    /// The error number.
    pub(super) errno: i32,
}

/// Calls of a disk, counted, of which some fail.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) calls: u64,
    fault: Option<Fault>,
}

impl Faults {
    pub(super) fn set(&mut self, fault: Fault) {
        *self = Self { calls: 0, fault: Some(fault) };
    }

    pub(super) fn call(&mut self) -> io::Result<()> {
        self.calls += 1;
        match self.fault {
            Some(fault) if (fault.first..fault.first + fault.count).contains(&self.calls) => {
                Err(io::Error::from_raw_os_error(fault.errno))
            }
            _ => Ok(()),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Disk {
    inner: Arc<Mutex<Inner>>,
    changed: Arc<Condvar>,
}

struct Open {
    file: Shared,
    inner: Arc<Mutex<Inner>>,
    changed: Arc<Condvar>,
}

impl Disk {
    /// Makes calls fail, counted from here.
    pub(super) fn fail(&self, fault: Fault) {
        self.inner.lock().unwrap().faults.set(fault);
    }

    /// Calls since the last [`fail`](Self::fail).
    pub(super) fn calls(&self) -> u64 {
        self.inner.lock().unwrap().faults.calls
    }

    /// Bounds the bytes that can still be allocated.
    pub(super) fn set_space(&self, space: Option<u64>) {
        self.inner.lock().unwrap().space = space;
    }

    pub(super) fn set_sync_delay(&self, delay: std::time::Duration) {
        self.inner.lock().unwrap().sync_delay = delay;
    }

    /// Lets no sync return until [`release`](Self::release).
    pub(super) fn hold(&self) {
        self.inner.lock().unwrap().held = true;
    }

    pub(super) fn release(&self) {
        self.inner.lock().unwrap().held = false;
        self.changed.notify_all();
    }

    /// The disk after a power cut: durable names and contents, and of each file's unsynced writes those whose turn
    /// `keep` says yes to, in their order (A4: torn and reordered writes).
    pub(super) fn crash(&self, mut keep: impl FnMut(usize, usize) -> Option<usize>) -> Self {
        let inner = self.inner.lock().unwrap();
        let names: BTreeMap<String, Shared> = inner
            .durable_names
            .iter()
            .map(|(name, file)| {
                let content = file.lock().unwrap();
                let mut bytes = content.durable.clone();
                for (place, (offset, write)) in content.unsynced.iter().enumerate() {
                    if let Some(kept) = keep(place, write.len()) {
                        put(&mut bytes, *offset, &write[..kept.min(write.len())]);
                    }
                }
                let content = Content { now: bytes.clone(), durable: bytes, ..Content::default() };
                (name.clone(), Arc::new(Mutex::new(content)))
            })
            .collect();
        let history = inner.history.clone();
        let inner = Inner { durable_names: names.clone(), names, history, ..Inner::default() };
        Self { inner: Arc::new(Mutex::new(inner)), changed: Arc::default() }
    }

    /// The disk as a killed process leaves it: everything written is there, and what was not synced still is not.
    pub(super) fn kill(&self) -> Self {
        let inner = self.inner.lock().unwrap();
        let copy = |file: &Shared| Arc::new(Mutex::new(file.lock().unwrap().clone()));
        let copies: Vec<_> = inner.names.iter().map(|(name, file)| (name, file, copy(file))).collect();
        let same = |file: &Shared| {
            let known = copies.iter().find(|(_, other, _)| Arc::ptr_eq(other, file));
            known.map_or_else(|| copy(file), |(_, _, copy)| copy.clone())
        };
        let durable_names = inner.durable_names.iter().map(|(name, file)| (name.clone(), same(file))).collect();
        let names = copies.iter().map(|(name, _, copy)| ((*name).clone(), copy.clone())).collect();
        let history = inner.history.clone();
        let inner = Inner { names, durable_names, history, ..Inner::default() };
        Self { inner: Arc::new(Mutex::new(inner)), changed: Arc::default() }
    }

    /// Everything that was ever given to a write, those before a crash included.
    pub(super) fn history(&self) -> Vec<Vec<u8>> {
        self.inner.lock().unwrap().history.clone()
    }

    /// Changes a file behind the log's back.
    pub(super) fn edit(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let inner = self.inner.lock().unwrap();
        let mut content = inner.names[name].lock().unwrap();
        edit(&mut content.now);
        content.durable = content.now.clone();
    }
}

fn put(bytes: &mut Vec<u8>, offset: u64, write: &[u8]) {
    let start = offset as usize;
    if bytes.len() < start + write.len() {
        bytes.resize(start + write.len(), 0);
    }
    bytes[start..start + write.len()].copy_from_slice(write);
}

impl LogFile for Open {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut inner = self.inner.lock().unwrap();
        if bytes.iter().any(|byte| *byte != 0) {
            inner.history.push(bytes.to_vec());
        }
        inner.faults.call()?;
        let mut content = self.file.lock().unwrap();
        let grows = (offset + bytes.len() as u64).saturating_sub(content.now.len() as u64);
        let mut count = bytes.len();
        if let Some(space) = &mut inner.space {
            if grows > *space {
                count -= ((grows - *space) as usize).min(count);
                if count == 0 {
                    return Err(io::Error::from_raw_os_error(28));
                }
                *space = 0;
            } else {
                *space -= grows;
            }
        }
        put(&mut content.now, offset, &bytes[..count]);
        content.unsynced.push((offset, bytes[..count].to_vec()));
        Ok(count)
    }

    fn sync(&mut self) -> io::Result<()> {
        let delay = {
            let mut inner = self.inner.lock().unwrap();
            while inner.held {
                inner = self.changed.wait(inner).unwrap();
            }
            inner.sync_delay
        };
        std::thread::sleep(delay);
        let mut inner = self.inner.lock().unwrap();
        let result = inner.faults.call();
        let mut content = self.file.lock().unwrap();
        assert!(!content.failed, "a file whose sync failed was synced again");
        match result {
            Ok(()) => {
                content.durable = content.now.clone();
                content.unsynced.clear();
            }
            // As a kernel does: the pages count as clean, and are not on disk.
            Err(_) => content.failed = true,
        }
        result
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        let mut inner = self.inner.lock().unwrap();
        inner.faults.call()?;
        let mut content = self.file.lock().unwrap();
        let freed = (content.now.len() as u64).saturating_sub(length);
        if let Some(space) = &mut inner.space {
            *space += freed;
        }
        content.now.resize(length as usize, 0);
        Ok(())
    }
}

impl Storage for Disk {
    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let mut inner = self.inner.lock().unwrap();
        inner.faults.call()?;
        let file = Shared::default();
        inner.names.insert(name.to_owned(), file.clone());
        Ok(Box::new(Open { file, inner: self.inner.clone(), changed: self.changed.clone() }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let mut inner = self.inner.lock().unwrap();
        inner.faults.call()?;
        let file = inner.names.get(name).ok_or(io::ErrorKind::NotFound)?.clone();
        Ok(Box::new(Open { file, inner: self.inner.clone(), changed: self.changed.clone() }))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut inner = self.inner.lock().unwrap();
        inner.faults.call()?;
        let content = inner.names.get(name).ok_or(io::ErrorKind::NotFound)?.lock().unwrap();
        Ok(content.now.clone())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut inner = self.inner.lock().unwrap();
        inner.faults.call()?;
        Ok(inner.names.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.inner.lock().unwrap();
        inner.faults.call()?;
        let file = inner.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        inner.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.inner.lock().unwrap();
        inner.faults.call()?;
        inner.names.remove(name).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut inner = self.inner.lock().unwrap();
        inner.faults.call()?;
        inner.durable_names = inner.names.clone();
        Ok(())
    }
}
