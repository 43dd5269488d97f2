//! How points in time and texts from outside stand in a line that a person reads.

use dayfly_domain::Time;

/// A point in time in UTC: `03:12:07` on the day of `now`, `2026-11-20 03:12:07` on any other.
#[must_use]
pub fn moment(time: Time, now: Time) -> String {
    let (date, clock) = parts(time);
    if parts(now).0 == date {
        clock
    } else {
        format!("{date} {clock}")
    }
}

/// Date and time of day, to the second.
fn parts(time: Time) -> (String, String) {
    let text = time.to_string();
    let (date, rest) = text.split_once('T').unwrap_or((&text, ""));
    let clock = rest.split_once('.').map_or(rest, |(clock, _)| clock);
    (date.to_owned(), clock.to_owned())
}

/// A text from outside without what could move a terminal's cursor or begin another line.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_invisible(c) {
            line.extend(c.escape_unicode());
        } else {
            line.push(c);
        }
    }
    line
}

/// Line separators and what turns the direction of writing around (Unicode TR 36).
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_stands_where_it_is_not_today() {
        let now = Time::from_millis(1_795_287_689_123);
        assert_eq!(moment(now, now), "19:01:29");
        let yesterday = now - dayfly_domain::Span::from_seconds(86_400);
        assert_eq!(moment(yesterday, now), "2026-11-20 19:01:29");
    }

    #[test]
    fn a_line_stays_a_line() {
        assert_eq!(one_line("leaked\n\u{1b}[2J"), "leaked\\u{a}\\u{1b}[2J");
        assert_eq!(one_line("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(one_line("größer"), "größer");
    }
}
