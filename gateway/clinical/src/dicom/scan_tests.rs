//! Tests of the scan of data sets.

use proptest::prelude::*;

use super::*;

/// An element in either encoding.
pub(in crate::dicom) fn element(encoding: Encoding, tag: u32, vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
    let mut bytes = head(encoding, tag, vr, value.len() as u32);
    bytes.extend_from_slice(value);
    bytes
}

fn head(encoding: Encoding, tag: u32, vr: &[u8; 2], length: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&((tag >> 16) as u16).to_le_bytes());
    bytes.extend_from_slice(&(tag as u16).to_le_bytes());
    match encoding {
        _ if tag >> 16 == 0xfffe => bytes.extend_from_slice(&length.to_le_bytes()),
        Encoding::Implicit => bytes.extend_from_slice(&length.to_le_bytes()),
        Encoding::Explicit => {
            bytes.extend_from_slice(vr);
            if is_long(*vr) {
                bytes.extend_from_slice(&[0, 0]);
                bytes.extend_from_slice(&length.to_le_bytes());
            } else {
                bytes.extend_from_slice(&(length as u16).to_le_bytes());
            }
        }
    }
    bytes
}

fn read(encoding: Encoding, chunks: &[&[u8]]) -> Result<(Findings, Option<usize>), Malformed> {
    let mut scan = Scan::new(encoding);
    let (mut at, mut identified) = (0, None);
    for chunk in chunks {
        let mut rest = *chunk;
        while !rest.is_empty() {
            let taken = scan.feed(rest)?;
            assert!(taken > 0);
            at += taken;
            rest = &rest[taken..];
            if identified.is_none() && scan.is_identified() {
                identified = Some(at);
            }
        }
    }
    Ok((scan.finish()?, identified))
}

fn image(encoding: Encoding) -> (Vec<u8>, usize) {
    let mut set = element(encoding, 0x0008_0005, b"CS", b"ISO_IR 100");
    set.extend(element(encoding, 0x0008_0016, b"UI", b"1.2.840.10008.5.1.4.1.1.7\0"));
    // A sequence without lengths, with an item of each kind.
    set.extend(head(encoding, 0x0008_1140, b"SQ", UNDEFINED));
    set.extend(head(encoding, ITEM, b"--", UNDEFINED));
    set.extend(element(encoding, PATIENT_ID, b"LO", b"NESTED"));
    set.extend(head(encoding, ITEM_END, b"--", 0));
    set.extend(head(encoding, ITEM, b"--", 0));
    set.extend(head(encoding, SEQUENCE_END, b"--", 0));
    set.extend(element(encoding, 0x0009_1001, b"UN", &[7; 300]));
    set.extend(element(encoding, PATIENT_ID, b"LO", b"4711"));
    set.extend(element(encoding, ISSUER, b"LO", b"SAKURA"));
    let inner = element(encoding, PATIENT_ID, b"LO", b"OTHER ");
    let mut item = head(encoding, ITEM, b"--", inner.len() as u32);
    item.extend(inner);
    set.extend(element(encoding, OTHER_PATIENTS, b"SQ", &item));
    set.extend(element(encoding, STUDY, b"UI", b"1.2.3\0"));
    let identified = set.len();
    if encoding == Encoding::Explicit {
        set.extend(head(encoding, PIXELS, b"OB", UNDEFINED));
        set.extend(element(encoding, ITEM, b"--", b""));
        set.extend(element(encoding, ITEM, b"--", &[0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0]));
        set.extend(head(encoding, SEQUENCE_END, b"--", 0));
    } else {
        set.extend(element(encoding, PIXELS, b"OW", &[1; 64]));
    }
    (set, identified)
}

#[test]
fn patient_and_study_are_found_wherever_they_may_be() {
    for encoding in [Encoding::Implicit, Encoding::Explicit] {
        let (set, identified) = image(encoding);
        let (findings, at) = read(encoding, &[&set]).unwrap();
        assert_eq!(findings.patient.unwrap().bytes, b"4711");
        assert_eq!(findings.issuer.unwrap().bytes, b"SAKURA");
        assert_eq!(findings.study.unwrap().bytes, b"1.2.3\0");
        let nested: Vec<_> = findings.nested.iter().map(|value| value.bytes.as_slice()).collect();
        assert_eq!(nested, [&b"NESTED"[..], b"OTHER "]);
        assert_eq!(at, Some(identified));
    }
}

#[test]
fn what_another_reader_would_read_otherwise_is_malformed() {
    let e = Encoding::Explicit;
    let patient = |id: &[u8]| element(e, PATIENT_ID, b"LO", id);
    let sets: Vec<(&str, Vec<u8>)> = vec![
        ("twice", [patient(b"1 "), patient(b"2 ")].concat()),
        ("late", [element(e, 0x0028_0010, b"US", &[1, 0]), patient(b"1 ")].concat()),
        ("behind the study", [element(e, STUDY, b"UI", b"1\0"), patient(b"1 ")].concat()),
        ("unknown vr", element(e, 0x0008_0016, b"ZZ", b"12")),
        ("head of a file", element(e, 0x0002_0010, b"UI", b"1\0")),
        ("of a command", element(e, 0x0000_0100, b"US", b"1\0")),
        ("sequence as a patient", head(e, PATIENT_ID, b"SQ", UNDEFINED)),
        ("unknown as a patient", element(e, PATIENT_ID, b"UN", b"12")),
        ("item at the top", element(e, ITEM, b"--", b"")),
        ("delimiter at the top", head(e, SEQUENCE_END, b"--", 0)),
        ("cut off", head(e, 0x0008_0016, b"UI", 8)),
        ("open", head(e, 0x0008_1140, b"SQ", UNDEFINED)),
        ("longer than its item", [head(e, 0x0008_1140, b"SQ", 16), element(e, ITEM, b"--", &patient(b"12"))].concat()),
    ];
    for (name, set) in sets {
        assert_eq!(read(e, &[&set]), Err(Malformed), "{name}");
    }
    let deep: Vec<u8> = (0..40)
        .flat_map(|_| [head(e, 0x0008_1140, b"SQ", UNDEFINED), head(e, ITEM, b"--", UNDEFINED)].concat())
        .collect();
    assert_eq!(read(e, &[&deep]), Err(Malformed));
}

#[test]
fn values_are_kept_within_a_bound() {
    let long = vec![b'1'; 40_000];
    let set = element(Encoding::Implicit, STUDY, b"UI", &long);
    let (findings, _) = read(Encoding::Implicit, &[&set]).unwrap();
    let study = findings.study.unwrap();
    assert!(study.cut && study.bytes.len() == MAX_VALUE);
}

proptest! {
    #[test]
    fn chunks_do_not_matter(explicit in any::<bool>(), cuts in proptest::collection::vec(0_usize..800, 0..10), flip in proptest::option::of((0_usize..800, any::<u8>()))) {
        let encoding = if explicit { Encoding::Explicit } else { Encoding::Implicit };
        let (mut set, _) = image(encoding);
        if let Some((at, with)) = flip {
            let at = at % set.len();
            set[at] ^= with;
        }
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % set.len()).collect();
        cuts.extend([0, set.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|w| &set[w[0]..w[1]]).collect();
        prop_assert_eq!(read(encoding, &chunks), read(encoding, &[&set]));
    }

    #[test]
    fn nothing_makes_it_panic(explicit in any::<bool>(), bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let encoding = if explicit { Encoding::Explicit } else { Encoding::Implicit };
        let _ = read(encoding, &[&bytes]);
    }
}
