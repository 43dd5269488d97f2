//! Paths and the one wildcard, compared as bytes and never normalised.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};
use unicode_normalization::is_nfc;

use crate::matching::Claims;

/// A path in which `*`, at the end of a segment, stands for the rest of that segment; a segment
/// that is only `*` stands for one whole, non-empty segment. Without `*` it is a plain path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    /// Reads a path as a request may name it: no wildcard.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn plain(text: &str) -> Result<Self, String> {
        if text.contains('*') {
            return Err("`*` is not allowed in a request".to_string());
        }
        check_path(text)?;
        Ok(Self(text.to_string()))
    }

    /// Reads a path as a ceiling may declare it: with wildcards, and with `{claim}` where
    /// [`Pattern::fill`] is to put a claim of the proof.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn declared(text: &str) -> Result<Self, String> {
        check_path(text)?;
        for segment in text.split('/') {
            if segment.strip_suffix('*').unwrap_or(segment).contains('*') {
                return Err(format!(
                    "`*` stands only at the end of a segment: `{segment}`"
                ));
            }
        }
        let pattern = Self(text.to_string());
        for claim in pattern.claims() {
            if claim.is_empty() || claim.contains('{') {
                return Err(format!("unfinished `{{claim}}` in `{text}`"));
            }
        }
        if text.matches('{').count() != text.matches('}').count() {
            return Err(format!("unfinished `{{claim}}` in `{text}`"));
        }
        Ok(pattern)
    }

    /// The claims that `{claim}` parts name, in order.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        self.0
            .split('{')
            .skip(1)
            .map(|part| part.split_once('}').map_or("", |(claim, _)| claim))
    }

    /// Puts the proof's claims in the place of each `{claim}`.
    ///
    /// # Errors
    /// Names the claim that is absent or whose value is no path text (it could widen the path).
    pub fn fill(&self, claims: &Claims) -> Result<Self, String> {
        if !self.0.contains('{') {
            return Ok(self.clone());
        }
        let mut filled = String::new();
        let mut rest = self.0.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            let (claim, tail) = after
                .split_once('}')
                .ok_or_else(|| format!("unfinished `{{claim}}` in `{}`", self.0))?;
            let value = claims
                .get(claim)
                .ok_or_else(|| format!("the proof has no claim `{claim}`"))?;
            if value.contains(['*', '{', '}']) {
                return Err(format!("claim `{claim}` holds a reserved character"));
            }
            check_path(value).map_err(|why| format!("claim `{claim}`: {why}"))?;
            filled.push_str(before);
            filled.push_str(value);
            rest = tail;
        }
        filled.push_str(rest);
        check_path(&filled)?;
        Ok(Self(filled))
    }

    /// Whether every plain path that `other` stands for is one that this stands for.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let mut mine = self.0.split('/');
        let mut theirs = other.0.split('/');
        loop {
            match (mine.next(), theirs.next()) {
                (None, None) => return true,
                (Some(a), Some(b)) if segment_covers(a, b) => {}
                (Some(_) | None, Some(_) | None) => return false,
            }
        }
    }

    /// What stands for every plain path that both stand for; none where there is no such path.
    pub(super) fn meet(&self, other: &Self) -> Option<Self> {
        let mut theirs = other.0.split('/');
        let mut meet: Vec<&str> = Vec::new();
        for a in self.0.split('/') {
            let b = theirs.next()?;
            // Of two segments that have a text in common, one stands for all that the other does.
            if segment_covers(a, b) {
                meet.push(b);
            } else if segment_covers(b, a) {
                meet.push(a);
            } else {
                return None;
            }
        }
        theirs.next().is_none().then(|| Self(meet.join("/")))
    }

    /// Whether `value`, any text, is one that `pattern` stands for; the same wildcard, for claims.
    #[must_use]
    pub fn raw_matches(pattern: &str, value: &str) -> bool {
        let mut theirs = value.split('/');
        pattern
            .split('/')
            .all(|segment| theirs.next().is_some_and(|b| segment_covers(segment, b)))
            && theirs.next().is_none()
    }

    /// The text as declared or requested.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether the segment `a` (literal or `prefix*`) stands for all that `b` stands for.
fn segment_covers(a: &str, b: &str) -> bool {
    match a.strip_suffix('*') {
        Some(prefix) => !b.is_empty() && b.starts_with(prefix),
        None => a == b,
    }
}

fn check_path(text: &str) -> Result<(), String> {
    check_text(text)?;
    for segment in text.split('/') {
        if matches!(segment, "" | "." | "..") {
            return Err(format!("the path segment `{segment}` is refused"));
        }
    }
    Ok(())
}

/// Refuses text that could be read in two ways: `%`, `\`, control characters, text that is not in
/// Unicode normalisation form C, and empty or very long text.
///
/// # Errors
/// Says what is wrong.
pub fn check_text(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("an empty text is refused".to_string());
    }
    if text.len() > 1024 {
        return Err("a text has at most 1024 bytes".to_string());
    }
    if let Some(c) = text
        .chars()
        .find(|c| matches!(c, '%' | '\\') || c.is_control())
    {
        return Err(format!("the character {c:?} is refused"));
    }
    if !text.is_ascii() && !is_nfc(text) {
        return Err("text that is not in unicode normalisation form c is refused".to_string());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn declared(text: &str) -> Pattern {
        Pattern::declared(text).unwrap()
    }

    #[test]
    fn a_star_is_the_rest_of_one_segment() {
        for (ceiling, request, expected) in [
            ("octo/*", "octo/a", true),
            ("octo/*", "octo/a/b", false),
            ("octo/*", "octo", false),
            ("octo/v*", "octo/v1", true),
            ("octo/v*", "octo/w1", false),
            ("octo/*/x", "octo/a/x", true),
            ("octo/a", "octo/a", true),
            ("octo/a", "octo/A", false),
            ("*", "octo", true),
            ("v*", "v*", true),
            ("*", "v*", true),
            ("v*", "*", false),
            ("v1", "v*", false),
        ] {
            assert_eq!(
                declared(ceiling).covers(&declared(request)),
                expected,
                "{ceiling} over {request}"
            );
        }
    }

    #[test]
    fn two_readings_are_refused() {
        for text in [
            "", "a//b", "/a", "a/", "a/./b", "a/../b", "..", "a%2fb", "a\\b", "a\nb", "e\u{301}",
        ] {
            assert!(Pattern::plain(text).is_err(), "{text:?}");
            assert!(Pattern::declared(text).is_err(), "{text:?}");
        }
        assert!(Pattern::plain("a/*").is_err());
        assert!(Pattern::declared("a*b").is_err());
        assert!(Pattern::declared("**").is_err());
        assert!(Pattern::declared("a/{b").is_err());
        assert!(Pattern::declared("a/b}").is_err());
        assert!(Pattern::plain("\u{e9}").is_ok());
    }

    #[test]
    fn a_claim_is_filled_in_and_cannot_widen() {
        let pattern = declared("repos/{repository}/*");
        let mut claims = Claims::new();
        assert!(pattern.fill(&claims).is_err());
        claims.insert("repository".into(), "octo/hello".into());
        assert_eq!(
            pattern.fill(&claims).unwrap().as_str(),
            "repos/octo/hello/*"
        );
        for evil in ["*", "a/../b", "a//b", "", "{x}", "a%2f"] {
            claims.insert("repository".into(), evil.into());
            assert!(pattern.fill(&claims).is_err(), "{evil}");
        }
    }

    proptest! {
        #[test]
        fn cover_is_an_order(
            a in "[ab]{0,2}\\*?(/[ab]{1,2}\\*?){0,2}",
            b in "[ab]{1,2}\\*?(/[ab]{1,2}\\*?){0,2}",
            c in "[ab]{1,2}\\*?(/[ab]{1,2}\\*?){0,2}",
        ) {
            let (Ok(a), Ok(b), Ok(c)) = (Pattern::declared(&a), Pattern::declared(&b), Pattern::declared(&c)) else {
                return Ok(());
            };
            prop_assert!(a.covers(&a));
            if a.covers(&b) && b.covers(&c) {
                prop_assert!(a.covers(&c));
            }
            if a.covers(&b) && b.covers(&a) {
                prop_assert_eq!(a, b);
            }
        }
    }
}
