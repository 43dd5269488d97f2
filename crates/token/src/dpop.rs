//! Verifies DPoP proofs: that the sender of this one request holds a key (RFC 9449 section 4.3).

use crate::alg::{self, Alg};
use crate::b64;
use crate::claims::{ClaimError, Claims};
use crate::excerpt::Excerpt;
use crate::fault::{Explained, Fault};
use crate::hash::{Thumbprint, constant_time_eq, sha256, sha256_of_parts};
use crate::htu::Htu;
use crate::jwk::{JwkError, PublicJwk};
use crate::jws::{JwsError, MAX_TOKEN_BYTES};
use crate::jwt::{Jwt, JwtError};
use crate::times::{TimeError, TimesError};
use crate::typ::{TypError, TypRule};
use crate::verifying_key::VerifyingKey;

/// Seconds that a proof may be old (RFC 9449 section 11.1).
pub const MAX_AGE_SECONDS: u64 = 300;
/// Seconds that a proof may be ahead of our clock.
pub const MAX_AHEAD_SECONDS: u64 = 60;
/// Bytes of a `jti`.
pub const MAX_JTI_BYTES: usize = 256;

/// What the proof must be about.
#[derive(Clone, Copy, Debug)]
pub struct DpopExpect<'a> {
    /// The method of the request, as it came.
    pub method: &'a str,
    /// The URL of the request under its configured public origin; never from the `Host` header.
    pub htu: &'a Htu,
    /// Now, in seconds since 1970.
    pub now: u64,
    /// Seconds that the proof may be old; [`MAX_AGE_SECONDS`].
    pub max_age_seconds: u64,
    /// Seconds that the proof may be ahead; [`MAX_AHEAD_SECONDS`].
    pub max_ahead_seconds: u64,
    /// The access token of the request, whose hash the proof must carry as `ath`; `None` at the token endpoint.
    pub access_token: Option<&'a str>,
    /// Accepted algorithms.
    pub algs: &'a [Alg],
}

/// Proof that the sender of the request holds a key. Whether it was shown before, and whether its nonce is ours, the
/// caller decides by [`VerifiedDpop::replay_key`] and [`VerifiedDpop::nonce`].
#[derive(Clone, Debug)]
pub struct VerifiedDpop {
    jwk: PublicJwk,
    replay_key: [u8; 32],
    iat: u64,
    nonce: Option<String>,
}

impl VerifiedDpop {
    /// Verifies `proof`, the value of the one `DPoP` header, against what is expected.
    pub fn verify(proof: &str, expect: &DpopExpect<'_>) -> Result<Self, DpopError> {
        let jwt = Jwt::parse(proof, MAX_TOKEN_BYTES)?;
        TypRule::DpopProof.check(jwt.header().typ.as_deref())?;
        let jwk = PublicJwk::parse(jwt.header().jwk.as_ref().ok_or(DpopError::NoKey)?)?;
        let key = VerifyingKey::new(&jwk, &header_alg(&jwt, expect.algs)?)?;
        let verified = jwt.verify(&key).map_err(JwtError::Jws)?;
        let claims = verified.claims();
        claims.expect_text("htm", expect.method)?;
        check_htu(claims, expect.htu)?;
        let iat =
            claims.check_made(expect.now, expect.max_age_seconds, expect.max_ahead_seconds)?;
        let jti = claims.bounded_text("jti", MAX_JTI_BYTES)?;
        if let Some(access_token) = expect.access_token {
            check_ath(claims, access_token)?;
        }
        let nonce = claims.optional_text("nonce")?.map(str::to_owned);
        // INVARIANT: a thumbprint has 32 bytes, so key and `jti` cannot run into each other.
        let replay_key = sha256_of_parts(&[&jwk.thumbprint().0, jti.as_bytes()]);
        Ok(Self {
            jwk,
            replay_key,
            iat,
            nonce,
        })
    }

    /// The key's thumbprint, as it stands in `cnf`.
    #[must_use]
    pub fn jkt(&self) -> Thumbprint {
        self.jwk.thumbprint()
    }

    /// The key.
    #[must_use]
    pub fn jwk(&self) -> &PublicJwk {
        &self.jwk
    }

    /// Names this proof: SHA-256 of the key's thumbprint and `jti` (RFC 9449 section 11.1).
    #[must_use]
    pub fn replay_key(&self) -> [u8; 32] {
        self.replay_key
    }

    /// When the proof was made, in seconds since 1970.
    #[must_use]
    pub fn iat(&self) -> u64 {
        self.iat
    }

    /// The nonce it carries; ours or not is for [`crate::nonce::NonceKey`] to say.
    #[must_use]
    pub fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref()
    }
}

/// Why a proof was refused; answered as `invalid_dpop_proof`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DpopError {
    /// Not a JWT, or not signed by the key it brings.
    #[error(transparent)]
    Jwt(#[from] JwtError),
    /// A JWT of another kind.
    #[error(transparent)]
    Typ(#[from] TypError),
    /// No key in the header.
    #[error("header member `jwk` of the proof is missing")]
    NoKey,
    /// A key that cannot be used.
    #[error(transparent)]
    Key(#[from] JwkError),
    /// A claim that is missing, malformed, or about another request.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// Too old or ahead.
    #[error(transparent)]
    Time(#[from] TimeError),
}

impl From<TimesError> for DpopError {
    fn from(error: TimesError) -> Self {
        match error {
            TimesError::Claim(error) => Self::Claim(error),
            TimesError::Time(error) => Self::Time(error),
        }
    }
}

impl Explained for DpopError {
    fn fault(&self) -> Fault {
        match self {
            Self::Jwt(error) => error.fault(),
            Self::Typ(error) => error.fault(),
            Self::NoKey => Fault::new("dpop.jwk", "jwk", "the public key", Excerpt::absent()),
            Self::Key(error) => error.fault(),
            Self::Claim(error) => error.fault(),
            Self::Time(error) => error.fault(),
        }
    }
}

/// The header's algorithm, if accepted; the key is parsed for that one alone.
fn header_alg(jwt: &Jwt<'_>, algs: &[Alg]) -> Result<[Alg; 1], DpopError> {
    let alg = jwt.header().alg;
    if algs.contains(&alg) {
        return Ok([alg]);
    }
    let allowed = alg::names(algs);
    Err(JwtError::Jws(JwsError::AlgNotAllowed { alg, allowed }).into())
}

fn check_htu(claims: &Claims, wanted: &Htu) -> Result<(), ClaimError> {
    let claimed = claims.text("htu")?;
    // The normal form of a URL that is normal already is itself.
    if claimed == wanted.as_str() {
        return Ok(());
    }
    match Htu::parse(claimed) {
        Ok(htu) if htu == *wanted => Ok(()),
        Ok(_) | Err(_) => Err(claims.error("htu", Excerpt::of(wanted.as_str()).to_string())),
    }
}

fn check_ath(claims: &Claims, access_token: &str) -> Result<(), ClaimError> {
    let ath = claims.text("ath")?;
    if constant_time_eq(
        ath.as_bytes(),
        b64::encode(sha256(access_token.as_bytes())).as_bytes(),
    ) {
        return Ok(());
    }
    Err(claims.error("ath", "the hash of the access token of this request"))
}
