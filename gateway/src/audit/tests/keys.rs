//! Data keys of tests: kept where every test of the process can open records with them.

use std::collections::HashMap;
use std::io;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use arc_swap::ArcSwap;
use gateway_audit::header::{Envelope, KeyId};
use gateway_audit::keyfile::KeyFile;
use gateway_audit::reviewer::private::ReviewerKey;
use gateway_audit::reviewer::set::Reviewers;
use gateway_audit::seal::{DataKey, Pepper};

use crate::audit::{KeyStorage, Sealing, init};

static KEYS: LazyLock<Mutex<HashMap<KeyId, KeyFile>>> = LazyLock::new(Mutex::default);

pub(super) static REVIEWER: LazyLock<ReviewerKey> =
    LazyLock::new(|| ReviewerKey::new("auditor", [5; 32], [6; 32]).unwrap());

/// Keeps key files, and fails while it is told to.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) full: AtomicBool,
}

impl KeyStorage for Keys {
    fn put(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        if self.full.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(28));
        }
        let file = KeyFile::parse(bytes).unwrap();
        assert_eq!(file.path(), path);
        assert!(KEYS.lock().unwrap().insert(file.key, file).is_none(), "a key id came twice");
        Ok(())
    }
}

pub(super) fn sealing_with(keys: Arc<Keys>) -> Sealing {
    let first = init::first_statement("log.example", &[REVIEWER.public().clone()], &REVIEWER).unwrap();
    let reviewers = Arc::new(ArcSwap::from_pointee(Reviewers::new("log.example", &first).unwrap()));
    Sealing { keys, reviewers, pepper: Pepper::new([9; 32]), days: NonZeroU32::MIN }
}

pub(super) fn sealing() -> Sealing {
    sealing_with(Arc::default())
}

pub(super) fn key_file(envelope: &[u8]) -> KeyFile {
    KEYS.lock().unwrap()[&Envelope::decode(envelope).unwrap().header.key].clone()
}

/// The record in an envelope.
pub(super) fn opened(sequence: u64, envelope: &[u8]) -> serde_json::Value {
    let file = key_file(envelope);
    let envelope = Envelope::decode(envelope).unwrap();
    let key = DataKey::new(&file.open(&REVIEWER).unwrap()).unwrap();
    let record = key.open(&file.origin, sequence, &envelope).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["kind"], envelope.header.kind.label());
    record
}
