//! Times as payloads write them.

/// A moment, and its text.
#[derive(Debug, Clone, Default)]
pub(super) struct Moment {
    unix_us: u64,
    /// Unix ms, in digits.
    pub(super) ms_text: String,
    /// Unix µs, in digits.
    pub(super) us_text: String,
}

impl Moment {
    /// Moves to another moment. Many messages share one, so its text is made once.
    pub(super) fn set(&mut self, unix_us: u64) {
        if self.unix_us != unix_us || self.us_text.is_empty() {
            self.unix_us = unix_us;
            self.ms_text = (unix_us / 1_000).to_string();
            self.us_text = unix_us.to_string();
        }
    }

    /// Unix ms.
    pub(super) fn ms(&self) -> u64 {
        self.unix_us / 1_000
    }
}

/// `2018-08-31 15:32:28.205`: China's time, which the fields without a zone are in.
pub(super) fn local(unix_ms: u64) -> String {
    let (date, clock) = civil_time(unix_ms + 8 * 3_600_000);
    format!("{date} {clock}")
}

/// `2018-08-31T07:32:28.205Z`.
pub(super) fn utc(unix_ms: u64) -> String {
    let (date, clock) = civil_time(unix_ms);
    format!("{date}T{clock}Z")
}

/// The date and the time of day, to the millisecond, of a Unix time in the proleptic Gregorian calendar.
fn civil_time(unix_ms: u64) -> (String, String) {
    let (days, of_day) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // Days are counted from 0000-03-01, so that a leap day is the last of its year; 400 years have 146,097 days.
    let day = days + 719_468;
    let (era, day_of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, milli) = (of_day / 1_000 % 60, of_day % 1_000);
    (format!("{year:04}-{month:02}-{day_of_month:02}"), format!("{hour:02}:{minute:02}:{second:02}.{milli:03}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_leap_days_and_years() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(utc(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
        // The example of PLATFORM.md 3.
        assert_eq!(utc(1_535_700_748_205), "2018-08-31T07:32:28.205Z");
        assert_eq!(local(1_535_700_748_205), "2018-08-31 15:32:28.205");
    }

    #[test]
    fn a_moment_has_the_text_of_its_time() {
        let mut moment = Moment::default();
        for us in [0, 1_573_489_088_171_123, 1_573_489_088_171_124] {
            moment.set(us);
            assert_eq!((moment.ms(), moment.ms_text.as_str()), (us / 1_000, (us / 1_000).to_string().as_str()));
            assert_eq!(moment.us_text, us.to_string());
        }
    }
}
