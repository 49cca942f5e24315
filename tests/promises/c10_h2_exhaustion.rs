//! C10: an HTTP/2 peer that makes the gateway work for next to nothing is stopped after a bounded number of frames.
//! Meanwhile others are served, memory is bounded, and the backend never has more to do than the streams allow.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gateway_tests::audit::{is, text};
use gateway_tests::h2::{END_HEADERS, END_STREAM, Frames, encode, hpack, kind};
use gateway_tests::{Clinic, DOCTOR, Ended, Handshake, Reply, until};

const PRIORITY: u8 = 2;
const NO_ERROR: u32 = 0;
const ENHANCE_YOUR_CALM: u32 = 0xb;
const STREAMS: usize = 32;
const MIB: u64 = 1024 * 1024;
/// What any one attack may cost the gateway in memory.
const MEMORY: u64 = 64 * MIB;
/// Requests that one connection may cost the backend in all: what may be open at once, and what may be reset before
/// the connection is ended (`h2_resets`), with as much again for what is under way.
const BACKEND: usize = 2 * (STREAMS + 100);

/// How a flood was ended.
#[derive(Debug)]
struct Stop {
    /// Units sent until it was.
    sent: usize,
    /// The code of GOAWAY; none where the connection was closed without one, or where the flood ran out.
    goaway: Option<u32>,
    /// The connection is over.
    ended: bool,
    /// Frames that came back.
    resets: usize,
    answers: usize,
}

/// Sends `unit(0)`, `unit(1)`, … in small packets until the connection ends or there are `most`, and reads what comes.
fn flood(frames: &mut Frames, most: usize, mut unit: impl FnMut(usize) -> Vec<u8>) -> Stop {
    let mut stop = Stop { sent: 0, goaway: None, ended: false, resets: 0, answers: 0 };
    while stop.sent < most && !stop.ended {
        let mut packet = Vec::new();
        while packet.len() < 8 * 1024 && stop.sent < most {
            packet.extend(unit(stop.sent));
            stop.sent += 1;
        }
        frames.wire.send(packet);
        frames.wire.set_patience(Duration::from_millis(1));
        read(frames, &mut stop);
    }
    if !stop.ended && stop.goaway.is_none() {
        frames.wire.set_patience(Duration::from_millis(500));
        read(frames, &mut stop);
    }
    stop
}

fn read(frames: &mut Frames, stop: &mut Stop) {
    loop {
        match frames.next_frame() {
            Ok(frame) => match frame.kind {
                kind::GOAWAY => {
                    let code = frame.payload[4..8].try_into().map(u32::from_be_bytes).expect("a code");
                    if stop.goaway.is_none_or(|before| before == NO_ERROR) {
                        stop.goaway = Some(code);
                    }
                }
                kind::RST_STREAM => stop.resets += 1,
                kind::HEADERS => stop.answers += 1,
                _ => {}
            },
            Err(Ended::Silent) => return,
            Err(_) => {
                stop.ended = true;
                return;
            }
        }
    }
}

fn memory(clinic: &Clinic, key: &str) -> u64 {
    let path = format!("/proc/{}/status", clinic.gateway.pid());
    let status = std::fs::read_to_string(Path::new(&path)).expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a line");
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// A clinic whose backend takes its time, except for `/open`.
fn clinic() -> Clinic {
    let clinic = Clinic::builder().limit("h2_concurrent_streams", i64::try_from(STREAMS).expect("few")).start();
    clinic.backend().answers(|seen| {
        let reply = Reply::new(200, "{}");
        if seen.target().starts_with("/open") { reply } else { reply.after(Duration::from_secs(2)) }
    });
    clinic
}

/// Asks as somebody else, again and again, and remembers the longest wait.
fn bystander(handshake: Handshake, over: Arc<AtomicBool>) -> std::thread::JoinHandle<(usize, Duration)> {
    std::thread::spawn(move || {
        let mut wire = handshake.open();
        let (mut served, mut longest) = (0, Duration::ZERO);
        while !over.load(Ordering::Relaxed) || served < 3 {
            let begun = Instant::now();
            assert_eq!(wire.get("/open/bystander").status, 200);
            longest = longest.max(begun.elapsed());
            served += 1;
            std::thread::sleep(Duration::from_millis(5));
        }
        (served, longest)
    })
}

/// Runs an attack within all bounds and returns how it was stopped.
fn attack(clinic: &Clinic, name: &str, run: impl FnOnce(&mut Frames) -> Stop) -> Stop {
    let before = memory(clinic, "VmRSS");
    let over = Arc::new(AtomicBool::new(false));
    let bystander = bystander(clinic.handshake(DOCTOR), Arc::clone(&over));
    let mut frames = clinic.frames(DOCTOR);
    let local = frames.wire.local();
    let begun = Instant::now();
    let stop = run(&mut frames);
    let took = begun.elapsed();
    over.store(true, Ordering::Relaxed);
    let (served, longest) = bystander.join().expect("the bystander is served");
    if stop.ended {
        let closed = clinic.wait_for_record("the connection's end", |record| {
            is(record, "connection-closed") && text(record, "connection.source") == local.to_string()
        });
        let by_us = stop.goaway == Some(ENHANCE_YOUR_CALM);
        let cause = text(&closed, "cause");
        assert!(!by_us || cause == "protocol-abuse", "{name}: {closed:#}");
    }
    let grown = memory(clinic, "VmHWM").saturating_sub(before);
    let asked = clinic.backend().seen().iter().filter(|seen| !seen.target().starts_with("/open")).count();
    println!(
        "{name}: {stop:?} in {took:?}; backend {asked} requests, memory +{} KiB, bystander {served} answers, longest {longest:?}",
        grown / 1024
    );
    assert!(grown < MEMORY, "{name}: memory grew by {} KiB", grown / 1024);
    assert!(asked <= BACKEND, "{name}: the backend got {asked} requests");
    assert!(longest < Duration::from_secs(2), "{name}: somebody else waited {longest:?}");
    drop(frames);
    assert_eq!(clinic.wire(DOCTOR).get("/open/after").status, 200, "{name}");
    stop
}

/// Stopped for abuse within `bound` units, and one record says so.
fn is_stopped(name: &str, bound: usize, run: impl FnOnce(&mut Frames) -> Stop) {
    let clinic = clinic();
    let stop = attack(&clinic, name, run);
    assert!(stop.ended, "{name}: the connection goes on: {stop:?}");
    assert!(stop.sent <= bound, "{name}: {stop:?}");
    let records = clinic.records();
    let abuse = |record: &&serde_json::Value| text(record, "cause") == "protocol-abuse";
    let found = records.iter().filter(abuse).count();
    assert_eq!(found, 1, "{name}: {stop:?}; records of the end: {:#?}", ends(&records));
    let cuts = clinic.metric("sekisho_connections_cut_total", &[("reason", "protocol-abuse")]);
    assert!((cuts - 1.0).abs() < f64::EPSILON, "{name}: {cuts}");
}

fn ends(records: &[serde_json::Value]) -> Vec<&serde_json::Value> {
    records.iter().filter(|record| is(record, "connection-closed")).collect()
}

fn stream(number: usize) -> u32 {
    u32::try_from(number * 2 + 1).expect("a stream's number")
}

fn get(authority: &str, target: &str) -> Vec<u8> {
    hpack(&[
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":authority", authority.as_bytes()),
        (b":path", target.as_bytes()),
    ])
}

fn post(authority: &str, length: &str) -> Vec<u8> {
    hpack(&[
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":authority", authority.as_bytes()),
        (b":path", b"/fhir/Observation"),
        (b"content-length", length.as_bytes()),
    ])
}

fn authority(frames: &Frames) -> String {
    frames.wire.host()
}

#[test]
fn c10_rapid_reset() {
    is_stopped("10 000 HEADERS and RST_STREAM", 5_000, |frames| {
        let block = get(&authority(frames), "/fhir/Patient/1");
        flood(frames, 10_000, |n| {
            let mut unit = encode(kind::HEADERS, END_HEADERS | END_STREAM, stream(n), &block);
            unit.extend(encode(kind::RST_STREAM, 0, stream(n), &8_u32.to_be_bytes()));
            unit
        })
    });
}

/// One act after HEADERS that the server has to answer by a reset (CVE-2025-8671).
type Act = fn(u32) -> Vec<u8>;

fn made_you_reset(name: &str, ends: bool, act: Act) {
    let clinic = clinic();
    let stop = attack(&clinic, name, |frames| {
        let authority = authority(frames);
        let block = if ends { get(&authority, "/fhir/Patient/1") } else { post(&authority, "4") };
        let flags = if ends { END_HEADERS | END_STREAM } else { END_HEADERS };
        flood(frames, 10_000, |n| {
            let mut unit = encode(kind::HEADERS, flags, stream(n), &block);
            unit.extend(act(stream(n)));
            unit
        })
    });
    assert!(stop.ended || stop.goaway.is_some(), "{name}: {stop:?}");
    assert!(stop.sent < 5_000, "{name}: {stop:?}");
    assert!(stop.resets + stop.answers <= stop.sent, "{name}: {stop:?}");
}

#[test]
fn c10_made_you_reset_by_an_empty_window_update() {
    made_you_reset("WINDOW_UPDATE of 0", true, |stream| encode(kind::WINDOW_UPDATE, 0, stream, &[0; 4]));
}

#[test]
fn c10_made_you_reset_by_a_window_that_overflows() {
    made_you_reset("WINDOW_UPDATE beyond 2^31-1", true, |stream| {
        encode(kind::WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes())
    });
}

#[test]
fn c10_made_you_reset_by_headers_after_the_end() {
    made_you_reset("HEADERS on a half-closed stream", true, |stream| {
        encode(kind::HEADERS, END_HEADERS | END_STREAM, stream, &hpack(&[(b"x", b"y")]))
    });
}

#[test]
fn c10_made_you_reset_by_data_after_the_end() {
    made_you_reset("DATA on a half-closed stream", true, |stream| encode(kind::DATA, 0, stream, b"x"));
}

#[test]
fn c10_made_you_reset_by_a_stream_that_depends_on_itself() {
    made_you_reset("PRIORITY on itself", true, |stream| {
        encode(PRIORITY, 0, stream, &[&stream.to_be_bytes()[..], &[16]].concat())
    });
}

#[test]
fn c10_made_you_reset_by_a_priority_of_the_wrong_length() {
    made_you_reset("PRIORITY of 4 bytes", true, |stream| encode(PRIORITY, 0, stream, &[0; 4]));
}

#[test]
fn c10_made_you_reset_by_a_body_of_the_wrong_length() {
    made_you_reset("DATA beyond Content-Length", false, |stream| encode(kind::DATA, 0, stream, b"too long"));
    made_you_reset("DATA short of Content-Length", false, |stream| encode(kind::DATA, END_STREAM, stream, b"x"));
}

#[test]
fn c10_continuation_flood() {
    for (name, payload) in [("CONTINUATION", hpack(&[(b"x", &[b'y'; 64][..])])), ("empty CONTINUATION", Vec::new())] {
        let clinic = clinic();
        let stop = attack(&clinic, name, |frames| {
            let block = get(&authority(frames), "/fhir/Patient/1");
            flood(frames, 100_000, |n| match n {
                0 => encode(kind::HEADERS, END_STREAM, 1, &block),
                _ => encode(kind::CONTINUATION, 0, 1, &payload),
            })
        });
        assert!(stop.ended, "{name}: {stop:?}");
        assert!(stop.sent < 10_000, "{name}: {stop:?}");
        assert!(clinic.backend().seen().iter().all(|seen| seen.target().starts_with("/open")), "{name}");
        assert_eq!(
            ends(&clinic.records()).iter().filter(|end| text(end, "cause") == "protocol-abuse").count(),
            1,
            "{name}: {stop:?}"
        );
    }
}

#[test]
fn c10_a_million_empty_data_frames() {
    is_stopped("1 000 000 empty DATA", 20_000, |frames| {
        let block = post(&authority(frames), "4");
        flood(frames, 1_000_000, |n| match n {
            0 => encode(kind::HEADERS, END_HEADERS, 1, &block),
            _ => encode(kind::DATA, 0, 1, b""),
        })
    });
}

#[test]
fn c10_data_frames_of_padding_only() {
    // PADDED (RFC 9113 section 6.1): a pad length and nothing but padding, so that the frame is not empty.
    is_stopped("100 000 DATA of padding", 20_000, |frames| {
        let block = post(&authority(frames), "4");
        flood(frames, 100_000, |n| match n {
            0 => encode(kind::HEADERS, END_HEADERS, 1, &block),
            _ => encode(kind::DATA, 8, 1, &[0]),
        })
    });
}

#[test]
fn c10_settings_flood() {
    is_stopped("SETTINGS", 20_000, |frames| flood(frames, 100_000, |_| encode(kind::SETTINGS, 0, 0, b"")));
    is_stopped("SETTINGS of six", 20_000, |frames| {
        let setting = [0, 3, 0, 0, 0, 100].repeat(6);
        flood(frames, 100_000, |_| encode(kind::SETTINGS, 0, 0, &setting))
    });
}

#[test]
fn c10_ping_flood() {
    is_stopped("PING", 20_000, |frames| flood(frames, 100_000, |_| encode(kind::PING, 0, 0, &[7; 8])));
}

#[test]
fn c10_floods_of_frames_that_say_nothing() {
    is_stopped("PRIORITY", 20_000, |frames| flood(frames, 100_000, |_| encode(PRIORITY, 0, 1, &[0, 0, 0, 0, 16])));
    is_stopped("unknown frames", 20_000, |frames| flood(frames, 100_000, |_| encode(0xbf, 0, 0, b"")));
    is_stopped("WINDOW_UPDATE of the connection", 20_000, |frames| {
        flood(frames, 100_000, |_| encode(kind::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()))
    });
}

/// Sockets and files that the gateway has open.
fn open_files(clinic: &Clinic) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", clinic.gateway.pid())).expect("Linux").count()
}

#[test]
fn c10_whatever_resets_a_stream_the_backend_is_let_go() {
    // Slowly enough to stay below every bound: what counts is the backend's work, not the frames.
    let acts: [(&str, Act); 4] = [
        ("RST_STREAM", |stream| encode(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes())),
        ("WINDOW_UPDATE beyond 2^31-1", |stream| {
            encode(kind::WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes())
        }),
        ("PRIORITY on itself", |stream| encode(PRIORITY, 0, stream, &[&stream.to_be_bytes()[..], &[16]].concat())),
        ("the end of the connection", |_| encode(kind::DATA, 0, 0, b"x")),
    ];
    for (name, act) in acts {
        let clinic = clinic();
        clinic.backend().answers(|_| Reply::new(200, "{}").after(Duration::from_secs(10)));
        let mut frames = clinic.frames(DOCTOR);
        let block = get(&authority(&frames), "/fhir/Patient/1");
        let mut stop = Stop { sent: 0, goaway: None, ended: false, resets: 0, answers: 0 };
        frames.wire.set_patience(Duration::from_millis(200));
        read(&mut frames, &mut stop);
        let before = open_files(&clinic);
        // Twice as many as may be open at once.
        for n in 0..2 * STREAMS {
            frames.send(kind::HEADERS, END_HEADERS | END_STREAM, stream(n), &block);
        }
        until("the requests at the backend", || (clinic.backend().seen().len() >= STREAMS).then_some(()));
        read(&mut frames, &mut stop);
        assert_eq!((stop.resets, stop.ended), (STREAMS, false), "{name}: those beyond the bound are refused: {stop:?}");
        assert_eq!(clinic.backend().seen().len(), STREAMS, "{name}");
        assert!(open_files(&clinic) >= before + STREAMS, "{name}: each request has a connection of its own");
        for n in 0..STREAMS {
            frames.wire.send(act(stream(n)));
        }
        let begun = Instant::now();
        until("the backend to be let go", || (open_files(&clinic) <= before + 1).then_some(()));
        assert!(begun.elapsed() < Duration::from_secs(2), "{name}: only after {:?}", begun.elapsed());
        assert_eq!(clinic.backend().seen().len(), STREAMS, "{name}: nothing is asked in their place");
    }
}

#[test]
fn c10_crumbs_of_a_cookie() {
    let clinic = clinic();
    let stop = attack(&clinic, "5 000 crumbs", |frames| {
        let host = authority(frames);
        let mut block = get(&host, "/fhir/Patient/1");
        for _ in 0..5_000 {
            block.extend(hpack(&[(b"cookie", b"a")]));
        }
        let parts: Vec<_> = block.chunks(16_000).map(<[u8]>::to_vec).collect();
        let last = parts.len() - 1;
        flood(frames, parts.len(), |n| {
            let flags = if n == last { END_HEADERS } else { 0 };
            match n {
                0 => encode(kind::HEADERS, END_STREAM | flags, 1, &parts[0]),
                _ => encode(kind::CONTINUATION, flags, 1, &parts[n]),
            }
        })
    });
    assert!(stop.answers == 1 || stop.resets == 1 || stop.ended, "{stop:?}");
    assert!(
        clinic.backend().seen().iter().all(|seen| seen.target().starts_with("/open")),
        "the crumbs reached the backend"
    );

    // Few enough bytes to pass any bound on bytes, too many fields for the bound on fields.
    let mut frames = clinic.frames(DOCTOR);
    let host = authority(&frames);
    let mut block = get(&host, "/fhir/Patient/1");
    for _ in 0..200 {
        block.extend(hpack(&[(b"cookie", b"a")]));
    }
    frames.send(kind::HEADERS, END_HEADERS | END_STREAM, 1, &block);
    assert_eq!(frames.outcome(1), gateway_tests::h2::Outcome::Answered(431));
    assert_eq!(clinic.wait_for_reasons(frames.wire.local()), ["header-too-large"]);
    assert!(
        clinic.backend().seen().iter().all(|seen| seen.target().starts_with("/open")),
        "the crumbs reached the backend"
    );
}

#[test]
fn c10_hpack_bomb() {
    let clinic = clinic();
    let stop = attack(&clinic, "HPACK bomb", |frames| {
        let host = authority(frames);
        // One entry that fills the table of 4 096 bytes (RFC 7541 section 4.1), then only its number, 62.
        let value = [b'v'; 4_096 - 32 - 1 - 1];
        let mut first = get(&host, "/fhir/Patient/1");
        let mut entry = hpack(&[(b"x", &value)]);
        entry[0] = 0x40;
        first.extend(entry);
        let mut bomb = get(&host, "/fhir/Patient/1");
        bomb.extend(std::iter::repeat_n(0xbe, 16_000));
        flood(frames, 200, |n| {
            let block = if n == 0 { &first } else { &bomb };
            encode(kind::HEADERS, END_HEADERS | END_STREAM, stream(n), block)
        })
    });
    assert!(stop.answers + stop.resets > 0 || stop.ended, "{stop:?}");
    let reached = clinic.backend().seen().iter().filter(|seen| !seen.target().starts_with("/open")).count();
    assert!(reached <= 1, "{reached} bombs reached the backend");
}

#[test]
fn c10_what_a_viewer_does_is_no_abuse() {
    // The control: a patient client that cancels what has scrolled away, and asks for much, is served.
    let clinic = Clinic::builder().start();
    let mut frames = clinic.frames(DOCTOR);
    let host = authority(&frames);
    let block = get(&host, "/open/image");
    let mut stop = Stop { sent: 0, goaway: None, ended: false, resets: 0, answers: 0 };
    for n in 0..300 {
        frames.send(kind::HEADERS, END_HEADERS | END_STREAM, stream(n), &block);
        if n % 6 == 0 {
            frames.send(kind::RST_STREAM, 0, stream(n), &8_u32.to_be_bytes());
        }
        frames.send(kind::PING, 0, 0, &[0; 8]);
        frames.wire.set_patience(Duration::from_millis(5));
        read(&mut frames, &mut stop);
    }
    frames.wire.set_patience(Duration::from_millis(500));
    read(&mut frames, &mut stop);
    assert!(!stop.ended && stop.goaway.is_none(), "{stop:?}");
    assert!(stop.answers >= 250, "{stop:?}");
}
