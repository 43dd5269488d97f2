//! Reads over the parser's shoulder: a head that two programs could read in two ways never gets to it.
//!
//! RFC 9112 lets a recipient be lenient in places (a bare LF as the end of a line, section 2.2; a
//! length that is repeated, section 6.3; folded lines, section 5.2), and the parser behind this gate
//! is. A proxy in front of it may be lenient elsewhere, and the difference is what request smuggling
//! lives on. So the bytes of each head are looked at as they arrive, and the first that only leniency
//! would let pass is replaced by a NUL, which no part of a head may hold: the parser then answers 400
//! by itself and closes the connection.

/// What a head is made of, byte by byte, over all heads of one connection.
#[derive(Debug)]
pub(super) struct Gate {
    at: At,
    name: Name,
    /// The value of `Content-Length`, once its line was seen.
    length: Option<u64>,
    chunked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before the first byte of a head.
    Start,
    /// An empty line before a head (RFC 9112, section 2.2): its CR was seen.
    EmptyLine,
    RequestLine,
    /// The CR of a line was seen; the LF must follow.
    LineEnd,
    /// The first byte of a header line, or of the empty line that closes the head.
    HeaderStart,
    HeaderName,
    HeaderValue,
    Length(Digits),
    /// The CR of the empty line that closes the head was seen.
    HeadEnd,
    /// So many bytes of a body are left.
    Body(u64),
    /// Nothing more is looked at: the head was refused, or its body is chunked and therefore the
    /// last thing that this connection carries.
    Open,
}

/// Where in the value of `Content-Length`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Digits {
    Before,
    Within(u64),
    After(u64),
}

/// The name of a header as far as it matters: long enough for the two names that do.
#[derive(Debug, Default)]
struct Name {
    bytes: [u8; 18],
    len: usize,
}

impl Gate {
    pub(super) const fn new() -> Self {
        Self {
            at: At::Start,
            name: Name {
                bytes: [0; 18],
                len: 0,
            },
            length: None,
            chunked: false,
        }
    }

    /// Looks at bytes on their way to the parser, and spoils the first that makes a head doubtful.
    pub(super) fn watch(&mut self, bytes: &mut [u8]) {
        let mut rest = bytes;
        loop {
            match self.at {
                At::Open => return,
                At::Body(left) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    let left = left.saturating_sub(here as u64);
                    self.at = if left == 0 { At::Start } else { At::Body(left) };
                    rest = rest.get_mut(here..).unwrap_or_default();
                    if rest.is_empty() {
                        return;
                    }
                }
                // Most of a head is values; they are passed over up to the next byte that matters.
                At::RequestLine | At::HeaderValue => {
                    let plain = rest
                        .iter()
                        .position(|byte| matches!(byte, b'\r' | b'\n' | 0))
                        .unwrap_or(rest.len());
                    rest = rest.get_mut(plain..).unwrap_or_default();
                    let Some((byte, after)) = rest.split_first_mut() else {
                        return;
                    };
                    self.step(byte);
                    rest = after;
                }
                At::Start
                | At::EmptyLine
                | At::LineEnd
                | At::HeaderStart
                | At::HeaderName
                | At::Length(_)
                | At::HeadEnd => {
                    let Some((byte, after)) = rest.split_first_mut() else {
                        return;
                    };
                    self.step(byte);
                    rest = after;
                }
            }
        }
    }

    fn step(&mut self, byte: &mut u8) {
        match self.next(*byte) {
            Some(at) => self.at = at,
            None => {
                *byte = 0;
                self.at = At::Open;
            }
        }
    }

    /// Where a byte leads; none for one that may not stand there.
    fn next(&mut self, byte: u8) -> Option<At> {
        match (self.at, byte) {
            (At::Start, b'\r') => Some(At::EmptyLine),
            (At::Start, b'\n' | 0) => None,
            (At::Start, _) => Some(At::RequestLine),
            (At::EmptyLine, b'\n') => Some(At::Start),
            (At::RequestLine | At::HeaderValue, b'\r') => Some(At::LineEnd),
            (At::RequestLine | At::HeaderValue, b'\n' | 0) => None,
            (At::RequestLine | At::HeaderValue, _) => Some(self.at),
            (At::LineEnd, b'\n') => Some(At::HeaderStart),
            (At::HeaderStart, b'\r') => Some(At::HeadEnd),
            // A line that begins with a space continues the one before it, or does not.
            (At::HeaderStart, b' ' | b'\t' | b'\n' | b':') => None,
            (At::HeaderStart, byte) => {
                self.name.len = 0;
                self.name.push(byte);
                Some(At::HeaderName)
            }
            (At::HeaderName, b':') => self.value(),
            (At::HeaderName, b' ' | b'\t' | b'\r' | b'\n') => None,
            (At::HeaderName, byte) => {
                self.name.push(byte);
                Some(At::HeaderName)
            }
            (At::Length(digits), byte) => self.digit(digits, byte),
            (At::HeadEnd, b'\n') => Some(self.body()),
            (At::EmptyLine | At::LineEnd | At::HeadEnd, _) => None,
            (At::Body(_) | At::Open, _) => Some(self.at),
        }
    }

    /// After the name of a header: one length, said in one way (RFC 9112, section 6.3).
    fn value(&mut self) -> Option<At> {
        let said = self.chunked || self.length.is_some();
        match self.name.as_bytes() {
            b"content-length" | b"transfer-encoding" if said => None,
            b"content-length" => Some(At::Length(Digits::Before)),
            b"transfer-encoding" => {
                self.chunked = true;
                Some(At::HeaderValue)
            }
            _ => Some(At::HeaderValue),
        }
    }

    fn digit(&mut self, digits: Digits, byte: u8) -> Option<At> {
        let digits = match (digits, byte) {
            (Digits::Before, b' ' | b'\t') => Digits::Before,
            (Digits::Before, b'0'..=b'9') => Digits::Within(u64::from(byte - b'0')),
            (Digits::Within(length), b'0'..=b'9') => Digits::Within(
                length
                    .checked_mul(10)?
                    .checked_add(u64::from(byte - b'0'))?,
            ),
            (Digits::Within(length) | Digits::After(length), b' ' | b'\t') => Digits::After(length),
            (Digits::Within(length) | Digits::After(length), b'\r') => {
                self.length = Some(length);
                return Some(At::LineEnd);
            }
            (Digits::Before | Digits::Within(_) | Digits::After(_), _) => return None,
        };
        Some(At::Length(digits))
    }

    /// After a head: its body, or the next head.
    fn body(&mut self) -> At {
        let length = self.length.take().unwrap_or(0);
        match (self.chunked, length) {
            (true, _) => At::Open,
            (false, 0) => At::Start,
            (false, length) => At::Body(length),
        }
    }
}

impl Name {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte.to_ascii_lowercase();
        }
        // One that is longer than the names that matter equals none of them.
        self.len = self.len.saturating_add(1);
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the first byte was spoilt, for the whole and for every way of cutting it in two.
    #[track_caller]
    fn spoilt(text: &str) -> Option<usize> {
        let mut whole = text.as_bytes().to_vec();
        Gate::new().watch(&mut whole);
        let found = whole.iter().zip(text.bytes()).position(|(a, b)| *a != b);
        for cut in 0..=text.len() {
            let mut gate = Gate::new();
            let mut parts = text.as_bytes().to_vec();
            let (first, second) = parts.split_at_mut(cut);
            gate.watch(first);
            gate.watch(second);
            assert_eq!(parts, whole, "cut at {cut}");
        }
        found
    }

    /// That `text` is spoilt exactly at the byte after `until`.
    #[track_caller]
    fn refused_after(until: &str, text: &str) {
        assert!(text.starts_with(until));
        assert_eq!(spoilt(text), Some(until.len()), "{text:?}");
    }

    #[test]
    fn what_can_be_read_in_one_way_passes() {
        for text in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nHost: a\r\n\r\n\n\0 GET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length:\t0 \r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\n\r\nx\r\n0\r\n\r\n\n",
            "POST / HTTP/1.1\r\nContent-Length-X: 1\r\nContent-Length: 1\r\n\r\n\n",
            "POST / HTTP/1.1\r\nEmpty:\r\nX-Content-Length: 5\r\n\r\n",
        ] {
            assert_eq!(spoilt(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_does_not() {
        let head = "POST / HTTP/1.1\r\n";
        for (until, rest) in [
            (
                "Content-Length: 3\r\nTransfer-Encoding",
                ": chunked\r\n\r\n",
            ),
            (
                "Transfer-Encoding: chunked\r\nContent-Length",
                ": 3\r\n\r\n",
            ),
            ("Content-Length: 3\r\nContent-Length", ": 3\r\n\r\n"),
            (
                "Transfer-Encoding: x\r\ntransfer-encoding",
                ": chunked\r\n\r\n",
            ),
            ("Content-Length: 3", ", 3\r\n\r\n"),
            ("Content-Length: ", "+3\r\n\r\n"),
            ("Content-Length: 3 ", "3\r\n\r\n"),
            ("Content-Length: ", "\r\n\r\n"),
            ("Content-Length: 1844674407370955161", "6\r\n\r\n"),
            ("Content-Length", " : 3\r\n\r\n"),
            ("A: b\r\n", " c\r\n\r\n"),
            ("A: b\r\n", "\tc\r\n\r\n"),
            ("A: b", "\nC: d\r\n\r\n"),
            ("A: b\r", "C: d\r\n\r\n"),
            ("A: b\r\n", "\n"),
            ("A: b\r\n\r", "x"),
            ("A", "\r\n\r\n"),
            ("", ": b\r\n\r\n"),
        ] {
            refused_after(&format!("{head}{until}"), &format!("{head}{until}{rest}"));
        }
        refused_after("GET / HTTP/1.1", "GET / HTTP/1.1\nHost: a\n\n");
        refused_after("", "\nGET / HTTP/1.1\r\n\r\n");
        refused_after("\r", "\r\r\n");
    }

    #[test]
    fn a_second_head_is_watched_like_the_first() {
        let first = "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello";
        refused_after(
            &format!("{first}GET / HTTP/1.1"),
            &format!("{first}GET / HTTP/1.1\n\n"),
        );
        // The length of one head says nothing about the next.
        let both = format!("{first}POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx");
        assert_eq!(spoilt(&both), None);
    }
}
