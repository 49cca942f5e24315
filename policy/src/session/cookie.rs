//! The session's secret in a request: one reading of `Cookie`, or none (C14).
//!
//! Readers of cookies differ: some take the first of two, some the last; some split at commas, know quoted strings and escapes
//! in them, decode percent signs, or forget the case of names. Whatever a backend could read otherwise than it is read here is
//! [`Refusal::SessionAmbiguous`]; spellings of one value that some backend takes for the same are one value here.

use std::borrow::Cow;

use crate::Refusal;

/// The value of the one cookie of that name, in its one spelling; none if there is none. `fields` are the values of all `Cookie`
/// fields of the request (RFC 6265 section 4.2, RFC 9113 section 8.2.3).
///
/// # Errors
/// [`Refusal::SessionAmbiguous`].
pub fn find<'a>(fields: impl Iterator<Item = &'a [u8]>, name: &str) -> Result<Option<Cow<'a, [u8]>>, Refusal> {
    let mut found: Option<&'a [u8]> = None;
    for field in fields {
        let mut strict = 0;
        for pair in pairs(field) {
            if let Some(value) = value_of(pair, name) {
                strict += 1;
                if found.is_some_and(|known| known != value) {
                    return Err(Refusal::SessionAmbiguous);
                }
                found = Some(value);
            }
        }
        if mentions(field, name.as_bytes()) != strict {
            return Err(Refusal::SessionAmbiguous);
        }
    }
    found.map(canonical).transpose()
}

/// The field without the cookies of that name; none if nothing is left.
#[must_use]
pub fn without(field: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut rest = Vec::with_capacity(field.len());
    for pair in pairs(field).filter(|pair| value_of(pair, name).is_none() && !pair.trim_ascii().is_empty()) {
        if !rest.is_empty() {
            rest.extend_from_slice(b"; ");
        }
        rest.extend_from_slice(pair.trim_ascii());
    }
    (!rest.is_empty()).then_some(rest)
}

fn pairs(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    field.split(|byte| *byte == b';')
}

/// The value in a pair of exactly that name.
fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let pair = pair.trim_ascii();
    let value = pair.strip_prefix(name.as_bytes())?.trim_ascii_start().strip_prefix(b"=")?;
    Some(value.trim_ascii())
}

/// How often anybody could read a cookie of that name: wherever the name stands, in whatever case and with PHP's eyes, behind
/// what some reader takes for the end of a cookie. The work grows with the field's length and no faster.
fn mentions(field: &[u8], name: &[u8]) -> usize {
    let is_start = |start: &usize| start.checked_sub(1).is_none_or(|before| field.get(before).is_some_and(ends_one));
    let has_hidden = field.iter().any(hides);
    let count = |start: &usize| {
        let (before, rest) = field.split_at_checked(*start).unwrap_or_default();
        is_plain(before, rest, name) || (has_hidden && is_hidden(rest, name))
    };
    (0..field.len()).filter(is_start).filter(count).count()
}

/// What some reader takes for the end of a cookie.
const fn ends_one(byte: &u8) -> bool {
    matches!(byte, b';' | b',' | b'"' | b'\'' | b'\\' | 0..=b' ' | 0x7f..)
}

/// What stands for another byte where names are decoded.
const fn hides(byte: &u8) -> bool {
    matches!(byte, b'%' | b'+')
}

fn is_named(key: &[u8], name: &[u8]) -> bool {
    key.len() == name.len() && key.iter().zip(name).all(|(found, wanted)| folded(*found) == folded(*wanted))
}

/// Whether the name stands there as it is, and with it a value, or a cookie that is nothing but the name.
fn is_plain(before: &[u8], rest: &[u8], name: &[u8]) -> bool {
    let (head, after) = rest.split_at_checked(name.len()).unwrap_or_default();
    if head.is_empty() || !is_named(head, name) {
        return false;
    }
    let after = after.trim_ascii_start();
    let separates = |byte: Option<&u8>| byte.is_none_or(|byte| matches!(byte, b';' | b','));
    match after.first() {
        // A quoted name.
        Some(b'"' | b'\'' | b'\\') => after.get(1..).unwrap_or_default().trim_ascii_start().starts_with(b"="),
        // A word in another cookie's value is nobody's cookie.
        next if separates(next) => separates(before.trim_ascii_end().last()),
        // A value, a list, or a name that goes on after what is no letter.
        next => next.is_none_or(|next| ends_one(next) || hides(next) || matches!(next, b'=' | b'[')),
    }
}

/// Whether the name stands there when decoded. Old PHP decodes names, and then cuts off blanks before them.
fn is_hidden(rest: &[u8], name: &[u8]) -> bool {
    let mut key = rest;
    // Raw blanks begin something new themselves. Encoded ones do not, so that no byte is passed over twice.
    while let [b'+', after @ ..]
    | [b'%', b'2', b'0', after @ ..]
    | [b'%', b'0', b'9' | b'a'..=b'd' | b'A'..=b'D', after @ ..] = key
    {
        key = after;
    }
    let passed = key.len() < rest.len();
    // No more than the name and one byte behind it can be.
    let longest = name.len().saturating_add(1).saturating_mul(3);
    let key =
        key.get(..longest).unwrap_or(key).split(|byte| matches!(byte, b'=' | b';' | b',')).next().unwrap_or_default();
    if !passed && !key.iter().any(hides) {
        return false;
    }
    let decoded = percent_decoded(key);
    let (head, after) = decoded.split_at_checked(name.len()).unwrap_or_default();
    !head.is_empty() && is_named(head, name) && after.first().is_none_or(|next| ends_one(next) || *next == b'[')
}

/// PHP makes `_` of what cannot be in its variables' names, and of `[` where no `]` follows.
const fn folded(byte: u8) -> u8 {
    match byte {
        b'.' | b' ' | b'[' => b'_',
        other => other.to_ascii_lowercase(),
    }
}

/// A value in its one spelling: without quotes around it, percent signs decoded.
///
/// # Errors
/// [`Refusal::SessionAmbiguous`] if it has bytes that no cookie's value has (RFC 6265 section 4.1.1), which readers take
/// differently.
pub fn canonical(value: &[u8]) -> Result<Cow<'_, [u8]>, Refusal> {
    let inner = match value {
        [b'"', inner @ .., b'"'] => inner,
        other => other,
    };
    let is_octet = |byte: &u8| matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e);
    if !inner.iter().all(is_octet) {
        return Err(Refusal::SessionAmbiguous);
    }
    if inner.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Ok(Cow::Owned(percent_decoded(inner)));
    }
    Ok(Cow::Borrowed(inner))
}

/// Decoded as forms are; what is no triplet stays.
fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        rest = match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap_or(b'%'));
                after.get(2..).unwrap_or_default()
            }
            (b'+', _, _) => {
                decoded.push(b' ');
                after
            }
            _ => {
                decoded.push(*first);
                after
            }
        };
    }
    decoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(fields: &[&str]) -> Result<Option<String>, Refusal> {
        let found = find(fields.iter().map(|field| field.as_bytes()), "sid")?;
        Ok(found.map(|value| String::from_utf8(value.into_owned()).unwrap()))
    }

    #[test]
    fn a_cookie_has_one_reading() {
        for (fields, expected) in [
            (vec![], None),
            (vec!["a=b; c=d"], None),
            (vec!["sid=abc"], Some("abc")),
            (vec!["a=b;sid=abc ; c=d"], Some("abc")),
            (vec!["a=b", "sid=abc", "c=d"], Some("abc")),
            (vec!["sid=\"abc\""], Some("abc")),
            (vec!["sid=%61bc"], Some("abc")),
            (vec!["sid=a=b=="], Some("a=b==")),
            (vec!["sid=a+b"], Some("a b")),
            (vec!["sid=abc; sid=abc"], Some("abc")),
            (vec!["xsid=abc; sidx=1; my.sid=2"], None),
            (vec!["next=/?sid=1; sid=abc"], Some("abc")),
            (vec!["sid="], Some("")),
            // Words in others' values.
            (vec!["prefs={\"sid\":\"dark\"}; sid=abc"], Some("abc")),
            (vec!["title=my sid; sid=abc"], Some("abc")),
            (vec!["title=my%20sid; sid=abc"], Some("abc")),
        ] {
            assert_eq!(read(&fields).unwrap().as_deref(), expected, "{fields:?}");
        }
    }

    #[test]
    fn what_some_backend_reads_otherwise_is_refused() {
        for fields in [
            vec!["sid=a; sid=b"],
            vec!["sid=a", "sid=b"],
            vec!["sid=a; SID=b"],
            vec!["SID=a"],
            vec!["x=\"y; sid=a\"; sid=b"],
            vec!["x=1, sid=a"],
            vec!["x=1 sid=a"],
            vec!["x=\"sid=a\""],
            vec!["sid"],
            vec!["sid; x=1"],
            vec!["x=1, sid , y=2"],
            vec!["\"sid\"=a"],
            vec!["sid\" =a"],
            vec!["sid%00=a"],
            vec!["%73id%20=a"],
            vec!["+%0A+%73id=a"],
            vec!["%73id[0]=a"],
            vec!["sid[0]=a"],
            vec!["s%69d=a"],
            vec!["%73id=a; sid=b"],
            vec!["+sid=a"],
            vec!["%20sid=a"],
            vec!["sid=a\"b"],
            vec!["sid=\"a"],
            vec!["sid=a\\b"],
            vec!["sid=a,b"],
            vec!["sid=a b"],
            vec!["sid=\u{e9}"],
            vec!["sid=a\tb"],
        ] {
            assert_eq!(read(&fields), Err(Refusal::SessionAmbiguous), "{fields:?}");
        }
    }

    #[test]
    fn a_name_with_an_underscore_has_phps_spellings() {
        let read = |field: &str| find([field.as_bytes()].into_iter(), "my_sid").map(|found| found.is_some());
        for field in ["my[sid=a", "my[sid=a; my_sid=b", "my.sid=a", "my%5Bsid=a", "my%20sid=a", "my+sid=a", "MY_SID=a"]
        {
            assert_eq!(read(field), Err(Refusal::SessionAmbiguous), "{field}");
        }
        assert_eq!((read("my_sid=a"), read("my-sid=a; mysid=b")), (Ok(true), Ok(false)));
    }

    #[test]
    fn a_long_field_takes_no_longer_than_it_is() {
        // A reader that goes over the rest at each byte needs 10^10 steps and more for one of these, which is minutes.
        let long = 100_000;
        for unit in ["'", "+ ", "+", "%20 ", " ", "%73id%20", "sid ", "'%"] {
            let field = format!("{}%", unit.repeat(long));
            let _ = find([field.as_bytes()].into_iter(), "sid");
        }
    }

    #[test]
    fn a_cookie_is_taken_out() {
        let without = |field: &str| without(field.as_bytes(), "sid").map(|rest| String::from_utf8(rest).unwrap());
        assert_eq!(without("sid=a"), None);
        assert_eq!(without("sid=a; sid=a;"), None);
        assert_eq!(without("a=b; sid=x;c=d").as_deref(), Some("a=b; c=d"));
        assert_eq!(without("sid=x; c=\"d e\"").as_deref(), Some("c=\"d e\""));
    }

    proptest! {
        /// What is read can be taken out, and then nobody reads it any more.
        #[test]
        fn what_is_taken_out_is_gone(field in "[sidSID=;, \"%a69\\\\]{0,24}") {
            if let Ok(Some(_)) = find([field.as_bytes()].into_iter(), "sid") {
                let rest = without(field.as_bytes(), "sid").unwrap_or_default();
                prop_assert_eq!(find([&rest[..]].into_iter(), "sid"), Ok(None));
            }
        }

        /// A spelling of a value is the value.
        #[test]
        fn spellings_of_one_value_are_one(value in "[A-Za-z0-9._~!-]{1,16}") {
            let escaped: String = value.bytes().map(|byte| format!("%{byte:02x}")).collect();
            for spelling in [value.clone(), escaped.clone(), format!("\"{value}\""), format!("\"{escaped}\"")] {
                prop_assert_eq!(read(&[&format!("x=1; sid={spelling}")]), Ok(Some(value.clone())));
            }
        }
    }
}
