//! Makes text that an attacker may have chosen safe and short enough for an error message.

use core::fmt;

use serde_json::Value;

/// A value that a check found, escaped and cut for display.
///
/// Shown in backticks with everything but printable ASCII escaped and at most
/// [`Excerpt::MAX_CHARS`] characters of the original; an absent value shows as
/// the bare word `nothing`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt(Option<String>);

impl Excerpt {
    /// Characters of the original that are kept.
    pub const MAX_CHARS: usize = 96;

    /// The excerpt of a text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut shown = String::new();
        let mut chars = text.chars();
        for c in chars.by_ref().take(Self::MAX_CHARS) {
            match c {
                '\\' => shown.push_str("\\\\"),
                '`' => shown.extend(c.escape_unicode()),
                ' '..='~' => shown.push(c),
                _ => shown.extend(c.escape_unicode()),
            }
        }
        if chars.next().is_some() {
            shown.push_str("...");
        }
        Self(Some(shown))
    }

    /// The excerpt of a JSON value: a string without its quotes, anything else as JSON text.
    #[must_use]
    pub fn of_json(value: &Value) -> Self {
        match value.as_str() {
            Some(text) => Self::of(text),
            None => Self::of(&value.to_string()),
        }
    }

    /// The excerpt of a text that may be missing.
    #[must_use]
    pub fn of_option(text: Option<&str>) -> Self {
        text.map_or_else(Self::absent, Self::of)
    }

    /// Stands for a value that is missing.
    #[must_use]
    pub const fn absent() -> Self {
        Self(None)
    }

    /// The escaped text without backticks, or `None` where nothing was there.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(shown) => write!(f, "`{shown}`"),
            None => f.write_str("nothing"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_backticks_and_direction_marks_are_escaped() {
        let shown = Excerpt::of("a\n`b`\u{202e}\\").to_string();
        assert_eq!(shown, r"`a\u{a}\u{60}b\u{60}\u{202e}\\`");
    }

    #[test]
    fn long_text_is_cut() {
        let shown = Excerpt::of(&"x".repeat(10_000)).to_string();
        assert_eq!(shown.len(), Excerpt::MAX_CHARS + 2 + 3);
    }

    #[test]
    fn nothing_is_said_without_backticks() {
        assert_eq!(Excerpt::of_option(None).to_string(), "nothing");
        assert_eq!(
            Excerpt::of_json(&serde_json::json!(["a"])).to_string(),
            "`[\"a\"]`"
        );
    }
}
