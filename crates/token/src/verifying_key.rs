//! A public key parsed once and pinned to the algorithms it may verify, so that algorithm confusion
//! cannot be expressed.

use core::fmt;

use aws_lc_rs::signature::{self, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents};

use crate::alg::Alg;
use crate::hash::Thumbprint;
use crate::jwk::{JwkError, Material, PublicJwk};

/// A parsed key for each algorithm that is allowed, fits the key's type, and is the key's own where it names one.
#[derive(Clone)]
pub struct VerifyingKey {
    kid: Option<String>,
    thumbprint: Thumbprint,
    keys: Vec<(Alg, ParsedPublicKey)>,
}

impl VerifyingKey {
    /// Pins `jwk` to the algorithms of `allowed` that it fits; [`JwkError::NoAlg`] when there is none.
    pub fn new(jwk: &PublicJwk, allowed: &[Alg]) -> Result<Self, JwkError> {
        let mut keys = Vec::new();
        for alg in allowed.iter().copied().filter(|alg| jwk.fits(*alg)) {
            keys.push((alg, parsed(jwk.material(), alg)?));
        }
        if keys.is_empty() {
            return Err(JwkError::no_alg(allowed));
        }
        Ok(Self {
            kid: jwk.kid().map(str::to_owned),
            thumbprint: jwk.thumbprint(),
            keys,
        })
    }

    /// The key's own `kid`.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The key's RFC 7638 thumbprint.
    #[must_use]
    pub fn thumbprint(&self) -> Thumbprint {
        self.thumbprint
    }

    /// Whether the key was pinned to `alg`.
    #[must_use]
    pub fn allows(&self, alg: Alg) -> bool {
        self.keys.iter().any(|(own, _)| *own == alg)
    }

    /// Verifies a signature over `signing_input`; an algorithm the key was not pinned to fails like a bad signature.
    pub fn verify(
        &self,
        alg: Alg,
        signing_input: &[u8],
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        let (_, key) = self
            .keys
            .iter()
            .find(|(own, _)| *own == alg)
            .ok_or(BadSignature)?;
        key.verify_sig(signing_input, signature)
            .map_err(|_| BadSignature)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algs: Vec<Alg> = self.keys.iter().map(|(alg, _)| *alg).collect();
        f.debug_struct("VerifyingKey")
            .field("kid", &self.kid)
            .field("thumbprint", &self.thumbprint)
            .field("algs", &algs)
            .finish()
    }
}

/// The signature does not belong to these bytes and this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signature does not verify")]
pub struct BadSignature;

fn parsed(material: &Material, alg: Alg) -> Result<ParsedPublicKey, JwkError> {
    match material {
        Material::P256(key) | Material::P384(key) | Material::Ed25519(key) => Ok(key.clone()),
        Material::Rsa { n, e } => {
            let parameters = rsa_parameters(alg).ok_or(JwkError::Unsound {
                reason: "not an RSA algorithm",
            })?;
            let components = RsaPublicKeyComponents { n, e };
            components
                .to_parsed_public_key(parameters)
                .map_err(|_| JwkError::Unsound {
                    reason: "not an RSA key",
                })
        }
    }
}

fn rsa_parameters(alg: Alg) -> Option<&'static RsaParameters> {
    match alg {
        Alg::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Alg::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Alg::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Alg::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Alg::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Alg::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        Alg::Es256 | Alg::Es384 | Alg::EdDsa | Alg::Ed25519 => None,
    }
}
