//! Form bodies (RFC 6749, appendix B), read strictly: one media type, UTF-8, nothing twice.

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, header};
use dayfly_domain::{Refusal, Rule};

/// How many parameters a request may have.
const PARAMETERS: usize = 64;

/// The parameters of a form. Those without a value count as absent (RFC 6749, section 3.2).
#[derive(Debug, Default)]
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads a body of at most `most` bytes.
    pub(super) async fn read(
        headers: &HeaderMap,
        body: Body,
        most: usize,
    ) -> Result<Self, Refusal> {
        check_media_type(headers)?;
        let bytes = to_bytes(body, most).await.map_err(|_| {
            Refusal::new(Rule::BodySize)
                .field("body")
                .wanted(format!("at most {most} bytes"))
                .got("more, or a body that broke off")
        })?;
        Self::parse(&bytes)
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut parameters: Vec<(String, String)> = Vec::new();
        for pair in bytes.split(|byte| *byte == b'&') {
            if pair.is_empty() {
                continue;
            }
            let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
                Some(at) => (
                    pair.get(..at).unwrap_or_default(),
                    pair.get(at + 1..).unwrap_or_default(),
                ),
                None => (pair, &[][..]),
            };
            let name = decode(name)?;
            let value = decode(value)?;
            if parameters.len() >= PARAMETERS {
                return Err(Refusal::new(Rule::BodySize)
                    .field("body")
                    .wanted(format!("at most {PARAMETERS} parameters"))
                    .got("more"));
            }
            // `resource` and `audience` may stand more than once (RFC 8707, RFC 8693).
            let repeatable = matches!(name.as_str(), "resource" | "audience");
            if !repeatable && parameters.iter().any(|(held, _)| *held == name) {
                return Err(Refusal::new(Rule::Repeated)
                    .field(name.as_str())
                    .wanted("each parameter once")
                    .got("twice"));
            }
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    /// A parameter's value; none when it is absent or empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of a parameter that may be repeated.
    pub(super) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(held, value)| held == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// A parameter that must be there.
    pub(super) fn need(&self, name: &'static str) -> Result<&str, Refusal> {
        self.get(name).ok_or_else(|| {
            Refusal::new(Rule::Missing)
                .field(name)
                .wanted("a value")
                .got("none")
        })
    }
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let value = values.next().and_then(|value| value.to_str().ok());
    let essence = value
        .and_then(|value| value.split(';').next())
        .map(str::trim)
        .unwrap_or_default();
    if values.next().is_none() && essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
    {
        return Ok(());
    }
    Err(Refusal::new(Rule::ContentType)
        .field("Content-Type")
        .wanted("application/x-www-form-urlencoded")
        .got(value.unwrap_or("none").chars().take(80).collect::<String>()))
}

/// Decodes `+` and `%XX` into UTF-8.
pub(super) fn decode(bytes: &[u8]) -> Result<String, Refusal> {
    let refused = || {
        Refusal::new(Rule::Encoding)
            .field("body")
            .wanted("percent-encoded utf-8")
            .got("something else")
    };
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = rest.next().and_then(|b| hex(*b)).ok_or_else(refused)?;
                let low = rest.next().and_then(|b| hex(*b)).ok_or_else(refused)?;
                high << 4 | low
            }
            plain => *plain,
        });
    }
    String::from_utf8(decoded).map_err(|_| refused())
}

const fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(body: &[u8]) -> Option<Rule> {
        Form::parse(body).err().map(|refusal| refusal.rule)
    }

    #[test]
    fn forms_are_read_strictly() {
        let form = Form::parse(b"a=1+2%2B&b=&resource=x&resource=y&c").unwrap();
        assert_eq!(form.get("a"), Some("1 2+"));
        assert_eq!(form.get("b"), None);
        assert_eq!(form.get("c"), None);
        assert_eq!(form.all("resource").collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(rule(b"scope=a&scope=b"), Some(Rule::Repeated));
        assert_eq!(rule(b"scope=&scope=b"), Some(Rule::Repeated));
        assert_eq!(rule(b"a=%ff"), Some(Rule::Encoding));
        assert_eq!(rule(b"a=%4"), Some(Rule::Encoding));
        assert_eq!(rule(b"a=%zz"), Some(Rule::Encoding));
        assert_eq!(rule(b"\xff=1"), Some(Rule::Encoding));
        assert_eq!(rule("x&".repeat(70).as_bytes()), Some(Rule::Repeated));
        let many: String = (0..65).map(|n| format!("p{n}=1&")).collect();
        assert_eq!(rule(many.as_bytes()), Some(Rule::BodySize));
    }
}
