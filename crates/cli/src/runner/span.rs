//! Reads lengths of time as people write them.

use std::time::Duration;

/// Numbers with units, the largest first: `90s`, `20m`, `1h30m`.
pub(crate) fn parse(text: &str) -> Result<Duration, SpanError> {
    let mut rest = text;
    let mut seconds = 0_u64;
    let mut last_unit = u64::MAX;
    while !rest.is_empty() {
        let at = rest.find(|c: char| !c.is_ascii_digit()).ok_or(SpanError)?;
        let (digits, tail) = rest.split_at_checked(at).ok_or(SpanError)?;
        let mut tail = tail.chars();
        let unit = match tail.next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3_600,
            Some('d') => 86_400,
            Some(_) | None => return Err(SpanError),
        };
        if unit >= last_unit {
            return Err(SpanError);
        }
        let number: u64 = digits.parse().map_err(|_| SpanError)?;
        let part = number.checked_mul(unit).ok_or(SpanError)?;
        seconds = seconds.checked_add(part).ok_or(SpanError)?;
        (rest, last_unit) = (tail.as_str(), unit);
    }
    match seconds {
        0 if text.is_empty() => Err(SpanError),
        seconds => Ok(Duration::from_secs(seconds)),
    }
}

/// Not a length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a length of time like `90s`, `20m` or `1h30m`")]
pub(crate) struct SpanError;

/// A length of time for a message.
pub(crate) fn show(span: Duration) -> String {
    let seconds = span.as_secs();
    let parts = [
        (seconds / 3_600, 'h'),
        (seconds / 60 % 60, 'm'),
        (seconds % 60, 's'),
    ];
    let shown: String = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| format!("{number}{unit}"))
        .collect();
    if shown.is_empty() {
        return "0s".to_owned();
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_shown() {
        for (text, seconds) in [
            ("0s", 0),
            ("90s", 90),
            ("20m", 1_200),
            ("1h30m", 5_400),
            ("2d", 172_800),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(show(Duration::from_secs(5_400)), "1h30m");
        assert_eq!(show(Duration::ZERO), "0s");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "5",
            "m",
            "-1s",
            "1.5h",
            "1m1h",
            "1s1s",
            "20 m",
            "1w",
            "99999999999999999999s",
            "1sé",
        ] {
            assert_eq!(parse(text), Err(SpanError), "{text}");
        }
    }
}
