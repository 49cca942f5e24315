//! The gateway itself: its start and end, its configuration and its log.

use super::{Header, Record, Reference, Scope, Splice, VERSION, write_clock, write_sequence, write_time};
use crate::header::Kind;
use crate::json::{self, Object, key};
use crate::time;

/// Writes a time other than the record's own.
pub(super) fn write_instant(object: &mut Object<'_>, key: &'static str, unix_ns: i64) {
    let out = object.key(key);
    out.push(b'"');
    time::write(out, unix_ns);
    out.push(b'"');
}

/// Writes `sequence`, `time` and `version`: the keys after which these kinds have none.
fn finish(mut object: Object<'_>, start: usize, header: &Header<'_>) -> Splice {
    let splice = write_sequence(&mut object, start);
    write_time(&mut object, header);
    object.number(key!("version"), VERSION);
    object.end();
    splice
}

/// Kind `registry-change`: a site, device, user or role was changed (R27). Keys: `actor`, `change`,
/// `registry_sequence`.
#[derive(Debug, Clone, Copy)]
pub struct RegistryChange<'a> {
    /// Sequence number of the change in the registry.
    pub registry_sequence: u64,
    /// What tells this very change from another of that number, and nothing else: keyed, for the clear header.
    pub fingerprint: &'a str,
    /// The change as the registry keeps it.
    pub change: &'a [u8],
    /// Who made it.
    pub actor: &'a [u8],
}

impl Record for RegistryChange<'_> {
    const FOLLOWS: bool = true;

    fn kind(&self) -> Kind {
        Kind::RegistryChange
    }

    fn reference(&self) -> Reference<'_> {
        Reference::Change { number: self.registry_sequence, fingerprint: self.fingerprint }
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        let start = out.len();
        let mut object = Object::new(out);
        object.bytes(key!("actor"), self.actor);
        object.bytes(key!("change"), self.change);
        write_clock(&mut object, header);
        object.label(key!("kind"), "registry-change");
        object.text(key!("node"), header.node);
        object.number(key!("registry_sequence"), self.registry_sequence);
        finish(object, start, header)
    }
}

/// Kind `registry-rollback`: at a start, the registry did not hold the last change that this log holds, or another in
/// its place: somebody put an older or a foreign copy there. The start was refused. Keys: `recorded_sequence` (the
/// registry's number of that change), `store_sequence` (of the last change that the registry holds).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistryRollback {
    /// Number of the last change in this log.
    pub recorded_sequence: u64,
    /// Number of the last change in the registry.
    pub store_sequence: u64,
}

impl Record for RegistryRollback {
    const FOLLOWS: bool = true;

    fn kind(&self) -> Kind {
        Kind::RegistryRollback
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        let start = out.len();
        let mut object = Object::new(out);
        write_clock(&mut object, header);
        object.label(key!("kind"), "registry-rollback");
        object.text(key!("node"), header.node);
        object.number(key!("recorded_sequence"), self.recorded_sequence);
        let splice = write_sequence(&mut object, start);
        object.number(key!("store_sequence"), self.store_sequence);
        write_time(&mut object, header);
        object.number(key!("version"), VERSION);
        object.end();
        splice
    }
}

/// Kind `reviewers`: a site has other reviewers, from this record on. Keys: `number` and `sha256` of the statement, `site`
/// (absent for the default). The same keys stand in `reviewers` of a `start` record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReviewersChange<'a> {
    /// The site; none is the default.
    pub site: Option<&'a str>,
    /// Number of the statement.
    pub number: u64,
    /// SHA-256 of the statement.
    pub sha256: &'a [u8; 32],
}

impl Record for ReviewersChange<'_> {
    const FOLLOWS: bool = true;

    fn kind(&self) -> Kind {
        Kind::Reviewers
    }

    fn scope(&self) -> Scope<'_> {
        Scope { site: self.site, class: None }
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        let start = out.len();
        let mut object = Object::new(out);
        write_clock(&mut object, header);
        object.label(key!("kind"), "reviewers");
        object.text(key!("node"), header.node);
        object.number(key!("number"), self.number);
        let splice = write_sequence(&mut object, start);
        object.hex(key!("sha256"), self.sha256);
        object.optional_text(key!("site"), self.site);
        write_time(&mut object, header);
        object.number(key!("version"), VERSION);
        object.end();
        splice
    }
}

/// Kind `start`: the log's writer begins. Keys: `copied` (only if true), `durability`, `log` (the log's id), `on_failure`,
/// `origin`, `program`, `reviewers`, `window_ms`.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// The log's random id.
    pub log: &'a [u8; 16],
    /// The log's name, under which its checkpoints are signed.
    pub origin: &'a str,
    /// The reviewers in force: the last statement of the default and of each site that has its own.
    pub reviewers: &'a [ReviewersChange<'a>],
    /// The directory was copied or put back from a copy since the last start (A10).
    pub copied: bool,
    /// Name and version of the program.
    pub program: &'a str,
    /// Longest time, in milliseconds, that an answered request's record may be missing after a crash. 0: never.
    pub window_ms: u64,
    /// `before-answer` or `interval`.
    pub durability: &'static str,
    /// `refuse` or `serve-and-alarm`.
    pub on_failure: &'static str,
}

impl Record for Start<'_> {
    const FOLLOWS: bool = true;

    fn kind(&self) -> Kind {
        Kind::Start
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        let start = out.len();
        let mut object = Object::new(out);
        write_clock(&mut object, header);
        if self.copied {
            object.boolean(key!("copied"), true);
        }
        object.label(key!("durability"), self.durability);
        object.label(key!("kind"), "start");
        object.hex(key!("log"), self.log);
        object.text(key!("node"), header.node);
        object.label(key!("on_failure"), self.on_failure);
        object.text(key!("origin"), self.origin);
        object.text(key!("program"), self.program);
        object.array(key!("reviewers"), self.reviewers, |out, head| {
            let mut inner = Object::new(out);
            inner.number(key!("number"), head.number);
            inner.hex(key!("sha256"), head.sha256);
            inner.optional_text(key!("site"), head.site);
            inner.end();
        });
        let splice = write_sequence(&mut object, start);
        write_time(&mut object, header);
        object.number(key!("version"), VERSION);
        object.number(key!("window_ms"), self.window_ms);
        object.end();
        splice
    }
}

/// Kind `stop`: the writer ends after everything that was queued. Keys: `cause`.
#[derive(Debug, Clone, Copy)]
pub struct Stop<'a> {
    /// Why, such as a signal's name.
    pub cause: &'a str,
}

impl Record for Stop<'_> {
    const FOLLOWS: bool = true;

    fn kind(&self) -> Kind {
        Kind::Stop
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        let start = out.len();
        let mut object = Object::new(out);
        object.text(key!("cause"), self.cause);
        write_clock(&mut object, header);
        object.label(key!("kind"), "stop");
        object.text(key!("node"), header.node);
        finish(object, start, header)
    }
}

/// Kind `reload`: configuration and policies were read again. Keys: `error` (absent where it worked), `result`
/// (`ok` or `failed`), `snapshot`.
#[derive(Debug, Clone, Copy)]
pub struct Reload<'a> {
    /// Version of the snapshot in use afterwards.
    pub snapshot: u64,
    /// Why the new files were not taken.
    pub error: Option<&'a [u8]>,
}

impl Record for Reload<'_> {
    const FOLLOWS: bool = true;

    fn kind(&self) -> Kind {
        Kind::Reload
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        let start = out.len();
        let mut object = Object::new(out);
        write_clock(&mut object, header);
        object.optional_bytes(key!("error"), self.error);
        object.label(key!("kind"), "reload");
        object.text(key!("node"), header.node);
        object.label(key!("result"), if self.error.is_some() { "failed" } else { "ok" });
        let splice = write_sequence(&mut object, start);
        object.number(key!("snapshot"), self.snapshot);
        write_time(&mut object, header);
        object.number(key!("version"), VERSION);
        object.end();
        splice
    }
}

/// What a [`RevocationChange`] is about.
#[derive(Debug, Clone, Copy)]
pub enum RevocationSource<'a> {
    /// A CRL.
    List {
        /// It only lists changes to another one.
        is_delta: bool,
        /// Its number, hexadecimal.
        number: &'a str,
        /// When the next one is due, seconds since the epoch.
        next_update: i64,
        /// How many certificates it names.
        entries: u64,
    },
    /// An OCSP response.
    Answer {
        /// The certificate's serial number, hexadecimal.
        serial: &'a str,
        /// `good`, `revoked` or `unknown`.
        status: &'static str,
        /// Why it was revoked (RFC 5280 5.3.1).
        reason: Option<&'static str>,
    },
}

/// Kind `revocation-change`: a listener judges certificates by another CRL, or one's OCSP status is another (R27); the
/// first after a start tell what is in force. Keys: `change` (`taken`, or `dropped` where a list is used no more),
/// `issuer`, `listener`, `source` (a file and its place in it, or a URL), `this_update`, `what` (`crl`, `delta-crl` or
/// `ocsp`); for CRLs `entries`, `next_update`, `number`; for OCSP `reason`, `serial`, `status`. Times that this log's
/// clock has no name for are left out.
#[derive(Debug, Clone, Copy)]
pub struct RevocationChange<'a> {
    /// The listener.
    pub listener: &'a str,
    /// `taken` or `dropped`.
    pub change: &'static str,
    /// Where it came from.
    pub source: &'a [u8],
    /// Who issued it.
    pub issuer: &'a [u8],
    /// Of when it is, seconds since the epoch.
    pub this_update: i64,
    /// What it is.
    pub what: RevocationSource<'a>,
}

impl Record for RevocationChange<'_> {
    const FOLLOWS: bool = true;

    fn kind(&self) -> Kind {
        Kind::RevocationChange
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        let start = out.len();
        let mut object = Object::new(out);
        object.label(key!("change"), self.change);
        write_clock(&mut object, header);
        if let RevocationSource::List { entries, .. } = self.what {
            object.number(key!("entries"), entries);
        }
        object.bytes(key!("issuer"), self.issuer);
        object.label(key!("kind"), "revocation-change");
        object.text(key!("listener"), self.listener);
        if let RevocationSource::List { next_update, .. } = self.what {
            write_seconds(&mut object, key!("next_update"), next_update);
        }
        object.text(key!("node"), header.node);
        if let RevocationSource::List { number, .. } = self.what {
            object.text(key!("number"), number);
        }
        if let RevocationSource::Answer { reason: Some(reason), .. } = self.what {
            object.label(key!("reason"), reason);
        }
        let splice = write_sequence(&mut object, start);
        if let RevocationSource::Answer { serial, .. } = self.what {
            object.text(key!("serial"), serial);
        }
        object.bytes(key!("source"), self.source);
        if let RevocationSource::Answer { status, .. } = self.what {
            object.label(key!("status"), status);
        }
        write_seconds(&mut object, key!("this_update"), self.this_update);
        write_time(&mut object, header);
        object.number(key!("version"), VERSION);
        let what = match self.what {
            RevocationSource::List { is_delta: false, .. } => "crl",
            RevocationSource::List { is_delta: true, .. } => "delta-crl",
            RevocationSource::Answer { .. } => "ocsp",
        };
        object.label(key!("what"), what);
        object.end();
        splice
    }
}

/// Writes a time of whole seconds, if it is one that nanoseconds reach.
fn write_seconds(object: &mut Object<'_>, key: &'static str, seconds: i64) {
    if let Some(unix_ns) = seconds.checked_mul(1_000_000_000) {
        write_instant(object, key, unix_ns);
    }
}

/// Bytes that stood behind the last whole record after a crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// File that keeps them.
    pub file: String,
    /// Their number.
    pub bytes: u64,
    /// Their SHA-256.
    pub sha256: [u8; 32],
}

/// Kind `recovery`: the log was not ended by a `stop` record (A3). Keys: `last_sequence`, `torn` [{`bytes`, `file`,
/// `sha256`}], `unresolved` (request ids of intents without outcome), `unresolved_count`.
#[derive(Debug, Clone, Copy)]
pub struct Recovery<'a> {
    /// The last whole record's sequence number.
    pub last_sequence: u64,
    /// Tails kept aside.
    pub torn: &'a [TornTail],
    /// Intents whose outcome nobody recorded; the list may be cut, the count is not.
    pub unresolved: &'a [String],
    /// How many there are.
    pub unresolved_count: u64,
}

impl Record for Recovery<'_> {
    const FOLLOWS: bool = true;

    fn kind(&self) -> Kind {
        Kind::Recovery
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        let start = out.len();
        let mut object = Object::new(out);
        write_clock(&mut object, header);
        object.label(key!("kind"), "recovery");
        object.number(key!("last_sequence"), self.last_sequence);
        object.text(key!("node"), header.node);
        let splice = write_sequence(&mut object, start);
        write_time(&mut object, header);
        object.array(key!("torn"), self.torn, |out, tail| {
            let mut inner = Object::new(out);
            inner.number(key!("bytes"), tail.bytes);
            inner.text(key!("file"), &tail.file);
            inner.hex(key!("sha256"), &tail.sha256);
            inner.end();
        });
        object.array(key!("unresolved"), self.unresolved, |out, request| json::string(out, request));
        object.number(key!("unresolved_count"), self.unresolved_count);
        object.number(key!("version"), VERSION);
        object.end();
        splice
    }
}

/// Kind `audit-failure`: the log could not be written for a while (A5). Keys: `errno`, `error`, `failed_sequence`,
/// `operation`, `segment`, `unavailable_us`.
#[derive(Debug, Clone, Copy)]
pub struct AuditFailure<'a> {
    /// The system call that failed.
    pub operation: &'static str,
    /// The system's error number, where there is one.
    pub errno: Option<i32>,
    /// Its text.
    pub error: &'a str,
    /// The file that is finished.
    pub segment: &'a str,
    /// The first sequence number that was not acknowledged in that file.
    pub failed_sequence: u64,
    /// From the failure to this record, microseconds.
    pub unavailable_us: u64,
}

impl Record for AuditFailure<'_> {
    const FOLLOWS: bool = true;

    fn kind(&self) -> Kind {
        Kind::AuditFailure
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        let start = out.len();
        let mut object = Object::new(out);
        write_clock(&mut object, header);
        object.optional_number(key!("errno"), self.errno.and_then(|errno| u64::try_from(errno).ok()));
        object.text(key!("error"), self.error);
        object.number(key!("failed_sequence"), self.failed_sequence);
        object.label(key!("kind"), "audit-failure");
        object.text(key!("node"), header.node);
        object.label(key!("operation"), self.operation);
        object.text(key!("segment"), self.segment);
        let splice = write_sequence(&mut object, start);
        write_time(&mut object, header);
        object.number(key!("unavailable_us"), self.unavailable_us);
        object.number(key!("version"), VERSION);
        object.end();
        splice
    }
}

/// Kind `full`: no space is left for a new segment; the reserve holds this record and those after it (A6). Keys:
/// `error`.
#[derive(Debug, Clone, Copy)]
pub struct Full<'a> {
    /// What the system said.
    pub error: &'a str,
}

impl Record for Full<'_> {
    const FOLLOWS: bool = true;

    fn kind(&self) -> Kind {
        Kind::Full
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        let start = out.len();
        let mut object = Object::new(out);
        write_clock(&mut object, header);
        object.text(key!("error"), self.error);
        object.label(key!("kind"), "full");
        object.text(key!("node"), header.node);
        finish(object, start, header)
    }
}

/// Kind `gap`: records that could not be kept: follow-ups beyond the queue's bound, or requests served without one
/// under `serve-and-alarm`. Keys: `from`, `records`, `until`.
#[derive(Debug, Clone, Copy)]
pub struct Gap {
    /// How many are missing.
    pub records: u64,
    /// When the first went missing, nanoseconds since the Unix epoch.
    pub from_unix_ns: i64,
    /// When the last did.
    pub until_unix_ns: i64,
}

impl Record for Gap {
    const FOLLOWS: bool = true;

    fn kind(&self) -> Kind {
        Kind::Gap
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        let start = out.len();
        let mut object = Object::new(out);
        write_clock(&mut object, header);
        write_instant(&mut object, key!("from"), self.from_unix_ns);
        object.label(key!("kind"), "gap");
        object.text(key!("node"), header.node);
        object.number(key!("records"), self.records);
        let splice = write_sequence(&mut object, start);
        write_time(&mut object, header);
        write_instant(&mut object, key!("until"), self.until_unix_ns);
        object.number(key!("version"), VERSION);
        object.end();
        splice
    }
}
