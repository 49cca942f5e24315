//! The strict reading of an HTTP/1.1 head (RFC 9112, rows C1 to C5).
//!
//! Two parsers that disagree about where a message ends are two bodies for one request. So the gateway reads the
//! very bytes itself and takes only heads that every parser reads alike; what is forwarded is written anew.

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

use policy::Refusal;

use crate::websocket;

/// Most fields that a head may have whatever the configuration says; the parser's table lies on the stack.
pub(super) const MAX_FIELDS: usize = 128;

/// How long a head may be.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// Bytes of the target.
    pub target_bytes: usize,
    /// Bytes of request line and header section together.
    pub header_bytes: usize,
    /// Fields of the header section; at most [`MAX_FIELDS`].
    pub header_count: usize,
}

/// How a request's body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// Exactly so many bytes follow.
    Length(u64),
    /// Chunks follow (RFC 9112 section 7.1).
    Chunked,
    /// None: bytes of another protocol follow, once both sides have agreed to it.
    Tunnel,
}

/// A head that every parser reads alike.
#[derive(Debug)]
pub struct Head {
    /// The method; not necessarily one that a route knows.
    pub method: Method,
    /// The target as it came: origin-form, or absolute-form.
    pub target: Bytes,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The header section, all fields.
    pub headers: HeaderMap,
    /// How the body is delimited.
    pub framing: Framing,
    /// The client keeps the connection open.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// The client takes trailers in the answer (`TE: trailers`).
    pub takes_trailers: bool,
    /// The client opens a WebSocket, and must hear this `Sec-WebSocket-Accept` for it.
    pub websocket: Option<HeaderValue>,
}

/// A head that was refused, with as much of it as could be read, for the record.
#[derive(Debug, PartialEq, Eq)]
pub struct BadHead {
    /// Why.
    pub refusal: Refusal,
    /// The method, if the request line was whole; otherwise empty.
    pub method: String,
    /// The target as it came, likewise.
    pub target: Bytes,
}

/// Where the search for the end of a head stands, so that a head that trickles in is scanned once.
#[derive(Debug, Default, Clone, Copy)]
pub struct HeadScan {
    line_start: usize,
    searched: usize,
}

impl HeadScan {
    /// Looks for the end of the head at the front of `buffer`. `Ok(None)` means that more bytes are needed.
    ///
    /// # Errors
    /// A bare LF, or a head over its bound: [`Refusal::RequestMalformed`], [`Refusal::TargetTooLong`] or
    /// [`Refusal::HeaderTooLarge`].
    pub fn find_end(&mut self, buffer: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Refusal> {
        while let Some(offset) = buffer.get(self.searched..).and_then(|rest| memchr::memchr(b'\n', rest)) {
            let at = self.searched + offset;
            let line = buffer.get(self.line_start..at).unwrap_or_default();
            let Some((b'\r', line)) = line.split_last() else { return Err(Refusal::RequestMalformed) };
            if self.line_start == 0 && line.len() > limits.target_bytes + REQUEST_LINE_REST {
                return Err(Refusal::TargetTooLong);
            }
            self.searched = at + 1;
            let is_empty = line.is_empty();
            let is_first = self.line_start == 0;
            self.line_start = at + 1;
            if is_empty && !is_first {
                return if self.searched > limits.header_bytes {
                    Err(Refusal::HeaderTooLarge)
                } else {
                    Ok(Some(self.searched))
                };
            }
            if is_empty {
                // RFC 9112 section 2.2 lets a server skip one empty line; none of today's clients sends it.
                return Err(Refusal::RequestMalformed);
            }
        }
        self.searched = buffer.len();
        // The line's CR may be there already.
        if self.line_start == 0 && buffer.len() > limits.target_bytes + REQUEST_LINE_REST + 1 {
            return Err(Refusal::TargetTooLong);
        }
        if buffer.len() > limits.header_bytes { Err(Refusal::HeaderTooLarge) } else { Ok(None) }
    }
}

/// Bytes of a request line that are not its target: a method, two spaces and the version.
const REQUEST_LINE_REST: usize = 32;

/// Reads the head that [`HeadScan`] found, and takes it off the front of `buffer`.
///
/// # Errors
/// [`BadHead`] says why; `buffer` is then in no defined state and the connection must close.
pub fn take_head(buffer: &mut BytesMut, length: usize, limits: &HeadLimits) -> Result<Head, BadHead> {
    let bytes = buffer.split_to(length.min(buffer.len())).freeze();
    let (method, target) = request_line(&bytes);
    parse(&bytes, limits).map_err(|refusal| BadHead { refusal, method: method.to_owned(), target })
}

/// Method and target of a request line, as far as they can be told apart.
fn request_line(bytes: &Bytes) -> (&str, Bytes) {
    let line = bytes.split(|&b| b == b'\r').next().unwrap_or_default();
    let mut parts = line.splitn(3, |&b| b == b' ');
    let method = parts.next().and_then(|m| std::str::from_utf8(m).ok()).unwrap_or_default();
    let target = parts.next().unwrap_or_default();
    (method, bytes.slice_ref(target))
}

/// What the rest of a message may look like up to a point where it must not: on the first refused head of a
/// connection, whatever was read so far serves the record.
#[must_use]
pub(super) fn describe(buffer: &BytesMut) -> (String, Bytes) {
    let bytes = Bytes::copy_from_slice(buffer.get(..buffer.len().min(64 * 1024)).unwrap_or_default());
    let (method, target) = request_line(&bytes);
    let known = method.len() <= 32 && method.bytes().all(|b| b.is_ascii_graphic());
    (if known { method.to_owned() } else { String::new() }, target)
}

fn parse(bytes: &Bytes, limits: &HeadLimits) -> Result<Head, Refusal> {
    if has_bare_cr_or_nul(bytes) {
        return Err(Refusal::RequestMalformed);
    }
    let mut fields = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(Refusal::RequestMalformed),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::HeaderTooLarge),
        Err(_) => return Err(Refusal::RequestMalformed),
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(Refusal::RequestMalformed);
    };
    if target.len() > limits.target_bytes {
        return Err(Refusal::TargetTooLong);
    }
    if request.headers.len() > limits.header_count {
        return Err(Refusal::HeaderTooLarge);
    }
    let version = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let mut headers = HeaderMap::with_capacity(request.headers.len() + 8);
    for field in request.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Refusal::RequestMalformed)?;
        let value =
            HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).map_err(|_| Refusal::RequestMalformed)?;
        headers.append(name, value);
    }
    let mut framing = framing(&headers, version)?;
    one_host(&headers)?;
    let connection = Connection::of(&headers);
    let expects_continue = expects_continue(&headers, version)?;
    let mut websocket = None;
    if connection.upgrade || headers.contains_key(UPGRADE) {
        let can_change =
            method == "GET" && version == Version::HTTP_11 && framing == Framing::None && !expects_continue;
        websocket = Some(websocket::opening(&headers, can_change)?);
        framing = Framing::Tunnel;
    }
    Ok(Head {
        method: Method::from_bytes(method.as_bytes()).map_err(|_| Refusal::RequestMalformed)?,
        target: bytes.slice_ref(target.as_bytes()),
        version,
        framing,
        keep_alive: version == Version::HTTP_11 && !connection.close,
        expects_continue,
        websocket,
        takes_trailers: headers.get_all(TE).iter().any(|v| v.as_bytes().eq_ignore_ascii_case(b"trailers")),
        headers,
    })
}

/// A CR that no LF follows is a line end to some parsers, and a NUL ends a string for others.
fn has_bare_cr_or_nul(bytes: &[u8]) -> bool {
    memchr::memchr2_iter(b'\r', b'\0', bytes).any(|at| bytes.get(at..at + 2) != Some(b"\r\n"))
}

/// The parser takes a lone LF for a line's end; [`HeadScan`] has refused it in a head.
pub(super) fn has_bare_lf(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', bytes).any(|at| at == 0 || bytes.get(at - 1) != Some(&b'\r'))
}

/// RFC 9112 section 6.3, without any of its latitude: one way to say how long a body is.
fn framing(headers: &HeaderMap, version: Version) -> Result<Framing, Refusal> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(Framing::None),
        (Some(coding), None) => {
            let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
            if is_chunked && codings.next().is_none() && version == Version::HTTP_11 {
                Ok(Framing::Chunked)
            } else {
                Err(Refusal::RequestAmbiguous)
            }
        }
        (None, Some(length)) if lengths.next().is_none() => decimal(length.as_bytes()).map(Framing::Length),
        _ => Err(Refusal::RequestAmbiguous),
    }
}

fn decimal(digits: &[u8]) -> Result<u64, Refusal> {
    if !(1..=19).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::RequestAmbiguous);
    }
    Ok(digits.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}

/// Exactly one `Host` (RFC 9112 section 3.2), for HTTP/1.0 as well: no request is without an authority.
fn one_host(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), None) => Ok(()),
        (None, _) => Err(Refusal::RequestMalformed),
        (Some(_), Some(_)) => Err(Refusal::RequestAmbiguous),
    }
}

#[derive(Default)]
struct Connection {
    close: bool,
    upgrade: bool,
}

impl Connection {
    fn of(headers: &HeaderMap) -> Self {
        let mut connection = Self::default();
        for value in headers.get_all(CONNECTION) {
            for option in value.as_bytes().split(|&b| b == b',').map(<[u8]>::trim_ascii) {
                connection.close |= option.eq_ignore_ascii_case(b"close");
                connection.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
            }
        }
        connection
    }
}

fn expects_continue(headers: &HeaderMap, version: Version) -> Result<bool, Refusal> {
    let mut expectations = headers.get_all(EXPECT).iter();
    match expectations.next() {
        None => Ok(false),
        Some(value) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") && expectations.next().is_none() => {
            Ok(version == Version::HTTP_11)
        }
        Some(_) => Err(Refusal::ExpectationFailed),
    }
}

/// Reads a trailer section with the head's own strictness. `bytes` ends with the empty line.
///
/// # Errors
/// [`Refusal::RequestMalformed`] or [`Refusal::HeaderTooLarge`].
pub(super) fn parse_trailers(bytes: &Bytes) -> Result<HeaderMap, Refusal> {
    if has_bare_cr_or_nul(bytes) || has_bare_lf(bytes) {
        return Err(Refusal::RequestMalformed);
    }
    let mut fields = [httparse::EMPTY_HEADER; 32];
    match httparse::parse_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete((length, fields))) if length == bytes.len() => {
            let mut trailers = HeaderMap::with_capacity(fields.len());
            for field in fields {
                let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Refusal::RequestMalformed)?;
                let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value))
                    .map_err(|_| Refusal::RequestMalformed)?;
                trailers.append(name, value);
            }
            Ok(trailers)
        }
        Err(httparse::Error::TooManyHeaders) => Err(Refusal::HeaderTooLarge),
        Ok(_) | Err(_) => Err(Refusal::RequestMalformed),
    }
}

/// The path and query that will be judged and forwarded, as the HTTP library holds them.
///
/// # Errors
/// [`Refusal::TargetNotNormal`] if the library cannot hold exactly these bytes.
pub(super) fn path_and_query(bytes: Bytes) -> Result<PathAndQuery, Refusal> {
    let kept = PathAndQuery::from_maybe_shared(bytes.clone()).map_err(|_| Refusal::TargetNotNormal)?;
    if kept.as_str().as_bytes() == &bytes[..] { Ok(kept) } else { Err(Refusal::TargetNotNormal) }
}
