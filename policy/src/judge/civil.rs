//! From nanoseconds since 1970 to what a calendar on the wall shows. Proleptic Gregorian, no leap seconds (POSIX).

/// A point in time as policies read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Civil {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
    pub(super) second: i64,
    pub(super) millisecond: i64,
    /// 1 (Monday) to 7 (Sunday), ISO 8601.
    pub(super) weekday: i64,
}

const NANOS_PER_MILLISECOND: i64 = 1_000_000;
const MILLISECONDS_PER_DAY: i64 = 86_400_000;

impl Civil {
    /// The calendar's reading `offset_minutes` east of UTC.
    pub(super) fn at(unix_nanos: i64, offset_minutes: i16) -> Self {
        let milliseconds = unix_nanos.div_euclid(NANOS_PER_MILLISECOND) + i64::from(offset_minutes) * 60_000;
        let days = milliseconds.div_euclid(MILLISECONDS_PER_DAY);
        let rest = milliseconds.rem_euclid(MILLISECONDS_PER_DAY);
        let (year, month, day) = date(days);
        Self {
            year,
            month,
            day,
            hour: rest / 3_600_000,
            minute: rest / 60_000 % 60,
            second: rest / 1_000 % 60,
            millisecond: rest % 1_000,
            // 1 January 1970 was a Thursday.
            weekday: (days + 3).rem_euclid(7) + 1,
        }
    }

    /// Cedar's `datetime` text: milliseconds, UTC.
    pub(super) fn cedar(&self) -> String {
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            self.year, self.month, self.day, self.hour, self.minute, self.second, self.millisecond
        )
    }
}

/// Year, month and day of a day counted from 1 January 1970. Years are counted from March, so that the leap day is
/// the last of its year, in eras of 400 years, which all have the same number of days.
fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Days from 1 January 1970 to a date: the inverse of the reading above.
pub(crate) fn days_from_date(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_days() {
        let epoch = Civil::at(0, 0);
        assert_eq!(epoch.cedar(), "1970-01-01T00:00:00.000Z");
        assert_eq!(epoch.weekday, 4);
        // 29 February 2024 was a Thursday; 23:30 UTC is Friday morning in Japan.
        let leap = days_from_date(2024, 2, 29) * 86_400_000_000_000 + 84_600_000_000_000;
        assert_eq!(Civil::at(leap, 0).cedar(), "2024-02-29T23:30:00.000Z");
        let tokyo = Civil::at(leap, 540);
        assert_eq!((tokyo.month, tokyo.day, tokyo.hour, tokyo.weekday), (3, 1, 8, 5));
        assert_eq!(Civil::at(-1, 0).cedar(), "1969-12-31T23:59:59.999Z");
        assert_eq!(days_from_date(1970, 1, 1), 0);
    }

    proptest! {
        #[test]
        fn dates_and_days_agree(days in -100_000i64..100_000) {
            let (year, month, day) = date(days);
            prop_assert!((1..=12).contains(&month) && (1..=31).contains(&day));
            prop_assert_eq!(days_from_date(year, month, day), days);
        }

        #[test]
        fn any_time_has_a_reading(nanos: i64, offset in -720i16..=840) {
            let civil = Civil::at(nanos, offset);
            prop_assert!((0..24).contains(&civil.hour) && (1..=7).contains(&civil.weekday));
        }
    }
}
