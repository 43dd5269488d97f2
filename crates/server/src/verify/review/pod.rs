//! The token of a pod, held so that its cluster can be asked about it again; nothing shows its text.

use std::fmt;
use std::sync::Arc;

use dayfly_domain::{Claims, Name, Time};
use dayfly_token::times::{SKEW_SECONDS, Times};

use crate::config::Secret;

/// What an entry in a map of claims takes beside its texts, about.
const CLAIM_BYTES: usize = 48;

/// A token whose signature and claims hold.
#[derive(Clone)]
pub(crate) struct PodToken {
    pub(super) text: Secret,
    pub(super) audience: String,
    issuer: Name,
    claims: Arc<Claims>,
    made: Time,
    expires: Time,
}

impl PodToken {
    pub(in crate::verify) fn new(
        text: &str,
        issuer: &Name,
        audience: String,
        claims: &Arc<Claims>,
        times: Times,
    ) -> Self {
        let expires = Time::from_seconds(times.exp);
        Self {
            text: Secret::of(text),
            audience,
            issuer: issuer.clone(),
            claims: Arc::clone(claims),
            made: times.iat.map_or(expires, Time::from_seconds),
            expires,
        }
    }

    /// The declared issuer.
    pub(crate) const fn issuer(&self) -> &Name {
        &self.issuer
    }

    /// What it says.
    pub(crate) const fn claims(&self) -> &Arc<Claims> {
        &self.claims
    }

    /// When it was made.
    #[cfg(test)]
    pub(crate) const fn made(&self) -> Time {
        self.made
    }

    /// Whether more can be said by it than by the other: it expires later, or was made later.
    pub(crate) fn outlives(&self, other: &Self) -> bool {
        (self.expires, self.made) >= (other.expires, other.made)
    }

    /// Whether its own end may be why a cluster does not vouch for it, whichever clock is ahead.
    pub(crate) fn may_have_expired(&self, now: Time) -> bool {
        now.seconds().saturating_add(SKEW_SECONDS) >= self.expires.seconds()
    }

    /// How much memory it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        let claims = self.claims.iter();
        let claims = claims.map(|(name, text)| name.len() + text.len() + CLAIM_BYTES);
        self.text.expose().len() + self.audience.len() + claims.sum::<usize>()
    }

    /// A claim that every token of a pod has, or nothing.
    pub(super) fn claim(&self, name: &str) -> &str {
        self.claims.get(name).map_or("", String::as_str)
    }

    /// The pod's name.
    pub(crate) fn pod(&self) -> &str {
        self.claim("pod")
    }
}

#[cfg(test)]
impl PodToken {
    /// One of so many bytes, made and expiring at these seconds.
    pub(crate) fn sample(issuer: &Name, bytes: usize, made: u64, expires: u64) -> Arc<Self> {
        let times = Times {
            iat: Some(made),
            nbf: None,
            exp: expires,
        };
        let text = "x".repeat(bytes);
        Arc::new(Self::new(
            &text,
            issuer,
            String::new(),
            &Arc::default(),
            times,
        ))
    }
}

impl fmt::Debug for PodToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PodToken({}, redacted)", self.pod())
    }
}
