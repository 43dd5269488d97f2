//! The key set of one issuer: usable keys parsed once, the others skipped and named (RFC 7517 section 5).

use serde_json::{Map, Value};

use crate::alg::Alg;
use crate::excerpt::Excerpt;
use crate::fault::{Explained, Fault};
use crate::json::{self, JsonError};
use crate::jwk::{JwkError, PublicJwk};
use crate::verifying_key::VerifyingKey;

/// Verification keys, pinned to the algorithms allowed for their issuer.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<VerifyingKey>,
    skipped: Vec<Skipped>,
}

/// A key of the set that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its place in `keys`, from 0.
    pub index: usize,
    /// Its `kid`.
    pub kid: Excerpt,
    /// What is wrong with it.
    pub reason: JwkError,
}

impl KeySet {
    /// Keys read at most.
    pub const MAX_KEYS: usize = 64;
    /// Bytes read at most.
    pub const MAX_BYTES: usize = 256 * 1024;

    /// Reads a JWK Set, pinning each key to those of `allowed` that it fits.
    ///
    /// A key that cannot be used is skipped (RFC 7517 section 5); the set may come out empty.
    pub fn parse(text: &[u8], allowed: &[Alg]) -> Result<Self, KeySetError> {
        if text.len() > Self::MAX_BYTES {
            return Err(KeySetError::TooLong { bytes: text.len() });
        }
        let set = json::object(text)?;
        let listed = set
            .get("keys")
            .and_then(Value::as_array)
            .ok_or(KeySetError::NoKeys)?;
        if listed.len() > Self::MAX_KEYS {
            return Err(KeySetError::TooMany { keys: listed.len() });
        }
        let mut read = Self::default();
        for (index, jwk) in listed.iter().enumerate() {
            match usable(jwk, allowed) {
                Ok(key) => read.keys.push(key),
                Err(reason) => {
                    let kid = jwk
                        .get("kid")
                        .map_or_else(Excerpt::absent, Excerpt::of_json);
                    read.skipped.push(Skipped { index, kid, reason });
                }
            }
        }
        Ok(read)
    }

    /// A set of keys that are already at hand.
    #[must_use]
    pub fn of(keys: Vec<VerifyingKey>) -> Self {
        Self {
            keys,
            skipped: Vec::new(),
        }
    }

    /// The keys that may have made a signature: pinned to `alg`, and carrying `kid` where one is given.
    ///
    /// Keys that share a `kid` are all candidates. A key without a `kid` is one only where none is given.
    pub fn select<'a>(
        &'a self,
        kid: Option<&'a str>,
        alg: Alg,
    ) -> impl Iterator<Item = &'a VerifyingKey> {
        self.keys
            .iter()
            .filter(move |key| key.allows(alg) && kid.is_none_or(|kid| key.kid() == Some(kid)))
    }

    /// Whether any usable key carries `kid`; if not, the set may be out of date.
    #[must_use]
    pub fn knows(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| key.kid() == Some(kid))
    }

    /// The usable keys, in the order of the set.
    #[must_use]
    pub fn keys(&self) -> &[VerifyingKey] {
        &self.keys
    }

    /// The keys that cannot be used, with the reasons.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// Whether no key is usable.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// Why a JWK Set cannot be read at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Not one strict JSON object.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// Longer than [`KeySet::MAX_BYTES`].
    #[error("key set has {bytes} bytes, at most {} are read", KeySet::MAX_BYTES)]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// No list `keys`.
    #[error("key set has no list `keys`")]
    NoKeys,
    /// More keys than [`KeySet::MAX_KEYS`].
    #[error("key set has {keys} keys, at most {} are read", KeySet::MAX_KEYS)]
    TooMany {
        /// How many.
        keys: usize,
    },
}

impl Explained for KeySetError {
    fn fault(&self) -> Fault {
        match self {
            Self::Json(error) => error.fault(),
            Self::TooLong { bytes } => {
                let wanted = format!("at most {} bytes", KeySet::MAX_BYTES);
                Fault::new(
                    "jwks.length",
                    "jwks",
                    wanted,
                    Excerpt::of(&bytes.to_string()),
                )
            }
            Self::NoKeys => Fault::new("jwks.keys", "keys", "a list of keys", Excerpt::absent()),
            Self::TooMany { keys } => {
                let wanted = format!("at most {} keys", KeySet::MAX_KEYS);
                Fault::new("jwks.count", "keys", wanted, Excerpt::of(&keys.to_string()))
            }
        }
    }
}

fn usable(jwk: &Value, allowed: &[Alg]) -> Result<VerifyingKey, JwkError> {
    let members: &Map<String, Value> = jwk.as_object().ok_or(JsonError::NotAnObject)?;
    VerifyingKey::new(&PublicJwk::parse(members)?, allowed)
}
