//! The one place of the command line that asks what time it is.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

const SECONDS_A_DAY: u64 = 86_400;

/// Now, in seconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that asks the wall clock"
)]
pub(crate) fn now_seconds() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// Now, on the clock that nobody sets.
pub(crate) fn instant() -> Instant {
    Instant::now()
}

/// The moment `span` from now, or a year from now when that is too far to say.
pub(crate) fn after(span: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * SECONDS_A_DAY);
    let now = instant();
    now.checked_add(span.min(YEAR)).unwrap_or(now)
}

/// Seconds since 1970 as a person reads them (RFC 3339).
pub(crate) fn utc(seconds: u64) -> String {
    let (year, month, day) = civil(seconds / SECONDS_A_DAY);
    let second = seconds % SECONDS_A_DAY;
    let (hours, minutes) = (second / 3600, second / 60 % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{:02}Z",
        second % 60
    )
}

/// Year, month and day of a number of days since 1970, in eras of 400 years that begin on the first of March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days.saturating_add(719_468);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * months_from_march + 2) / 5 + 1;
    let (month, next_year) = match months_from_march {
        0..=9 => (months_from_march + 3, 0),
        _ => (months_from_march - 9, 1),
    };
    (era * 400 + year_of_era + next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_utc() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_793_534_400), "2026-11-01T12:00:00Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01T00:00:00Z");
    }
}
