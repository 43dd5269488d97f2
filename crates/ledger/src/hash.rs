//! The one hash of the ledger and its domain separation, so that no other file calls SHA-256.

use alloc::borrow::Cow;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// A SHA-256 value.
///
/// Text form, in `Display`, `Debug`, `FromStr` and serde: base64url without padding (RFC 4648
/// section 5), 43 characters, one accepted spelling. C2SP formats use
/// [`to_base64`](Hash::to_base64) instead.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

/// A text that is no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the base64 of 32 bytes")]
pub struct HashError;

/// The hash of a leaf: SHA-256 of 0x00 and its bytes (RFC 6962 section 2.1).
#[must_use]
pub fn leaf_hash(bytes: &[u8]) -> Hash {
    Hash(
        Sha256::new()
            .chain_update([0x00])
            .chain_update(bytes)
            .finalize()
            .into(),
    )
}

/// The hash of an inner node: SHA-256 of 0x01, left and right (RFC 6962 section 2.1).
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Hash(
        Sha256::new()
            .chain_update([0x01])
            .chain_update(left.0)
            .chain_update(right.0)
            .finalize()
            .into(),
    )
}

/// The root of the tree without leaves: SHA-256 of nothing (RFC 6962 section 2.1).
#[must_use]
pub fn empty_root() -> Hash {
    sha256(&[])
}

/// SHA-256 of the bytes as they are.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Hash {
    Hash(Sha256::digest(bytes).into())
}

/// SHA-256 of parts, one after the other.
pub(crate) fn sha256_parts(parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    Hash(hasher.finalize().into())
}

impl Hash {
    /// Standard base64 with padding (RFC 4648 section 4), as C2SP formats write it.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// Reads [`to_base64`](Hash::to_base64).
    ///
    /// # Errors
    /// [`HashError`] unless the text is the canonical spelling of 32 bytes.
    pub fn from_base64(text: &str) -> Result<Self, HashError> {
        decode(&STANDARD, text)
    }

    /// Appends the base64url text without an allocation of its own.
    pub(crate) fn push_base64url(&self, out: &mut String) {
        URL_SAFE_NO_PAD.encode_string(self.0, out);
    }
}

fn decode(engine: &impl base64::Engine, text: &str) -> Result<Hash, HashError> {
    // 44 characters are the longest spelling of 32 bytes; nothing longer is worth an allocation.
    if text.len() > 44 {
        return Err(HashError);
    }
    let bytes = engine.decode(text).map_err(|_| HashError)?;
    bytes.try_into().map(Hash).map_err(|_| HashError)
}

impl FromStr for Hash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        decode(&URL_SAFE_NO_PAD, text)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Cow: a string with escapes in it cannot be borrowed, and is still a string.
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString as _;

    #[test]
    fn rfc_6962_hashes() {
        // transparency-dev/merkle rfc6962_test.go: empty tree, empty leaf, leaf "L123456", node "N123" "N456".
        assert_eq!(
            empty_root().to_base64(),
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
        );
        assert_eq!(
            leaf_hash(b"").to_base64(),
            "bjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0="
        );
        assert_eq!(sha256_parts(&[b"a", b"bc"]), sha256(b"abc"));
    }

    #[test]
    fn one_spelling() {
        let hash = sha256(b"x");
        let text = hash.to_string();
        assert_eq!(text.len(), 43);
        assert_eq!(text.parse::<Hash>(), Ok(hash));
        assert_eq!(Hash::from_base64(&hash.to_base64()), Ok(hash));
        assert_eq!(
            serde_json::from_str::<Hash>(&serde_json::to_string(&hash).unwrap()).unwrap(),
            hash
        );
        // The last character carries two unused bits, which must be zero.
        let mut loose = text.clone();
        let last = loose.pop().unwrap();
        loose.push(char::from_u32(u32::from(last) + 1).unwrap());
        assert!(loose.parse::<Hash>().is_err());
        for bad in [
            "",
            &text[..42],
            &std::format!("{text}="),
            &std::format!("{text}A"),
        ] {
            assert!(bad.parse::<Hash>().is_err(), "{bad}");
        }
    }
}
