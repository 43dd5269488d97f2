//! Private keys: made, stored as PKCS#8 and used to sign, parsed once and never shown.

use core::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair,
};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::alg::Alg;
use crate::b64;
use crate::hash::Thumbprint;
use crate::jwk::PublicJwk;

/// A private key bound to one algorithm.
pub struct SigningKey {
    alg: Alg,
    pair: Pair,
    public: PublicJwk,
}

enum Pair {
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// A fresh key for `alg`; RSA keys have 2048 bits.
    pub fn generate(alg: Alg) -> Result<Self, SignError> {
        let pair = match kind(alg) {
            Kind::Rsa(encoding) => Pair::Rsa(
                RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?,
                encoding,
            ),
            Kind::Ec(curve) => Pair::Ec(EcdsaKeyPair::generate(curve).map_err(failed)?),
            Kind::Ed25519 => Pair::Ed25519(Ed25519KeyPair::generate().map_err(failed)?),
        };
        Self::of(alg, pair)
    }

    /// A stored key. Nothing in PKCS#8 names the algorithm, so it is stored beside and given here.
    pub fn from_pkcs8(alg: Alg, pkcs8: &[u8]) -> Result<Self, SignError> {
        let malformed = |_| SignError::Malformed { alg };
        let pair = match kind(alg) {
            Kind::Rsa(encoding) => {
                Pair::Rsa(RsaKeyPair::from_pkcs8(pkcs8).map_err(malformed)?, encoding)
            }
            Kind::Ec(curve) => Pair::Ec(EcdsaKeyPair::from_pkcs8(curve, pkcs8).map_err(malformed)?),
            Kind::Ed25519 => {
                Pair::Ed25519(Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map_err(malformed)?)
            }
        };
        Self::of(alg, pair)
    }

    /// The key as unencrypted PKCS#8 DER, wiped when dropped.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, SignError> {
        let der = match &self.pair {
            Pair::Rsa(pair, _) => {
                let der: Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
                der.as_ref().to_vec()
            }
            Pair::Ec(pair) => pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec(),
        };
        Ok(Zeroizing::new(der))
    }

    /// The algorithm.
    #[must_use]
    pub fn alg(&self) -> Alg {
        self.alg
    }

    /// The public half.
    #[must_use]
    pub fn public_jwk(&self) -> &PublicJwk {
        &self.public
    }

    /// Thumbprint of the public half.
    #[must_use]
    pub fn thumbprint(&self) -> Thumbprint {
        self.public.thumbprint()
    }

    /// Signs, giving the signature in base64url as it stands in a compact JWS.
    pub fn sign(&self, signing_input: &[u8]) -> Result<String, SignError> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, signing_input, &mut signature)
                    .map_err(failed)?;
                Ok(b64::encode(signature))
            }
            Pair::Ec(pair) => Ok(b64::encode(
                pair.sign(&random, signing_input).map_err(failed)?,
            )),
            Pair::Ed25519(pair) => Ok(b64::encode(pair.try_sign(signing_input).map_err(failed)?)),
        }
    }

    /// Signs `signing_input` and puts both together as a compact JWS.
    pub fn sign_compact(&self, signing_input: &str) -> Result<String, SignError> {
        let signature = self.sign(signing_input.as_bytes())?;
        Ok(format!("{signing_input}.{signature}"))
    }

    /// A compact JWS of `payload`; `header` gets this key's `alg`.
    pub fn encode_jws(
        &self,
        mut header: Map<String, Value>,
        payload: &[u8],
    ) -> Result<String, SignError> {
        header.insert("alg".to_owned(), self.alg.as_str().into());
        self.sign_compact(&signing_input(&Value::Object(header), payload))
    }

    fn of(alg: Alg, pair: Pair) -> Result<Self, SignError> {
        let public = public_of(&pair).ok_or(SignError::Malformed { alg })?;
        Ok(Self { alg, pair, public })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("alg", &self.alg)
            .field("thumbprint", &self.thumbprint())
            .finish_non_exhaustive()
    }
}

/// The first two parts of a compact JWS (RFC 7515 section 5.1).
#[must_use]
pub fn signing_input(header: &Value, payload: &[u8]) -> String {
    format!(
        "{}.{}",
        b64::encode(header.to_string()),
        b64::encode(payload)
    )
}

/// Why a key cannot be made, read or used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The bytes hold no sound key for the algorithm.
    #[error("not a sound private key for `{alg}`")]
    Malformed {
        /// The algorithm.
        alg: Alg,
    },
    /// The cryptographic library failed.
    #[error("the cryptographic library failed")]
    Failed,
}

enum Kind {
    Rsa(&'static dyn RsaEncoding),
    Ec(&'static EcdsaSigningAlgorithm),
    Ed25519,
}

fn kind(alg: Alg) -> Kind {
    match alg {
        Alg::Rs256 => Kind::Rsa(&signature::RSA_PKCS1_SHA256),
        Alg::Rs384 => Kind::Rsa(&signature::RSA_PKCS1_SHA384),
        Alg::Rs512 => Kind::Rsa(&signature::RSA_PKCS1_SHA512),
        Alg::Ps256 => Kind::Rsa(&signature::RSA_PSS_SHA256),
        Alg::Ps384 => Kind::Rsa(&signature::RSA_PSS_SHA384),
        Alg::Ps512 => Kind::Rsa(&signature::RSA_PSS_SHA512),
        Alg::Es256 => Kind::Ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        Alg::Es384 => Kind::Ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        Alg::EdDsa | Alg::Ed25519 => Kind::Ed25519,
    }
}

/// The public half, through the same checks as anybody's key.
fn public_of(pair: &Pair) -> Option<PublicJwk> {
    let members = match pair {
        Pair::Rsa(pair, _) => {
            let public = pair.public_key();
            let n = b64::encode(public.modulus().big_endian_without_leading_zero());
            let e = b64::encode(public.exponent().big_endian_without_leading_zero());
            json!({"kty": "RSA", "n": n, "e": e})
        }
        Pair::Ec(pair) => {
            let (_, point) = pair.public_key().as_ref().split_first()?;
            let (x, y) = point.split_at_checked(point.len() / 2)?;
            let crv = if x.len() == 32 { "P-256" } else { "P-384" };
            json!({"kty": "EC", "crv": crv, "x": b64::encode(x), "y": b64::encode(y)})
        }
        Pair::Ed25519(pair) => {
            json!({"kty": "OKP", "crv": "Ed25519", "x": b64::encode(pair.public_key())})
        }
    };
    PublicJwk::parse(members.as_object()?).ok()
}

fn failed(_: aws_lc_rs::error::Unspecified) -> SignError {
    SignError::Failed
}
