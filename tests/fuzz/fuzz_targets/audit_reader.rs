//! The audit log's reader on arbitrary bytes, and on logs with something changed (A4).
//!
//! What must hold: nothing panics; a log as it was written is taken whole; of a changed one no record is taken that
//! was not written in that place.
#![no_main]

use gateway_audit::Splice;
use gateway_audit::frame::{Chain, Frame, RecordLength, SegmentHeader, genesis};
use gateway_audit::reader::{Tail, Verifier, verify};
use libfuzzer_sys::fuzz_target;

const LOG: [u8; 16] = *b"0123456789abcdef";
const NODE: &str = "gw1";

fuzz_target!(|data: &[u8]| {
    let Some((&kind, data)) = data.split_first() else { return };
    if kind & 1 == 0 {
        let _ = SegmentHeader::decode(data);
        let _ = Frame::decode(data);
        let _ = verify(&[("a", data)]);
        let mut bytes = SegmentHeader { log: LOG, node: NODE.into(), first_sequence: 1, previous: genesis(&LOG, NODE) }
            .encode()
            .to_vec();
        bytes.extend_from_slice(data);
        let _ = verify(&[("a", &bytes)]);
        return;
    }
    // The first bytes say how the log is written, the others what is done to it.
    let (plan, edits) = data.split_at(data.len().min(8));
    let (records, segments) = write(plan);
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let whole: Vec<(&str, &[u8])> = names.iter().copied().zip(segments.iter().map(Vec::as_slice)).collect();
    let checked = verify(&whole).expect("a log as it was written").expect("a segment");
    assert_eq!(checked.tail, Tail::Clean);
    assert_eq!(checked.chain.next, u64::try_from(records.len()).expect("few") + 1);
    let mut changed = segments.clone();
    for edit in edits.chunks_exact(4) {
        change(&mut changed, edit);
    }
    let mut verifier = Verifier::new();
    for (place, bytes) in changed.iter().enumerate() {
        let next = changed.get(place + 1).and_then(|next| SegmentHeader::decode(next).ok());
        let checked = verifier.segment(names[place.min(8)], bytes, next.as_ref(), |_, frame| {
            let index = usize::try_from(frame.sequence).expect("few") - 1;
            assert_eq!(records.get(index).map(Vec::as_slice), Some(frame.record), "a record that nobody wrote");
        });
        if checked.is_err() {
            break;
        }
    }
});

/// The records of a log, with their sequence numbers, and its segments. A plan's byte is the length of a record; its
/// highest bit begins a segment.
fn write(plan: &[u8]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut chain = Chain { link: genesis(&LOG, NODE), next: 1 };
    let header =
        |chain: &Chain| SegmentHeader { log: LOG, node: NODE.into(), first_sequence: chain.next, previous: chain.link };
    let mut segments = vec![header(&chain).encode().to_vec()];
    let mut records = Vec::new();
    let mut durable = 0;
    for byte in plan {
        if byte & 0x80 != 0 && !records.is_empty() {
            segments.push(header(&chain).encode().to_vec());
        }
        let text = vec![b'x'; usize::from(byte & 0x3f)];
        let splice = Splice(u32::from(byte & 0x0f));
        let segment = segments.last_mut().expect("there is one");
        let mut record = Vec::new();
        let write = |sequence, out: &mut Vec<u8>| {
            gateway_audit::record::finish(&text, splice, sequence, &mut record);
            out.extend_from_slice(&record);
            Ok::<_, RecordLength>(())
        };
        let sequence = chain.append(durable, segment, &mut Vec::new(), write).expect("it fits");
        records.push(record);
        if byte & 0x40 != 0 {
            durable = sequence;
        }
    }
    (records, segments)
}

fn change(segments: &mut Vec<Vec<u8>>, edit: &[u8]) {
    let &[what, place, high, low] = edit else { return };
    let count = segments.len();
    let segment = usize::from(place) % count;
    let at = usize::from(high) * 256 + usize::from(low);
    let length = segments[segment].len();
    match what % 6 {
        0 if length > 0 => segments[segment][at % length] ^= what >> 3 | 1,
        1 => segments[segment].truncate(at % (length + 1)),
        2 => segments[segment].extend_from_slice(&edit.repeat(1 + at % 32)),
        3 if count > 1 => {
            segments.remove(segment);
        }
        4 => segments.swap(segment, at % count),
        5 if length > 0 => {
            // A piece of the log in another place.
            let from = at % length;
            let piece = segments[segment][from..(from + 200).min(length)].to_vec();
            let target = usize::from(low) % count;
            let into = usize::from(high).min(segments[target].len());
            segments[target].splice(into..into, piece);
        }
        _ => {}
    }
}
