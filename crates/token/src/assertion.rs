//! Verifies `private_key_jwt` client assertions by the key bound to the client (RFC 7523 section 3
//! as updated by RFC 10070).

use crate::claims::{ClaimError, Claims};
use crate::fault::{Explained, Fault};
use crate::hash::{Thumbprint, sha256_of_parts};
use crate::jws::{JwsError, MAX_TOKEN_BYTES};
use crate::jwt::{Jwt, JwtError};
use crate::times::{SKEW_SECONDS, TimeError, TimesError, Tolerance};
use crate::typ::{TypError, TypRule};
use crate::verifying_key::VerifyingKey;

/// Seconds that `exp` may lie ahead.
pub const MAX_LIFETIME_SECONDS: u64 = 300;
/// Bytes of a `jti`.
pub const MAX_JTI_BYTES: usize = 256;

/// Whom the assertion must be from and for.
#[derive(Clone, Copy, Debug)]
pub struct AssertionExpect<'a> {
    /// The client, which is `iss` and `sub`.
    pub client_id: &'a str,
    /// The issuer identifier, which is the only audience; the token endpoint never is.
    pub issuer: &'a str,
    /// Accepts the issuer with a slash at its end as well, for clients whose library appends one.
    pub lenient_audience: bool,
    /// Now, in seconds since 1970.
    pub now: u64,
}

/// Proof that a client authenticated by its key. Whether it was shown before, the caller decides by
/// [`VerifiedAssertion::replay_key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedAssertion {
    key: Thumbprint,
    replay_key: [u8; 32],
    exp: u64,
    iat: Option<u64>,
}

impl VerifiedAssertion {
    /// Verifies `assertion` by the key bound to the client. The client is looked up before by
    /// [`Jwt::claimed_subject`] or the request's `client_id`.
    pub fn verify(
        assertion: &str,
        key: &VerifyingKey,
        expect: &AssertionExpect<'_>,
    ) -> Result<Self, AssertionError> {
        let jwt = Jwt::parse(assertion, MAX_TOKEN_BYTES)?;
        Self::verify_parsed(jwt, key, expect)
    }

    /// As [`Self::verify`], for an assertion that was read to find its client.
    pub fn verify_parsed(
        jwt: Jwt<'_>,
        key: &VerifyingKey,
        expect: &AssertionExpect<'_>,
    ) -> Result<Self, AssertionError> {
        TypRule::ClientAssertion.check(jwt.header().typ.as_deref())?;
        let verified = jwt.verify(key)?;
        let claims = verified.claims();
        claims.expect_text("iss", expect.client_id)?;
        claims.expect_text("sub", expect.client_id)?;
        check_audience(claims, expect)?;
        let times = claims.check_times(expect.now, Tolerance::default())?;
        let last = expect
            .now
            .saturating_add(MAX_LIFETIME_SECONDS)
            .saturating_add(SKEW_SECONDS);
        if times.exp > last {
            let wanted = format!(
                "at most {MAX_LIFETIME_SECONDS} s ahead of our clock {}",
                expect.now
            );
            return Err(claims.error("exp", wanted).into());
        }
        let jti = claims.bounded_text("jti", MAX_JTI_BYTES)?;
        let key = verified.key();
        // INVARIANT: a thumbprint has 32 bytes, so key and `jti` cannot run into each other.
        let replay_key = sha256_of_parts(&[&key.0, jti.as_bytes()]);
        Ok(Self {
            key,
            replay_key,
            exp: times.exp,
            iat: times.iat,
        })
    }

    /// Thumbprint of the key that verified.
    #[must_use]
    pub fn key(&self) -> Thumbprint {
        self.key
    }

    /// Names this assertion: SHA-256 of the key's thumbprint and `jti`.
    #[must_use]
    pub fn replay_key(&self) -> [u8; 32] {
        self.replay_key
    }

    /// The first second at which it counts no more; with the skew, how long its replay key must be kept.
    #[must_use]
    pub fn exp(&self) -> u64 {
        self.exp
    }

    /// When it was made, in seconds since 1970.
    #[must_use]
    pub fn iat(&self) -> Option<u64> {
        self.iat
    }
}

/// Why an assertion was refused; answered as `invalid_client`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssertionError {
    /// Not a JWT, or not signed by the client's key.
    #[error(transparent)]
    Jwt(#[from] JwtError),
    /// A JWT of another kind.
    #[error(transparent)]
    Typ(#[from] TypError),
    /// A claim that is missing, malformed, or about another client or server.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// Outside its time.
    #[error(transparent)]
    Time(#[from] TimeError),
}

impl From<JwsError> for AssertionError {
    fn from(error: JwsError) -> Self {
        Self::Jwt(error.into())
    }
}

impl From<TimesError> for AssertionError {
    fn from(error: TimesError) -> Self {
        match error {
            TimesError::Claim(error) => Self::Claim(error),
            TimesError::Time(error) => Self::Time(error),
        }
    }
}

impl Explained for AssertionError {
    fn fault(&self) -> Fault {
        match self {
            Self::Jwt(error) => error.fault(),
            Self::Typ(error) => error.fault(),
            Self::Claim(error) => error.fault(),
            Self::Time(error) => error.fault(),
        }
    }
}

fn check_audience(claims: &Claims, expect: &AssertionExpect<'_>) -> Result<(), ClaimError> {
    let with_slash = format!("{}/", expect.issuer);
    let accepted: &[&str] = if expect.lenient_audience {
        &[expect.issuer, &with_slash]
    } else {
        &[expect.issuer]
    };
    claims.sole_audience_of(accepted).map(drop)
}
