//! Reading `[outage]`.

use jiff::civil::Date;

use super::knob;
use super::table::Table;
use crate::outage::Rules;

/// As many holidays as anybody plans ahead.
const MAX_QUIET_DAYS: usize = 1_000;

pub(super) fn outage(table: &Table<'_>) -> Rules {
    let delay = table.seconds("delay_s", &knob::OUTAGE_DELAY_S);
    let weeks = knob::short(table.number("weeks", &knob::OUTAGE_WEEKS));
    let least = knob::short(table.number("least", &knob::OUTAGE_LEAST));
    if least > weeks {
        let why = format!("`outage.least` is {least}, more than the {weeks} weeks of `outage.weeks`");
        table.problem("least", why);
    }
    let offset = table.text_or("utc_offset", "+09:00");
    let utc_offset_s = seconds(offset.text);
    if utc_offset_s.is_none() {
        table.refuse(&offset, "it must be such as `+09:00` or `-03:30`");
    }
    let mut quiet_days = Vec::new();
    for text in table.texts_optional("quiet_days") {
        match text.text.parse::<Date>().ok().and_then(day) {
            Some(_) if text.text.len() != 10 => table.refuse(&text, "it must be a day such as `2027-01-01`"),
            Some(day) => quiet_days.push(day),
            None => table.refuse(&text, "it must be a day such as `2027-01-01`"),
        }
    }
    if quiet_days.len() > MAX_QUIET_DAYS {
        let why = format!("`outage.quiet_days` lists {} days; at most {MAX_QUIET_DAYS} can be", quiet_days.len());
        table.problem("quiet_days", why);
    }
    quiet_days.sort_unstable();
    let delay = Some(delay).filter(|delay| !delay.is_zero());
    Rules { delay, weeks, least, quiet_days, utc_offset_s: utc_offset_s.unwrap_or(0) }
}

/// Days since 1970.
fn day(date: Date) -> Option<i64> {
    let span = Date::constant(1970, 1, 1).until((jiff::Unit::Day, date)).ok()?;
    Some(i64::from(span.get_days()))
}

fn seconds(offset: &str) -> Option<i64> {
    let (sign, rest) = match offset.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let two = |text: &str| {
        let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse::<i64>().ok()).flatten()
    };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    (hours <= 14 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_and_days_are_read() {
        let read = ["+09:00", "-03:30", "+00:00", "9", "+9:00", "+15:00", "+09:60", "", "±1:00"].map(seconds);
        assert_eq!(read, [Some(32_400), Some(-12_600), Some(0), None, None, None, None, None, None]);
        assert_eq!(["1970-01-02", "2027-01-01"].map(|text| day(text.parse().unwrap())), [Some(1), Some(20_819)]);
    }
}
