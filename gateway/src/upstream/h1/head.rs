//! Heads on the wire: the request's written, the answer's read (RFC 9112).

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};

use crate::listen::put_fields;
use crate::upstream::error::Failure;

/// The longest head of an answer, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// Most fields of an answer's head; the parser's table lies on the stack.
const MAX_FIELDS: usize = 128;

/// Writes the head of a request: the target is the one that was judged, byte for byte (C5).
pub(super) fn write(out: &mut BytesMut, parts: &Parts) {
    out.reserve(256 + parts.headers.len() * 64);
    out.put_slice(parts.method.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(parts.uri.path_and_query().map_or(&b"/"[..], |target| target.as_str().as_bytes()));
    out.put_slice(b" HTTP/1.1\r\n");
    put_fields(out, &parts.headers);
    out.put_slice(b"\r\n");
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct AnswerHead {
    pub(super) status: StatusCode,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
    /// The backend keeps the connection open.
    pub(super) keep_alive: bool,
}

/// Where the search for a head's end stands, so that a head that trickles in is searched once.
#[derive(Debug, Default)]
pub(super) struct HeadScan {
    searched: usize,
    interim: u32,
}

impl HeadScan {
    /// Counts an interim answer; returns how many there were.
    pub(super) const fn count_interim(&mut self) -> u32 {
        self.interim = self.interim.saturating_add(1);
        self.interim
    }

    /// Takes an answer's head off the front of `buffer`, if all of it is there.
    ///
    /// A bare LF ends a line, as RFC 9112 2.2 allows a recipient: the head is written anew for the client, so that
    /// one reading remains.
    ///
    /// # Errors
    /// [`Failure::Malformed`]; the connection is then of no more use.
    pub(super) fn take(&mut self, buffer: &mut BytesMut) -> Result<Option<AnswerHead>, Failure> {
        let end = self.find_end(buffer);
        if end.unwrap_or(buffer.len()) > MAX_HEAD {
            return Err(Failure::Malformed("the head is too long".into()));
        }
        let Some(end) = end else { return Ok(None) };
        self.searched = 0;
        parse(&buffer.split_to(end).freeze()).map(Some)
    }

    /// The first empty line that follows another line.
    fn find_end(&mut self, buffer: &[u8]) -> Option<usize> {
        while let Some(at) =
            buffer.get(self.searched..).and_then(|rest| memchr::memchr(b'\n', rest)).map(|at| self.searched + at)
        {
            match buffer.get(at + 1..).unwrap_or_default() {
                [b'\n', ..] => return Some(at + 2),
                [b'\r', b'\n', ..] => return Some(at + 3),
                // What follows decides, and is not there.
                [] | [b'\r'] => {
                    self.searched = at;
                    return None;
                }
                [..] => self.searched = at + 1,
            }
        }
        self.searched = buffer.len();
        None
    }
}

fn malformed(error: &impl ToString) -> Failure {
    Failure::Malformed(error.to_string())
}

fn parse(bytes: &Bytes) -> Result<AnswerHead, Failure> {
    let mut fields = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut response, bytes, &mut fields)
        .map_err(|error| malformed(&error))?;
    let (httparse::Status::Complete(length), Some(minor), Some(code)) = (parsed, response.version, response.code)
    else {
        return Err(Failure::Malformed("the head ends early".into()));
    };
    if length != bytes.len() {
        return Err(Failure::Malformed("the head has two ends".into()));
    }
    let status = StatusCode::from_u16(code).map_err(|error| malformed(&error))?;
    let version = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let mut headers = HeaderMap::with_capacity(response.headers.len() + 4);
    for field in response.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|error| malformed(&error))?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).map_err(|error| malformed(&error))?;
        headers.try_append(name, value).map_err(|error| malformed(&error))?;
    }
    let closes = headers.get_all(CONNECTION).iter().any(|value| {
        value.as_bytes().split(|&byte| byte == b',').any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
    });
    Ok(AnswerHead { status, version, headers, keep_alive: version == Version::HTTP_11 && !closes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx: a\r\nx: b\r\n\r\n";

    fn take(bytes: &[u8]) -> Result<Option<AnswerHead>, Failure> {
        HeadScan::default().take(&mut BytesMut::from(bytes))
    }

    #[test]
    fn a_head_is_found_however_it_is_cut() {
        for cut in 0..HEAD.len() {
            let mut scan = HeadScan::default();
            let mut buffer = BytesMut::from(&HEAD[..cut]);
            assert!(scan.take(&mut buffer).unwrap().is_none(), "{cut}");
            buffer.extend_from_slice(&HEAD[cut..]);
            buffer.extend_from_slice(b"ok");
            let head = scan.take(&mut buffer).unwrap().unwrap();
            assert_eq!((head.status.as_u16(), head.headers.len(), head.keep_alive), (200, 3, true));
            assert_eq!(&buffer[..], b"ok");
        }
    }

    #[test]
    fn a_head_without_end_or_over_its_bounds_is_malformed() {
        let long = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &[b'a'; MAX_HEAD]].concat();
        assert!(matches!(take(&long), Err(Failure::Malformed(_))));
        let mut many = b"HTTP/1.1 200 OK\r\n".to_vec();
        many.extend(b"a: b\r\n".repeat(MAX_FIELDS + 1));
        many.extend(b"\r\n");
        assert!(matches!(take(&many), Err(Failure::Malformed(_))));
        for bad in ["\r\n\r\n", "HTTP/1.1 99 x\r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n: x\r\n\r\n"] {
            assert!(matches!(take(bad.as_bytes()), Err(Failure::Malformed(_))), "{bad:?}");
        }
    }

    #[test]
    fn the_connection_stays_open_only_where_both_say_so() {
        for (head, keep_alive) in [
            ("HTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.1 200 OK\nx: y\n\n", true),
            ("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nConnection: x, Close\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", false),
        ] {
            assert_eq!(take(head.as_bytes()).unwrap().unwrap().keep_alive, keep_alive, "{head:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_backend_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
            let mut scan = HeadScan::default();
            let mut buffer = BytesMut::new();
            for part in bytes.chunks(cut.max(1)) {
                buffer.extend_from_slice(part);
                if scan.take(&mut buffer).is_err() {
                    break;
                }
            }
        }
    }
}
