//! The strict reading of a chunked body (RFC 9112 section 7.1, row C1).

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use policy::Refusal;

use super::head::{has_bare_lf, parse_trailers};

/// Bytes of one chunk's size line, extension and line end included. Extensions carry nothing for us.
const MAX_SIZE_LINE: usize = 256;
/// Bytes of a trailer section.
const MAX_TRAILER: usize = 8 * 1024;
/// Most that size lines may weigh beside the data they announce, so that one-byte chunks with long extensions
/// cannot make the gateway work for nothing.
const MAX_OVERHEAD: u64 = 64 * 1024;

/// What came next in a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Data, never empty.
    Data(Bytes),
    /// The end, with the trailer section, if it had fields.
    End(Option<HeaderMap>),
    /// More bytes are needed.
    Pending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    Data(u64),
    DataEnd,
    Trailer,
    Done,
}

/// A state machine: bytes in, pieces out.
#[derive(Debug)]
pub struct ChunkedDecoder {
    state: State,
    overhead: u64,
    data: u64,
    /// Blanks may follow a chunk's size.
    takes_blanks: bool,
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        Self { state: State::Size, overhead: 0, data: 0, takes_blanks: false }
    }
}

impl ChunkedDecoder {
    /// Reads a backend's answer: old servers pad a chunk's size with blanks. Its chunks are not forwarded as they
    /// are, so that no second reader can see them otherwise.
    #[must_use]
    pub fn of_an_answer() -> Self {
        Self { takes_blanks: true, ..Self::default() }
    }

    /// Takes the next piece off the front of `buffer`.
    ///
    /// # Errors
    /// [`Refusal::RequestMalformed`] for anything but `1*HEXDIG [ext] CRLF data CRLF`, [`Refusal::HeaderTooLarge`]
    /// for a trailer section over its bound. The decoder must not be asked again.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Piece, Refusal> {
        loop {
            match self.state {
                State::Size => {
                    let Some(line) = take_line(buffer, MAX_SIZE_LINE)? else { return Ok(Piece::Pending) };
                    let size = chunk_size(&line, self.takes_blanks)?;
                    self.overhead += line.len() as u64;
                    if self.overhead > MAX_OVERHEAD + self.data {
                        return Err(Refusal::RequestMalformed);
                    }
                    self.data = self.data.saturating_add(size);
                    self.state = if size == 0 { State::Trailer } else { State::Data(size) };
                }
                State::Data(left) => {
                    if buffer.is_empty() {
                        return Ok(Piece::Pending);
                    }
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                    let left = left - take as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                    return Ok(Piece::Data(buffer.split_to(take).freeze()));
                }
                State::DataEnd => match (buffer.first(), buffer.get(1)) {
                    (Some(b'\r'), Some(b'\n')) => {
                        buffer.advance(2);
                        self.state = State::Size;
                    }
                    (None, _) | (Some(b'\r'), None) => return Ok(Piece::Pending),
                    _ => return Err(Refusal::RequestMalformed),
                },
                State::Trailer => return self.trailer(buffer),
                State::Done => return Ok(Piece::End(None)),
            }
        }
    }

    fn trailer(&mut self, buffer: &mut BytesMut) -> Result<Piece, Refusal> {
        if buffer.starts_with(b"\r\n") {
            buffer.advance(2);
            self.state = State::Done;
            return Ok(Piece::End(None));
        }
        if let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n") {
            if end > MAX_TRAILER {
                return Err(Refusal::HeaderTooLarge);
            }
            let trailers = parse_trailers(&buffer.split_to(end + 4).freeze())?;
            self.state = State::Done;
            return Ok(Piece::End(Some(trailers)));
        }
        // A bare LF would otherwise wait for the deadline.
        if has_bare_lf(buffer) {
            return Err(Refusal::RequestMalformed);
        }
        // All of the final CRLFCRLF but its last byte may be there already.
        if buffer.len() > MAX_TRAILER + 3 { Err(Refusal::HeaderTooLarge) } else { Ok(Piece::Pending) }
    }
}

/// Takes a line with its CRLF; refuses a bare LF or CR and a line over `max`.
fn take_line(buffer: &mut BytesMut, max: usize) -> Result<Option<Bytes>, Refusal> {
    let window = buffer.get(..buffer.len().min(max)).unwrap_or_default();
    match memchr::memchr(b'\n', window) {
        Some(at) => {
            let line = buffer.split_to(at + 1).freeze();
            let body = line.strip_suffix(b"\r\n").ok_or(Refusal::RequestMalformed)?;
            if body.contains(&b'\r') { Err(Refusal::RequestMalformed) } else { Ok(Some(line)) }
        }
        None if window.len() == max => Err(Refusal::RequestMalformed),
        None => Ok(None),
    }
}

/// `chunk-size [ chunk-ext ] CRLF`, the extension of visible characters, tabs and spaces only.
fn chunk_size(line: &[u8], takes_blanks: bool) -> Result<u64, Refusal> {
    let line = line.strip_suffix(b"\r\n").ok_or(Refusal::RequestMalformed)?;
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let (size, extension) = line.split_at_checked(digits).ok_or(Refusal::RequestMalformed)?;
    if !(1..=15).contains(&size.len()) {
        return Err(Refusal::RequestMalformed);
    }
    let is_extension = match extension.first() {
        None => true,
        Some(b' ' | b'\t') if takes_blanks => extension.trim_ascii().is_empty(),
        Some(b';') => extension.iter().all(|b| b.is_ascii_graphic() || matches!(b, b' ' | b'\t')),
        Some(_) => false,
    };
    let text = std::str::from_utf8(size).map_err(|_| Refusal::RequestMalformed)?;
    if is_extension {
        u64::from_str_radix(text, 16).map_err(|_| Refusal::RequestMalformed)
    } else {
        Err(Refusal::RequestMalformed)
    }
}
