//! A message of HL7 v2 as far as it is read: segments, fields, repetitions, components (HL7 v2.5.1 chapter 2).
//!
//! Segments end by CR alone; LF, which some readers take for an end as well, is refused, as is a second MSH. Separators are those that
//! the standard recommends, unless the caller takes others.

use super::charset::Alphabet;

/// Most segments.
const MAX_SEGMENTS: usize = 20_000;

/// The message's separators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Separators {
    pub(crate) field: u8,
    pub(crate) component: u8,
    pub(crate) repetition: u8,
    pub(crate) escape: u8,
    pub(crate) subcomponent: u8,
}

/// Why a message is not read. The first three leave nothing that could be echoed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum MessageFault {
    /// It does not begin with an MSH, or its separators are none.
    #[error("no MSH")]
    Header,
    /// It has other separators than `|^~\&`.
    #[error("other separators than the recommended ones")]
    Separators,
    /// A declared character set that is not read.
    #[error("character set not supported")]
    CharacterSet,
    /// Bytes that are not of the declared character set, or control characters.
    #[error("bytes outside of the character set")]
    Bytes,
    /// A segment without a name, a second MSH, or too many segments.
    #[error("malformed segment")]
    Segment,
    /// MSH-9 or MSH-10 is missing or longer than it may be.
    #[error("no message type or control id")]
    Type,
}

impl MessageFault {
    /// The name in records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Header => "no-header",
            Self::Separators => "separators",
            Self::CharacterSet => "character-set",
            Self::Bytes => "bytes",
            Self::Segment => "segment",
            Self::Type => "message-type",
        }
    }
}

/// Bytes with their marks: those that are marked are no separators.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Text<'m> {
    pub(crate) bytes: &'m [u8],
    marks: &'m [bool],
}

impl<'m> Text<'m> {
    /// Parts it at each separator.
    pub(crate) fn split(self, separator: u8) -> impl Iterator<Item = Text<'m>> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let text = rest?;
            let mut places = text.bytes.iter().zip(text.marks);
            let at = places.position(|(byte, mark)| *byte == separator && !mark);
            rest = at.map(|at| text.part(at + 1, text.bytes.len()));
            Some(text.part(0, at.unwrap_or(text.bytes.len())))
        })
    }

    fn part(self, from: usize, to: usize) -> Self {
        Self {
            bytes: self.bytes.get(from..to).unwrap_or_default(),
            marks: self.marks.get(from..to).unwrap_or_default(),
        }
    }
}

/// A segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment<'m> {
    pub(crate) name: [u8; 3],
    line: Text<'m>,
    separator: u8,
}

/// A message that was read.
#[derive(Debug, Clone)]
pub(crate) struct Message<'m> {
    pub(crate) separators: Separators,
    payload: &'m [u8],
    marks: Vec<bool>,
}

impl<'m> Message<'m> {
    pub(crate) fn read(payload: &'m [u8], other_separators: bool) -> Result<Self, MessageFault> {
        let separators = Separators::read(payload).ok_or(MessageFault::Header)?;
        if !other_separators && separators != Separators::STANDARD {
            return Err(MessageFault::Separators);
        }
        let payload = payload.strip_suffix(b"\r").unwrap_or(payload);
        let header = payload.split(|byte| *byte == b'\r').next().unwrap_or_default();
        // MSH-18 says how the rest is written, and is ASCII itself.
        let declared = declared(header, separators.field);
        let alphabet = Alphabet::declared(declared.split(|byte| *byte == separators.repetition))
            .ok_or(MessageFault::CharacterSet)?;
        let mut marks = Vec::with_capacity(payload.len());
        for (count, line) in payload.split(|byte| *byte == b'\r').enumerate() {
            if count > 0 {
                marks.push(false);
            }
            if count == MAX_SEGMENTS {
                return Err(MessageFault::Segment);
            }
            alphabet.mark(line, &mut marks).map_err(|_| MessageFault::Bytes)?;
        }
        let message = Self { separators, payload, marks };
        for (count, line) in message.lines().enumerate() {
            let segment = message.segment(line).ok_or(MessageFault::Segment)?;
            if (count == 0) != (&segment.name == b"MSH") {
                return Err(MessageFault::Segment);
            }
        }
        // Were a separator of the header half a character, the set was not where it was looked for.
        if message.header(18).unwrap_or_default().bytes != declared {
            return Err(MessageFault::Bytes);
        }
        Ok(message)
    }

    fn lines(&self) -> impl Iterator<Item = Text<'_>> {
        Text { bytes: self.payload, marks: &self.marks }.split(b'\r')
    }

    fn segment<'t>(&self, line: Text<'t>) -> Option<Segment<'t>> {
        let separator = self.separators.field;
        let name: [u8; 3] = line.split(separator).next()?.bytes.try_into().ok()?;
        let [first, rest @ ..] = name;
        let sound = first.is_ascii_uppercase() && rest.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        sound.then_some(Segment { name, line, separator })
    }

    /// The segments, in order.
    pub(crate) fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        self.lines().filter_map(|line| self.segment(line))
    }

    /// A field of MSH; MSH-1 is the separator itself, so that fields are one further on.
    pub(crate) fn header(&self, number: usize) -> Option<Text<'_>> {
        self.segments().next()?.field(number.checked_sub(1)?)
    }

    /// A component of a field of MSH, unescaped.
    pub(crate) fn header_text(&self, number: usize, component: usize) -> String {
        let field = self.header(number).unwrap_or_default();
        let found = component.checked_sub(1).and_then(|at| field.split(self.separators.component).nth(at));
        found.map(|text| self.text(text)).unwrap_or_default()
    }

    /// A value: standard escapes undone (chapter 2.7), what is not UTF-8 escaped byte by byte.
    pub(crate) fn text(&self, text: Text<'_>) -> String {
        let mut bytes = Vec::with_capacity(text.bytes.len());
        let count = text.split(self.separators.escape).count();
        for (index, part) in text.split(self.separators.escape).enumerate() {
            if index % 2 == 0 || index + 1 == count {
                bytes.extend_from_slice(part.bytes);
                continue;
            }
            match part.bytes {
                b"F" => bytes.push(self.separators.field),
                b"S" => bytes.push(self.separators.component),
                b"T" => bytes.push(self.separators.subcomponent),
                b"R" => bytes.push(self.separators.repetition),
                b"E" => bytes.push(self.separators.escape),
                other => {
                    bytes.push(self.separators.escape);
                    bytes.extend_from_slice(other);
                    bytes.push(self.separators.escape);
                }
            }
        }
        match String::from_utf8(bytes) {
            Ok(text) if !text.contains(char::is_control) => text.trim().to_owned(),
            Ok(text) => text.as_bytes().escape_ascii().to_string(),
            Err(error) => error.as_bytes().escape_ascii().to_string(),
        }
    }
}

impl Separators {
    pub(crate) const STANDARD: Self =
        Self { field: b'|', component: b'^', repetition: b'~', escape: b'\\', subcomponent: b'&' };

    fn read(payload: &[u8]) -> Option<Self> {
        let [field, component, repetition, escape, subcomponent, rest @ ..] = payload.strip_prefix(b"MSH")? else {
            return None;
        };
        let separators = [*field, *component, *repetition, *escape, *subcomponent];
        // A fifth encoding character, truncation, came with v2.7.
        let ends = match rest {
            [next, ..] if next == field => true,
            [b'#', next, ..] => next == field && !separators.contains(&b'#'),
            _ => false,
        };
        let distinct = (1..5)
            .all(|n| separators.get(n..).is_some_and(|rest| !rest.iter().any(|s| separators.get(n - 1) == Some(s))));
        let sound = ends && distinct && separators.iter().all(u8::is_ascii_punctuation);
        sound.then_some(Self {
            field: *field,
            component: *component,
            repetition: *repetition,
            escape: *escape,
            subcomponent: *subcomponent,
        })
    }
}

impl<'m> Segment<'m> {
    /// A field by its number in the standard; of MSH one less.
    pub(crate) fn field(&self, number: usize) -> Option<Text<'m>> {
        self.line.split(self.separator).nth(number)
    }
}

/// MSH-18 in its own bytes. Kanji of ISO 2022 are passed over: whether their escapes are declared shows later.
fn declared(header: &[u8], field: u8) -> &[u8] {
    let (mut double, mut count, mut from) = (false, 0, header.len());
    for (at, byte) in header.iter().enumerate() {
        if *byte == 0x1b {
            double = header.get(at + 1) == Some(&b'$');
        } else if !double && *byte == field {
            count += 1;
            if count == 17 {
                from = at + 1;
            } else if count == 18 {
                return header.get(from..at).unwrap_or_default();
            }
        }
    }
    header.get(from..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fault(payload: &[u8]) -> Option<MessageFault> {
        Message::read(payload, false).err()
    }

    #[test]
    fn a_message_that_two_readers_would_read_in_two_ways_is_refused() {
        let good = "MSH|^~\\&|LIS|SAKURA|EHR|DC|20261123||ADT^A08^ADT_A01|1|P|2.5\rPID|||4711^^^SAKURA\r";
        assert_eq!(fault(good.as_bytes()), None);
        for (from, to, expected) in [
            ("MSH|", "MSA|", MessageFault::Header),
            ("^~\\&", "^^\\&", MessageFault::Header),
            ("^~\\&", "^~\\a", MessageFault::Header),
            ("^~\\&|", "^~\\&##|", MessageFault::Header),
            ("^~\\&", "~^\\&", MessageFault::Separators),
            ("\rPID", "\nPID", MessageFault::Bytes),
            ("\rPID", "\r\nPID", MessageFault::Bytes),
            ("\rPID", "\r\rPID", MessageFault::Segment),
            ("\rPID", "\rMSH|^~\\&|\rPID", MessageFault::Segment),
            ("\rPID", "\rpid", MessageFault::Segment),
            ("\rPID", "\rPID2", MessageFault::Segment),
            ("|2.5\r", "|2.5||||||BIG-5\r", MessageFault::CharacterSet),
        ] {
            let changed = good.replacen(from, to, 1);
            assert_ne!(changed, good);
            assert_eq!(fault(changed.as_bytes()), Some(expected), "{changed:?}");
        }
        assert!(Message::read(good.replacen("^~\\&", "~^\\&", 1).as_bytes(), true).is_ok());
    }

    #[test]
    fn escapes_are_undone_and_bytes_are_kept() {
        let payload = b"MSH|^~\\&|A\\T\\B|\\X41\\|C\\|D\\E\\|||||1|P|2.5";
        let message = Message::read(payload, false).unwrap();
        assert_eq!(message.header_text(3, 1), "A&B");
        assert_eq!(message.header_text(4, 1), "\\X41\\");
        assert_eq!(message.header_text(6, 1), "D\\");
        let kanji = b"MSH|^~\\&|\x1b$B^|\x1b(B^X|||||||1|P|2.5||||||~ISO IR87";
        let message = Message::read(kanji, false).unwrap();
        assert_eq!(message.header_text(3, 2), "X");
        assert_eq!(message.header_text(10, 1), "1");
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(tail in proptest::collection::vec(any::<u8>(), 0..120)) {
            let mut payload = b"MSH|^~\\&|".to_vec();
            payload.extend(tail);
            if let Ok(message) = Message::read(&payload, true) {
                for number in 0..20 {
                    message.header_text(number, 1);
                }
            }
        }
    }
}
