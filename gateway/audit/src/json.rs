//! Canonical JSON: RFC 8785 (JCS) with one stated difference.
//!
//! Keys are sorted, nothing stands between tokens, numbers are integers, strings are escaped as RFC 8785, 3.2.2.2
//! says. The difference: characters that a terminal or a reader's eye would obey instead of show (DEL and C1
//! controls, bidirectional and zero-width formatting, line and paragraph separators, tags) are escaped as `\uXXXX`
//! in lower-case hexadecimal too, supplementary ones as a surrogate pair (C15). The form of a value is still unique:
//! there is exactly one way to write each string. A JSON parser followed by a JCS writer yields strict JCS.
//!
//! Bytes that are not UTF-8 are written as an object with one key, `{"base64":"…"}` (RFC 4648, 4, padded), so that
//! every byte can be had back and no text can be mistaken for them.
//!
//! An integer beyond 2^53 − 1 cannot be a JSON number in RFC 8785; it is written as a string of digits.

/// The largest integer that every JSON reader keeps exact (RFC 8785, 3.2.2.3).
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// `"name":`, as [`Object`] takes its keys.
macro_rules! key {
    ($name:literal) => {
        concat!("\"", $name, "\":")
    };
}
pub(crate) use key;

/// An object under construction. Keys must come in ascending order; debug builds check it.
pub(crate) struct Object<'a> {
    out: &'a mut Vec<u8>,
    separator: u8,
    #[cfg(debug_assertions)]
    last: &'static str,
}

impl<'a> Object<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            separator: b'{',
            #[cfg(debug_assertions)]
            last: "",
        }
    }

    /// Writes a key made by [`key!`] and hands out the buffer for its value.
    #[inline(always)]
    pub(crate) fn key(&mut self, key: &'static str) -> &mut Vec<u8> {
        #[cfg(debug_assertions)]
        {
            debug_assert!(self.last < key, "key {key} after {}", self.last);
            self.last = key;
        }
        self.out.push(self.separator);
        self.separator = b',';
        self.out.extend_from_slice(key.as_bytes());
        self.out
    }

    #[inline]
    pub(crate) fn text(&mut self, key: &'static str, value: &str) {
        string(self.key(key), value);
    }

    /// Text that needs no escaping, such as a label of a closed list.
    #[inline]
    pub(crate) fn label(&mut self, key: &'static str, value: &'static str) {
        let out = self.key(key);
        out.push(b'"');
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
    }

    #[inline]
    pub(crate) fn bytes(&mut self, key: &'static str, value: &[u8]) {
        bytes(self.key(key), value);
    }

    #[inline]
    pub(crate) fn number(&mut self, key: &'static str, value: u64) {
        number(self.key(key), value);
    }

    #[inline]
    pub(crate) fn boolean(&mut self, key: &'static str, value: bool) {
        self.key(key).extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// Writes the key only where there is a value.
    #[inline]
    pub(crate) fn optional_text(&mut self, key: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    /// Writes the key only where there is a value.
    #[inline]
    pub(crate) fn optional_bytes(&mut self, key: &'static str, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.bytes(key, value);
        }
    }

    /// Writes the key only where there is a value.
    #[inline]
    pub(crate) fn optional_number(&mut self, key: &'static str, value: Option<u64>) {
        if let Some(value) = value {
            self.number(key, value);
        }
    }

    /// Lower-case hexadecimal.
    pub(crate) fn hex(&mut self, key: &'static str, value: &[u8]) {
        let out = self.key(key);
        out.push(b'"');
        hex(out, value);
        out.push(b'"');
    }

    pub(crate) fn array<T>(
        &mut self,
        key: &'static str,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Vec<u8>, T),
    ) {
        let out = self.key(key);
        out.push(b'[');
        let mut first = true;
        for item in items {
            if !first {
                out.push(b',');
            }
            first = false;
            write(out, item);
        }
        out.push(b']');
    }

    pub(crate) fn end(self) {
        if self.separator == b'{' {
            self.out.push(b'{');
        }
        self.out.push(b'}');
    }
}

/// Writes a string with its quotes.
#[inline]
pub fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    // Looked at as a whole, without a way out, many bytes are compared at once.
    if text.bytes().fold(true, |plain, byte| plain & is_plain(byte)) {
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return;
    }
    let mut rest = text;
    loop {
        let plain = rest.bytes().position(|b| !is_plain(b)).unwrap_or(rest.len());
        let (head, tail) = rest.split_at(plain);
        out.extend_from_slice(head.as_bytes());
        let mut characters = tail.chars();
        let Some(character) = characters.next() else { break };
        escape(out, character);
        rest = characters.as_str();
    }
    out.push(b'"');
}

/// Writes bytes: as a string if they are UTF-8, else as `{"base64":"…"}`.
#[inline]
pub fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    match std::str::from_utf8(value) {
        Ok(text) => string(out, text),
        Err(_) => {
            out.extend_from_slice(b"{\"base64\":\"");
            base64(out, value);
            out.extend_from_slice(b"\"}");
        }
    }
}

/// Writes an integer.
#[inline]
pub fn number(out: &mut Vec<u8>, value: u64) {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(value).as_bytes();
    if value <= MAX_SAFE_INTEGER {
        out.extend_from_slice(digits);
    } else {
        out.push(b'"');
        out.extend_from_slice(digits);
        out.push(b'"');
    }
}

/// Writes lower-case hexadecimal digits, without quotes.
pub fn hex(out: &mut Vec<u8>, value: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble & 15)).copied().unwrap_or(b'0');
    for &byte in value {
        out.push(digit(byte >> 4));
        out.push(digit(byte));
    }
}

const fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e) && byte != b'"' && byte != b'\\'
}

fn escape(out: &mut Vec<u8>, character: char) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\u{8}' => out.extend_from_slice(b"\\b"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\u{c}' => out.extend_from_slice(b"\\f"),
        '\r' => out.extend_from_slice(b"\\r"),
        character if is_obeyed(character) => {
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.extend_from_slice(b"\\u");
                hex(out, &unit.to_be_bytes());
            }
        }
        character => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Characters that change how others are shown: controls, bidirectional and invisible formatting.
const fn is_obeyed(character: char) -> bool {
    matches!(character,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

fn base64(out: &mut Vec<u8>, value: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in value.chunks(3) {
        let mut group = [0_u8; 4];
        for (place, byte) in group.iter_mut().skip(1).zip(chunk) {
            *place = *byte;
        }
        let bits = u32::from_be_bytes(group);
        for (place, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let sextet = usize::try_from((bits >> shift) & 63).unwrap_or_default();
            let digit = DIGITS.get(sextet).copied().unwrap_or(b'=');
            out.push(if place <= chunk.len() { digit } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(value: &[u8]) -> String {
        let mut out = Vec::new();
        bytes(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn c15_what_a_terminal_obeys_is_escaped() {
        assert_eq!(written(b"a\r\n\x1b[2J\"\\\x08\x0c\t\0\x7f"), r#""a\r\n\u001b[2J\"\\\b\f\t\u0000\u007f""#);
        assert_eq!(
            written("\u{202e}\u{85}\u{2028}\u{feff}\u{e0041}".as_bytes()),
            r#""\u202e\u0085\u2028\ufeff\udb40\udc41""#
        );
        assert_eq!(written("桜クリニック €".as_bytes()), "\"桜クリニック €\"");
    }

    #[test]
    fn invalid_utf8_is_recoverable() {
        assert_eq!(written(b"\xc0\xaf"), r#"{"base64":"wK8="}"#);
        assert_eq!(written(b"\xff"), r#"{"base64":"/w=="}"#);
        assert_eq!(written(b"/a\xffbcd"), r#"{"base64":"L2H/YmNk"}"#);
    }

    #[test]
    fn numbers_stay_exact_everywhere() {
        let mut out = Vec::new();
        number(&mut out, MAX_SAFE_INTEGER);
        number(&mut out, MAX_SAFE_INTEGER + 1);
        assert_eq!(out, br#"9007199254740991"9007199254740992""#);
    }

    proptest! {
        #[test]
        fn every_string_comes_back_and_is_safe_to_show(text in any::<String>()) {
            let json = written(text.as_bytes());
            prop_assert_eq!(&serde_json::from_str::<String>(&json).unwrap(), &text);
            prop_assert!(!json.chars().any(is_obeyed));
        }

        #[test]
        fn all_bytes_come_back(value in proptest::collection::vec(any::<u8>(), 0..64)) {
            let json: serde_json::Value = serde_json::from_str(&written(&value)).unwrap();
            match json.as_str() {
                Some(text) => prop_assert_eq!(text.as_bytes(), &value[..]),
                None => {
                    let digits = json.get("base64").unwrap().as_str().unwrap().as_bytes();
                    prop_assert_eq!(decode(digits), value);
                }
            }
        }
    }

    /// A plain base64 reader: six bits a digit, whole bytes only.
    fn decode(digits: &[u8]) -> Vec<u8> {
        let (mut bits, mut count, mut out) = (0_u32, 0, Vec::new());
        for digit in digits.iter().filter(|d| **d != b'=') {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                _ => 63,
            };
            bits = (bits << 6 | u32::from(value)) & 0xfff_ffff;
            count += 6;
            if count >= 8 {
                count -= 8;
                out.push((bits >> count) as u8);
            }
        }
        out
    }
}
