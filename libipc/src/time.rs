//! Calendar time: seconds since 1970 and the date that they are (UTC in POSIX's way: every day has
//! 86,400 seconds).

use core::fmt;

/// Seconds of a day.
const DAY: u64 = 86_400;
/// The last second of the year 9999; later ones read as this.
const LAST: u64 = 253_402_300_799;
/// Days from 1 March of the year 0 to 1 January 1970.
const EPOCH_DAYS: u64 = 719_468;
/// Days of 400 years, after which the calendar repeats.
const ERA_DAYS: u64 = 146_097;

/// A date and a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// 1970 to 9999.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
}

impl Date {
    /// The date `seconds` after the beginning of 1970.
    pub const fn from_unix(seconds: u64) -> Self {
        let seconds = if seconds > LAST { LAST } else { seconds };
        let (days, time) = (seconds / DAY, seconds % DAY);
        // Years begin in March here, so that the leap day is a year's last.
        let days = days + EPOCH_DAYS;
        let (era, day_of_era) = (days / ERA_DAYS, days % ERA_DAYS);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - days_before(year_of_era);
        let month = (5 * day_of_year + 2) / 153;
        let january = month >= 10;
        Self {
            year: (era * 400 + year_of_era + january as u64) as u16,
            month: (if january { month - 9 } else { month + 3 }) as u8,
            day: (day_of_year - (153 * month + 2) / 5 + 1) as u8,
            hour: (time / 3600) as u8,
            minute: (time / 60 % 60) as u8,
            second: (time % 60) as u8,
        }
    }

    /// Seconds since the beginning of 1970; `None` if there is no such date.
    pub fn to_unix(&self) -> Option<u64> {
        if self.year < 1970 || self.year > 9999 {
            return None;
        }
        let january = self.month < 3;
        let year = self.year as u64 - january as u64;
        let month = (self.month as u64 + 9) % 12;
        let day_of_year = (153 * month + 2) / 5 + (self.day as u64).wrapping_sub(1) % 400;
        let days = year / 400 * ERA_DAYS + days_before(year % 400) + day_of_year;
        let time = self.hour as u64 * 3600 + self.minute as u64 * 60 + self.second as u64;
        let seconds = days.checked_sub(EPOCH_DAYS)? * DAY + time;
        // What is out of its range (30 February, 25 o'clock) does not come back as it was.
        (Self::from_unix(seconds) == *self).then_some(seconds)
    }

    /// Day of the week, as in "Sunday".
    pub fn weekday(&self) -> &'static str {
        const NAMES: [&str; 7] =
            ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
        let days = self.to_unix().unwrap_or(0) / DAY;
        NAMES[(days % 7) as usize]
    }

    /// Name of the month, as in "March".
    pub fn month_name(&self) -> &'static str {
        const NAMES: [&str; 12] = [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ];
        NAMES[(self.month.max(1) as usize - 1) % 12]
    }
}

/// Days of an era before its `year`.
const fn days_before(year: u64) -> u64 {
    year * 365 + year / 4 - year / 100
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, hour, minute, second } = self;
        write!(f, "{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn known_dates() {
        // As `date -u -d @N` prints them.
        for (seconds, text, weekday) in [
            (0, "1970-01-01 00:00:00", "Thursday"),
            (951_782_399, "2000-02-28 23:59:59", "Monday"),
            (951_782_400, "2000-02-29 00:00:00", "Tuesday"),
            (951_868_800, "2000-03-01 00:00:00", "Wednesday"),
            (1_709_164_800, "2024-02-29 00:00:00", "Thursday"),
            (4_107_542_400, "2100-03-01 00:00:00", "Monday"),
            (LAST, "9999-12-31 23:59:59", "Friday"),
            (u64::MAX, "9999-12-31 23:59:59", "Friday"),
        ] {
            let date = Date::from_unix(seconds);
            assert_eq!((date.to_string().as_str(), date.weekday()), (text, weekday));
            assert_eq!(date.to_unix(), Some(seconds.min(LAST)));
        }
        assert_eq!(Date::from_unix(951_782_400).month_name(), "February");
    }

    #[test]
    fn each_day_follows_the_one_before_and_comes_back() {
        let mut last = Date::from_unix(0);
        for day in 1..LAST / DAY {
            let date = Date::from_unix(day * DAY + day % DAY);
            assert!(date > last && date.to_unix() == Some(day * DAY + day % DAY), "{date}");
            assert!(date.day == last.day + 1 || date.day == 1 && last.day >= 28);
            last = date;
        }
    }

    #[test]
    fn dates_that_do_not_exist_have_no_seconds() {
        let good = Date { year: 2026, month: 3, day: 1, hour: 0, minute: 0, second: 0 };
        assert!(good.to_unix().is_some());
        for bad in [
            Date { month: 0, ..good },
            Date { month: 13, ..good },
            Date { month: 255, ..good },
            Date { day: 0, ..good },
            Date { day: 32, ..good },
            Date { month: 2, day: 29, ..good },
            Date { year: 2100, month: 2, day: 29, ..good },
            Date { hour: 24, ..good },
            Date { minute: 60, ..good },
            Date { second: 60, ..good },
            Date { second: 255, ..good },
            Date { year: 1969, ..good },
            Date { year: u16::MAX, ..good },
        ] {
            assert_eq!(bad.to_unix(), None, "{bad:?}");
        }
    }
}
