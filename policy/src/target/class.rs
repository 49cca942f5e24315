//! What a byte may be in a target.

/// The part a byte plays, in the path and in the query.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Stands for itself in path and query: `pchar` of RFC 3986 without `.` and `;`.
    Plain,
    /// `.`, which makes dot segments.
    Dot,
    /// `/`, which ends a segment of the path.
    Slash,
    /// `%`, which begins a triplet.
    Percent,
    /// `?`, which ends the path.
    Question,
    /// `;`, which the grammar allows and servers read as path parameters.
    Semicolon,
    /// Outside RFC 3986, but left unencoded in a query by the WHATWG URL standard.
    QueryOnly,
    /// Refused everywhere.
    Never,
}

static CLASSES: [Class; 256] = table();

/// The class of a byte.
#[inline]
pub(super) fn class(byte: u8) -> Class {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(Class::Never)
}

const fn table() -> [Class; 256] {
    let mut classes = [Class::Never; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        #[expect(clippy::indexing_slicing, reason = "a byte is always within a table of 256, checked at compile time")]
        {
            classes[byte as usize] = class_of(byte);
        }
        byte += 1;
    }
    classes
}

const fn class_of(byte: u8) -> Class {
    match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => Class::Plain,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@' => Class::Plain,
        b'.' => Class::Dot,
        b'/' => Class::Slash,
        b'%' => Class::Percent,
        b'?' => Class::Question,
        b';' => Class::Semicolon,
        b'[' | b']' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => Class::QueryOnly,
        _ => Class::Never,
    }
}
