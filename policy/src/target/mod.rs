//! The one normal form of a request's target (C5, R11).
//!
//! The decision is made on the very bytes that the backend receives, so nothing here rewrites: a target that is not
//! in normal form already is refused. A backend that decodes the path once, twice or not at all then reads the same
//! segments as the gateway did.
//!
//! **Path** (RFC 3986 section 3.3, narrowed). It starts with `/`. No segment is `.`, `..` or empty, except that one
//! trailing `/` is kept; segments are the same with and without it, so `/admin/` and `/admin` match alike. Literal
//! bytes are those of RFC 3986 without `;`, which some servers take for parameters that they cut off.
//! A percent-encoded octet is refused where it has a plain spelling or where decoding it changes how the path is
//! read: unreserved characters (RFC 3986 section 6.2.2.2; dots among them), `/ \ ; ? # %`, and control characters.
//! The rest stays encoded because it must (a space, non-ASCII text) or may (`%3A`, `%24`); hexadecimal digits count
//! in either case, as many clients write non-ASCII text in lowercase. Non-ASCII octets must form valid UTF-8.
//!
//! **Query**. Literal bytes are those of RFC 3986 and those that the WHATWG URL standard leaves unencoded
//! (``[ ] \ ^ ` { | }``; FHIR escapes with `\`). Refused: `" < >`, space, `#`, controls, non-ASCII octets, broken
//! percent triplets and `%00`. Other triplets are data: a query has no structure that decoding could change for a
//! reader that splits first, as the standard says.
//!
//! Comparison is case-sensitive, folds no Unicode forms and keeps a segment's last dots and spaces. A backend that
//! ignores case, folds or trims needs a route for each of its paths rather than one for `/`.

mod absolute;
mod class;
mod decode;

#[cfg(test)]
mod tests;

pub use absolute::{AbsoluteForm, split_absolute};
pub(crate) use decode::decode_segment;
pub use decode::{QueryPairs, Segments, form_pairs};

use smallvec::SmallVec;

use crate::Refusal;
use class::{Class, class};
use decode::triplet;

/// A target in origin form (RFC 9112 section 3.2.1) whose bytes are in normal form; see the [module](self).
///
/// Borrows the request line and allocates nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CanonicalTarget<'a> {
    raw: &'a str,
    path: &'a str,
    query: Option<&'a str>,
}

impl<'a> CanonicalTarget<'a> {
    /// Checks the target of a request line, or of `:path`, byte by byte.
    ///
    /// The method is not asked for: CONNECT's authority form and the `*` of OPTIONS are not origin form and never
    /// pass. For the absolute form see [`split_absolute`].
    ///
    /// # Errors
    /// - [`Refusal::TargetTooLong`]: more than `max_bytes` bytes.
    /// - [`Refusal::RequestMalformed`]: not origin form, or a byte or triplet outside the grammar.
    /// - [`Refusal::TargetNotNormal`]: well-formed, but not in the normal form.
    pub fn parse(raw: &'a [u8], max_bytes: usize) -> Result<Self, Refusal> {
        if raw.len() > max_bytes {
            return Err(Refusal::TargetTooLong);
        }
        let path_length = path_length(raw)?;
        let text = std::str::from_utf8(raw).map_err(|_| Refusal::RequestMalformed)?;
        let (path, rest) = text.split_at_checked(path_length).ok_or(Refusal::RequestMalformed)?;
        let query = rest.strip_prefix('?');
        if let Some(query) = query {
            check_query(query.as_bytes())?;
        }
        Ok(Self { raw: text, path, query })
    }

    /// The whole target, byte for byte as it came and as it is forwarded. ASCII.
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.raw
    }

    /// The path, undecoded, from its leading `/`.
    #[must_use]
    pub const fn path(&self) -> &'a str {
        self.path
    }

    /// The query, undecoded, without its `?`; empty if the target ends in `?`.
    #[must_use]
    pub const fn query(&self) -> Option<&'a str> {
        self.query
    }

    /// The decoded segments of the path. `/` has none, and a trailing `/` adds none.
    #[must_use]
    pub fn segments(&self) -> Segments<'a> {
        Segments::new(self.path)
    }

    /// The decoded names and values of the query, in order, as `application/x-www-form-urlencoded`
    /// (WHATWG URL section 5.1): `+` is a space, and octets that are not UTF-8 become U+FFFD.
    #[must_use]
    pub fn query_pairs(&self) -> QueryPairs<'a> {
        form_pairs(self.query.unwrap_or_default().as_bytes())
    }
}

/// Checks the path and returns its length in bytes.
fn path_length(raw: &[u8]) -> Result<usize, Refusal> {
    let [b'/', first @ ..] = raw else {
        return Err(Refusal::RequestMalformed);
    };
    let mut rest = first;
    // A segment made of dots alone is `.` or `..` if it is that short. Encoded dots never get here.
    let (mut segment_length, mut segment_dots) = (0_usize, 0_usize);
    while let [byte, tail @ ..] = rest {
        match class(*byte) {
            Class::Plain => segment_length += 1,
            Class::Dot => {
                segment_length += 1;
                segment_dots += 1;
            }
            Class::Slash => {
                if segment_length == 0 || is_dot_segment(segment_length, segment_dots) {
                    return Err(Refusal::TargetNotNormal);
                }
                (segment_length, segment_dots) = (0, 0);
            }
            Class::Percent => {
                rest = after_path_triplet(rest)?;
                segment_length += 1;
                continue;
            }
            Class::Question => break,
            Class::Semicolon => return Err(Refusal::TargetNotNormal),
            Class::QueryOnly | Class::Never => return Err(Refusal::RequestMalformed),
        }
        rest = tail;
    }
    if is_dot_segment(segment_length, segment_dots) {
        return Err(Refusal::TargetNotNormal);
    }
    raw.len().checked_sub(rest.len()).ok_or(Refusal::RequestMalformed)
}

const fn is_dot_segment(length: usize, dots: usize) -> bool {
    length == dots && (length == 1 || length == 2)
}

/// Checks the character whose encoding `bytes` begin with and returns what follows it.
#[cold]
fn after_path_triplet(bytes: &[u8]) -> Result<&[u8], Refusal> {
    let (octet, rest) = triplet(bytes).ok_or(Refusal::RequestMalformed)?;
    if !octet.is_ascii() {
        return after_utf8(bytes);
    }
    let has_plain_spelling = octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~');
    let changes_the_reading = matches!(octet, b'/' | b'\\' | b';' | b'?' | b'#' | b'%');
    if has_plain_spelling || changes_the_reading || octet.is_ascii_control() {
        return Err(Refusal::TargetNotNormal);
    }
    Ok(rest)
}

/// Checks one non-ASCII character: whole, of the shortest form, no surrogate (RFC 3629), and no control character.
fn after_utf8(bytes: &[u8]) -> Result<&[u8], Refusal> {
    let mut octets = SmallVec::<[u8; 4]>::new();
    let mut rest = bytes;
    while octets.len() < 4
        && let Some((octet, tail)) = triplet(rest)
    {
        octets.push(octet);
        rest = tail;
        if let Ok(text) = std::str::from_utf8(&octets) {
            let control = text.chars().any(char::is_control);
            return if control { Err(Refusal::TargetNotNormal) } else { Ok(rest) };
        }
    }
    Err(Refusal::TargetNotNormal)
}

fn check_query(query: &[u8]) -> Result<(), Refusal> {
    let mut rest = query;
    while let [byte, tail @ ..] = rest {
        rest = match class(*byte) {
            Class::Plain | Class::Dot | Class::Slash | Class::Question | Class::Semicolon | Class::QueryOnly => tail,
            Class::Percent => {
                let (octet, tail) = triplet(rest).ok_or(Refusal::RequestMalformed)?;
                if octet == 0 {
                    return Err(Refusal::TargetNotNormal);
                }
                tail
            }
            Class::Never => return Err(Refusal::RequestMalformed),
        };
    }
    Ok(())
}
