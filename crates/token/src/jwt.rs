//! A JWS whose payload is a claims object (RFC 7519), read once for the lookup of a key and once verified trusted.

use crate::alg::Alg;
use crate::claims::Claims;
use crate::fault::{Explained, Fault};
use crate::hash::Thumbprint;
use crate::json::JsonError;
use crate::jwks::KeySet;
use crate::jws::{Header, Jws, JwsError};
use crate::verifying_key::VerifyingKey;

/// A JWT that was read and not yet verified: it tells whom it claims to be from, so that a key can
/// be found, and nothing else.
#[derive(Clone, Debug)]
pub struct Jwt<'a> {
    jws: Jws<'a>,
    claims: Claims,
}

/// A JWT whose signature was verified; its type, audience and times are still to be checked.
#[derive(Clone, Debug)]
pub struct VerifiedJwt {
    header: Header,
    claims: Claims,
    signing_input_hash: [u8; 32],
    key: Thumbprint,
}

impl<'a> Jwt<'a> {
    /// Reads a compact JWT of at most `max_bytes` bytes.
    pub fn parse(token: &'a str, max_bytes: usize) -> Result<Self, JwtError> {
        let jws = Jws::parse(token, max_bytes)?;
        let claims = Claims::parse(jws.unverified_payload()).map_err(JwtError::Claims)?;
        Ok(Self { jws, claims })
    }

    /// The header, as the sender wrote it.
    #[must_use]
    pub fn header(&self) -> &Header {
        self.jws.header()
    }

    /// `iss` as claimed: good for finding keys, never for trust.
    #[must_use]
    pub fn claimed_issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(|value| value.as_str())
    }

    /// `sub` as claimed: good for finding keys, never for trust.
    #[must_use]
    pub fn claimed_subject(&self) -> Option<&str> {
        self.claims.get("sub").and_then(|value| value.as_str())
    }

    /// SHA-256 of the signing input, which names the token whatever its signature.
    #[must_use]
    pub fn signing_input_hash(&self) -> [u8; 32] {
        self.jws.signing_input_hash()
    }

    /// As [`Jws::verify`].
    pub fn verify(self, key: &VerifyingKey) -> Result<VerifiedJwt, JwsError> {
        let key = self.jws.check(key)?;
        Ok(self.into_verified(key))
    }

    /// As [`Jws::verify_with`]. Whether the set has to be fetched anew can be asked before, by
    /// [`KeySet::knows`] with the header's `kid`.
    pub fn verify_with(self, keys: &KeySet, allowed: &[Alg]) -> Result<VerifiedJwt, JwsError> {
        let key = self.jws.check_with(keys, allowed)?;
        Ok(self.into_verified(key))
    }

    fn into_verified(self, key: Thumbprint) -> VerifiedJwt {
        let signing_input_hash = self.jws.signing_input_hash();
        VerifiedJwt {
            header: self.jws.into_header(),
            claims: self.claims,
            signing_input_hash,
            key,
        }
    }
}

impl VerifiedJwt {
    /// The header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The claims.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The claims, owned.
    #[must_use]
    pub fn into_claims(self) -> Claims {
        self.claims
    }

    /// SHA-256 of the signing input, which names the token whatever its signature.
    #[must_use]
    pub fn signing_input_hash(&self) -> [u8; 32] {
        self.signing_input_hash
    }

    /// Thumbprint of the key that verified.
    #[must_use]
    pub fn key(&self) -> Thumbprint {
        self.key
    }
}

/// Why a JWT was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// As a JWS.
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// The payload is not one strict JSON object.
    #[error("token claims are malformed: {0}")]
    Claims(JsonError),
}

impl Explained for JwtError {
    fn fault(&self) -> Fault {
        match self {
            Self::Jws(error) => error.fault(),
            Self::Claims(error) => Fault {
                field: "payload".into(),
                ..error.fault()
            },
        }
    }
}
