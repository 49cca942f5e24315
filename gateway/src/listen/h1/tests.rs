//! The strict reading of heads and chunks: the inputs of rows C1 to C4, and a slow reference.

use bytes::BytesMut;
use policy::Refusal;
use proptest::prelude::*;

use super::chunked::{ChunkedDecoder, Piece};
use super::head::{Framing, Head, HeadLimits, HeadScan, take_head};

const LIMITS: HeadLimits = HeadLimits { target_bytes: 1024, header_bytes: 4096, header_count: 20 };

fn read(bytes: &[u8]) -> Result<Head, Refusal> {
    let mut buffer = BytesMut::from(bytes);
    let length = HeadScan::default().find_end(&buffer, &LIMITS)?.ok_or(Refusal::RequestTimeout)?;
    take_head(&mut buffer, length, &LIMITS).map_err(|bad| bad.refusal)
}

fn with(fields: &str) -> Result<Head, Refusal> {
    read(format!("POST /x HTTP/1.1\r\nHost: h\r\n{fields}\r\n").as_bytes())
}

#[test]
fn a_plain_head_is_read() {
    let head = read(b"GET /a?b HTTP/1.1\r\nHost: h\r\nX: 1\r\nx: 2\r\n\r\nrest").unwrap();
    assert_eq!(head.method, "GET");
    assert_eq!(&head.target[..], b"/a?b");
    assert_eq!(head.framing, Framing::None);
    assert!(head.keep_alive && !head.expects_continue);
    assert_eq!(head.headers.get_all("x").iter().count(), 2);
}

#[test]
fn c1_two_ways_to_read_the_framing_are_refused() {
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: identity, chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: \r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: \r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Host: other\r\n",
    ] {
        assert_eq!(with(fields).unwrap_err(), Refusal::RequestAmbiguous, "{fields:?}");
    }
    let old = read(b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(old.unwrap_err(), Refusal::RequestAmbiguous);
}

#[test]
fn c1_what_is_no_head_is_refused() {
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n"[..],
        b"GET / HTTP/1.1\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX : a\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: h\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: h\r\n\r\n",
        b"GET /\r\nHost: h\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / x HTTP/1.1\r\nHost: h\r\n\r\n",
        b"G@T / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n",
    ] {
        assert_eq!(read(bytes).unwrap_err(), Refusal::RequestMalformed, "{:?}", bytes.escape_ascii().to_string());
    }
}

#[test]
fn c3_upgrades_are_refused_and_expectations_are_one() {
    let malformed = with("Connection: upgrade\r\nUpgrade: websocket\r\n").unwrap_err();
    assert_eq!(malformed, Refusal::WebsocketMalformed, "without a key");
    assert_eq!(with("Upgrade: h2c\r\n").unwrap_err(), Refusal::UpgradeRefused);
    assert_eq!(with("Connection: close, Upgrade\r\n").unwrap_err(), Refusal::UpgradeRefused);
    assert_eq!(with("Expect: something\r\n").unwrap_err(), Refusal::ExpectationFailed);
    assert!(with("Expect: 100-Continue\r\nContent-Length: 1\r\n").unwrap().expects_continue);
    assert!(!with("Connection: x, Close\r\n").unwrap().keep_alive);
}

#[test]
fn bounds_are_refused_by_name() {
    let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(1024));
    assert_eq!(read(long.as_bytes()).unwrap_err(), Refusal::TargetTooLong);
    assert_eq!(read("G".repeat(2048).as_bytes()).unwrap_err(), Refusal::TargetTooLong);
    assert_eq!(with(&format!("X: {}\r\n", "a".repeat(4096))).unwrap_err(), Refusal::HeaderTooLarge);
    assert_eq!(with(&"X: 1\r\n".repeat(20)).unwrap_err(), Refusal::HeaderTooLarge);
    assert!(with(&"X: 1\r\n".repeat(19)).is_ok());
}

fn decode(bytes: &[u8], cut: usize) -> Result<(Vec<u8>, usize), Refusal> {
    let (mut decoder, mut buffer, mut data) = (ChunkedDecoder::default(), BytesMut::new(), Vec::new());
    let mut trailers = 0;
    let mut parts = bytes.chunks(cut.max(1));
    loop {
        match decoder.next(&mut buffer)? {
            Piece::Data(piece) => data.extend_from_slice(&piece),
            Piece::End(fields) => {
                trailers += fields.map_or(0, |fields| fields.len());
                return Ok((data, trailers));
            }
            Piece::Pending => match parts.next() {
                Some(part) => buffer.extend_from_slice(part),
                None => return Err(Refusal::RequestTimeout),
            },
        }
    }
}

#[test]
fn c1_chunks_are_read_strictly() {
    for cut in [1, 2, 3, 7, 100] {
        assert_eq!(decode(b"5\r\nhello\r\n0\r\n\r\n", cut).unwrap(), (b"hello".to_vec(), 0));
        assert_eq!(decode(b"5;a=b\r\nhello\r\n00\r\nX: 1\r\nY: 2\r\n\r\n", cut).unwrap(), (b"hello".to_vec(), 2));
        for bad in [
            &b"0_2e\r\n"[..],
            b"5\r\r;ABCD\r\nhello\r\n0\r\n\r\n",
            b"10000000000000000\r\n",
            b"5\nhello\r\n0\r\n\r\n",
            b"5\r\nhello0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"\r\nhello",
            b" 5\r\nhello\r\n",
            b"5 \r\nhello\r\n",
            b"+5\r\nhello\r\n",
            b"0x5\r\nhello\r\n",
            b"-1\r\n",
            b"0\r\nX: 1\n\r\n",
            b"0\r\nX: 1\nY: 2\r\n\r\n",
            b"0\r\n\nX: 1\r\n\r\n",
            b"0\r\nX : 1\r\n\r\n",
            b"0\r\n: 1\r\n\r\n",
            b"0\r\nX: a\r\n b\r\n\r\n",
        ] {
            let shown = bad.escape_ascii().to_string();
            assert_eq!(decode(bad, cut).unwrap_err(), Refusal::RequestMalformed, "{shown} cut at {cut}");
        }
    }
}

#[test]
fn extensions_cannot_outweigh_the_data() {
    let flood = format!("1;{}\r\nx\r\n", "a".repeat(200)).repeat(1000);
    assert_eq!(decode(flood.as_bytes(), 4096).unwrap_err(), Refusal::RequestMalformed);
}

#[test]
fn a_bound_is_the_same_however_the_bytes_arrive() {
    let request = |padding: usize| {
        let method = "M".repeat(LIMITS.target_bytes + padding);
        format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes()
    };
    let head = |padding: usize| {
        let value = "v".repeat(LIMITS.header_bytes - 60 + padding);
        format!("GET / HTTP/1.1\r\nHost: h\r\nX: {value}\r\n\r\n").into_bytes()
    };
    let found = |bytes: &[u8], cut: usize| {
        let mut scan = HeadScan::default();
        let ends = (0..bytes.len()).step_by(cut).chain([bytes.len()]);
        let mut verdicts = ends.map(|end| scan.find_end(&bytes[..end], &LIMITS));
        verdicts.find(|verdict| *verdict != Ok(None)).unwrap_or(Ok(None))
    };
    for bytes in (0..40).map(request).chain((0..60).map(head)) {
        let whole = found(&bytes, bytes.len());
        assert_eq!(found(&bytes, 1), whole, "{} bytes", bytes.len());
    }
    for padding in 0..10 {
        let bytes = format!("0\r\nX: {}\r\n\r\n", "v".repeat(8 * 1024 - 8 + padding));
        let whole = decode(bytes.as_bytes(), bytes.len());
        assert_eq!(decode(bytes.as_bytes(), 1), whole, "{} bytes", bytes.len());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = read(&bytes);
        let _ = decode(&bytes, 16);
    }

    #[test]
    fn a_head_reads_the_same_however_it_arrives(
        names in prop::collection::vec("[a-z]{1,8}", 0..10),
        value in "[ -~]{0,20}",
        cut in 1usize..40,
    ) {
        let fields: String = names.iter().map(|name| format!("x-{name}: {value}\r\n")).collect();
        let bytes = format!("GET /x HTTP/1.1\r\nHost: h\r\n{fields}\r\nGET");
        let (mut scan, mut buffer, mut found) = (HeadScan::default(), BytesMut::new(), None);
        for part in bytes.as_bytes().chunks(cut) {
            buffer.extend_from_slice(part);
            found = found.or(scan.find_end(&buffer, &LIMITS).unwrap());
        }
        prop_assert_eq!(found, Some(bytes.len() - 3));
        let head = take_head(&mut buffer, bytes.len() - 3, &LIMITS).unwrap();
        prop_assert_eq!(head.headers.len(), names.len() + 1);
    }

    #[test]
    fn chunks_come_back_whole(chunks in prop::collection::vec("[a-z]{1,300}", 0..20), cut in 1usize..500) {
        let mut bytes = Vec::new();
        for chunk in &chunks {
            bytes.extend_from_slice(format!("{:X}\r\n{chunk}\r\n", chunk.len()).as_bytes());
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        prop_assert_eq!(decode(&bytes, cut).unwrap().0, chunks.concat().into_bytes());
    }
}
