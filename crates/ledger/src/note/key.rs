//! The keys of signed notes: their names, hashes and text form.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::hash::sha256_parts;

/// The Ed25519 signature type of C2SP signed-note.
const ED25519: u8 = 0x01;

/// Whom a note is expected from: a name and an Ed25519 public key.
///
/// Text form: `<name>+<key hash in 8 hex digits>+<base64 of 0x01 and the 32 key bytes>`
/// (C2SP signed-note, "Verifier Keys").
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key_hash: [u8; 4],
    key: VerifyingKey,
}

/// What signs notes: a name and an Ed25519 private key, which is wiped when dropped and never
/// printed.
pub struct SignerKey {
    key: SigningKey,
    verifier: VerifierKey,
}

/// Why a text is no verifier key, or a name no key name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Empty, or with white space, a control character or a plus sign.
    #[error("`{name}` is no key name")]
    Name {
        /// The name as given.
        name: String,
    },
    /// Not `<name>+<hash>+<key>`.
    #[error("not a verifier key of the form name+hash+key")]
    Shape,
    /// Another signature type than Ed25519.
    #[error("the verifier key is of type {got} instead of {ED25519} (Ed25519)")]
    Type {
        /// The type byte.
        got: u8,
    },
    /// The bytes are no point on the curve, or a weak one.
    #[error("the verifier key is no usable Ed25519 public key")]
    Point,
    /// The hash is not that of the name and the key.
    #[error("the hash of the verifier key is not that of its name and key")]
    Hash,
}

impl SignerKey {
    /// The key of that name and private seed (RFC 8032 section 5.1.5).
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let key = SigningKey::from_bytes(seed);
        let verifier = VerifierKey::new(name, key.verifying_key())?;
        Ok(Self { key, verifier })
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The name, which is the origin of the heads it signs.
    #[must_use]
    pub fn name(&self) -> &str {
        self.verifier.name()
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl fmt::Debug for SignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignerKey")
            .field("verifier", &self.verifier)
            .finish_non_exhaustive()
    }
}

impl VerifierKey {
    fn new(name: &str, key: VerifyingKey) -> Result<Self, KeyError> {
        if !is_name(name) {
            return Err(KeyError::Name { name: name.into() });
        }
        let key_hash = key_hash(name, key.as_bytes());
        Ok(Self {
            name: name.into(),
            key_hash,
            key,
        })
    }

    /// The key of that name and 32 public key bytes.
    ///
    /// # Errors
    /// [`KeyError::Name`] and [`KeyError::Point`].
    pub fn from_public(name: &str, public: &[u8; 32]) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_bytes(public).map_err(|_| KeyError::Point)?;
        if key.is_weak() {
            return Err(KeyError::Point);
        }
        Self::new(name, key)
    }

    /// The name, which is the origin of the heads it signs.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first four bytes of SHA-256 over name, line feed, type and key.
    #[must_use]
    pub fn key_hash(&self) -> &[u8; 4] {
        &self.key_hash
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.key.verify_strict(message, &signature).is_ok())
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        // A name has no plus sign, and the base64 at the end may have several.
        let (name, rest) = text.split_once('+').ok_or(KeyError::Shape)?;
        let (hash, encoded) = rest.split_once('+').ok_or(KeyError::Shape)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| KeyError::Shape)?;
        let (kind, public) = bytes.split_first().ok_or(KeyError::Shape)?;
        if *kind != ED25519 {
            return Err(KeyError::Type { got: *kind });
        }
        let public = public.try_into().map_err(|_| KeyError::Shape)?;
        let key = Self::from_public(name, public)?;
        if hash == hex(key.key_hash) {
            Ok(key)
        } else {
            Err(KeyError::Hash)
        }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::from([ED25519]);
        bytes.extend_from_slice(self.key.as_bytes());
        write!(
            f,
            "{}+{}+{}",
            self.name,
            hex(self.key_hash),
            STANDARD.encode(bytes)
        )
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether the name can stand in a signature line and in a verifier key.
pub(super) fn is_name(name: &str) -> bool {
    let allowed = |c: char| !c.is_whitespace() && !c.is_control() && c != '+';
    !name.is_empty() && name.chars().all(allowed)
}

fn key_hash(name: &str, public: &[u8; 32]) -> [u8; 4] {
    let hash = sha256_parts(&[name.as_bytes(), b"\n", &[ED25519], public]);
    let [a, b, c, d, ..] = hash.0;
    [a, b, c, d]
}

fn hex(hash: [u8; 4]) -> String {
    alloc::format!("{:08x}", u32::from_be_bytes(hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::ToString as _;

    /// tests/vectors/README.md.
    const KEY: &str =
        "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx";

    #[test]
    fn text_form() {
        let key: VerifierKey = KEY.parse().unwrap();
        assert_eq!(key.to_string(), KEY);
        assert_eq!(key.name(), "example.com/log/testdata");
    }

    #[test]
    fn malformed_keys_are_refused() {
        for (bad, wanted) in [
            (String::new(), KeyError::Shape),
            ("name".into(), KeyError::Shape),
            ("name+33d7b496".into(), KeyError::Shape),
            (KEY.replace("33d7", "33D7"), KeyError::Hash),
            (KEY.replace("33d7", "33d8"), KeyError::Hash),
            (KEY.replace("log", "lag"), KeyError::Hash),
            (
                KEY.replace("example", "exam ple"),
                KeyError::Name {
                    name: "exam ple.com/log/testdata".into(),
                },
            ),
            (
                KEY.replacen("example.com/log/testdata", "", 1),
                KeyError::Name {
                    name: String::new(),
                },
            ),
            (KEY.replace("+AeHT", "+AuHT"), KeyError::Type { got: 2 }),
            (format!("{KEY}A"), KeyError::Shape),
            (KEY.replace("kkSx", ""), KeyError::Shape),
        ] {
            assert_eq!(bad.parse::<VerifierKey>(), Err(wanted), "{bad}");
        }
        assert_eq!(
            VerifierKey::from_public("n", &[0; 32]),
            Err(KeyError::Point)
        );
    }

    #[test]
    fn a_private_key_is_not_printed() {
        let signer = SignerKey::from_seed("n", &[9; 32]).unwrap();
        assert!(!format!("{signer:?}").contains("9, 9"));
    }
}
