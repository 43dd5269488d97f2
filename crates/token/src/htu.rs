//! Brings request URLs to one form, so that a DPoP proof is compared with the place it was sent to
//! and not with a spelling (RFC 9449 section 4.3).

use core::fmt;
use core::net::Ipv6Addr;

use crate::excerpt::Excerpt;

/// An `http` or `https` URL without query and fragment, normalised by syntax and scheme (RFC 3986
/// sections 6.2.2 and 6.2.3).
///
/// Lower case in scheme and host, no default port, unreserved characters not percent-encoded, other encodings in upper
/// case, no dot segments, `/` for an empty path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Htu(String);

impl Htu {
    /// Reads an absolute URL; refuses other schemes, user information, and characters that a URI cannot hold.
    pub fn parse(url: &str) -> Result<Self, HtuError> {
        Self::normalise(url).ok_or_else(|| HtuError(Excerpt::of(url)))
    }

    /// The normalised URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn normalise(url: &str) -> Option<Self> {
        if !url.bytes().all(may_stand_in_uri) {
            return None;
        }
        let url = before(before(url, '#'), '?');
        let (scheme, rest) = url.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let default_port = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let authority = before(rest, '/');
        let path = rest.strip_prefix(authority)?;
        let (host, port) = host_and_port(authority)?;
        let port = match port {
            Some(port) if port != default_port => format!(":{port}"),
            Some(_) | None => String::new(),
        };
        let path = without_dot_segments(&with_one_encoding(path)?);
        Some(Self(format!("{scheme}://{host}{port}{path}")))
    }
}

impl fmt::Display for Htu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Not an absolute `http` or `https` URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an absolute http or https URL: {0}")]
pub struct HtuError(pub Excerpt);

/// Visible ASCII without the characters that RFC 3986 gives no place.
fn may_stand_in_uri(byte: u8) -> bool {
    byte.is_ascii_graphic()
        && !matches!(
            byte,
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}'
        )
}

fn before(text: &str, end: char) -> &str {
    text.split_once(end).map_or(text, |(before, _)| before)
}

/// RFC 3986 section 3.2 without user information; the port is absent where it is empty.
fn host_and_port(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(literal) => {
            let (address, port) = literal.split_once(']')?;
            let address: Ipv6Addr = address.parse().ok()?;
            (format!("[{address}]"), port)
        }
        None => {
            let at = authority.find(':').unwrap_or(authority.len());
            let (host, port) = authority.split_at_checked(at)?;
            let plain =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            if host.is_empty() || !host.bytes().all(plain) {
                return None;
            }
            (host.to_ascii_lowercase(), port)
        }
    };
    let digits = match port {
        "" => return Some((host, None)),
        port => port.strip_prefix(':')?,
    };
    match digits {
        "" => Some((host, None)),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some((host, Some(digits.parse().ok()?)))
        }
        _ => None,
    }
}

/// RFC 3986 sections 6.2.2.1 and 6.2.2.2.
fn with_one_encoding(path: &str) -> Option<String> {
    let mut normal = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            normal.push(char::from(byte));
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        let decoded = u8::try_from(high * 16 + low).ok()?;
        if decoded.is_ascii_alphanumeric() || matches!(decoded, b'-' | b'.' | b'_' | b'~') {
            normal.push(char::from(decoded));
        } else {
            normal.push_str(&format!("%{decoded:02X}"));
        }
    }
    Some(normal)
}

/// RFC 3986 section 5.2.4 for a path that is empty or begins with `/`.
fn without_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            other => {
                kept.push(other);
                continue;
            }
        }
        if last {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}
