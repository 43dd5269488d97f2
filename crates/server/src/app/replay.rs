//! DPoP proofs: verified against the configured URL, their nonce checked, each accepted once.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use dayfly_domain::{Digest, Refusal, Rule, Time};
use dayfly_store::OneTimeKey;
use dayfly_token::dpop::{DpopExpect, MAX_AGE_SECONDS, MAX_AHEAD_SECONDS, VerifiedDpop};
use dayfly_token::{alg::Alg, hash};

use super::{App, Tenant};
use crate::declared::DpopNonce;
use crate::verify;

/// For how long after a start proofs that are remembered in memory only must carry a nonce: any
/// proof shown before the start, one dated ahead too, is older than a proof may be by then.
const NONCE_AFTER_START_SECONDS: u64 = MAX_AGE_SECONDS + MAX_AHEAD_SECONDS + 1;
/// How many proofs the memory holds for one bucket of time. Each tenant has a like share, so that
/// one whose clients call without end leaves the others theirs.
const REMEMBERED: usize = 1 << 20;

/// A DPoP proof as it came with a request: the header's value and the request it is for.
#[derive(Clone, Copy, Debug)]
pub struct KeyProof<'a> {
    /// The value of the one `DPoP` header.
    pub header: &'a str,
    /// The method.
    pub method: &'a str,
    /// The path below the tenant, like `/token`.
    pub path: &'a str,
}

/// A tenant's proofs that were accepted by calls that append nothing, in two buckets of time.
#[derive(Default)]
pub(super) struct Replays(Mutex<Buckets>);

#[derive(Default)]
struct Buckets {
    number: u64,
    young: HashSet<[u8; 32]>,
    old: HashSet<[u8; 32]>,
}

impl App {
    /// Verifies a DPoP proof (RFC 9449, section 4.3). Whether it was shown before is judged by
    /// the append that spends it, or by [`App::accept_once`].
    pub(super) fn key_proof(
        &self,
        tenant: &Tenant,
        proof: &KeyProof<'_>,
        access_token: Option<&str>,
        now: Time,
    ) -> Result<VerifiedDpop, Refusal> {
        let htu = tenant.htu(proof.path)?;
        let verified = VerifiedDpop::verify(
            proof.header,
            &DpopExpect {
                method: proof.method,
                htu: &htu,
                now: now.seconds(),
                max_age_seconds: MAX_AGE_SECONDS,
                max_ahead_seconds: MAX_AHEAD_SECONDS,
                access_token,
                algs: Alg::DEFAULT,
            },
        )
        .map_err(|why| verify::key_proof(&why))?;
        match verified.nonce() {
            Some(nonce) if !self.nonces.accepts(nonce, now.seconds()) => {
                Err(nonce_wanted("another"))
            }
            None if tenant.loaded().declared.dpop_nonce == DpopNonce::Required => {
                Err(nonce_wanted("none"))
            }
            Some(_) | None => Ok(verified),
        }
    }

    /// Accepts a proof of a call that appends nothing: once, and with a nonce soon after a start.
    pub(super) fn accept_once(
        &self,
        tenant: &Tenant,
        proof: &VerifiedDpop,
        now: Time,
    ) -> Result<(), Refusal> {
        let since_start = now.since(self.started).seconds();
        if proof.nonce().is_none() && since_start < NONCE_AFTER_START_SECONDS {
            return Err(nonce_wanted("none").hint(
                "the server started a short while ago and cannot know which proofs it saw before",
            ));
        }
        let share = REMEMBERED / self.tenants.len().max(1);
        tenant.replays.accept(proof.replay_key(), now, share)
    }
}

impl Replays {
    /// Remembers a proof, `most` of one bucket of time at most; refuses one that is remembered.
    fn accept(&self, name: [u8; 32], now: Time, most: usize) -> Result<(), Refusal> {
        let bucket = now.seconds() / (MAX_AGE_SECONDS + MAX_AHEAD_SECONDS);
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Only forward: a request that read its clock just before the turn may come just after it.
        if buckets.number < bucket {
            let young = std::mem::take(&mut buckets.young);
            buckets.old = if buckets.number + 1 == bucket {
                young
            } else {
                HashSet::new()
            };
            buckets.number = bucket;
        }
        if buckets.old.contains(&name) || buckets.young.contains(&name) {
            return Err(replayed());
        }
        if buckets.young.len() >= most {
            return Err(Refusal::new(Rule::Busy)
                .field("DPoP")
                .wanted("room to remember proofs")
                .got("none"));
        }
        buckets.young.insert(name);
        Ok(())
    }
}

/// The one-time key of a DPoP proof, spent in the append of what it was shown for.
pub(super) fn one_time(proof: &VerifiedDpop) -> OneTimeKey {
    OneTimeKey {
        digest: Digest(hash::sha256_of_parts(&[b"dpop", &proof.replay_key()])),
        at: Time::from_seconds(proof.iat()),
        // From the proof's own time: after this second it is too old to be accepted.
        until: Time::from_seconds(proof.iat() + MAX_AGE_SECONDS + 1),
    }
}

/// The refusal for a proof that was shown before.
pub(super) fn replayed() -> Refusal {
    Refusal::new(Rule::KeyProofSpent)
        .field("DPoP jti")
        .wanted("a fresh proof for each request")
        .got("one that was used")
}

fn nonce_wanted(got: &str) -> Refusal {
    Refusal::new(Rule::KeyProofNonce)
        .field("DPoP nonce")
        .wanted("the nonce of the DPoP-Nonce header")
        .got(got)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_fills_its_own_share_alone_and_time_makes_room() {
        let (busy, other) = (Replays::default(), Replays::default());
        let at = |seconds: u64| Time::from_seconds(360_000 + seconds);
        let name = |number: u8| [number; 32];
        let rule = |answer: Result<(), Refusal>| answer.map_err(|refusal| refusal.rule);
        for number in 1..=3 {
            assert_eq!(rule(busy.accept(name(number), at(0), 3)), Ok(()));
        }
        assert_eq!(rule(busy.accept(name(4), at(0), 3)), Err(Rule::Busy));
        let again = busy.accept(name(1), at(0), 3);
        assert_eq!(rule(again), Err(Rule::KeyProofSpent), "known, room or not");
        assert_eq!(rule(other.accept(name(4), at(0), 3)), Ok(()));
        assert_eq!(rule(busy.accept(name(4), at(360), 3)), Ok(()));
        assert_eq!(
            rule(busy.accept(name(1), at(360), 3)),
            Err(Rule::KeyProofSpent)
        );
        assert_eq!(rule(busy.accept(name(1), at(720), 3)), Ok(()));
    }
}
