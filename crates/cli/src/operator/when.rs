//! Points in time as a person writes them: a date, a date with a time, or how long ago.

use anyhow::{Result, bail};
use dayfly_domain::Time;
use dayfly_server::config::parse_span;

/// Reads a point in time: `2026-11-21`, `2026-11-21T03:12:07Z` (RFC 3339, in UTC), or `2h` ago.
pub(super) fn parse(text: &str, now: Time) -> Result<Time> {
    if let Some(span) = parse_span(text) {
        return Ok(now - span);
    }
    match date_and_time(text) {
        Some(time) => Ok(time),
        None => bail!(
            "`{text}` is no time: write 2026-11-21, 2026-11-21T03:12:07Z or 2h for two hours ago"
        ),
    }
}

fn date_and_time(text: &str) -> Option<Time> {
    let (date, clock) = match text.split_once(['T', 't', ' ']) {
        Some((date, clock)) => (date, clock.strip_suffix(['Z', 'z']).unwrap_or(clock)),
        None => (text, "00:00:00"),
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let in_range = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60
        && fraction.bytes().all(|b| b.is_ascii_digit())
        && !fraction.is_empty();
    if !in_range {
        return None;
    }
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    let millis: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    Some(Time::from_millis(seconds * 1000 + millis))
}

/// Three numbers of so many digits.
fn numbers(text: &str, separator: char, digits: [usize; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; 3];
    for (slot, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != digits || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *slot = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

const fn days_of(year: u64, month: u64) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms",
/// `days_from_civil`).
const fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let year_of_era = year % 400;
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let now = Time::from_millis(1_795_287_689_123);
        for millis in [0, 951_782_400_000, 1_795_287_689_123, 4_107_542_399_999] {
            let time = Time::from_millis(millis);
            assert_eq!(parse(&time.to_string(), now).unwrap(), time);
        }
        assert_eq!(
            parse("2026-11-21", now).unwrap().to_string(),
            "2026-11-21T00:00:00.000Z"
        );
        assert_eq!(
            parse("2026-11-21 03:12:07", now).unwrap().to_string(),
            "2026-11-21T03:12:07.000Z"
        );
        assert_eq!(parse("2h", now).unwrap().millis(), now.millis() - 7_200_000);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "now",
            "2026-13-01",
            "2026-02-29",
            "2026-11-21T24:00:00Z",
            "21.11.2026",
            "03:12",
            "2026-11-21T03:12:07+01:00",
        ] {
            assert!(parse(text, Time::from_seconds(0)).is_err(), "{text}");
        }
    }
}
