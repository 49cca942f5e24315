//! What an answer does to the session's secret: `Set-Cookie` (RFC 6265 section 5.2).

use std::borrow::Cow;

use super::cookie::canonical;

/// What an answer does to a cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate<'a> {
    /// It sets it to this, in its one spelling.
    Set(Cow<'a, [u8]>),
    /// It takes it away.
    Cleared,
    /// It sets it to what no reader is sure to read alike, or to two values.
    Unclear,
}

/// What the `Set-Cookie` fields do to the cookie of that name; none if nothing. Browsers go by the last of two, some programs by
/// the first: only fields that agree are clear. `now` is the Unix time in seconds, for `Expires`.
#[must_use]
pub fn fate<'a>(fields: impl Iterator<Item = &'a [u8]>, name: &str, now: i64) -> Option<Fate<'a>> {
    let mut fate = None;
    for field in fields {
        let Some(found) = one(field, name, now) else { continue };
        fate = match fate {
            None => Some(found),
            Some(known) if known == found => Some(known),
            // Old paths of a cookie are taken away beside the new one.
            Some(Fate::Cleared) => Some(found),
            Some(known) if found == Fate::Cleared => Some(known),
            Some(_) => Some(Fate::Unclear),
        };
    }
    fate
}

fn one<'a>(field: &'a [u8], name: &str, now: i64) -> Option<Fate<'a>> {
    let mut parts = field.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let (found, value) = halves(parts.next()?)?;
    if found != name.as_bytes() {
        return found.eq_ignore_ascii_case(name.as_bytes()).then_some(Fate::Unclear);
    }
    let (mut age, mut expires) = (None, None);
    for part in parts {
        let Some((key, value)) = halves(part) else { continue };
        if key.eq_ignore_ascii_case(b"max-age") {
            age = std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok()).or(age);
        } else if key.eq_ignore_ascii_case(b"expires") {
            expires = year_and_more(value).or(expires);
        }
    }
    // `Max-Age` outweighs `Expires`.
    let is_over = age.map_or_else(|| expires.is_some_and(|expires| expires <= now), |age| age <= 0);
    if is_over || matches!(value, b"" | b"\"\"") {
        return Some(Fate::Cleared);
    }
    Some(canonical(value).map_or(Fate::Unclear, Fate::Set))
}

fn halves(part: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = part.iter().position(|byte| *byte == b'=')?;
    let (key, value) = part.split_at_checked(at)?;
    Some((key.trim_ascii(), value.get(1..)?.trim_ascii()))
}

/// A date of RFC 6265 section 5.1.1 as Unix seconds; none if it is none.
fn year_and_more(text: &[u8]) -> Option<i64> {
    const MONTHS: [&[u8]; 12] =
        [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    let tokens = text.split(|byte| matches!(byte, 0x09 | 0x20..=0x2f | 0x3b..=0x40 | 0x5b..=0x60 | 0x7b..=0x7e));
    for token in tokens.filter(|token| !token.is_empty()) {
        let number = |part: &[u8]| std::str::from_utf8(part).ok().and_then(|text| text.parse::<i64>().ok());
        let mut clock = token.split(|byte| *byte == b':');
        if time.is_none() && token.contains(&b':') {
            let (hour, minute, second) =
                (clock.next().and_then(number)?, clock.next().and_then(number)?, clock.next().and_then(number)?);
            if !(0..=23).contains(&hour) || !(0..=59).contains(&minute) || !(0..=59).contains(&second) {
                return None;
            }
            time = Some(hour * 3_600 + minute * 60 + second);
        } else if let Some(number) = number(token) {
            if day.is_none() && token.len() <= 2 {
                day = Some(number);
            } else if year.is_none() {
                year = Some(match number {
                    0..=69 => number + 2_000,
                    70..=99 => number + 1_900,
                    _ => number,
                });
            }
        } else if month.is_none() {
            let head = token.get(..3).unwrap_or_default();
            month = MONTHS.iter().position(|name| head.eq_ignore_ascii_case(name));
        }
    }
    let (time, day, month, year) = (time?, day?, i64::try_from(month?).ok()? + 1, year?);
    if !(1..=31).contains(&day) || !(1_601..=9_999).contains(&year) {
        return None;
    }
    // Days from the civil date (Howard Hinnant's algorithm).
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted - era * 400;
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + time)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn read(fields: &[&str]) -> Option<String> {
        let fate = fate(fields.iter().map(|field| field.as_bytes()), "sid", NOW)?;
        Some(match fate {
            Fate::Set(value) => String::from_utf8(value.into_owned()).unwrap(),
            Fate::Cleared => "cleared".to_owned(),
            Fate::Unclear => "unclear".to_owned(),
        })
    }

    #[test]
    fn an_answer_sets_a_cookie_or_takes_it_away() {
        for (fields, expected) in [
            (vec![], None),
            (vec!["other=1; Path=/"], None),
            (vec!["sid=abc; Path=/; HttpOnly"], Some("abc")),
            (vec!["sid=\"abc\"; Path=/"], Some("abc")),
            (vec!["sid=abc; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], Some("abc")),
            (vec!["sid=; Path=/"], Some("cleared")),
            (vec!["sid=\"\"; Path=/"], Some("cleared")),
            (vec!["sid=abc; Max-Age=0"], Some("cleared")),
            (vec!["sid=abc; max-age=-1"], Some("cleared")),
            (vec!["sid=abc; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], Some("cleared")),
            (vec!["sid=abc; expires=Thu, 01-Jan-70 00:00:01 GMT"], Some("cleared")),
            (vec!["sid=abc; Expires=Fri, 15 Jan 2027 08:00:01 GMT"], Some("abc")),
            (vec!["sid=abc; Expires=Fri, 15 Jan 2027 07:59:59 GMT"], Some("cleared")),
            (vec!["sid=abc; Expires=never"], Some("abc")),
            (vec!["sid=abc; Expires=Fri, 15 Jan 2027 9223372036854775807:00:00"], Some("abc")),
            (vec!["sid=; Path=/old", "sid=abc; Path=/"], Some("abc")),
            (vec!["sid=abc; Path=/", "sid=; Path=/old"], Some("abc")),
            (vec!["sid=abc", "sid=abc"], Some("abc")),
            (vec!["sid=abc", "sid=abd"], Some("unclear")),
            (vec!["SID=abc"], Some("unclear")),
            (vec!["sid=a b"], Some("unclear")),
            (vec!["sid"], None),
        ] {
            assert_eq!(read(&fields).as_deref(), expected, "{fields:?}");
        }
    }
}
