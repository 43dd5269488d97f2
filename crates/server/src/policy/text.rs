//! The text of a policy file before Cedar reads it: where each policy begins, and whether it is
//! small and flat enough to be read at all.

use crate::config::Place;

/// Most bytes of all policies of a tenant together.
pub(super) const ALL_BYTES: usize = 8 * 1024 * 1024;
/// Most policies of a tenant.
pub(super) const POLICIES: usize = 20_000;
/// Most bytes of one policy.
const POLICY_BYTES: usize = 64 * 1024;
/// How deep brackets may stand in each other.
const NESTED: usize = 32;
/// How many operators one policy may have: a chain of them is as deep as it is long, and reading it
/// takes as much stack.
const OPERATORS: usize = 512;

/// Where a policy stands in its file, in bytes from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) begin: usize,
    pub(super) end: usize,
}

/// What must not be read, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) at: usize,
    pub(super) what: String,
}

/// The policies of a file, in order, each up to its semicolon; what follows the last one is one
/// more where it is not blank.
pub(super) fn extents(text: &str) -> Result<Vec<Extent>, Unreadable> {
    let mut reading = Reading::default();
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        let next = bytes.peek().map(|(_, byte)| *byte);
        match byte {
            // Cedar ends a comment at it and editors show a comment: what follows would be hidden.
            b'\r' if next != Some(b'\n') => {
                return Err(Unreadable {
                    at,
                    what: "a carriage return stands alone".to_owned(),
                });
            }
            b'/' if next == Some(b'/') => {
                while bytes
                    .next_if(|(_, byte)| !matches!(byte, b'\n' | b'\r'))
                    .is_some()
                {}
            }
            b'"' => {
                reading.begin(at);
                while let Some((_, byte)) = bytes.next() {
                    match byte {
                        b'\\' => _ = bytes.next(),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            _ if byte.is_ascii_whitespace() => reading.word.clear(),
            b';' => reading.end(at)?,
            _ => reading.take(at, byte, next)?,
        }
    }
    if reading.begun.is_some() {
        reading.end(text.len().saturating_sub(1))?;
    }
    Ok(reading.found)
}

#[derive(Default)]
struct Reading {
    found: Vec<Extent>,
    begun: Option<usize>,
    nested: usize,
    operators: usize,
    /// The word being read, as far as a keyword is long.
    word: Vec<u8>,
}

impl Reading {
    fn begin(&mut self, at: usize) -> usize {
        *self.begun.get_or_insert(at)
    }

    fn take(&mut self, at: usize, byte: u8, next: Option<u8>) -> Result<(), Unreadable> {
        self.begin(at);
        match byte {
            b'(' | b'[' | b'{' => self.nested += 1,
            b')' | b']' | b'}' => self.nested = self.nested.saturating_sub(1),
            b'!' | b'+' | b'-' | b'*' | b'<' | b'>' | b'.' => self.operators += 1,
            b'&' | b'|' | b'=' if next == Some(byte) => self.operators += 1,
            _ => {}
        }
        if byte.is_ascii_alphanumeric() || byte == b'_' {
            if self.word.len() <= 4 {
                self.word.push(byte);
            }
            let ends = !next.is_some_and(|next| next.is_ascii_alphanumeric() || next == b'_');
            if ends
                && matches!(
                    self.word.as_slice(),
                    b"if" | b"in" | b"is" | b"has" | b"like"
                )
            {
                self.operators += 1;
            }
        } else {
            self.word.clear();
        }
        if self.nested > NESTED {
            return Err(Unreadable {
                at,
                what: format!("brackets stand more than {NESTED} deep in each other"),
            });
        }
        if self.operators > OPERATORS {
            return Err(Unreadable {
                at,
                what: format!("a policy has more than {OPERATORS} operators"),
            });
        }
        Ok(())
    }

    fn end(&mut self, at: usize) -> Result<(), Unreadable> {
        let begin = self.begun.take().unwrap_or(at);
        let end = at + 1;
        if end - begin > POLICY_BYTES {
            return Err(Unreadable {
                at: begin,
                what: format!("a policy has more than {POLICY_BYTES} bytes"),
            });
        }
        self.found.push(Extent { begin, end });
        *self = Self {
            found: std::mem::take(&mut self.found),
            ..Self::default()
        };
        Ok(())
    }
}

/// Where the lines of a text begin, so that a place is found without reading it all again.
pub(super) struct Lines<'a> {
    text: &'a str,
    begins: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let after = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text,
            begins: std::iter::once(0).chain(after).collect(),
        }
    }

    /// The place of a byte of the file.
    pub(super) fn place(&self, file: &str, at: usize) -> Place {
        let at = self.text.floor_char_boundary(at);
        let line = self.begins.partition_point(|begin| *begin <= at).max(1);
        let begin = self.begins.get(line - 1).copied().unwrap_or_default();
        let before = self.text.get(begin..at).unwrap_or_default();
        Place {
            file: file.to_owned(),
            line,
            column: before.chars().count() + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        let extents = extents(text).unwrap();
        extents.iter().map(|e| &text[e.begin..e.end]).collect()
    }

    #[test]
    fn a_policy_ends_at_its_own_semicolon() {
        let text = "// one; two\n@id(\"a;b\\\"; \")\npermit (principal, action, resource);\n\n  forbid (principal, action, resource) // ;\n;";
        assert_eq!(
            texts(text),
            [
                "@id(\"a;b\\\"; \")\npermit (principal, action, resource);",
                "forbid (principal, action, resource) // ;\n;"
            ]
        );
        assert_eq!(texts(""), [""; 0]);
        assert_eq!(texts(" // nothing\n"), [""; 0]);
        assert_eq!(texts("permit (a"), ["permit (a"]);
        let second = extents(text).unwrap()[1].begin;
        let lines = Lines::of(text);
        assert_eq!(lines.place("f", second).to_string(), "f:5:3");
        assert_eq!(lines.place("f", 0).to_string(), "f:1:1");
        assert_eq!(Lines::of("").place("f", 9).to_string(), "f:1:1");
        assert_eq!(Lines::of("ä\nöü\n").place("f", 7).to_string(), "f:2:3");
    }

    #[test]
    fn what_is_too_large_is_not_read() {
        let policy =
            |when: &str| format!("permit (principal, action, resource) when {{ {when} }};");
        let deep = policy(&format!("{}true{}", "(".repeat(40), ")".repeat(40)));
        let long = policy(&vec!["true"; 600].join(" || "));
        let ifs = policy(&"if true then true else ".repeat(600));
        let wide = policy(&format!("[{}].isEmpty()", "\"0123456789\",".repeat(6000)));
        for (text, what) in [
            (deep, "brackets stand more than 32 deep in each other"),
            (long, "a policy has more than 512 operators"),
            (ifs, "a policy has more than 512 operators"),
            (wide, "a policy has more than 65536 bytes"),
        ] {
            assert_eq!(extents(&text).unwrap_err().what, what);
        }
        let each_small = policy(&vec!["true"; 200].join(" || ")).repeat(3);
        assert_eq!(extents(&each_small).unwrap().len(), 3);
    }
}
