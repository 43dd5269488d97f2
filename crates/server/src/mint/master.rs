//! The master key that wraps every private key at rest.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use dayfly_domain::Name;
use dayfly_token::b64;
use zeroize::Zeroizing;

use crate::random;

/// Where a person reads what to do about the key file.
const RUNBOOK: &str = "docs/runbook.md#key-lost";

/// The key of the key file: 32 bytes, written in base64url. It never leaves this type.
pub struct MasterKey {
    key: RandomizedNonceKey,
    /// For secrets that are not kept but made again: another primitive, so another key schedule.
    derive: hmac::Key,
    path: PathBuf,
}

/// Why the master key cannot be used, or what it wrapped cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The file cannot be read or written.
    #[error("key file {path} cannot be used: {why}; see {RUNBOOK}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: std::io::Error,
    },
    /// The file is open to others than its owner.
    #[error(
        "key file {path} has mode {mode:04o}: nobody but its owner may read it (chmod 600); see {RUNBOOK}"
    )]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file holds something else.
    #[error("key file {path} does not hold 32 bytes in base64url; see {RUNBOOK}")]
    Form {
        /// The file.
        path: PathBuf,
    },
    /// The file is absent although keys were wrapped under one.
    #[error(
        "key file {path} is missing, and private keys in the database are wrapped under it: put it back; see {RUNBOOK}"
    )]
    Lost {
        /// The file.
        path: PathBuf,
    },
    /// What was wrapped does not open: another key file, or damage.
    #[error(
        "key file {path} does not open `{name}`: it is another one than that was wrapped under, or the record is damaged; see {RUNBOOK}"
    )]
    Open {
        /// The key file.
        path: PathBuf,
        /// The document.
        name: String,
    },
    /// The system has no randomness.
    #[error(transparent)]
    Random(#[from] random::NoRandomness),
    /// The cipher refused.
    #[error("the cipher refused to wrap a key")]
    Cipher,
}

impl MasterKey {
    /// Reads the key file; where there is none and nothing depends on one yet, makes it, mode 0600.
    ///
    /// # Errors
    /// [`MasterKeyError`], each with what to do about it.
    pub fn load(path: &Path, needed: bool) -> Result<Self, MasterKeyError> {
        let file = |why| MasterKeyError::File {
            path: path.to_path_buf(),
            why,
        };
        match fs::metadata(path) {
            Ok(metadata) => {
                let mode = metadata.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    return Err(MasterKeyError::Mode {
                        path: path.to_path_buf(),
                        mode,
                    });
                }
                let text = Zeroizing::new(fs::read_to_string(path).map_err(file)?);
                let secret: Zeroizing<[u8; 32]> =
                    Zeroizing::new(b64::decode_array(text.trim_end()).map_err(|_| {
                        MasterKeyError::Form {
                            path: path.to_path_buf(),
                        }
                    })?);
                Self::of(&secret, path)
            }
            Err(why) if why.kind() == ErrorKind::NotFound && needed => Err(MasterKeyError::Lost {
                path: path.to_path_buf(),
            }),
            Err(why) if why.kind() == ErrorKind::NotFound => Self::make(path),
            Err(why) => Err(file(why)),
        }
    }

    fn make(path: &Path) -> Result<Self, MasterKeyError> {
        let file = |why| MasterKeyError::File {
            path: path.to_path_buf(),
            why,
        };
        let secret: Zeroizing<[u8; 32]> = Zeroizing::new(random::bytes()?);
        let text = Zeroizing::new(format!("{}\n", b64::encode(secret.as_slice())));
        let mut out = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(file)?;
        out.write_all(text.as_bytes()).map_err(file)?;
        out.sync_all().map_err(file)?;
        // The name must survive a crash too: keys are wrapped under it from now on.
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            fs::File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(file)?;
        }
        Self::of(&secret, path)
    }

    fn of(secret: &[u8; 32], path: &Path) -> Result<Self, MasterKeyError> {
        let key =
            RandomizedNonceKey::new(&AES_256_GCM, secret).map_err(|_| MasterKeyError::Cipher)?;
        Ok(Self {
            key,
            derive: hmac::Key::new(hmac::HMAC_SHA256, secret),
            path: path.to_path_buf(),
        })
    }

    /// A secret of a tenant for one use, the same as long as the key file is.
    #[must_use]
    pub fn derived(&self, label: &str, tenant: &Name) -> Zeroizing<[u8; 32]> {
        let named = format!("dayfly {label}\0{tenant}");
        let tag = hmac::sign(&self.derive, named.as_bytes());
        let mut secret = Zeroizing::new([0; 32]);
        // INVARIANT: HMAC-SHA256 gives 32 bytes, so every byte is overwritten.
        for (to, from) in secret.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        secret
    }

    /// Wraps a secret (AES-256-GCM, a random nonce first); `name` is bound to it.
    pub(super) fn wrap(&self, name: &str, secret: &[u8]) -> Result<Vec<u8>, MasterKeyError> {
        let mut sealed = secret.to_vec();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut sealed)
            .map_err(|_| MasterKeyError::Cipher)?;
        let mut out = nonce.as_ref().to_vec();
        out.append(&mut sealed);
        Ok(out)
    }

    /// Opens what [`MasterKey::wrap`] made under the same name.
    pub(super) fn open(
        &self,
        name: &str,
        wrapped: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, MasterKeyError> {
        let fails = || MasterKeyError::Open {
            path: self.path.clone(),
            name: name.to_owned(),
        };
        let (nonce, sealed) = wrapped.split_at_checked(12).ok_or_else(fails)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| fails())?;
        let mut buffer = Zeroizing::new(sealed.to_vec());
        let length = self
            .key
            .open_in_place(nonce, Aad::from(name.as_bytes()), &mut buffer)
            .map_err(|_| fails())?
            .len();
        buffer.truncate(length);
        Ok(buffer)
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey")
    }
}
