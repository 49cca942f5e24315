//! Time as text: UTC, RFC 3339, nine digits, always `Z`. Sorts as text the way it sorts as time.

const NANOS_PER_SECOND: i64 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
/// Length of a written time: `2026-11-22T20:50:02.000000000Z`.
const LENGTH: usize = 30;

/// Writes nanoseconds since the Unix epoch, without quotes. The range of `i64`, years 1677 to 2262, is covered.
pub fn write(out: &mut Vec<u8>, unix_ns: i64) {
    let seconds = unix_ns.div_euclid(NANOS_PER_SECOND);
    let nanos = unix_ns.rem_euclid(NANOS_PER_SECOND);
    let (year, month, day) = civil(seconds.div_euclid(SECONDS_PER_DAY));
    let second = seconds.rem_euclid(SECONDS_PER_DAY);
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    for (value, start, width) in [
        (year, 0, 4),
        (month, 5, 2),
        (day, 8, 2),
        (second / 3_600, 11, 2),
        (second / 60 % 60, 14, 2),
        (second % 60, 17, 2),
        (nanos, 20, 9),
    ] {
        let mut rest = value;
        for place in text.iter_mut().skip(start).take(width).rev() {
            *place = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
    }
    out.extend_from_slice(&text);
}

/// Reads what [`write()`] writes; anything else is `None`.
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    if text.len() != LENGTH {
        return None;
    }
    let number = |start: usize, end: usize| -> Option<i64> {
        let digits = text.get(start..end)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let days = days(number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let seconds = days * SECONDS_PER_DAY + number(11, 13)? * 3_600 + number(14, 16)? * 60 + number(17, 19)?;
    let nanos = number(20, 29)?;
    // The first second of the range begins before `i64::MIN` nanoseconds; hence the wide arithmetic.
    let unix_ns = i128::from(seconds) * i128::from(NANOS_PER_SECOND) + i128::from(nanos);
    let unix_ns = i64::try_from(unix_ns).ok()?;
    let mut again = Vec::with_capacity(LENGTH);
    write(&mut again, unix_ns);
    (again == text.as_bytes()).then_some(unix_ns)
}

/// Reads a time as people write it: a date of RFC 3339, which is its first moment in UTC, or a date and time with up to nine
/// digits behind the second, and `Z` or an offset such as `+09:00`.
#[must_use]
pub fn read(text: &str) -> Option<i64> {
    let Some((day, rest)) = text.split_once('T') else { return parse(&format!("{text}T00:00:00.000000000Z")) };
    let (time, offset) = match rest.strip_suffix('Z') {
        Some(time) => (time, 0),
        None => {
            let (time, offset) = rest.split_at_checked(rest.len().checked_sub(6)?)?;
            let sign = if offset.starts_with('+') { 1 } else { -1 };
            let (hours, minutes) = offset.strip_prefix(['+', '-'])?.split_once(':')?;
            let number = |text: &str, end: i64| {
                let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
                text.parse().ok().filter(|number: &i64| digits && *number < end)
            };
            (time, sign * (number(hours, 24)? * 3_600 + number(minutes, 60)? * 60))
        }
    };
    let (second, fraction) = time.split_once('.').unwrap_or((time, "0"));
    if fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    parse(&format!("{day}T{second}.{fraction:0<9}Z"))?.checked_sub(offset * NANOS_PER_SECOND)
}

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant's `civil_from_days`).
const fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// The inverse of [`civil`].
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(read("1970-01-02"), Some(86_400_000_000_000));
        assert_eq!(read("1970-01-01T00:00:01Z"), Some(1_000_000_000));
        assert_eq!(read("1970-01-01T00:00:00.25Z"), Some(250_000_000));
        assert_eq!(read("1970-01-01T09:00:01+09:00"), Some(1_000_000_000));
        assert_eq!(read("1969-12-31T23:30:00-00:30"), Some(0));
        for bad in [
            "",
            "1970",
            "1970-13-01",
            "1970-01-01T",
            "1970-01-01TZ",
            "1970-01-01T25:00:00Z",
            "1970-01-01 00:00:00",
            "1970-01-01T00:00:00",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00.1234567890Z",
            "1970-01-01T00:00:00+24:00",
            "1970-01-01T00:00:00+9:00",
            "1970-01-01T00:00:00é9:00",
            "yesterday",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
    use proptest::prelude::*;

    fn text(unix_ns: i64) -> String {
        let mut out = Vec::new();
        write(&mut out, unix_ns);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_instants() {
        assert_eq!(text(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(text(951_782_400_000_000_001), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(text(2_147_483_648 * NANOS_PER_SECOND), "2038-01-19T03:14:08.000000000Z");
        assert_eq!(text(1_795_380_602_123_456_789), "2026-11-22T20:50:02.123456789Z");
        assert_eq!(parse("2026-11-22T20:50:02.123456789Z"), Some(1_795_380_602_123_456_789));
        for bad in [
            "",
            "2026-11-22T20:50:02Z",
            "2026-13-22T20:50:02.123456789Z",
            "2026-02-30T20:50:02.123456789Z",
            "2026-11-22T24:50:02.123456789Z",
            "2026-11-22T20:50:02.123456789+",
            "9999-11-22T20:50:02.123456789Z",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_time_comes_back_and_sorts_as_text(a in any::<i64>(), b in any::<i64>()) {
            prop_assert_eq!(parse(&text(a)), Some(a));
            prop_assert_eq!(text(a).cmp(&text(b)), a.cmp(&b));
        }

        #[test]
        fn any_text_is_taken_or_refused(t in "\\PC{0,40}") {
            let _ = parse(&t);
        }
    }
}
