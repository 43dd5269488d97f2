//! Lengths of time as configuration writes them: `90s`, `5m`, `1h`.

use dayfly_domain::Span;

/// Reads a length of time: a whole number and one of `ms`, `s`, `m`, `h` and `d`. What a
/// [`Span`] displays is read back as the same span.
#[must_use]
pub fn parse_span(text: &str) -> Option<Span> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let number: u64 = number.parse().ok()?;
    number.checked_mul(millis).map(Span::from_millis)
}
