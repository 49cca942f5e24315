use super::*;

const STUDY: &str = "1.2.392.200036.9116.1";

fn study(study: &str, patient: &str, issuer: Option<&str>) -> StudyPatient {
    StudyPatient { study: study.into(), patient: patient.into(), issuer: issuer.map(str::to_owned) }
}

/// An element with an explicit VR, little endian.
fn explicit(tag: u32, vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
    let group = u16::try_from(tag >> 16).unwrap().to_le_bytes();
    let element = u16::try_from(tag & 0xffff).unwrap().to_le_bytes();
    let mut out = [&group[..], &element, vr].concat();
    if matches!(vr, b"OB" | b"OW" | b"SQ" | b"UN" | b"UT") {
        out.extend([0, 0]);
        out.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
    } else {
        out.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
    }
    out.extend(value);
    out
}

fn implicit(tag: u32, value: &[u8]) -> Vec<u8> {
    let group = u16::try_from(tag >> 16).unwrap().to_le_bytes();
    let element = u16::try_from(tag & 0xffff).unwrap().to_le_bytes();
    [&group[..], &element, &u32::try_from(value.len()).unwrap().to_le_bytes(), value].concat()
}

/// The same heads in the other order of bytes, for the values of the big endian transfer syntax.
fn big(tag: u32, vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&tag.to_be_bytes()[..], vr, &length, value].concat()
}

fn file(syntax: &str, dataset: &[u8]) -> Vec<u8> {
    let mut padded = syntax.as_bytes().to_vec();
    if padded.len() % 2 == 1 {
        padded.push(0);
    }
    let meta = [explicit(0x0002_0001, b"OB", &[0, 1]), explicit(0x0002_0010, b"UI", &padded)].concat();
    let length = explicit(0x0002_0000, b"UL", &u32::try_from(meta.len()).unwrap().to_le_bytes());
    [&[0_u8; 128][..], b"DICM", &length, &meta, dataset].concat()
}

/// Sequences with and without lengths, private elements and values in the way; then what is wanted.
fn dataset() -> Vec<u8> {
    let undefined = [0xff_u8; 4];
    let item = |content: &[u8]| {
        [&[0xfe, 0xff, 0x00, 0xe0][..], &u32::try_from(content.len()).unwrap().to_le_bytes(), content].concat()
    };
    let open_item = |content: &[u8]| {
        [&[0xfe, 0xff, 0x00, 0xe0][..], &undefined, content, &[0xfe, 0xff, 0x0d, 0xe0, 0, 0, 0, 0]].concat()
    };
    let open_sequence = |tag: u32, vr: &[u8; 2], content: &[u8]| {
        let head = explicit(tag, vr, b"");
        [&head[..8], &undefined, content, &[0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0]].concat()
    };
    let nested = explicit(0x0010_0020, b"LO", b"nested");
    [
        explicit(0x0008_0005, b"CS", b"ISO_IR 192"),
        explicit(0x0008_1110, b"SQ", &item(&nested)),
        open_sequence(0x0008_1115, b"SQ", &[open_item(&nested), item(&nested), open_item(b"")].concat()),
        open_sequence(0x0009_1001, b"UN", &open_item(&implicit(0x0010_0020, b"unknown!"))),
        explicit(0x0009_1002, b"OB", &[0xff; 3_000]),
        explicit(0x0010_0010, b"PN", "山田^太郎 ".as_bytes()),
        explicit(0x0010_0020, b"LO", "患者0001 ".as_bytes()),
        explicit(0x0010_0021, b"LO", b"HOSP"),
        explicit(0x0010_0030, b"DA", b""),
        explicit(0x0020_000d, b"UI", b"1.2.392.200036.9116.1\0"),
        explicit(0x0020_000e, b"UI", b"1.2"),
        explicit(0x7fe0_0010, b"OW", &[1; 5_000]),
    ]
    .concat()
}

#[test]
fn a_file_of_each_transfer_syntax() {
    let plain = [
        implicit(0x0008_0005, b"ISO_IR 192"),
        implicit(0x0010_0020, "患者0001 ".as_bytes()),
        implicit(0x0010_0021, b"HOSP"),
        implicit(0x0020_000d, b"1.2.392.200036.9116.1\0"),
    ]
    .concat();
    let turned = [
        big(0x0008_0005, b"CS", b"ISO_IR 192"),
        big(0x0010_0020, b"LO", "患者0001 ".as_bytes()),
        big(0x0010_0021, b"LO", b"HOSP"),
        big(0x0020_000d, b"UI", b"1.2.392.200036.9116.1\0"),
    ]
    .concat();
    for (syntax, dataset) in [
        ("1.2.840.10008.1.2.1", dataset()),
        ("1.2.840.10008.1.2.4.90", dataset()),
        ("1.2.840.10008.1.2", plain),
        ("1.2.840.10008.1.2.2", turned),
    ] {
        let scanned = sent("POST", "/dicom-web/studies", "application/dicom", &file(syntax, &dataset));
        assert_eq!(told(&scanned), ["HOSP|患者0001"], "{syntax}");
        assert_eq!(scanned.unread, None, "{syntax}");
        assert_eq!(scanned.studies, [study(STUDY, "患者0001", Some("HOSP"))], "{syntax}");
    }
}

#[test]
fn what_is_no_file_is_unread() {
    let deflated = file("1.2.840.10008.1.2.1.99", &dataset());
    let mut unnamed = file("1.2.840.10008.1.2.1", &dataset());
    unnamed[128] = b'd';
    for body in [&deflated[..], &unnamed, b"x", &[0; 4_000]] {
        let scanned = sent("POST", "/dicom-web/studies", "application/dicom", body);
        assert_eq!((told(&scanned), scanned.unread), (Vec::new(), Some(Unread::Malformed)));
    }
}

/// Patient and study in their places, once each; else a reader who is less strict might find a patient who is not told.
#[test]
fn a_file_tells_its_patient_or_is_unread() {
    let set = explicit(0x0008_0005, b"CS", b"ISO_IR 192");
    let patient = |id: &str| explicit(0x0010_0020, b"LO", id.as_bytes());
    let study = explicit(0x0020_000d, b"UI", b"1.9\0");
    let behind = explicit(0x0020_000e, b"UI", b"1.2\0");
    for (elements, patients, unread) in [
        (vec![&set, &patient(""), &study, &behind], vec![], None),
        (vec![&set, &patient("0002"), &study, &behind], vec!["0002"], None),
        (vec![&set, &patient("0002")], vec!["0002"], None),
        (vec![&set], vec![], Some(Unread::Malformed)),
        (vec![&set, &study, &behind], vec![], Some(Unread::Malformed)),
        (vec![&set, &study, &patient("0002")], vec![], Some(Unread::Malformed)),
        (vec![&set, &behind, &patient("0002"), &study], vec![], Some(Unread::Malformed)),
        (vec![&set, &patient("0002"), &behind, &study], vec!["0002"], Some(Unread::Malformed)),
        (vec![&set, &patient("0002"), &patient("0003"), &study], vec!["0002"], Some(Unread::Malformed)),
        (vec![&set, &patient(""), &patient("0003"), &study], vec![], Some(Unread::Malformed)),
    ] {
        let elements: Vec<u8> = elements.into_iter().flatten().copied().collect();
        let body = file("1.2.840.10008.1.2.1", &elements);
        let scanned = sent("POST", "/dicom-web/studies", "application/dicom", &body);
        assert_eq!((told(&scanned), scanned.unread), (patients.into_iter().map(String::from).collect(), unread));
    }
}

fn related(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = b"preamble\r\n".to_vec();
    for (kind, content) in parts {
        body.extend_from_slice(b"--x-y\r\nContent-Type: ");
        body.extend_from_slice(kind.as_bytes());
        body.extend_from_slice(b"\r\nMIME-Version: 1.0\r\n\r\n");
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--x-y--\r\nepilogue");
    body
}

const RELATED: &str = r#"multipart/related; type="application/dicom"; boundary="x-y""#;

#[test]
fn every_part_of_a_store_is_read() {
    let other = [explicit(0x0010_0020, b"LO", b"0002"), explicit(0x0020_000d, b"UI", b"1.9\0")].concat();
    // What looks like a delimiter is none.
    let tricky = [&other[..], &explicit(0x7fe0_0010, b"OW", b"\r\n--x-\r\n\r\n--x\r\r\n-")].concat();
    let parts = [file("1.2.840.10008.1.2.1", &dataset()), file("1.2.840.10008.1.2.1", &tricky)];
    let body = related(&[
        ("application/dicom", &parts[0]),
        ("application/dicom; transfer-syntax=1.2.840.10008.1.2.1", &parts[1]),
        ("application/dicom+json", br#"[{"00100020":{"vr":"LO","Value":["0003"]}}]"#),
        ("image/jpeg", b"\xff\xd8"),
        ("application/octet-stream", b""),
    ]);
    let scanned = sent("POST", "/dicom-web/studies", RELATED, &body);
    assert_eq!((told(&scanned), scanned.unread), (["0002", "0003", "HOSP|患者0001"].map(String::from).to_vec(), None));
    let learnt = [study(STUDY, "患者0001", Some("HOSP")), study("1.9", "0002", None), study("", "0003", None)];
    assert_eq!(scanned.studies, learnt);
}

#[test]
fn pixels_do_not_count_against_the_bound() {
    let pixels = [dataset(), explicit(0x7fe0_0010, b"OW", &vec![7; 400_000])].concat();
    let part = file("1.2.840.10008.1.2.1", &pixels);
    let body = related(&[("application/dicom", &part[..]); 8]);
    assert!(body.len() as u64 > 2 * DEFAULT_BODY_BYTES);
    let plan = planned("POST", "/dicom-web/studies").unwrap();
    let scanned = scan(plan.request(head(RELATED)).unwrap(), &body, 16 * 1024);
    assert_eq!((told(&scanned), scanned.unread), (vec!["HOSP|患者0001".to_owned()], None));
}

#[test]
fn parts_that_cannot_be_read_are_told() {
    let part = file("1.2.840.10008.1.2.1", &dataset());
    for (body, reason) in [
        (related(&[("application/dicom", &part), ("application/dicom+xml", b"<x/>")]), Unread::ContentType),
        (related(&[("application/dicom", &part), ("application/dicom", b"no")]), Unread::Malformed),
        (related(&[("application/dicom", &part), ("application/dicom+json", b"[{")]), Unread::Malformed),
        (related(&[("application/octet-stream", &part), ("image/jpeg", &part)]), Unread::ContentType),
        (related(&[("image/jpeg\r\ncontent-type: application/dicom", &part)]), Unread::Malformed),
        (part.clone(), Unread::Malformed),
        (b"--x-y\r\n".repeat(2_000), Unread::Malformed),
    ] {
        assert_eq!(sent("POST", "/dicom-web/studies", RELATED, &body).unread, Some(reason));
    }
}

#[test]
fn answers_of_a_search() {
    let body = r#"[
      {"0020000D":{"vr":"UI","Value":["1.1"]},"00100020":{"vr":"LO","Value":["0001"]},"00100021":{"vr":"LO","Value":["病院"]},
       "00100010":{"vr":"PN","Value":[{"Alphabetic":"Yamada^Taro","Ideographic":"山田^太郎"}]}},
      {"00100020":{"Value":["0002"],"vr":"LO"},"0020000d":{"vr":"UI","Value":["1.2"]},
       "00101002":{"vr":"SQ","Value":[{"00100020":{"vr":"LO","Value":["0002-old"]},"00100021":{"vr":"LO"}}]}},
      {"00100020":{"vr":"LO"},"0020000D":{"vr":"UI","Value":["1.3"]}},
      {"00100020":{"vr":"LO","Value":[null]}}]"#;
    let scanned = answered("/dicom-web/studies", "application/dicom+json", body.as_bytes());
    let expected = ["0002", "0002-old", "病院|0001"].map(String::from).to_vec();
    assert_eq!((told(&scanned), scanned.unread), (expected, None));
    assert_eq!(scanned.studies, [study("1.1", "0001", Some("病院")), study("1.2", "0002", None)]);
}

#[test]
fn who_is_named_twice_is_told_twice() {
    let body = r#"[{"00100020":{"vr":"LO","Value":["0001"]},"00100020":{"vr":"LO","Value":["0002","0003"]}}]"#;
    let scanned = answered("/dicom-web/studies", "application/dicom+json", body.as_bytes());
    assert_eq!(told(&scanned), ["0001", "0002", "0003"]);
}

#[test]
fn a_study_that_was_asked_for() {
    for (raw, expected) in [
        ("/dicom-web/studies/1.2.3/series/4/metadata", Some("1.2.3")),
        ("/dicom-web/series?StudyInstanceUID=1.2.3", Some("1.2.3")),
        ("/dicom-web/instances?0020000D=1.2.3", Some("1.2.3")),
        ("/dicom-web/series?StudyInstanceUID=1.2.3,1.2.4", None),
        ("/dicom-web/studies", None),
    ] {
        assert_eq!(planned("GET", raw).unwrap().study(), expected, "{raw}");
    }
    let plan = planned("GET", "/dicom-web/studies/1.2.3/rendered").unwrap();
    assert!(plan.answer(head("image/jpeg")).is_none(), "pixels are the study's that was asked for");
    let plan = planned("GET", "/dicom-web/studies").unwrap();
    assert_eq!(scan(plan.answer(head("image/jpeg")).unwrap(), b"x", 1).unread, Some(Unread::ContentType));
}
