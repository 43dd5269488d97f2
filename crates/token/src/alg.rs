//! The signature algorithms that exist for Dayfly: asymmetric ones only (RFC 7518 section 3.1, RFC 8037, RFC 9864).

use core::fmt;
use core::str::FromStr;

use crate::excerpt::Excerpt;
use crate::fault::{Explained, Fault};

/// A JWS algorithm; there is no `none` and no HMAC, so neither can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alg {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519 under the name of RFC 8037.
    EdDsa,
    /// Ed25519 under its own name (RFC 9864), which newer libraries send.
    Ed25519,
}

impl Alg {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
        Self::Ed25519,
    ];

    /// What is accepted where nothing else is configured.
    pub const DEFAULT: &'static [Self] = &[
        Self::Rs256,
        Self::Es256,
        Self::Ps256,
        Self::EdDsa,
        Self::Ed25519,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
            Self::Ed25519 => "Ed25519",
        }
    }
}

impl fmt::Display for Alg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Alg {
    type Err = UnknownAlg;

    /// Exact, case included (RFC 7515 section 4.1.1).
    fn from_str(name: &str) -> Result<Self, UnknownAlg> {
        let known = Self::ALL.iter().copied().find(|alg| alg.as_str() == name);
        known.ok_or_else(|| UnknownAlg(Excerpt::of(name)))
    }
}

/// The names of `algs`, for messages and metadata.
#[must_use]
pub fn names(algs: &[Alg]) -> String {
    let names: Vec<&str> = algs.iter().map(|alg| alg.as_str()).collect();
    names.join(" ")
}

/// An algorithm that is unknown or never accepted (`none`, HMAC).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("algorithm {0} is never accepted")]
pub struct UnknownAlg(pub Excerpt);

impl Explained for UnknownAlg {
    fn fault(&self) -> Fault {
        Fault::new("alg.known", "alg", names(Alg::ALL), self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact() {
        for alg in Alg::ALL {
            assert_eq!(alg.as_str().parse(), Ok(*alg));
        }
        for name in [
            "none", "None", "", "HS256", "HS512", "rs256", "RS256 ", "ES256K", "RS1", "dir",
        ] {
            assert!(name.parse::<Alg>().is_err(), "{name:?}");
        }
    }
}
