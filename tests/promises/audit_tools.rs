//! What the promises of the audit log share: system calls that are watched or broken, load, and a reader that goes
//! on where it was.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gateway_audit::frame::SegmentHeader;
use gateway_audit::reader::{Bad, Checked, Verifier};
use gateway_tests::audit::{from_tiles, plain, plain_with, text, wal};
use gateway_tests::{Answer, Builder, Clinic, DOCTOR, Handshake, within};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A clinic whose log has the smallest files that are allowed.
pub fn small_log() -> Builder {
    Clinic::builder().config(|config| {
        config.set("audit", "segment_bytes", 1 << 20);
        config.set("audit", "reserve_bytes", 64 << 10);
    })
}

/// Breaks system calls of a running process until it is dropped.
pub struct Broken {
    strace: Child,
    _said: BufReader<ChildStderr>,
}

impl Broken {
    /// `how` as `strace -e inject=` takes it, such as `fdatasync:error=EIO:when=1`. Each thread counts for itself.
    pub fn inject(clinic: &Clinic, how: &str) -> Self {
        let mut strace = Command::new("strace")
            .args(["-f", "-o", "/dev/null", "-e", &format!("inject={how}"), "-p", &clinic.gateway.pid().to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace runs");
        let mut said = BufReader::new(strace.stderr.take().expect("its standard error"));
        let mut line = String::new();
        said.read_line(&mut line).expect("strace says something");
        assert!(line.contains("attached"), "strace: {line}");
        // Threads that slept are stopped once before calls of theirs can be broken.
        std::thread::sleep(Duration::from_millis(50));
        Self { strace, _said: said }
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        // Told to end, strace leaves the process in good order.
        let pid = i32::try_from(self.strace.id()).ok().and_then(Pid::from_raw).expect("a process id");
        let _ = kill_process(pid, Signal::TERM);
        let _ = self.strace.wait();
    }
}

/// Seconds since the epoch, as `strace -ttt` writes them.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

/// One answer that was received to its end.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    pub id: String,
    pub status: u16,
    /// Of a refusal.
    pub label: String,
    pub changes: bool,
    pub took: Duration,
    /// When the request was sent, see [`now`].
    pub sent: f64,
    /// The client's port.
    pub port: u16,
}

impl Acknowledged {
    pub fn new(answer: &Answer, changes: bool) -> Self {
        let label = if answer.status >= 400 { answer.problem() } else { String::new() };
        let id = answer.field("x-request-id").to_owned();
        assert!(!id.is_empty(), "an answer without its request's id: {answer:?}");
        Self { id, status: answer.status, label, changes, took: Duration::ZERO, sent: 0.0, port: 0 }
    }

    /// The log itself was the reason to refuse, so that the log need not say so.
    pub fn is_about_the_log(&self) -> bool {
        self.status == 503 && self.label.starts_with("audit-")
    }
}

/// Clients that read and create in turn, each on a connection of its own, until they are told to stop.
pub struct Load {
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Acknowledged>>>,
}

impl Load {
    pub fn start(handshake: &Handshake, clients: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let client = |number| {
            let (handshake, over) = (handshake.clone(), over.clone());
            std::thread::spawn(move || run_client(&handshake, &over, number))
        };
        let clients = (0..clients).map(client).collect();
        Self { over, clients }
    }

    pub fn stop(self) -> Vec<Acknowledged> {
        self.over.store(true, Ordering::Relaxed);
        self.clients.into_iter().flat_map(|client| client.join().expect("a client panicked")).collect()
    }
}

fn run_client(handshake: &Handshake, over: &AtomicBool, number: usize) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    let mut turn = number;
    while !over.load(Ordering::Relaxed) {
        let Ok(mut wire) = handshake.try_open() else {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        let port = wire.local().port();
        while !over.load(Ordering::Relaxed) {
            turn += 1;
            let changes = turn.is_multiple_of(2);
            let (sent, began) = (now(), Instant::now());
            if changes {
                wire.send_request("POST", "/fhir/Observation", &[], b"{}");
            } else {
                wire.send_request("GET", "/fhir/Patient/1", &[], b"");
            }
            let Ok(answer) = wire.try_answer() else { break };
            let took = began.elapsed();
            acknowledged.push(Acknowledged { took, sent, port, ..Acknowledged::new(&answer, changes) });
            if answer.field("connection") == "close" {
                break;
            }
        }
    }
    acknowledged
}

/// A request on a connection of its own: its answer, if there is one.
pub fn try_ask(clinic: &Clinic, changes: bool) -> Option<Acknowledged> {
    let mut wire = clinic.handshake(DOCTOR).try_open().ok()?;
    if changes {
        wire.send_request("POST", "/fhir/Observation", &[], b"{}");
    } else {
        wire.send_request("GET", "/fhir/Patient/1", &[], b"");
    }
    wire.try_answer().ok().map(|answer| Acknowledged::new(&answer, changes))
}

/// As [`try_ask`].
pub fn ask(clinic: &Clinic, changes: bool) -> Acknowledged {
    try_ask(clinic, changes).unwrap_or_else(|| panic!("no answer; the gateway said: {}", clinic.gateway.said()))
}

/// What the log says, read once and then only where it has grown.
#[derive(Default)]
pub struct Log {
    directory: PathBuf,
    /// The folder of data keys, where it is not that beside the directory.
    keys: Option<PathBuf>,
    verifier: Verifier,
    done: BTreeSet<String>,
    /// Kinds of the records of each request.
    pub requests: BTreeMap<String, BTreeSet<String>>,
    /// Status of each request that came to an answer or was given up.
    pub statuses: BTreeMap<String, u64>,
    /// How many records of each kind there are.
    pub kinds: BTreeMap<String, u64>,
    /// Records that are about the gateway itself.
    pub events: Vec<Value>,
    /// The last record's sequence number.
    pub sequence: u64,
}

impl Log {
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), ..Self::default() }
    }

    /// The whole log of a gateway that runs or has ended.
    pub fn read(directory: &Path) -> Self {
        Self::read_with(directory, None)
    }

    /// As [`Log::read`], with the folder of data keys.
    pub fn read_with(directory: &Path, keys: Option<&Path>) -> Self {
        let mut last = String::new();
        let read = within(Duration::from_secs(2), || {
            let mut log = Self { keys: keys.map(Path::to_owned), ..Self::new(directory) };
            log.finish().map_err(|bad| last = bad.to_string()).ok().map(|_| log)
        });
        read.unwrap_or_else(|| panic!("the audit log is broken: {last}"))
    }

    /// Reads the segments that are followed by another one.
    pub fn follow(&mut self) -> Result<(), Bad> {
        self.advance(false).map(drop)
    }

    /// Reads all that is there. Nothing can be read after it.
    pub fn finish(&mut self) -> Result<Option<Checked>, Bad> {
        self.advance(true)
    }

    fn advance(&mut self, to_the_end: bool) -> Result<Option<Checked>, Bad> {
        let names = segments(&self.directory);
        let wal = wal(&self.directory);
        let mut last = None;
        for (place, name) in names.iter().enumerate() {
            if self.done.contains(name) {
                continue;
            }
            let next = names.get(place + 1).and_then(|next| header(&wal.join(next)));
            if next.is_none() && !to_the_end {
                break;
            }
            let Ok(bytes) = std::fs::read(wal.join(name)) else {
                // Its records are in tiles by now.
                continue;
            };
            if next.is_none() && SegmentHeader::decode(&bytes).is_err() {
                // It is just being made.
                break;
            }
            let mut records = Vec::new();
            let first = SegmentHeader::decode(&bytes).map_or(0, |header| header.first_sequence);
            if first > self.sequence + 1 {
                let missed = from_tiles(&self.directory, first);
                records.extend(missed.into_iter().filter(|(sequence, _)| *sequence > self.sequence));
                self.verifier = Verifier::new();
            }
            let checked = self.verifier.segment(name, &bytes, next.as_ref(), |_, frame| {
                records.push((frame.sequence, frame.record.to_vec()));
            })?;
            for (sequence, record) in records {
                let record = match &self.keys {
                    Some(keys) => plain_with(keys, sequence, &record),
                    None => plain(&self.directory, sequence, &record),
                };
                self.take(serde_json::from_slice(&record).expect("every record is JSON"));
            }
            self.done.insert(name.clone());
            last = Some(checked);
        }
        Ok(last)
    }

    fn take(&mut self, record: Value) {
        assert_eq!(record["sequence"], self.sequence + 1, "neither a gap nor a repeat: {record}");
        self.sequence += 1;
        let kind = text(&record, "kind").to_owned();
        *self.kinds.entry(kind.clone()).or_default() += 1;
        match text(&record, "request") {
            "" => self.events.push(record),
            request => {
                if let Some(status) = record["status"].as_u64() {
                    self.statuses.insert(request.to_owned(), status);
                }
                assert!(
                    self.requests.entry(request.to_owned()).or_default().insert(kind),
                    "two records of one kind: {record}"
                );
            }
        }
    }

    pub fn count(&self, kind: &str) -> u64 {
        self.kinds.get(kind).copied().unwrap_or(0)
    }

    pub fn events(&self, kind: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| text(event, "kind") == kind).collect()
    }

    /// Panics unless the log holds what each of these answers promised.
    pub fn holds(&self, acknowledged: &[Acknowledged]) {
        for answer in acknowledged.iter().filter(|answer| !answer.is_about_the_log()) {
            let kinds = self.requests.get(&answer.id);
            let has = |kind: &str| kinds.is_some_and(|kinds| kinds.contains(kind));
            let held = if answer.changes { has("intent") && has("outcome") } else { has("request") };
            // A request that was refused before it could change anything has one record.
            let refused = answer.status >= 400 && has("request");
            assert!(held || refused, "acknowledged and not in the log: {answer:?}; the log has {kinds:?}");
        }
    }
}

fn header(segment: &Path) -> Option<SegmentHeader> {
    SegmentHeader::decode(&std::fs::read(segment).ok()?).ok()
}

/// The segments' names, in order.
pub fn segments(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(wal(directory)).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("segment-")).collect();
    names.sort_unstable();
    names
}

/// Numbers that look random (xorshift64*).
pub struct Dice(u64);

impl Dice {
    /// Seeded by the clock; says so, for whoever wants to see the same again.
    pub fn new() -> Self {
        let seed = std::env::var("SEKISHO_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| now().to_bits()) | 1;
        println!("SEKISHO_SEED={seed}");
        Self(seed)
    }

    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        from + (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % (to - from)
    }

    /// Other dice, which fall as the seed says, too.
    pub fn another(&mut self) -> Self {
        Self(self.between(1, 1 << 30) << 20 | 1)
    }
}
