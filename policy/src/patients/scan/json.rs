//! A tokenizer for JSON (RFC 8259) that is pushed: bytes come as they stream, in pieces of any size, and events go out.
//!
//! It holds a bounded number of bytes: of a string only what its handler wants, and that only where the string is
//! escaped or cut by the end of a piece. What is not wanted is skipped without a copy, which is most of a body that
//! carries documents or images in base64.
//!
//! It is more lenient than the RFC where a backend may be too: scalars are not checked, control characters may stand in
//! strings, values may follow each other (NDJSON), a byte-order mark may come first. Rather a patient too many is found
//! than one too few.

use memchr::memchr2;

/// Deepest nesting that is read.
pub(super) const MAX_DEPTH: u8 = 128;

/// Most bytes of a key or of a value that are handed over; the rest is cut.
pub(super) const MAX_TEXT: usize = 4_096;

/// A scalar that its handler wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    /// A string's bytes, its escapes undone, not checked to be UTF-8; or a number or literal as it is written.
    pub(super) bytes: &'a [u8],
    /// Whether it stood in quotes.
    pub(super) quoted: bool,
    /// Whether it was longer.
    pub(super) cut: bool,
}

/// Takes the events.
pub(super) trait Handler {
    /// An array or an object begins.
    fn begin(&mut self, array: bool);
    /// The innermost array or object ends.
    fn end(&mut self);
    /// A member's name, its escapes undone; cut to [`MAX_TEXT`].
    fn key(&mut self, name: &[u8]);
    /// Whether the scalar that comes next is wanted.
    fn wants(&self) -> bool;
    /// A scalar: none if it was not wanted.
    fn scalar(&mut self, text: Option<Text<'_>>);
}

/// The text is no JSON, or nested too deep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Bytes of a byte-order mark may come; so many did.
    Start(u8),
    Value,
    /// After `[`.
    ValueOrEnd,
    /// After `,` in an object.
    Key,
    /// After `{`.
    KeyOrEnd,
    Colon,
    /// After a value in an array or an object.
    Next,
    /// In a string.
    String(Kind),
    /// After a `\`.
    Escape(Kind),
    /// After `\u`, with so many digits read.
    Hex(Kind, u8),
    /// In a number or a literal.
    Scalar {
        wanted: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Key,
    Wanted,
    Unwanted,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Tokenizer {
    state: State,
    /// One bit for each level, the innermost lowest: 1 is an array.
    arrays: u128,
    depth: u8,
    /// What has come of a text that is not whole in its piece.
    text: Vec<u8>,
    cut: bool,
    hex: u32,
    /// A high surrogate that waits for its low one.
    surrogate: u32,
}

impl Default for Tokenizer {
    fn default() -> Self {
        Self { state: State::Start(0), arrays: 0, depth: 0, text: Vec::new(), cut: false, hex: 0, surrogate: 0 }
    }
}

impl Tokenizer {
    /// Reads the next piece.
    ///
    /// # Errors
    /// [`Malformed`]; then the tokenizer must not be fed again.
    pub(super) fn feed(&mut self, bytes: &[u8], handler: &mut impl Handler) -> Result<(), Malformed> {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = self.step(rest, handler)?;
        }
        Ok(())
    }

    /// The text is over.
    ///
    /// # Errors
    /// [`Malformed`] if it ends within a value.
    pub(super) fn finish(&mut self, handler: &mut impl Handler) -> Result<(), Malformed> {
        if let State::Scalar { wanted } = self.state {
            self.end_scalar(&[], wanted, handler);
        }
        let is_between = matches!(self.state, State::Start(0) | State::Value) && self.depth == 0;
        if is_between { Ok(()) } else { Err(Malformed) }
    }

    /// Levels that are open.
    pub(super) fn depth(&self) -> u8 {
        self.depth
    }

    #[inline]
    fn step<'b>(&mut self, bytes: &'b [u8], handler: &mut impl Handler) -> Result<&'b [u8], Malformed> {
        match self.state {
            State::String(kind) => return Ok(self.string(bytes, kind, handler)),
            State::Escape(kind) => return self.escape(bytes, kind),
            State::Hex(kind, digits) => return self.hex_digit(bytes, kind, digits),
            State::Scalar { wanted } => return Ok(self.scalar(bytes, wanted, handler)),
            State::Start(seen) => return self.start(bytes, seen),
            State::Value | State::ValueOrEnd | State::Key | State::KeyOrEnd | State::Colon | State::Next => {}
        }
        let mut rest = bytes;
        while let [b' ' | b'\n' | b'\r' | b'\t', tail @ ..] = rest {
            rest = tail;
        }
        let [byte, tail @ ..] = rest else { return Ok(rest) };
        match (self.state, *byte) {
            (State::Value | State::ValueOrEnd, b'"') => {
                let kind = if handler.wants() { Kind::Wanted } else { Kind::Unwanted };
                return Ok(self.string(tail, kind, handler));
            }
            (State::Value | State::ValueOrEnd, b'{') => self.open(false, handler)?,
            (State::Value | State::ValueOrEnd, b'[') => self.open(true, handler)?,
            (State::ValueOrEnd, b']') => self.close(true, handler)?,
            (State::Value | State::ValueOrEnd, first) if is_scalar(first) => {
                let wanted = handler.wants();
                self.state = State::Scalar { wanted };
                return Ok(self.scalar(rest, wanted, handler));
            }
            (State::Key | State::KeyOrEnd, b'"') => return Ok(self.string(tail, Kind::Key, handler)),
            (State::KeyOrEnd, b'}') => self.close(false, handler)?,
            (State::Colon, b':') => self.state = State::Value,
            (State::Next, b',') => self.state = if self.arrays & 1 == 1 { State::Value } else { State::Key },
            (State::Next, b'}') => self.close(false, handler)?,
            (State::Next, b']') => self.close(true, handler)?,
            _ => return Err(Malformed),
        }
        Ok(tail)
    }

    /// A byte-order mark (RFC 8259 section 8.1 lets a reader ignore it).
    fn start<'b>(&mut self, bytes: &'b [u8], seen: u8) -> Result<&'b [u8], Malformed> {
        let [byte, tail @ ..] = bytes else { return Ok(bytes) };
        match (seen, *byte) {
            (0, 0xef) => self.state = State::Start(1),
            (1, 0xbb) => self.state = State::Start(2),
            (2, 0xbf) => self.state = State::Value,
            (0, _) => {
                self.state = State::Value;
                return Ok(bytes);
            }
            _ => return Err(Malformed),
        }
        Ok(tail)
    }

    fn open(&mut self, array: bool, handler: &mut impl Handler) -> Result<(), Malformed> {
        if self.depth == MAX_DEPTH {
            return Err(Malformed);
        }
        self.depth += 1;
        self.arrays = self.arrays << 1 | u128::from(array);
        self.state = if array { State::ValueOrEnd } else { State::KeyOrEnd };
        handler.begin(array);
        Ok(())
    }

    fn close(&mut self, array: bool, handler: &mut impl Handler) -> Result<(), Malformed> {
        if self.depth == 0 || (self.arrays & 1 == 1) != array {
            return Err(Malformed);
        }
        self.depth -= 1;
        self.arrays >>= 1;
        handler.end();
        self.after_value();
        Ok(())
    }

    fn after_value(&mut self) {
        self.state = if self.depth == 0 { State::Value } else { State::Next };
    }

    /// In a string: to its end, its next escape or the end of the piece.
    #[inline]
    fn string<'b>(&mut self, bytes: &'b [u8], kind: Kind, handler: &mut impl Handler) -> &'b [u8] {
        let Some(at) = find_stop(bytes) else {
            self.keep(bytes, kind);
            self.state = State::String(kind);
            return &[];
        };
        let (before, after) = bytes.split_at_checked(at).unwrap_or((bytes, &[]));
        let [stop, tail @ ..] = after else { return &[] };
        if *stop == b'\\' {
            self.keep(before, kind);
            self.state = State::Escape(kind);
            return tail;
        }
        match kind {
            Kind::Unwanted => handler.scalar(None),
            Kind::Key | Kind::Wanted if self.text.is_empty() && self.surrogate == 0 => {
                let bytes = before.get(..MAX_TEXT).unwrap_or(before);
                hand_over(Text { bytes, quoted: true, cut: bytes.len() < before.len() }, kind, handler);
            }
            Kind::Key | Kind::Wanted => {
                self.keep(before, kind);
                self.keep_surrogate();
                hand_over(Text { bytes: &self.text, quoted: true, cut: self.cut }, kind, handler);
                self.forget();
            }
        }
        if kind == Kind::Key {
            self.state = State::Colon;
        } else {
            self.after_value();
        }
        tail
    }

    fn escape<'b>(&mut self, bytes: &'b [u8], kind: Kind) -> Result<&'b [u8], Malformed> {
        let [byte, tail @ ..] = bytes else { return Ok(bytes) };
        let plain = match *byte {
            b'u' => {
                self.hex = 0;
                self.state = State::Hex(kind, 0);
                return Ok(tail);
            }
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'"' | b'\\' | b'/' => *byte,
            _ => return Err(Malformed),
        };
        self.keep(&[plain], kind);
        self.state = State::String(kind);
        Ok(tail)
    }

    fn hex_digit<'b>(&mut self, bytes: &'b [u8], kind: Kind, digits: u8) -> Result<&'b [u8], Malformed> {
        let [byte, tail @ ..] = bytes else { return Ok(bytes) };
        let digit = char::from(*byte).to_digit(16).ok_or(Malformed)?;
        self.hex = self.hex << 4 | digit;
        if digits < 3 {
            self.state = State::Hex(kind, digits + 1);
            return Ok(tail);
        }
        self.state = State::String(kind);
        if kind == Kind::Unwanted {
            return Ok(tail);
        }
        let unit = self.hex;
        match (std::mem::take(&mut self.surrogate), unit) {
            (0, 0xd800..=0xdbff) => self.surrogate = unit,
            (high @ 1.., 0xdc00..=0xdfff) => {
                let code = 0x1_0000 + ((high - 0xd800) << 10) + (unit - 0xdc00);
                self.keep_character(char::from_u32(code), kind);
            }
            (high, _) => {
                if high != 0 {
                    self.keep_character(None, kind);
                }
                match unit {
                    0xd800..=0xdbff => self.surrogate = unit,
                    _ => self.keep_character(char::from_u32(unit), kind),
                }
            }
        }
        Ok(tail)
    }

    /// A surrogate without its other half is a character that cannot be shown.
    fn keep_character(&mut self, character: Option<char>, kind: Kind) {
        let mut octets = [0; 4];
        let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
        self.keep(character.encode_utf8(&mut octets).as_bytes(), kind);
    }

    fn keep_surrogate(&mut self) {
        if std::mem::take(&mut self.surrogate) != 0 {
            self.keep_character(None, Kind::Wanted);
        }
    }

    fn keep(&mut self, bytes: &[u8], kind: Kind) {
        if kind == Kind::Unwanted || bytes.is_empty() {
            return;
        }
        self.keep_surrogate();
        let room = MAX_TEXT.saturating_sub(self.text.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.cut |= taken.len() < bytes.len();
        self.text.extend_from_slice(taken);
    }

    fn forget(&mut self) {
        self.text.clear();
        self.cut = false;
        self.surrogate = 0;
    }

    fn scalar<'b>(&mut self, bytes: &'b [u8], wanted: bool, handler: &mut impl Handler) -> &'b [u8] {
        let Some(at) = bytes.iter().position(|byte| !is_scalar(*byte)) else {
            self.keep(bytes, if wanted { Kind::Wanted } else { Kind::Unwanted });
            return &[];
        };
        let (before, after) = bytes.split_at_checked(at).unwrap_or((bytes, &[]));
        self.end_scalar(before, wanted, handler);
        after
    }

    fn end_scalar(&mut self, last: &[u8], wanted: bool, handler: &mut impl Handler) {
        if wanted {
            self.keep(last, Kind::Wanted);
            handler.scalar(Some(Text { bytes: &self.text, quoted: false, cut: self.cut }));
            self.forget();
        } else {
            handler.scalar(None);
        }
        self.after_value();
    }
}

#[inline]
fn hand_over(text: Text<'_>, kind: Kind, handler: &mut impl Handler) {
    match kind {
        Kind::Key => handler.key(text.bytes),
        Kind::Wanted | Kind::Unwanted => handler.scalar(Some(text)),
    }
}

/// The next byte that ends a string or begins an escape. Most strings are short, and a search has a price of its own.
#[inline]
fn find_stop(bytes: &[u8]) -> Option<usize> {
    let (short, long) = bytes.split_at_checked(24).unwrap_or((bytes, &[]));
    let found = short.iter().position(|byte| matches!(byte, b'"' | b'\\'));
    found.or_else(|| memchr2(b'"', b'\\', long).map(|at| at + short.len()))
}

fn is_scalar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}
