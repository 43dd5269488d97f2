//! What a verified platform token is: a value that only this module makes.

use std::sync::Arc;

use dayfly_domain::{Digest, Proof, Refusal, Span, Time};
use dayfly_store::OneTimeKey;
use dayfly_token::hash::sha256_of_parts;
use dayfly_token::times::{SKEW_SECONDS, Times};

use super::review::{PodToken, Reviewer};
use crate::declared::IssuerKind;

/// The oldest that any server may let a proof be, whatever its configuration says.
pub(super) const LONGEST_AGE: Span = Span::from_seconds(24 * 3600);
/// By how much the clock that forgets spent proofs may run ahead of the one that judges their times.
const FORGET_MARGIN: Span = Span::from_seconds(3600);

/// A platform's token that passed every check, and what it says.
///
/// It is made in one place, by [`Unvouched::vouched`], so whoever holds one knows that signature, type, issuer, algorithm, times, age, audience and the rules of its kind hold,
/// and that its cluster vouches for it where that is asked.
#[derive(Clone, Debug)]
pub struct VerifiedProof {
    proof: Proof,
    kind: IssuerKind,
    issuer_url: String,
    spend: OneTimeKey,
    issued: Option<Time>,
    expires: Time,
    keep: Span,
    run_url: Option<String>,
    pod: Option<Arc<PodToken>>,
}

/// What the checks found out, to be made into a [`VerifiedProof`].
pub(super) struct Findings {
    pub(super) proof: Proof,
    pub(super) kind: IssuerKind,
    pub(super) issuer_url: String,
    pub(super) times: Times,
    pub(super) keep: Span,
    pub(super) run_url: Option<String>,
}

/// A platform's token that passed every check but the question to its cluster, where one is asked:
/// what it says may be looked up and explained, and nothing is granted by it.
pub(crate) struct Unvouched {
    found: Findings,
    asks: Option<(Arc<Reviewer>, Arc<PodToken>)>,
}

impl Unvouched {
    pub(super) const fn new(found: Findings, asks: Option<(Arc<Reviewer>, Arc<PodToken>)>) -> Self {
        Self { found, asks }
    }

    /// What its signature says.
    pub(crate) const fn proof(&self) -> &Proof {
        &self.found.proof
    }

    /// Whether a cluster is asked about it.
    pub(crate) const fn is_asked_about(&self) -> bool {
        self.asks.is_some()
    }

    /// The proof, once its cluster has vouched for it where that is asked.
    ///
    /// # Errors
    /// A refusal of stage `proof`.
    pub(crate) async fn vouched(self, now: Time) -> Result<VerifiedProof, Refusal> {
        let pod = match self.asks {
            Some((reviewer, pod)) => {
                reviewer.ask(&pod, now).await?;
                Some(pod)
            }
            None => None,
        };
        Ok(VerifiedProof::new(self.found, pod))
    }
}

impl VerifiedProof {
    fn new(found: Findings, pod: Option<Arc<PodToken>>) -> Self {
        Self {
            spend: one_time_key(found.proof.digest, found.times),
            issued: found.times.iat.map(Time::from_seconds),
            expires: Time::from_seconds(found.times.exp),
            proof: found.proof,
            kind: found.kind,
            issuer_url: found.issuer_url,
            keep: found.keep,
            run_url: found.run_url,
            pod,
        }
    }

    /// The evidence, as the domain's rules read it. Its `digest` is SHA-256 of the token's signing
    /// input: of a token signed with ECDSA anyone can make a second spelling with another valid
    /// signature, which must not pass as another proof.
    #[must_use]
    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    /// The same evidence with the instance that the workload's declaration reads off its claims,
    /// for issuers whose tokens say none by themselves.
    #[must_use]
    pub fn of_instance(mut self, instance: String) -> Self {
        self.proof.instance = instance;
        self
    }

    /// The evidence, owned.
    #[must_use]
    pub fn into_proof(self) -> Proof {
        self.proof
    }

    /// What the issuer is.
    #[must_use]
    pub fn kind(&self) -> IssuerKind {
        self.kind
    }

    /// The issuer's URL, the token's `iss`.
    #[must_use]
    pub fn issuer_url(&self) -> &str {
        &self.issuer_url
    }

    /// The token's `sub`, where it has one.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.proof.claims.get("sub").map(String::as_str)
    }

    /// The key that a grant by this proof spends; none where the proof is reusable by nature.
    ///
    /// It is kept until the earlier of `exp` and `iat` + 24 h, and 61 minutes more. No proof is
    /// accepted 60 s after its `exp`, nor 60 s after `iat` + the configured age, which is at most
    /// 24 h; so a record is dropped only when its proof can no longer be accepted, even if the age
    /// is raised meanwhile or a clock is an hour off. A proof without `iat` is kept by its `exp`
    /// alone. All of it follows from the proof's own times, never from now, so the same proof
    /// always names the same key and never lies longer than 26 hours.
    #[must_use]
    pub fn one_time_key(&self) -> Option<&OneTimeKey> {
        self.proof.one_time.then_some(&self.spend)
    }

    /// When the platform made it, where it says so.
    #[must_use]
    pub fn issued(&self) -> Option<Time> {
        self.issued
    }

    /// When it was made at the latest, for all that is known: one that does not say so may have
    /// been made a day before it expires, for longer no proof is accepted.
    #[must_use]
    pub fn made(&self) -> Time {
        self.issued.unwrap_or(self.expires - LONGEST_AGE)
    }

    /// When it expires.
    #[must_use]
    pub fn expires(&self) -> Time {
        self.expires
    }

    /// How long the task keys of its issuer are kept.
    #[must_use]
    pub fn keep(&self) -> Span {
        self.keep
    }

    /// The page of the run or job, where the platform has one.
    #[must_use]
    pub fn run_url(&self) -> Option<&str> {
        self.run_url.as_deref()
    }

    /// The token itself, where its cluster vouched for it and may be asked again.
    pub(crate) const fn pod(&self) -> Option<&Arc<PodToken>> {
        self.pod.as_ref()
    }
}

fn one_time_key(digest: Digest, times: Times) -> OneTimeKey {
    let expires = Time::from_seconds(times.exp);
    let made = times.iat.map(Time::from_seconds);
    let last = made.map_or(expires, |made| expires.min(made + LONGEST_AGE));
    OneTimeKey {
        digest: Digest(sha256_of_parts(&[b"platform token\0", &digest.0])),
        at: made.unwrap_or(expires),
        until: last + Span::from_seconds(SKEW_SECONDS) + FORGET_MARGIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    fn key(iat: Option<u64>, exp: u64) -> OneTimeKey {
        one_time_key(
            Digest([7; 32]),
            Times {
                iat,
                nbf: None,
                exp,
            },
        )
    }

    #[test]
    fn a_record_outlives_every_moment_at_which_its_proof_is_accepted() {
        for (iat, exp) in [
            (Some(1_000_000), 1_000_300),
            (Some(1_000_000), 1_000_000 + HOUR),
            (Some(1_000_000), 1_000_000 + 365 * 24 * HOUR),
            (None, 1_000_300),
        ] {
            let accepted = |now: u64| {
                let young = iat.is_none_or(|iat| now <= iat + LONGEST_AGE.seconds() + SKEW_SECONDS);
                now < exp + SKEW_SECONDS && young
            };
            let until = key(iat, exp).until.seconds();
            assert!(
                (until - HOUR..until + 400 * 24 * HOUR)
                    .step_by(60)
                    .skip(1)
                    .all(|now| !accepted(now))
            );
        }
    }

    #[test]
    fn a_long_lived_proof_does_not_lie_long() {
        let key = key(Some(1_000_000), 1_000_000 + 365 * 24 * HOUR);
        assert_eq!(key.at, Time::from_seconds(1_000_000));
        assert!(key.until <= Time::from_seconds(1_000_000 + 26 * HOUR));
    }
}
