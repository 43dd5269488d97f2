//! Typed access to a claims object, with errors that name the claim, what was wanted and what stood there (RFC 7519).

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::excerpt::Excerpt;
use crate::fault::{Explained, Fault};
use crate::json::{self, JsonError};

/// A claims object, read strictly.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// Reads one strict JSON object.
    pub fn parse(text: &[u8]) -> Result<Self, JsonError> {
        json::object(text).map(Self)
    }

    /// A claim as it stands.
    #[must_use]
    pub fn get(&self, claim: &str) -> Option<&Value> {
        self.0.get(claim)
    }

    /// All claims.
    #[must_use]
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// All claims, owned.
    #[must_use]
    pub fn into_map(self) -> Map<String, Value> {
        self.0
    }

    /// A claim by name, or a nested one by JSON pointer (RFC 6901) when `path` begins with `/`.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&Value> {
        let Some(pointer) = path.strip_prefix('/') else {
            return self.get(path);
        };
        let (claim, rest) = match pointer
            .find('/')
            .and_then(|at| pointer.split_at_checked(at))
        {
            Some((claim, rest)) => (claim, rest),
            None => (pointer, ""),
        };
        let claim = claim.replace("~1", "/").replace("~0", "~");
        self.get(&claim)?.pointer(rest)
    }

    /// What a policy compares with a declared text: see [`text_of`].
    #[must_use]
    pub fn text_at(&self, path: &str) -> Option<Cow<'_, str>> {
        self.find(path).and_then(text_of)
    }

    /// A claim that must be a string.
    pub fn text(&self, claim: &'static str) -> Result<&str, ClaimError> {
        self.optional_text(claim)?
            .ok_or_else(|| self.error(claim, "a string"))
    }

    /// A claim that is a string where it stands at all; `null` is not absent.
    pub fn optional_text(&self, claim: &'static str) -> Result<Option<&str>, ClaimError> {
        match self.get(claim) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.error(claim, "a string")),
        }
    }

    /// A claim that must be a string with at least one and at most `max_bytes` bytes.
    pub fn bounded_text(&self, claim: &'static str, max_bytes: usize) -> Result<&str, ClaimError> {
        let text = self.text(claim)?;
        if text.is_empty() || text.len() > max_bytes {
            return Err(self.error(claim, format!("a string of 1 to {max_bytes} bytes")));
        }
        Ok(text)
    }

    /// A claim that must be exactly `wanted`.
    pub fn expect_text(&self, claim: &'static str, wanted: &str) -> Result<(), ClaimError> {
        if self.text(claim)? != wanted {
            return Err(self.error(claim, Excerpt::of(wanted).to_string()));
        }
        Ok(())
    }

    /// The one value of `aud`, a string or a list of one (RFC 7519 section 4.1.3).
    ///
    /// A token with a second audience was also made for someone else, who could pass it on (RFC 10070).
    pub fn sole_audience(&self) -> Result<&str, ClaimError> {
        let sole = match self.get("aud") {
            Some(Value::String(audience)) => Some(audience.as_str()),
            Some(Value::Array(list)) => match list.as_slice() {
                [Value::String(audience)] => Some(audience.as_str()),
                _ => None,
            },
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => None,
        };
        sole.filter(|audience| !audience.is_empty())
            .ok_or_else(|| self.error("aud", "exactly one audience"))
    }

    /// The one value of `aud`, which must be one of `accepted`, byte for byte.
    pub fn sole_audience_of(&self, accepted: &[&str]) -> Result<&str, ClaimError> {
        let audience = self.sole_audience()?;
        if accepted.contains(&audience) {
            return Ok(audience);
        }
        let accepted: Vec<String> = accepted
            .iter()
            .map(|accepted| Excerpt::of(accepted).to_string())
            .collect();
        Err(self.error("aud", accepted.join(" or ")))
    }

    /// The error that `claim` is not what was wanted, showing what it is.
    #[must_use]
    pub fn error(&self, claim: &'static str, wanted: impl Into<Cow<'static, str>>) -> ClaimError {
        let got = self
            .get(claim)
            .map_or_else(Excerpt::absent, Excerpt::of_json);
        ClaimError {
            claim,
            wanted: wanted.into(),
            got,
        }
    }
}

/// The text of a claim for comparison: strings as they stand, numbers and booleans as their JSON text, otherwise none.
///
/// A number that has no exact value here (beyond 2^53 and no 64-bit integer) has no text, so that no two different
/// numbers compare equal.
#[must_use]
pub fn text_of(value: &Value) -> Option<Cow<'_, str>> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Bool(flag) => Some(Cow::Borrowed(if *flag { "true" } else { "false" })),
        Value::Number(number) => {
            let whole = number.is_u64() || number.is_i64();
            let exact = whole || number.as_f64().is_some_and(|float| float.abs() < EXACT);
            exact.then(|| Cow::Owned(number.to_string()))
        }
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A claim that is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("claim `{claim}` must be {wanted}, got {got}")]
pub struct ClaimError {
    /// The claim.
    pub claim: &'static str,
    /// What it must be.
    pub wanted: Cow<'static, str>,
    /// What stands there.
    pub got: Excerpt,
}

impl Explained for ClaimError {
    fn fault(&self) -> Fault {
        Fault::new("claim", self.claim, self.wanted.clone(), self.got.clone())
    }
}
