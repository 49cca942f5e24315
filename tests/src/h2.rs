//! HTTP/2: a well-behaved client, and frames by hand for all that no library sends.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::door::Handshake;
use crate::http1::{Answer, Ended, Wire};
use crate::wait::PATIENCE;

/// A client that keeps to the rules. Its connection moves only while a method of it runs.
pub struct Client {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    connection: JoinHandle<()>,
    authority: String,
    patience: Duration,
    /// This side's address, as `connection.source` in records.
    pub local: std::net::SocketAddr,
}

impl Client {
    /// Opens a connection.
    ///
    /// # Panics
    /// If the gateway does not take it.
    #[must_use]
    pub fn open(handshake: &Handshake, address: std::net::SocketAddr) -> Self {
        Self::try_open(handshake, address).unwrap_or_else(|error| panic!("no HTTP/2 connection: {error}"))
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// What broke.
    ///
    /// # Panics
    /// If there is no runtime.
    pub fn try_open(handshake: &Handshake, address: std::net::SocketAddr) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let config = handshake.clone().alpn("h2").config();
        let (sender, connection, local) = runtime.block_on(async {
            let tcp = handshake.connect(address)?;
            tcp.set_nonblocking(true)?;
            let tcp = tokio::net::TcpStream::from_std(tcp)?;
            let local = tcp.local_addr()?;
            let name = ServerName::try_from("localhost").expect("a name");
            let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
            let tls = connector.connect(name, tcp).await?;
            let opened = http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await;
            let (sender, connection) = opened.map_err(std::io::Error::other)?;
            let connection = tokio::spawn(async move { drop(connection.await) });
            std::io::Result::Ok((sender, connection, local))
        })?;
        let authority = format!("localhost:{}", address.port());
        Ok(Self { runtime, sender, connection, authority, patience: PATIENCE, local })
    }

    /// How long it waits for an answer from here on.
    pub const fn set_patience(&mut self, limit: Duration) {
        self.patience = limit;
    }

    /// A GET and its answer.
    ///
    /// # Errors
    /// Why there is none.
    pub fn get(&mut self, target: &str) -> Result<Answer, String> {
        self.request("GET", target, &[], b"")
    }

    /// A request and its answer.
    ///
    /// # Errors
    /// Why there is none.
    ///
    /// # Panics
    /// If the parts do not make a request.
    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &'static [u8],
    ) -> Result<Answer, String> {
        let uri = format!("https://{}{target}", self.authority);
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from_static(body))).expect("a request");
        let sent = self.sender.send_request(request);
        let exchange = async {
            let (head, body) = sent.await.map_err(|error| error.to_string())?.into_parts();
            let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes().to_vec();
            let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
            let fields = head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
            Ok(Answer { status: head.status.as_u16(), fields, body, interim: Vec::new() })
        };
        let patience = self.patience;
        let limited = async { tokio::time::timeout(patience, exchange).await };
        self.runtime.block_on(limited).unwrap_or_else(|_| Err(format!("no answer within {patience:?}")))
    }

    /// Whether the gateway ends the connection within this time.
    pub fn closes_within(&mut self, limit: Duration) -> bool {
        let connection = &mut self.connection;
        self.runtime.block_on(async { tokio::time::timeout(limit, connection).await }).is_ok()
    }
}

/// Types of frames (RFC 9113 section 6).
pub mod kind {
    /// DATA.
    pub const DATA: u8 = 0;
    /// HEADERS.
    pub const HEADERS: u8 = 1;
    /// RST_STREAM.
    pub const RST_STREAM: u8 = 3;
    /// SETTINGS.
    pub const SETTINGS: u8 = 4;
    /// PING.
    pub const PING: u8 = 6;
    /// GOAWAY.
    pub const GOAWAY: u8 = 7;
    /// WINDOW_UPDATE.
    pub const WINDOW_UPDATE: u8 = 8;
    /// CONTINUATION.
    pub const CONTINUATION: u8 = 9;
}

/// The last frame of a stream (DATA, HEADERS).
pub const END_STREAM: u8 = 1;
/// The last frame of a header section.
pub const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// What came of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An answer with this status.
    Answered(u16),
    /// The stream was reset with this error code.
    Reset(u32),
    /// The connection was ended with this error code.
    GoneAway(u32),
    /// The connection was closed.
    Closed,
}

impl Outcome {
    /// The gateway refused it, by an answer of 400, by a reset or by ending the connection.
    #[must_use]
    pub const fn is_refusal(self) -> bool {
        !matches!(self, Self::Answered(status) if status != 400)
    }
}

/// A connection on which frames are written by hand.
#[derive(Debug)]
pub struct Frames {
    /// The TLS connection below.
    pub wire: Wire,
}

impl Frames {
    /// Opens a connection and sends the preface.
    #[must_use]
    pub fn open(handshake: &Handshake) -> Self {
        Self::on(handshake.clone().alpn("h2").open())
    }

    /// Sends the preface on a connection that is open.
    #[must_use]
    pub fn on(mut wire: Wire) -> Self {
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut frames = Self { wire };
        frames.send(kind::SETTINGS, 0, 0, b"");
        frames
    }

    /// Sends a frame.
    ///
    /// # Panics
    /// If the payload is longer than a frame can say.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.wire.send(encode(kind, flags, stream, payload));
    }

    /// Sends HEADERS with these fields, as they are, pseudo-headers included.
    pub fn headers(&mut self, stream: u32, fields: &[(&str, &str)], end: bool) {
        self.headers_raw(stream, &fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect::<Vec<_>>(), end);
    }

    /// As [`Frames::headers`], of any bytes.
    pub fn headers_raw(&mut self, stream: u32, fields: &[(&[u8], &[u8])], end: bool) {
        let flags = if end { END_HEADERS | END_STREAM } else { END_HEADERS };
        self.send(kind::HEADERS, flags, stream, &hpack(fields));
    }

    /// The fields of a request for this target, to be added to.
    #[must_use]
    pub fn request<'a>(&self, method: &'a str, target: &'a str, authority: &'a str) -> Vec<(&'a str, &'a str)> {
        vec![(":method", method), (":scheme", "https"), (":authority", authority), (":path", target)]
    }

    /// The next frame but SETTINGS, which is acknowledged, and WINDOW_UPDATE.
    ///
    /// # Errors
    /// How the connection ended instead.
    pub fn next_frame(&mut self) -> Result<Frame, Ended> {
        loop {
            let frame = self.read()?;
            match frame.kind {
                kind::SETTINGS if frame.flags & ACK == 0 => self.send(kind::SETTINGS, ACK, 0, b""),
                kind::PING if frame.flags & ACK == 0 => self.send(kind::PING, ACK, 0, &frame.payload),
                kind::SETTINGS | kind::WINDOW_UPDATE | kind::PING => {}
                _ => return Ok(frame),
            }
        }
    }

    /// What comes of a stream. Reads the status only of the first answer on the connection: later ones may refer to
    /// a table that nobody keeps here.
    ///
    /// # Panics
    /// If nothing comes of it.
    pub fn outcome(&mut self, stream: u32) -> Outcome {
        let mut status = None;
        loop {
            let frame = match self.next_frame() {
                Ok(frame) => frame,
                Err(Ended::Silent) => panic!("nothing came of stream {stream}"),
                Err(_) => return status.map_or(Outcome::Closed, Outcome::Answered),
            };
            match frame.kind {
                kind::GOAWAY if code(&frame.payload, 4) != 0 => return Outcome::GoneAway(code(&frame.payload, 4)),
                // An answer that is whole is one, whatever follows it (RFC 9113 section 8.1).
                kind::RST_STREAM if frame.stream == stream => {
                    return status.map_or(Outcome::Reset(code(&frame.payload, 0)), Outcome::Answered);
                }
                kind::HEADERS if frame.stream == stream && status.is_none() => {
                    status = Some(status_of(&frame.payload));
                }
                _ => {}
            }
            if frame.stream == stream
                && frame.flags & END_STREAM != 0
                && let Some(status) = status
            {
                return Outcome::Answered(status);
            }
        }
    }

    fn read(&mut self) -> Result<Frame, Ended> {
        loop {
            let buffer = self.wire.buffer();
            if let [a, b, c, kind, flags, s0, s1, s2, s3, ..] = buffer[..] {
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                if buffer.len() >= 9 + length {
                    let payload = buffer[9..9 + length].to_vec();
                    buffer.drain(..9 + length);
                    let stream = u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff;
                    return Ok(Frame { kind, flags, stream, payload });
                }
            }
            self.wire.fill()?;
        }
    }
}

/// The bytes of a frame.
///
/// # Panics
/// If the payload is longer than a frame can say.
#[must_use]
pub fn encode(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    assert_eq!(length[0], 0, "a frame's length has 24 bits");
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header section as literals without indexing (RFC 7541 section 6.2.2).
#[must_use]
pub fn hpack(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            length(&mut bytes, text.len());
            bytes.extend_from_slice(text);
        }
    }
    bytes
}

/// An integer with a prefix of seven bits (RFC 7541 section 5.1).
fn length(bytes: &mut Vec<u8>, mut value: usize) {
    if value < 127 {
        bytes.push(u8::try_from(value).expect("below 127"));
        return;
    }
    bytes.push(127);
    value -= 127;
    while value >= 128 {
        bytes.push(u8::try_from(value % 128).expect("below 128") | 128);
        value /= 128;
    }
    bytes.push(u8::try_from(value).expect("below 128"));
}

fn code(payload: &[u8], at: usize) -> u32 {
    payload.get(at..at + 4).and_then(|code| code.try_into().ok()).map_or(u32::MAX, u32::from_be_bytes)
}

/// The status at the front of a connection's first answer: an entry of the static table, or a literal, whose three
/// digits are Huffman-coded or plain (RFC 7541 appendices A and B).
fn status_of(payload: &[u8]) -> u16 {
    // Size updates of the table may precede it.
    let at = payload.iter().position(|byte| byte & 0xe0 != 0x20).unwrap_or(0);
    match payload[at..] {
        [0x88, ..] => 200,
        [0x89, ..] => 204,
        [0x8a, ..] => 206,
        [0x8b, ..] => 304,
        [0x8c, ..] => 400,
        [0x8d, ..] => 404,
        [0x8e, ..] => 500,
        [0x48 | 0x08 | 0x18, 0x03, a, b, c, ..] => {
            [a, b, c].iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'))
        }
        [0x48 | 0x08 | 0x18, length, ref rest @ ..] if length & 0x80 != 0 => huffman_digits(rest),
        _ => panic!("a status is expected: {payload:02x?}"),
    }
}

fn huffman_digits(bytes: &[u8]) -> u16 {
    let bit = |at: usize| u16::from(bytes.get(at / 8).copied().unwrap_or(0xff) >> (7 - at % 8) & 1);
    let bits = |at: usize, count: usize| (at..at + count).fold(0, |value, at| value << 1 | bit(at));
    let mut at = 0;
    let mut status = 0;
    for _ in 0..3 {
        // `0`, `1` and `2` have five bits, the other digits six, from 011001 on.
        let (digit, width) = match bits(at, 5) {
            short @ 0..=2 => (short, 5),
            _ => (bits(at, 6) - 0b01_1001 + 3, 6),
        };
        status = status * 10 + digit;
        at += width;
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_in_every_form() {
        assert_eq!(status_of(&[0x88]), 200);
        assert_eq!(status_of(&[0x20, 0x8c, 0x01]), 400);
        assert_eq!(status_of(&[0x48, 0x03, b'4', b'2', b'1']), 421);
        // RFC 7541 C.6.1: 302 as 0x6402; C.6.2: 307 as 0x640eff.
        assert_eq!(status_of(&[0x48, 0x82, 0x64, 0x02]), 302);
        assert_eq!(status_of(&[0x48, 0x83, 0x64, 0x0e, 0xff]), 307);
    }

    #[test]
    fn long_literals_have_long_lengths() {
        assert_eq!(hpack(&[(b"a", &[b'x'; 127])])[..6], [0, 1, b'a', 127, 0, b'x']);
        assert_eq!(hpack(&[(b"a", &[b'x'; 300])])[..6], [0, 1, b'a', 127, 173, 1]);
    }
}
