//! What people stand under in leaves that must name them alike each time: a pseudonym that only the key file can make.

use aws_lc_rs::hmac;
use dayfly_domain::{Digest, Refusal, Rule, Span, Time};
use dayfly_token::claims::Claims;
use dayfly_token::times::SKEW_SECONDS;

use super::explain;

/// The claim under which a person's pseudonym stands beside the claims of the token.
pub(crate) const PERSON: &str = "person";
/// The longest subject (OpenID Connect Core 1.0, section 2).
pub(super) const MAX_SUB_BYTES: usize = 255;

/// Makes the pseudonyms of one tenant.
pub struct Pseudonyms(hmac::Key);

impl Pseudonyms {
    /// Under a secret of the tenant.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The pseudonym of a person: always the same, and nobody without the secret can try names.
    pub(crate) fn of(&self, iss: &str, sub: &str) -> Digest {
        let length = (iss.len() as u64).to_be_bytes();
        self.sign(&[&length, iss.as_bytes(), sub.as_bytes()])
    }

    /// The pseudonym under which one resource knows a person: no two of them can tell that they know
    /// the same one.
    pub(crate) fn at(&self, resource: &str, person: &Digest) -> Digest {
        // INVARIANT: no URL is as long as these eight bytes say, so that it is none of the others.
        self.sign(&[b"resource", &person.0, resource.as_bytes()])
    }

    fn sign(&self, parts: &[&[u8]]) -> Digest {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(part);
        }
        let mut digest = Digest([0; 32]);
        // INVARIANT: HMAC-SHA256 makes as many bytes.
        for (byte, made) in digest.0.iter_mut().zip(context.sign().as_ref()) {
            *byte = *made;
        }
        digest
    }
}

impl std::fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pseudonyms")
    }
}

/// The subject of a person's token.
pub(super) fn subject(claims: &Claims) -> Result<&str, Refusal> {
    claims
        .bounded_text("sub", MAX_SUB_BYTES)
        .map_err(|error| explain::claim(&error))
}

/// Checks that a person authenticated at most `auth_age` ago (OpenID Connect Core 1.0, section 2);
/// answers when.
pub(super) fn check_auth(claims: &Claims, auth_age: Span, now: Time) -> Result<Time, Refusal> {
    const WANTED: &str = "whole seconds since 1970";
    const HINT: &str = "have the provider say `auth_time` (`require_auth_time` of its client, or `max_age`), and log in anew";
    let at = claims
        .get("auth_time")
        .and_then(|value| value.as_u64())
        .ok_or_else(|| explain::claim(&claims.error("auth_time", WANTED)).hint(HINT))?;
    let (now_seconds, skew) = (now.seconds(), SKEW_SECONDS);
    let got = || {
        format!(
            "auth_time is {}, our clock says {now}",
            Time::from_seconds(at)
        )
    };
    if at > now_seconds.saturating_add(skew) {
        return Err(Refusal::new(Rule::Times)
            .field("auth_time")
            .wanted("a time that has been")
            .got(got())
            .hint("one of the two clocks is wrong"));
    }
    if now_seconds > at.saturating_add(auth_age.seconds()).saturating_add(skew) {
        return Err(Refusal::new(Rule::ProofAge)
            .field("auth_time")
            .wanted(format!("at most {auth_age} ago"))
            .got(got())
            .hint("log in anew at the provider (`prompt=login`): a token that was refreshed does not help"));
    }
    Ok(Time::from_seconds(at))
}
