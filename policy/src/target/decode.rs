//! Lazy decoding of segments and of form-encoded pairs.

use std::borrow::Cow;

/// The octet of the triplet that `bytes` begin with, and what follows it.
pub(super) fn triplet(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let [b'%', high, low, rest @ ..] = bytes else { return None };
    let octet = char::from(*high).to_digit(16)? * 16 + char::from(*low).to_digit(16)?;
    Some((u8::try_from(octet).ok()?, rest))
}

/// The decoded segments of a path; borrowed where nothing is encoded.
#[derive(Debug, Clone)]
pub struct Segments<'a> {
    // Without the leading `/`; none once exhausted.
    rest: Option<&'a str>,
}

impl<'a> Segments<'a> {
    pub(super) fn new(path: &'a str) -> Self {
        Self { rest: path.strip_prefix('/') }
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Cow<'a, str>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest?;
        let segment = match rest.split_once('/') {
            Some((segment, tail)) => {
                self.rest = Some(tail);
                segment
            }
            None => {
                self.rest = None;
                rest
            }
        };
        // Only `/` itself and a trailing slash leave an empty segment in a normal path.
        if segment.is_empty() {
            None
        } else if segment.bytes().any(|byte| byte == b'%') {
            Some(decode(segment.as_bytes(), false))
        } else {
            Some(Cow::Borrowed(segment))
        }
    }
}

/// The pairs of an `application/x-www-form-urlencoded` text; see [`form_pairs`].
#[derive(Debug, Clone)]
pub struct QueryPairs<'a> {
    rest: Option<&'a [u8]>,
}

/// Splits and decodes a query, or the body of a form (WHATWG URL section 5.1): pairs are parted by `&`, name and
/// value by the first `=`; `+` is a space; a broken triplet stands for itself; octets that are not UTF-8 become
/// U+FFFD. Never fails; borrowed where nothing is encoded.
#[must_use]
pub fn form_pairs(text: &[u8]) -> QueryPairs<'_> {
    QueryPairs { rest: Some(text) }
}

impl<'a> Iterator for QueryPairs<'a> {
    type Item = (Cow<'a, str>, Cow<'a, str>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (piece, rest) = split_once(self.rest?, b'&');
            self.rest = rest;
            if !piece.is_empty() {
                let (name, value) = split_once(piece, b'=');
                return Some((decode(name, true), decode(value.unwrap_or_default(), true)));
            }
        }
    }
}

fn split_once(bytes: &[u8], separator: u8) -> (&[u8], Option<&[u8]>) {
    let mut halves = bytes.splitn(2, |byte| *byte == separator);
    (halves.next().unwrap_or_default(), halves.next())
}

/// A path's segment, decoded as [`Segments`] does it, of a path that need not be normal.
pub(crate) fn decode_segment(segment: &str) -> Cow<'_, str> {
    decode(segment.as_bytes(), false)
}

fn decode(bytes: &[u8], form: bool) -> Cow<'_, str> {
    if !bytes.iter().any(|byte| *byte == b'%' || (form && *byte == b'+')) {
        return String::from_utf8_lossy(bytes);
    }
    let mut octets = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [byte, tail @ ..] = rest {
        let (octet, after) = match *byte {
            b'%' => triplet(rest).unwrap_or((b'%', tail)),
            b'+' if form => (b' ', tail),
            other => (other, tail),
        };
        octets.push(octet);
        rest = after;
    }
    Cow::Owned(match String::from_utf8(octets) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}
