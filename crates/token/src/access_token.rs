//! The shape of JWT access tokens: what is signed, how a token is named, and the check of one that
//! comes back (RFC 9068).

use serde_json::json;

use crate::alg::Alg;
use crate::claims::{ClaimError, Claims};
use crate::fault::{Explained, Fault};
use crate::hash::{Thumbprint, sha256};
use crate::jwks::KeySet;
use crate::jws::{JwsError, MAX_TOKEN_BYTES};
use crate::jwt::{Jwt, JwtError, VerifiedJwt};
use crate::times::{Times, TimesError, Tolerance};
use crate::typ::{TypError, TypRule};

/// What is signed for an access token; its hash names the token and is known before the signature is made.
#[must_use]
pub fn signing_input(alg: Alg, kid: &str, claims_json: &[u8]) -> String {
    let header = json!({"alg": alg.as_str(), "kid": kid, "typ": "at+jwt"});
    crate::sign::signing_input(&header, claims_json)
}

/// SHA-256 of a signing input, the join key for other systems' logs.
#[must_use]
pub fn hash_of_signing_input(signing_input: &str) -> [u8; 32] {
    sha256(signing_input.as_bytes())
}

/// The same from a compact token, nothing of which is checked but its three parts.
#[must_use]
pub fn hash_of_token(token: &str) -> Option<[u8; 32]> {
    let (signing_input, signature) = token.rsplit_once('.')?;
    let (header, payload) = signing_input.split_once('.')?;
    let three = ![header, payload, signature]
        .iter()
        .any(|part| part.is_empty() || part.contains('.'));
    three.then(|| hash_of_signing_input(signing_input))
}

/// An access token whose signature, type and shape were verified; its times are judged by
/// [`VerifiedAccessToken::check_times`], its standing by the record.
#[derive(Clone, Debug)]
pub struct VerifiedAccessToken {
    jwt: VerifiedJwt,
    audience: String,
    jkt: Option<Thumbprint>,
}

impl VerifiedAccessToken {
    /// Verifies a token by the issuer's keys and checks that it was made by `issuer`.
    ///
    /// Required: `iss exp aud sub client_id iat jti` (RFC 9068 section 2.2), one audience, and where `cnf` stands,
    /// a `jkt` in it (RFC 9449 section 6.1): a binding of another kind is refused, because it would go unchecked.
    pub fn verify(
        token: &str,
        keys: &KeySet,
        algs: &[Alg],
        issuer: &str,
    ) -> Result<Self, AccessTokenError> {
        let jwt = Jwt::parse(token, MAX_TOKEN_BYTES)?;
        TypRule::AccessToken.check(jwt.header().typ.as_deref())?;
        let jwt = jwt.verify_with(keys, algs)?;
        let claims = jwt.claims();
        claims.expect_text("iss", issuer)?;
        for claim in ["sub", "client_id", "jti"] {
            claims.text(claim)?;
        }
        for claim in ["iat", "exp"] {
            if claims.time(claim)?.is_none() {
                return Err(claims.error(claim, "a time").into());
            }
        }
        let audience = claims.sole_audience()?.to_owned();
        let jkt = confirmation(claims)?;
        Ok(Self { jwt, audience, jkt })
    }

    /// Checks that the token has begun and is not over at `now`.
    pub fn check_times(&self, now: u64, tolerance: Tolerance) -> Result<Times, TimesError> {
        self.claims().check_times(now, tolerance)
    }

    /// All claims.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        self.jwt.claims()
    }

    /// All claims, owned.
    #[must_use]
    pub fn into_claims(self) -> Claims {
        self.jwt.into_claims()
    }

    /// The token's name.
    #[must_use]
    pub fn jti(&self) -> &str {
        // INVARIANT: `verify` demanded a string, so the default is never taken.
        self.claims().text("jti").unwrap_or_default()
    }

    /// The one resource it is for.
    #[must_use]
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// The key it is bound to; without one it is a bearer token.
    #[must_use]
    pub fn jkt(&self) -> Option<Thumbprint> {
        self.jkt
    }

    /// SHA-256 of the signing input.
    #[must_use]
    pub fn signing_input_hash(&self) -> [u8; 32] {
        self.jwt.signing_input_hash()
    }
}

/// Why an access token was refused; answered as `invalid_token`, or `active: false`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessTokenError {
    /// Not a JWT, or not signed by the issuer.
    #[error(transparent)]
    Jwt(#[from] JwtError),
    /// A JWT of another kind.
    #[error(transparent)]
    Typ(#[from] TypError),
    /// A claim that is missing or malformed, or another issuer.
    #[error(transparent)]
    Claim(#[from] ClaimError),
}

impl From<JwsError> for AccessTokenError {
    fn from(error: JwsError) -> Self {
        Self::Jwt(error.into())
    }
}

impl Explained for AccessTokenError {
    fn fault(&self) -> Fault {
        match self {
            Self::Jwt(error) => error.fault(),
            Self::Typ(error) => error.fault(),
            Self::Claim(error) => error.fault(),
        }
    }
}

fn confirmation(claims: &Claims) -> Result<Option<Thumbprint>, ClaimError> {
    let Some(cnf) = claims.get("cnf") else {
        return Ok(None);
    };
    let jkt = cnf
        .get("jkt")
        .and_then(|jkt| jkt.as_str())
        .and_then(|jkt| jkt.parse().ok());
    match jkt {
        Some(jkt) => Ok(Some(jkt)),
        None => Err(claims.error("cnf", "an object with a thumbprint `jkt`")),
    }
}
