//! Bodies of parts (RFC 2046 section 5.1), as they stream: `multipart/related` of STOW-RS and WADO-RS.

use memchr::memmem::Finder;

/// Most bytes of a part's head.
const MAX_HEAD: usize = 8 * 1_024;

/// Takes the parts.
pub(super) trait Parts {
    /// A part begins. The head is its fields, as they stand.
    fn begin(&mut self, head: &[u8]);
    /// The next bytes of the part.
    fn data(&mut self, bytes: &[u8]);
    /// The part is over.
    fn end(&mut self);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first delimiter.
    Preamble,
    /// Behind a delimiter's boundary, so many `-` after it.
    Delimiter {
        dashes: u8,
    },
    Head,
    Data,
    /// Behind the last delimiter.
    Epilogue,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Multipart {
    state: State,
    /// `CRLF -- boundary`.
    delimiter: Finder<'static>,
    /// For each length of what matches at a piece's end, how much of it still may after one more byte does not.
    fallback: Vec<u8>,
    /// So much of the delimiter has come.
    matched: usize,
    /// Of that, so much is not the part's own: it ended the head.
    lent: usize,
    head: Vec<u8>,
}

/// What is no body of parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoParts;

impl Multipart {
    /// For a boundary of 1 to 70 characters.
    ///
    /// # Errors
    /// [`NoParts`].
    pub(super) fn new(boundary: &[u8]) -> Result<Self, NoParts> {
        if boundary.is_empty() || boundary.len() > 70 {
            return Err(NoParts);
        }
        let delimiter = [b"\r\n--", boundary].concat();
        Ok(Self {
            state: State::Preamble,
            fallback: fallback(&delimiter),
            delimiter: Finder::new(&delimiter).into_owned(),
            // The first delimiter need not follow a line.
            matched: 2,
            lent: 2,
            head: Vec::new(),
        })
    }

    /// Reads the next piece.
    ///
    /// # Errors
    /// [`NoParts`]; then it must not be fed again.
    pub(super) fn feed(&mut self, bytes: &[u8], parts: &mut impl Parts) -> Result<(), NoParts> {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = match self.state {
                State::Preamble | State::Data => self.search(rest, parts),
                State::Delimiter { dashes } => self.delimiter_line(rest, dashes),
                State::Head => self.part_head(rest, parts)?,
                State::Epilogue => return Ok(()),
            };
        }
        Ok(())
    }

    /// The body is over.
    ///
    /// # Errors
    /// [`NoParts`] if the last delimiter did not come.
    pub(super) fn finish(&mut self, parts: &mut impl Parts) -> Result<(), NoParts> {
        match self.state {
            State::Epilogue => Ok(()),
            State::Delimiter { dashes: 2.. } => Ok(()),
            State::Data => {
                parts.end();
                Err(NoParts)
            }
            State::Preamble | State::Delimiter { .. } | State::Head => Err(NoParts),
        }
    }

    /// Up to the next delimiter.
    fn search<'b>(&mut self, bytes: &'b [u8], parts: &mut impl Parts) -> &'b [u8] {
        let mut rest = bytes;
        while self.matched > 0 && self.matched < self.delimiter.needle().len() {
            let [byte, tail @ ..] = rest else { return rest };
            self.advance(*byte, parts);
            rest = tail;
        }
        if self.matched == 0 {
            match self.delimiter.find(rest) {
                Some(at) => {
                    let (before, after) = rest.split_at_checked(at).unwrap_or((rest, &[]));
                    self.emit(before, parts);
                    self.matched = self.delimiter.needle().len();
                    rest = after.get(self.matched..).unwrap_or_default();
                }
                None => {
                    // Only the last bytes can be a delimiter's beginning.
                    let sure = rest.len().saturating_sub(self.delimiter.needle().len() - 1);
                    let (before, last) = rest.split_at_checked(sure).unwrap_or((rest, &[]));
                    self.emit(before, parts);
                    last.iter().for_each(|byte| self.advance(*byte, parts));
                    return &[];
                }
            }
        }
        if self.matched == self.delimiter.needle().len() {
            if self.state == State::Data {
                parts.end();
            }
            (self.matched, self.lent) = (0, 0);
            self.state = State::Delimiter { dashes: 0 };
        }
        rest
    }

    /// Matches one more byte; what turns out to be none of a delimiter is data.
    fn advance(&mut self, byte: u8, parts: &mut impl Parts) {
        loop {
            if self.delimiter.needle().get(self.matched) == Some(&byte) {
                self.matched += 1;
                return;
            }
            if self.matched == 0 {
                self.emit(&[byte], parts);
                return;
            }
            let kept = usize::from(self.fallback.get(self.matched).copied().unwrap_or_default());
            let released = self.matched.saturating_sub(kept);
            let lent = self.lent.min(released);
            self.emit(self.delimiter.needle().get(lent..released).unwrap_or_default(), parts);
            (self.matched, self.lent) = (kept, self.lent - lent);
        }
    }

    fn emit(&self, bytes: &[u8], parts: &mut impl Parts) {
        if self.state == State::Data && !bytes.is_empty() {
            parts.data(bytes);
        }
    }

    /// The rest of a delimiter's line: `--` after the last one, padding, a line feed.
    fn delimiter_line<'b>(&mut self, bytes: &'b [u8], dashes: u8) -> &'b [u8] {
        let [byte, tail @ ..] = bytes else { return bytes };
        self.state = match (byte, dashes) {
            (b'-', 1..) => State::Epilogue,
            (b'-', 0) => State::Delimiter { dashes: 1 },
            (b'\n', _) => {
                self.head.clear();
                State::Head
            }
            _ => self.state,
        };
        tail
    }

    fn part_head<'b>(&mut self, bytes: &'b [u8], parts: &mut impl Parts) -> Result<&'b [u8], NoParts> {
        let [byte, tail @ ..] = bytes else { return Ok(bytes) };
        self.head.push(*byte);
        if self.head.len() > MAX_HEAD {
            return Err(NoParts);
        }
        if self.head == b"\r\n" || self.head == b"\n" || self.head.ends_with(b"\n\r\n") || self.head.ends_with(b"\n\n")
        {
            self.state = State::Data;
            // An empty part's delimiter begins with the line break that ended its head.
            self.matched = if self.head.ends_with(b"\r\n") { 2 } else { 0 };
            self.lent = self.matched;
            parts.begin(&self.head);
        }
        Ok(tail)
    }
}

/// For each length of a match, the longest proper beginning of the delimiter that the match ends in.
fn fallback(delimiter: &[u8]) -> Vec<u8> {
    let mut table = vec![0_u8; delimiter.len() + 1];
    for length in 2..=delimiter.len() {
        let matched = delimiter.get(..length).unwrap_or_default();
        let longest =
            (1..length).rev().find(|kept| matched.get(..*kept).is_some_and(|beginning| matched.ends_with(beginning)));
        if let Some(entry) = table.get_mut(length) {
            *entry = u8::try_from(longest.unwrap_or(0)).unwrap_or(0);
        }
    }
    table
}
