//! A2: complete. Ten thousand mixed requests from several clients at once, over HTTP/1.1 and HTTP/2: reads, changes,
//! denials, nonsense, resets, half-closed connections, aborted uploads; and the gateway is killed twice in the middle.
//! Then three who saw them compare by request id: the clients their answers, the backend its requests, the log its
//! records.
//!
//! `SEKISHO_SEED` repeats the choice of requests, though not their interleaving.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway_audit::header::{FIXED, Kind, VERSION};
use gateway_tests::audit::wal;
use gateway_tests::h2::{self, Frames, kind};
use gateway_tests::{Answer, Clinic, DOCTOR, Handshake, Reply, Seen, Wire, until};

use crate::audit_kill::told_to_the_end;
use crate::audit_tools::{Acknowledged, Dice, Log, segments, small_log};

const REQUESTS: usize = 10_000;
const CLIENTS: usize = 8;
const KILLS: usize = 2;
/// Of the changing requests that the backend gets, it looks one in so many up in the log before it answers.
const LOOKED_UP: usize = 7;
/// HTTP/2's CANCEL (RFC 9113 section 7).
const CANCEL: [u8; 4] = [0, 0, 0, 8];

const READ: &str = "/fhir/Patient/1";
const CHANGE: &str = "/fhir/Observation";
const HELD: &str = "/fhir/Observation?held";
const DENIED: &str = "/admin/page";

/// One of the clients: what it is to be, and what it has got.
struct Client {
    handshake: Handshake,
    address: std::net::SocketAddr,
    host: String,
    dice: Dice,
    sent: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    answers: Vec<Acknowledged>,
}

impl Client {
    fn run(mut self) -> Vec<Acknowledged> {
        while !self.over.load(Ordering::Relaxed) {
            let kept = match self.dice.between(0, 4) {
                0 => self.over_h2(),
                1 => self.over_frames(),
                _ => self.over_h1(),
            };
            if kept.is_none() {
                // The gateway is down; it may be gone for good.
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        self.answers
    }

    fn counts(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    fn takes(&mut self, answer: &Answer, changes: bool) {
        self.answers.push(Acknowledged::new(answer, changes));
    }

    /// Requests on one connection, until one of them ends it.
    fn over_h1(&mut self) -> Option<()> {
        let mut wire = self.handshake.try_open().ok()?;
        loop {
            if self.over.load(Ordering::Relaxed) {
                return Some(());
            }
            self.counts();
            let changes = self.dice.between(0, 2) == 0;
            let (method, target, body): (_, _, &[u8]) =
                if changes { ("POST", CHANGE, b"{}") } else { ("GET", READ, b"") };
            match self.dice.between(0, 40) {
                0 => return self.nonsense(wire),
                1 => return self.half_closes(wire, method, target, body, changes),
                2 => {
                    wire.send_request(method, target, &[], body);
                    std::thread::sleep(Duration::from_micros(self.dice.between(0, 3_000)));
                    wire.reset();
                    return Some(());
                }
                3..=5 => return self.gives_up(wire),
                6 | 7 => wire.send_request(method, DENIED, &[], body),
                8 => wire.send_request(method, "/no/such/route", &[], body),
                9 => wire.send_request(method, "/fhir/../admin", &[], body),
                _ => wire.send_request(method, target, &[], body),
            }
            let answer = wire.try_answer().ok()?;
            self.takes(&answer, changes);
            if answer.field("connection") == "close" {
                return Some(());
            }
        }
    }

    fn nonsense(&mut self, mut wire: Wire) -> Option<()> {
        wire.send(format!("GET {READ} HTTP/1.1\r\nHost: {}\r\nContent-Length: +1\r\n\r\n", self.host));
        let answer = wire.try_answer().ok()?;
        assert_eq!(answer.status, 400, "{answer:?}");
        self.takes(&answer, false);
        Some(())
    }

    /// A whole request, then the end of this half of the stream: it is answered all the same.
    fn half_closes(&mut self, mut wire: Wire, method: &str, target: &str, body: &[u8], changes: bool) -> Option<()> {
        wire.send_request(method, target, &[], body);
        wire.half_close();
        let answer = wire.try_answer().ok()?;
        self.takes(&answer, changes);
        Some(())
    }

    /// An upload that stops short: with a goodbye, without one, or with the stream half-closed.
    fn gives_up(&mut self, mut wire: Wire) -> Option<()> {
        wire.send(format!("POST {CHANGE} HTTP/1.1\r\nHost: {}\r\nContent-Length: 40000\r\n\r\n", self.host));
        wire.send(vec![b'x'; usize::try_from(self.dice.between(1, 39_999)).expect("small")]);
        std::thread::sleep(Duration::from_micros(self.dice.between(0, 3_000)));
        match self.dice.between(0, 3) {
            0 => wire.reset(),
            1 => drop(wire),
            _ => {
                wire.half_close();
                if let Ok(answer) = wire.try_answer() {
                    self.takes(&answer, true);
                }
            }
        }
        Some(())
    }

    fn over_h2(&mut self) -> Option<()> {
        let mut client = h2::Client::try_open(&self.handshake, self.address).ok()?;
        for _ in 0..self.dice.between(1, 40) {
            if self.over.load(Ordering::Relaxed) {
                return Some(());
            }
            self.counts();
            let changes = self.dice.between(0, 2) == 0;
            let target = match self.dice.between(0, 10) {
                0 => DENIED,
                _ if changes => CHANGE,
                _ => READ,
            };
            let (method, body): (_, &[u8]) = if changes { ("POST", b"{}") } else { ("GET", b"") };
            let answer = client.request(method, target, &[], body).ok()?;
            self.takes(&answer, changes);
        }
        Some(())
    }

    /// Streams that are reset at once, in the middle of their body, or while the backend is at it.
    fn over_frames(&mut self) -> Option<()> {
        let wire = self.handshake.clone().alpn("h2").try_open().ok()?;
        let mut frames = Frames::on(wire);
        let host = self.host.clone();
        for stream in (1..).step_by(2).take(usize::try_from(self.dice.between(1, 20)).expect("small")) {
            if self.over.load(Ordering::Relaxed) {
                return Some(());
            }
            self.counts();
            let changes = self.dice.between(0, 2) == 0;
            let fields =
                if changes { frames.request("POST", CHANGE, &host) } else { frames.request("GET", READ, &host) };
            frames.headers(stream, &fields, !changes);
            if changes {
                let last = self.dice.between(0, 2) == 0;
                frames.send(kind::DATA, u8::from(last), stream, b"{}");
            }
            std::thread::sleep(Duration::from_micros(self.dice.between(0, 2_000)));
            frames.send(kind::RST_STREAM, 0, stream, &CANCEL);
        }
        if self.dice.between(0, 2) == 0 {
            frames.wire.reset();
        }
        Some(())
    }
}

/// The backend's view: it looks some changes up in the log before it does anything about them.
fn looks_up(clinic: &Clinic, missed: &Arc<Mutex<Vec<String>>>, looked: &Arc<AtomicUsize>) {
    let directory = clinic.prepared.path("audit");
    let (missed, looked) = (Arc::clone(missed), Arc::clone(looked));
    let changes = AtomicUsize::new(0);
    clinic.backend().answers(move |seen| {
        if seen.method() == "POST" && changes.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOKED_UP) {
            looked.fetch_add(1, Ordering::Relaxed);
            let id = id_of(seen);
            if !is_intended(&directory, &id) {
                missed.lock().expect("no panics").push(id);
            }
        }
        let reply = Reply::new(200, "{\"ok\":true}");
        if seen.target() == HELD { reply.after(Duration::from_secs(30)) } else { reply }
    });
}

fn id_of(seen: &Seen) -> String {
    seen.values("x-request-id").pop().expect("the backend is told the request's id")
}

/// The intent is in the files at this moment: in one of the last two, where a new one has just been begun.
fn is_intended(directory: &Path, id: &str) -> bool {
    let names = segments(directory);
    let files: Vec<PathBuf> = names.iter().rev().take(2).map(|name| wal(directory).join(name)).collect();
    let has = |file: &PathBuf| {
        let bytes = std::fs::read(file).unwrap_or_default();
        let places = bytes
            .windows(id.len())
            .enumerate()
            .filter(|(_, window)| *window == id.as_bytes())
            .map(|(place, _)| place)
            .collect::<Vec<_>>();
        // The id ends the clear header, in which the kind stands second.
        places.iter().any(|place| {
            bytes[..*place].last_chunk::<FIXED>().is_some_and(|header| header[..2] == [VERSION, Kind::Intent.number()])
        })
    };
    files.iter().any(has)
}

#[test]
fn a2_clients_backend_and_log_agree_on_ten_thousand_requests() {
    let mut dice = Dice::new();
    let (missed, looked) = (Arc::default(), Arc::default());
    let sent: Arc<AtomicUsize> = Arc::default();
    let mut answers = Vec::new();
    let mut prepared = small_log().limit("h2_resets", 10_000).prepare();
    for round in 0..=KILLS {
        let mut clinic = prepared.start();
        looks_up(&clinic, &missed, &looked);
        let over: Arc<AtomicBool> = Arc::default();
        let client = |_| Client {
            handshake: clinic.handshake(DOCTOR),
            address: clinic.door.address,
            host: format!("localhost:{}", clinic.door.address.port()),
            dice: dice.another(),
            sent: Arc::clone(&sent),
            over: Arc::clone(&over),
            answers: Vec::new(),
        };
        let clients: Vec<_> = (0..CLIENTS).map(client).map(|client| std::thread::spawn(|| client.run())).collect();
        let enough = REQUESTS * (round + 1) / (KILLS + 1);
        let mut before = 0;
        while sent.load(Ordering::Relaxed) < enough {
            until("more requests", || Some(sent.load(Ordering::Relaxed)).filter(|&now| now > before));
            before = sent.load(Ordering::Relaxed);
        }
        if round < KILLS {
            // At least one change is at the backend when the gateway goes.
            let mut held = clinic.wire(DOCTOR);
            held.send_request("POST", HELD, &[], b"{}");
            let is_held = |seen: &&Seen| seen.target() == HELD;
            until("the held change", || (clinic.backend().seen().iter().filter(is_held).count() > round).then_some(()));
            clinic.kill();
        }
        over.store(true, Ordering::Relaxed);
        for client in clients {
            answers.extend(client.join().expect("a client panicked"));
        }
        prepared = clinic.stop();
    }
    let directory = prepared.path("audit");
    let log = Log::read(&directory);
    // Of a head that was cut short by the gateway's end, nobody can make a request.
    let whole = prepared.backend.seen();
    let broken = prepared.backend.broken().into_iter().filter(|seen| seen.head.ends_with(b"\r\n\r\n"));
    let broken: Vec<_> = broken.collect();
    agree(&log, &answers, &whole, &broken);
    assert_eq!(log.count("recovery"), KILLS as u64, "{:?}", log.kinds);
    let unresolved = told_to_the_end(&log, &[whole.clone(), broken.clone()].concat());
    assert!(unresolved >= KILLS, "the held ones at least");
    assert_eq!(*missed.lock().expect("no panics"), Vec::<String>::new(), "the backend had them before the log did");
    let looked = looked.load(Ordering::Relaxed);
    assert!(looked > 100, "{looked} looked up");
    println!(
        "{} sent, {} answered, {} whole and {} broken at the backend, {looked} looked up there, {unresolved} unresolved",
        sent.load(Ordering::Relaxed),
        answers.len(),
        whole.len(),
        broken.len()
    );
    println!("{} records, {:?}", log.sequence, log.kinds);
}

/// The three-way match.
fn agree(log: &Log, answers: &[Acknowledged], whole: &[Seen], broken: &[Seen]) {
    // The clients' answers have their records, each with the status that the client saw, and an id of its own.
    log.holds(answers);
    let mut answered = BTreeMap::new();
    for answer in answers {
        assert!(answered.insert(&answer.id, answer).is_none(), "two answers of one id: {answer:?}");
        assert_eq!(log.statuses.get(&answer.id), Some(&u64::from(answer.status)), "{answer:?}");
    }
    // Each way to be answered was met.
    for label in ["", "policy-no-permit", "route-unknown", "target-not-normal", "request-ambiguous"] {
        assert!(answers.iter().any(|answer| answer.label == label), "no answer was `{label}`");
    }
    assert!(answers.len() > REQUESTS / 2, "only {} answers", answers.len());
    assert!(broken.len() > 20, "only {} aborted uploads came to the backend", broken.len());

    // What the backend got was permitted, recorded, and got once.
    let at_backend: BTreeSet<_> = whole.iter().chain(broken).map(id_of).collect();
    let mut changes = BTreeSet::new();
    let mut unrecorded = 0;
    for seen in whole.iter().chain(broken) {
        let id = id_of(seen);
        if seen.method() == "POST" {
            assert!(changes.insert(id.clone()), "a change was sent twice: {id}");
            let kinds = log.requests.get(&id);
            assert!(kinds.is_some_and(|kinds| kinds.contains("intent")), "a change without intent: {id}, {kinds:?}");
        } else if !log.requests.contains_key(&id) {
            // A read that nobody was answered may be without a record if the gateway was killed meanwhile.
            assert!(!answered.contains_key(&id), "{id}");
            unrecorded += 1;
        }
        if let Some(answer) = answered.get(&id) {
            assert!(!answer.label.starts_with("policy-"), "denied, and at the backend: {answer:?}");
        }
    }
    println!("{unrecorded} reads were at the backend when the gateway was killed");
    // Streams of HTTP/2 are reset within the same connection, so that a client can have some of them there.
    assert!(unrecorded <= CLIENTS * KILLS * 4, "{unrecorded} reads of the backend are in no record");

    // What the log says was answered by the backend was at the backend.
    for (id, status) in &log.statuses {
        assert!(*status != 200 || at_backend.contains(id), "the log says that the backend answered {id}");
    }
}
