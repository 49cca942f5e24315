//! The strict head check and the chunked decoder on arbitrary bytes (C1 to C4).
//!
//! What must hold: however the bytes trickle in, the reading is the same; a head that is taken says what a naive
//! reader finds in the same lines; and hyper's server, which reads by other code, sees the same method, target,
//! fields and body.
#![no_main]

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use gateway::listen::{ChunkedDecoder, Framing, HeadLimits, HeadScan, Piece, take_head};
use http::{HeaderMap, Method};
use http_body_util::{BodyExt as _, Empty};
use libfuzzer_sys::fuzz_target;

/// Small, so that the bounds are within the fuzzer's reach.
const LIMITS: HeadLimits = HeadLimits { target_bytes: 64, header_bytes: 512, header_count: 12 };

fuzz_target!(|data: &[u8]| {
    let whole = HeadScan::default().find_end(data, &LIMITS);
    let trickled = trickle(data);
    match whole {
        Ok(found) => assert_eq!(trickled, Ok(found), "the end of the head depends on how it came in"),
        Err(_) => assert!(trickled.is_err(), "{trickled:?} though the whole is refused: {whole:?}"),
    }
    let Ok(Some(length)) = whole else { return };
    let mut buffer = BytesMut::from(data);
    let Ok(head) = take_head(&mut buffer, length, &LIMITS) else { return };
    let (bytes, rest) = data.split_at(length);
    assert_eq!(&buffer[..], rest);
    let naive = Naive::of(bytes);
    assert_eq!(head.method.as_str(), naive.method);
    assert_eq!(&head.target[..], naive.target.as_bytes());
    assert_eq!(head.headers.len(), naive.fields.len());
    for (name, value) in &naive.fields {
        assert!(head.headers.get_all(*name).iter().any(|v| v.as_bytes() == *value), "`{name}` was lost");
    }
    assert_eq!(naive.all("host").len(), 1);
    match head.framing {
        Framing::None => assert!(naive.all("content-length").is_empty() && naive.all("transfer-encoding").is_empty()),
        Framing::Length(length) => {
            assert!(naive.all("transfer-encoding").is_empty());
            let [text] = naive.all("content-length")[..] else { panic!("not one length") };
            assert_eq!(std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()), Some(length));
        }
        Framing::Chunked => {
            assert!(naive.all("content-length").is_empty());
            let [coding] = naive.all("transfer-encoding")[..] else { panic!("not one coding") };
            assert!(coding.eq_ignore_ascii_case(b"chunked"));
        }
        Framing::Tunnel => {
            assert!(head.websocket.is_some() && naive.all("transfer-encoding").is_empty());
            let [protocol] = naive.all("upgrade")[..] else { panic!("not one protocol") };
            assert!(protocol.eq_ignore_ascii_case(b"websocket"));
        }
    }
    let body = body(head.framing, rest);
    if let Some(seen) = by_hyper(data) {
        assert_eq!(seen.method, head.method);
        // Targets in another form are refused later, or taken apart by code of their own.
        if policy::target::CanonicalTarget::parse(&head.target, LIMITS.target_bytes).is_ok() {
            assert_eq!(seen.target.as_bytes(), &head.target[..], "the target");
        }
        assert_eq!(seen.headers, head.headers, "the fields");
        // hyper may refuse what is taken here; what both take is the same.
        if let (Some(body), Some(theirs)) = (body, seen.body) {
            assert_eq!(&theirs[..], &body[..], "the body");
        }
    }
});

/// One byte at a time, as far as the first verdict.
fn trickle(data: &[u8]) -> Result<Option<usize>, policy::Refusal> {
    let mut scan = HeadScan::default();
    for length in 0..=data.len() {
        match scan.find_end(&data[..length], &LIMITS) {
            Ok(None) => {}
            verdict => return verdict,
        }
    }
    Ok(None)
}

/// The lines of a head, read with as little wit as possible.
struct Naive<'a> {
    method: &'a str,
    target: &'a str,
    fields: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Naive<'a> {
    fn of(head: &'a [u8]) -> Self {
        let mut lines: Vec<&[u8]> = Vec::new();
        let mut rest = head;
        while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
            lines.push(&rest[..end]);
            rest = &rest[end + 2..];
        }
        assert!(rest.is_empty() && lines.pop() == Some(b"".as_slice()), "a head ends with an empty line");
        let line = std::str::from_utf8(lines.remove(0)).expect("a request line is text");
        let words: Vec<&str> = line.split(' ').collect();
        let [method, target, "HTTP/1.1" | "HTTP/1.0"] = words[..] else { panic!("`{line}` is no request line") };
        let fields = lines.iter().map(|line| {
            assert!(!line.contains(&b'\n') && !line.contains(&b'\r') && !line.contains(&0));
            let colon = line.iter().position(|b| *b == b':').expect("a field has a colon");
            let name = std::str::from_utf8(&line[..colon]).expect("a field's name is text");
            assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()), "`{name}`");
            let value = line[colon + 1..].trim_ascii();
            (name, value)
        });
        Self { method, target, fields: fields.collect() }
    }

    fn all(&self, name: &str) -> Vec<&'a [u8]> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| *value).collect()
    }
}

/// The body that lies wholly in `rest`, if there is one.
fn body(framing: Framing, rest: &[u8]) -> Option<Vec<u8>> {
    match framing {
        Framing::None => Some(Vec::new()),
        Framing::Length(length) => rest.get(..usize::try_from(length).ok()?).map(<[u8]>::to_vec),
        Framing::Chunked => {
            let whole = decode(&[rest]);
            let bytes: Vec<&[u8]> = rest.chunks(1).collect();
            let trickled = decode(&bytes);
            match &whole {
                Ok(whole) => assert_eq!(trickled.as_ref(), Ok(whole), "the chunks depend on how they came in"),
                Err(()) => assert!(trickled.is_err(), "{trickled:?} though the whole is refused"),
            }
            whole.ok().and_then(|(data, ended)| ended.then_some(data))
        }
        // What follows is no body.
        Framing::Tunnel => None,
    }
}

/// The data, and whether the last chunk came.
fn decode(parts: &[&[u8]]) -> Result<(Vec<u8>, bool), ()> {
    let mut decoder = ChunkedDecoder::default();
    let mut buffer = BytesMut::new();
    let mut data = Vec::new();
    for part in parts {
        buffer.extend_from_slice(part);
        loop {
            match decoder.next(&mut buffer) {
                Ok(Piece::Data(piece)) => {
                    assert!(!piece.is_empty(), "an empty piece");
                    data.extend_from_slice(&piece);
                }
                Ok(Piece::End(_)) => return Ok((data, true)),
                Ok(Piece::Pending) => break,
                Err(_) => return Err(()),
            }
        }
    }
    Ok((data, false))
}

/// What hyper makes of the first request.
struct Seen {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Option<Bytes>,
}

fn by_hyper(data: &[u8]) -> Option<Seen> {
    let seen: Arc<Mutex<Option<Seen>>> = Arc::default();
    let service = {
        let seen = Arc::clone(&seen);
        hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let seen = Arc::clone(&seen);
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.ok().map(http_body_util::Collected::to_bytes);
                let mut first = seen.lock().expect("one thread");
                if first.is_none() {
                    let target = parts.uri.to_string();
                    *first = Some(Seen { method: parts.method, target, headers: parts.headers, body });
                }
                Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new()))
            }
        })
    };
    let connection = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .serve_connection(Memory(data.to_vec(), 0), service);
    let mut connection = pin!(connection);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..64 {
        if connection.as_mut().poll(&mut context).is_ready() {
            break;
        }
    }
    seen.lock().expect("one thread").take()
}

/// A peer that has sent everything and hears nothing.
struct Memory(Vec<u8>, usize);

impl hyper::rt::Read for Memory {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut room: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let at = self.1;
        let length = room.remaining().min(self.0.len() - at);
        room.put_slice(&self.0[at..at + length]);
        self.1 += length;
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Memory {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
