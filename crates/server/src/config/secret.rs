//! A secret, read from a file or held for a while: never shown, wiped from memory when dropped.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// The bytes of a secret; of a file, without one trailing newline.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// A secret that somebody showed.
    pub(crate) fn of(text: &str) -> Self {
        Self(Zeroizing::new(text.as_bytes().to_vec()))
    }

    /// Reads a secret file; one trailing newline is dropped.
    ///
    /// # Errors
    /// The file cannot be read or is empty.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let bytes = Zeroizing::new(std::fs::read(path).map_err(SecretError::Unreadable)?);
        let text = bytes
            .strip_suffix(b"\r\n")
            .or_else(|| bytes.strip_suffix(b"\n"))
            .unwrap_or(&bytes);
        if text.is_empty() {
            return Err(SecretError::Empty);
        }
        Ok(Self(Zeroizing::new(text.to_vec())))
    }

    /// The key in a secret that is written as Standard Webhooks hand them about, `whsec_` and base64;
    /// none where it is written otherwise.
    ///
    /// # Errors
    /// [`SecretError::Base64`] where no base64 follows.
    pub fn standard_webhooks(&self) -> Option<Result<Self, SecretError>> {
        let encoded = self.0.strip_prefix(b"whsec_")?;
        let decoded = STANDARD.decode(encoded).map(Zeroizing::new);
        Some(decoded.map(Self).map_err(|_| SecretError::Base64))
    }

    /// The secret itself, for the one comparison or use it is meant for.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// Why a secret file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(std::io::Error),
    /// What follows `whsec_` is no base64.
    #[error("begins with `whsec_` and does not go on in base64")]
    Base64,
    /// Nothing stands in it.
    #[error("is empty")]
    Empty,
}

/// Whether people other than the file's owner and group may read it.
#[must_use]
pub fn is_world_readable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0)
}
