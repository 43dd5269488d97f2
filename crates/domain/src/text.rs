//! Small checked texts: declared names and digests, so that a raw string is never mistaken for one.

use alloc::string::{String, ToString};
use core::fmt;
use core::marker::PhantomData;
use core::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of something declared: an owner, issuer, resource, workload or tenant.
///
/// 1 to 63 characters of `a-z`, `0-9`, `-`, `_` and `.`, the first a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let first = text.bytes().next().ok_or("a name is not empty")?;
        if !(first.is_ascii_lowercase() || first.is_ascii_digit()) {
            return Err("a name begins with a lower-case letter or a digit");
        }
        if text.len() > 63 {
            return Err("a name has at most 63 characters");
        }
        let allowed =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
        if !text.bytes().all(allowed) {
            return Err("a name holds only a-z, 0-9, `-`, `_` and `.`");
        }
        Ok(Self(text.to_string()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Spelled::new())
    }
}

/// Reads a checked text where it stands, without a copy of it in between: states and events hold
/// thousands of them.
pub(crate) struct Spelled<T>(PhantomData<T>);

impl<T> Spelled<T> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Spelled<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// A SHA-256 digest, written in base64url without padding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// How long a digest is as text.
const DIGEST_CHARS: usize = 43;

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.spell(&mut [0; DIGEST_CHARS]))
    }
}

impl Digest {
    fn spell<'t>(&self, text: &'t mut [u8; DIGEST_CHARS]) -> &'t str {
        let written = URL_SAFE_NO_PAD.encode_slice(self.0, text);
        debug_assert!(matches!(written, Ok(DIGEST_CHARS)));
        // INVARIANT: 32 bytes are 43 characters of base64url, and these are ASCII.
        core::str::from_utf8(text).unwrap_or_default()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(32) => Ok(Self(bytes)),
            Ok(_) | Err(_) => Err("a digest is 43 characters of base64url"),
        }
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.spell(&mut [0; DIGEST_CHARS]))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Spelled::new())
    }
}
