//! Verifies hand-overs: what a parent client signs so that a helper with a key of its own may
//! become its child (DESIGN section 3, RFC 8693, RFC 7800 section 3.1).

use serde_json::Value;

use crate::claims::{ClaimError, Claims};
use crate::fault::{Explained, Fault};
use crate::hash::{Thumbprint, sha256_of_parts};
use crate::jws::JwsError;
use crate::jwt::{Jwt, JwtError};
use crate::times::{TimeError, TimesError, Tolerance};
use crate::typ::{TypError, TypRule};
use crate::verifying_key::VerifyingKey;

/// The explicit type of a hand-over.
pub const TYP: &str = "dayfly-handover+jwt";
/// Seconds from `iat` to `exp`, at most.
pub const MAX_LIFETIME_SECONDS: u64 = 60;
/// Bytes of a `jti`.
pub const MAX_JTI_BYTES: usize = 256;

/// Every claim of a hand-over. One that is not known could say something that is not obeyed.
const CLAIMS: [&str; 9] = [
    "iss",
    "aud",
    "jti",
    "iat",
    "nbf",
    "exp",
    "cnf",
    "scope",
    "authorization_details",
];

/// Whom the hand-over must be from and for.
#[derive(Clone, Copy, Debug)]
pub struct HandoverExpect<'a> {
    /// The parent client, which is `iss`.
    pub parent: &'a str,
    /// The issuer identifier, which is the only audience.
    pub issuer: &'a str,
    /// Now, in seconds since 1970.
    pub now: u64,
}

/// The access that a hand-over gives, as it is written; exactly one of the two.
#[derive(Clone, Debug, PartialEq)]
pub enum Given {
    /// Names of declared scopes.
    Scope(String),
    /// Details (RFC 9396), each named in full.
    Details(Vec<Value>),
}

/// Proof that a client gave a part of its access to whoever holds a key. Whether it was used
/// before, the caller decides by [`VerifiedHandover::replay_key`].
#[derive(Clone, Debug)]
pub struct VerifiedHandover {
    jkt: Option<Thumbprint>,
    given: Given,
    replay_key: [u8; 32],
    hash: [u8; 32],
    iat: u64,
    exp: u64,
}

impl VerifiedHandover {
    /// Verifies a hand-over that was read to find its parent, by the parent's own key.
    pub fn verify(
        jwt: Jwt<'_>,
        key: &VerifyingKey,
        expect: &HandoverExpect<'_>,
    ) -> Result<Self, HandoverError> {
        TypRule::Exactly(TYP).check(jwt.header().typ.as_deref())?;
        let verified = jwt.verify(key)?;
        let hash = verified.signing_input_hash();
        let signer = verified.key();
        let claims = verified.into_claims();
        check_known(&claims)?;
        claims.expect_text("iss", expect.parent)?;
        claims.sole_audience_of(&[expect.issuer])?;
        let (iat, exp) = check_life(&claims, expect.now)?;
        let jti = claims.bounded_text("jti", MAX_JTI_BYTES)?;
        // INVARIANT: a thumbprint has 32 bytes, so key and `jti` cannot run into each other.
        let replay_key = sha256_of_parts(&[&signer.0, jti.as_bytes()]);
        Ok(Self {
            jkt: confirmation(&claims)?,
            given: given(&claims)?,
            replay_key,
            hash,
            iat,
            exp,
        })
    }

    /// The key that the child must hold; none makes it a bearer of its credentials.
    #[must_use]
    pub const fn jkt(&self) -> Option<Thumbprint> {
        self.jkt
    }

    /// The access given.
    #[must_use]
    pub const fn given(&self) -> &Given {
        &self.given
    }

    /// Names this hand-over: SHA-256 of the parent key's thumbprint and `jti`.
    #[must_use]
    pub const fn replay_key(&self) -> [u8; 32] {
        self.replay_key
    }

    /// SHA-256 of the signing input, which names the hand-over whatever its signature.
    #[must_use]
    pub const fn signing_input_hash(&self) -> [u8; 32] {
        self.hash
    }

    /// When it was made, in seconds since 1970.
    #[must_use]
    pub const fn iat(&self) -> u64 {
        self.iat
    }

    /// The first second at which it counts no more; with the skew, how long its replay key must be
    /// kept.
    #[must_use]
    pub const fn exp(&self) -> u64 {
        self.exp
    }
}

/// Why a hand-over was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandoverError {
    /// Not a JWT, or not signed by the parent's key.
    #[error(transparent)]
    Jwt(#[from] JwtError),
    /// A JWT of another kind.
    #[error(transparent)]
    Typ(#[from] TypError),
    /// A claim that is missing, malformed, unknown, or about another client or server.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// Outside its time.
    #[error(transparent)]
    Time(#[from] TimeError),
}

impl From<JwsError> for HandoverError {
    fn from(error: JwsError) -> Self {
        Self::Jwt(error.into())
    }
}

impl From<TimesError> for HandoverError {
    fn from(error: TimesError) -> Self {
        match error {
            TimesError::Claim(error) => Self::Claim(error),
            TimesError::Time(error) => Self::Time(error),
        }
    }
}

impl Explained for HandoverError {
    fn fault(&self) -> Fault {
        match self {
            Self::Jwt(error) => error.fault(),
            Self::Typ(error) => error.fault(),
            Self::Claim(error) => error.fault(),
            Self::Time(error) => error.fault(),
        }
    }
}

fn check_known(claims: &Claims) -> Result<(), ClaimError> {
    let unknown = claims
        .as_map()
        .keys()
        .any(|name| !CLAIMS.contains(&name.as_str()));
    if unknown {
        return Err(claims.error("claims", CLAIMS.join(", ")));
    }
    Ok(())
}

/// Checks that it is made, begun and not over, and that it was made to last a minute at most:
/// `iat` is needed, so that a key that leaves its holder's hands leaves no hand-over for later.
fn check_life(claims: &Claims, now: u64) -> Result<(u64, u64), HandoverError> {
    let tolerance = Tolerance {
        max_age_seconds: Some(MAX_LIFETIME_SECONDS),
        ..Tolerance::default()
    };
    let times = claims.check_times(now, tolerance)?;
    let Some(iat) = times.iat else {
        return Err(claims.error("iat", "a time").into());
    };
    if times.exp > iat.saturating_add(MAX_LIFETIME_SECONDS) {
        let wanted = format!("at most {MAX_LIFETIME_SECONDS} s after `iat`");
        return Err(claims.error("exp", wanted).into());
    }
    Ok((iat, times.exp))
}

/// `cnf` with `jkt` alone (RFC 9449, section 6.1): a binding of another kind would go unchecked.
fn confirmation(claims: &Claims) -> Result<Option<Thumbprint>, ClaimError> {
    let Some(cnf) = claims.get("cnf") else {
        return Ok(None);
    };
    let only = cnf.as_object().filter(|members| members.len() == 1);
    let jkt = only
        .and_then(|members| members.get("jkt"))
        .and_then(Value::as_str)
        .and_then(|jkt| jkt.parse().ok());
    match jkt {
        Some(jkt) => Ok(Some(jkt)),
        None => Err(claims.error("cnf", "an object with a thumbprint `jkt` and nothing else")),
    }
}

fn given(claims: &Claims) -> Result<Given, ClaimError> {
    let scope = claims.optional_text("scope")?;
    match (scope, claims.get("authorization_details")) {
        (Some(scope), None) if scope.split(' ').any(|name| !name.is_empty()) => {
            Ok(Given::Scope(scope.to_owned()))
        }
        (Some(_), None) => Err(claims.error("scope", "a name of a scope")),
        (None, Some(Value::Array(details))) if !details.is_empty() => {
            Ok(Given::Details(details.clone()))
        }
        (None, Some(_)) => Err(claims.error(
            "authorization_details",
            "a list of details that is not empty",
        )),
        (Some(_), Some(_)) => {
            Err(claims.error("scope", "no `scope` beside `authorization_details`"))
        }
        (None, None) => Err(claims.error(
            "authorization_details",
            "`authorization_details` or `scope`",
        )),
    }
}
