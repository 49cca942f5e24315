//! A4 on the log of a real gateway: copies of it are damaged, and the verifier names the first bad record. A gateway
//! does not go on with a damaged log.

use std::path::Path;

use gateway_audit::frame::{FRAME_HEADER, Frame, SEGMENT_HEADER};
use gateway_audit::reader::{Bad, Fault, Tail, verify};

use gateway_tests::audit::wal;

use crate::audit_tools::{ask, segments, small_log};

type Segments = Vec<(String, Vec<u8>)>;

fn load(directory: &Path) -> Segments {
    let read = |name: String| {
        let bytes = std::fs::read(wal(directory).join(&name)).expect("a segment");
        (name, bytes)
    };
    segments(directory).into_iter().map(read).collect()
}

fn check(log: &Segments) -> Result<Tail, Bad> {
    let log: Vec<_> = log.iter().map(|(name, bytes)| (&**name, &**bytes)).collect();
    verify(&log).map(|checked| checked.expect("a segment").tail)
}

/// Where each record of a segment lies: sequence number, begin and end.
fn places(bytes: &[u8]) -> Vec<(u64, usize, usize)> {
    let mut places = Vec::new();
    let mut at = SEGMENT_HEADER;
    while let Ok(frame) = Frame::decode(&bytes[at..]) {
        places.push((frame.sequence, at, at + frame.size()));
        at += frame.size();
    }
    places
}

/// A log of three runs.
fn three_runs() -> (gateway_tests::Prepared, Segments) {
    let mut prepared = small_log().prepare();
    for _ in 0..3 {
        let clinic = prepared.start();
        for turn in 0..6 {
            assert_eq!(ask(&clinic, turn % 2 == 0).status, 200);
        }
        prepared = clinic.stop();
    }
    let log = load(&prepared.path("audit"));
    assert_eq!(log.len(), 3);
    assert_eq!(check(&log), Ok(Tail::Clean));
    (prepared, log)
}

#[test]
fn a4_the_first_bad_record_of_a_real_log_is_named() {
    let (_prepared, log) = three_runs();
    for segment in 0..log.len() {
        let records = places(&log[segment].1);
        assert!(records.len() > 10);
        let middle = records[records.len() / 2];
        let names = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut copy = log.clone();
            change(&mut copy[segment].1);
            let bad = check(&copy).expect_err("a damaged log");
            (bad.segment == log[segment].0).then_some((bad.sequence, bad.offset, bad.fault))
        };
        let (sequence, begin, end) = middle;
        let here = Some((sequence, begin as u64));
        let place = |named: Option<(u64, u64, Fault)>| named.map(|(sequence, offset, _)| (sequence, offset));
        // A bit of length, checksum, sequence, durable mark, link, and of the record itself.
        for at in [0, 4, 8, 16, 24, FRAME_HEADER, end - begin - 1] {
            assert_eq!(place(names(&|bytes| bytes[begin + at] ^= 1)), here, "byte {at} of record {sequence}");
        }
        assert_eq!(place(names(&|bytes| bytes[begin..end].fill(0))), here, "record {sequence} is zeros");
        let block = begin / 512 * 512..(begin / 512 + 1) * 512;
        let first = records.iter().find(|record| record.2 > block.start && record.1 < block.end).expect("a record");
        if block.start >= SEGMENT_HEADER {
            let zeroed = names(&|bytes| bytes[block.clone()].fill(0));
            assert_eq!(place(zeroed), Some((first.0, first.1 as u64)), "a block of zeros");
        }
        // Two records change places; one is taken out; one comes twice.
        let (_, next_begin, next_end) = records[records.len() / 2 + 1];
        let swapped = names(&|bytes| {
            let exchanged = [&bytes[next_begin..next_end], &bytes[begin..end]].concat();
            bytes.splice(begin..next_end, exchanged);
        });
        assert_eq!(swapped, Some((sequence, begin as u64, Fault::Sequence(sequence + 1))));
        let removed = names(&|bytes| drop(bytes.drain(begin..end)));
        assert_eq!(removed, Some((sequence, begin as u64, Fault::Sequence(sequence + 1))));
        let doubled = names(&|bytes| {
            let copy = bytes[begin..end].to_vec();
            bytes.splice(end..end, copy);
        });
        assert_eq!(doubled, Some((sequence + 1, end as u64, Fault::Sequence(sequence))));
    }
}

#[test]
fn a4_a_real_log_cut_off_or_with_a_segment_missing() {
    let (_prepared, log) = three_runs();
    // Within the last segment a cut looks like a crash: what is before it stands, and a part of a record is told.
    let records = places(&log[2].1);
    for (sequence, begin, end) in &records[3..] {
        let mut copy = log.clone();
        copy[2].1.truncate(end - 1);
        let cut = check(&copy);
        // Files are filled with zeros ahead of use: those at the end of sealed bytes are not told from them.
        let bytes = copy[2].1[*begin..].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let torn = Tail::Torn { offset: *begin as u64, bytes: bytes as u64 };
        assert_eq!(cut, Ok(torn), "record {sequence}");
    }
    // Before that, the next segment knows where this one must end.
    let last = places(&log[0].1).pop().expect("a record");
    let mut copy = log.clone();
    copy[0].1.truncate(last.1);
    let bad = check(&copy).expect_err("a record is missing");
    assert_eq!((&bad.segment, bad.sequence, bad.fault), (&log[0].0, last.0, Fault::Missing));
    let mut copy = log.clone();
    copy.remove(1);
    let bad = check(&copy).expect_err("a segment is missing");
    assert_eq!((bad.sequence, bad.fault), (last.0 + 1, Fault::Missing), "{bad}");
    let mut copy = log;
    copy.swap(0, 1);
    assert!(check(&copy).is_err());
}

#[test]
fn a4_a_gateway_does_not_go_on_with_a_damaged_log() {
    let (prepared, log) = three_runs();
    let (name, bytes) = &log[2];
    let (sequence, begin, _) = places(bytes)[2];
    let mut damaged = bytes.clone();
    damaged[begin + FRAME_HEADER + 5] ^= 1;
    std::fs::write(wal(&prepared.path("audit")).join(name), &damaged).expect("a segment");
    let Err((failure, prepared)) = prepared.try_start() else { panic!("it started") };
    assert_eq!(failure.code, Some(1));
    for part in [name, &format!("record {sequence}"), "evidence"] {
        assert!(failure.message.contains(part), "{}", failure.message);
    }
    assert_eq!(load(&prepared.path("audit"))[2].1, damaged, "nothing was touched");
    std::fs::write(wal(&prepared.path("audit")).join(name), bytes).expect("a segment");
    let prepared = prepared.start().stop();
    assert_eq!(check(&load(&prepared.path("audit"))), Ok(Tail::Clean));
}
