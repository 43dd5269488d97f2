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
/// How many proofs the memory holds for one bucket of time. Half of it is shared out alike, so that a
/// tenant whose clients call without end leaves the others theirs; the other half is for whoever
/// needs it, so that one that beats more than its share is not refused while there is room.
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

/// How many proofs of the present bucket of time are beyond their tenants' shares.
#[derive(Default)]
pub(super) struct Beyond(Mutex<Taken>);

#[derive(Default)]
struct Taken {
    number: u64,
    proofs: usize,
}

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
        let verified = self.key_proof_whatever_nonce(tenant, proof, access_token, now)?;
        self.check_nonce(tenant, &verified, now)?;
        Ok(verified)
    }

    /// The same, whatever nonce it shows: [`App::check_nonce`] follows once it is known whose it is,
    /// for only who holds the right key is asked for another nonce.
    pub(super) fn key_proof_whatever_nonce(
        &self,
        tenant: &Tenant,
        proof: &KeyProof<'_>,
        access_token: Option<&str>,
        now: Time,
    ) -> Result<VerifiedDpop, Refusal> {
        let htu = tenant.htu(proof.path)?;
        VerifiedDpop::verify(
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
        .map_err(|why| verify::key_proof(&why))
    }

    /// Checks the nonce of a proof.
    pub(super) fn check_nonce(
        &self,
        tenant: &Tenant,
        verified: &VerifiedDpop,
        now: Time,
    ) -> Result<(), Refusal> {
        match verified.nonce() {
            Some(nonce) if !self.nonces.accepts(nonce, now.seconds()) => {
                Err(nonce_wanted("another"))
            }
            None if tenant.loaded().declared.dpop_nonce == DpopNonce::Required => {
                Err(nonce_wanted("none"))
            }
            Some(_) | None => Ok(()),
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
        let share = REMEMBERED / 2 / self.tenants.len().max(1);
        tenant
            .replays
            .accept(proof.replay_key(), now, share, |number| {
                self.proofs_beyond.take(number, REMEMBERED / 2)
            })
    }

    /// Forgets the proofs that are too old to be shown, of tenants that nobody calls too.
    pub(super) fn forget_proofs(&self, now: Time) {
        for tenant in self.tenants() {
            tenant.replays.forget(now);
        }
    }
}

impl Beyond {
    /// Takes room for one more proof of a bucket of time, of which there are `most`.
    fn take(&self, number: u64, most: usize) -> bool {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.number < number {
            *taken = Taken { number, proofs: 0 };
        }
        if taken.proofs >= most {
            return false;
        }
        taken.proofs += 1;
        true
    }
}

impl Replays {
    /// Remembers a proof: `share` of one bucket of time for sure, more where `beyond` gives room.
    /// Refuses one that is remembered.
    fn accept(
        &self,
        name: [u8; 32],
        now: Time,
        share: usize,
        beyond: impl FnOnce(u64) -> bool,
    ) -> Result<(), Refusal> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.turn(now);
        if buckets.old.contains(&name) || buckets.young.contains(&name) {
            return Err(replayed());
        }
        if buckets.young.len() >= share && !beyond(buckets.number) {
            return Err(Refusal::new(Rule::Busy)
                .field("DPoP")
                .wanted("room to remember proofs")
                .got("none"));
        }
        buckets.young.insert(name);
        Ok(())
    }

    /// Forgets what is too old to be shown again.
    fn forget(&self, now: Time) {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.turn(now);
    }
}

impl Buckets {
    /// Turns to the bucket of a time. Only forward: a request that read its clock just before the
    /// turn may come just after it.
    fn turn(&mut self, now: Time) {
        let bucket = now.seconds() / (MAX_AGE_SECONDS + MAX_AHEAD_SECONDS);
        if self.number < bucket {
            let young = std::mem::take(&mut self.young);
            self.old = if self.number + 1 == bucket {
                young
            } else {
                HashSet::new()
            };
            self.number = bucket;
        }
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
    fn a_tenant_has_its_share_for_sure_and_more_while_there_is_room() {
        let (busy, other) = (Replays::default(), Replays::default());
        let common = Beyond::default();
        let at = |seconds: u64| Time::from_seconds(360_000 + seconds);
        let accept = |by: &Replays, number: u8, seconds: u64| {
            let beyond = |bucket| common.take(bucket, 2);
            by.accept([number; 32], at(seconds), 3, beyond)
                .map_err(|refusal| refusal.rule)
        };
        for number in 1..=5 {
            assert_eq!(accept(&busy, number, 0), Ok(()), "{number}");
        }
        assert_eq!(accept(&busy, 6, 0), Err(Rule::Busy));
        let again = accept(&busy, 1, 0);
        assert_eq!(again, Err(Rule::KeyProofSpent), "known, room or not");
        for number in 4..=6 {
            assert_eq!(accept(&other, number, 0), Ok(()), "the other's own share");
        }
        assert_eq!(accept(&other, 7, 0), Err(Rule::Busy));
        // Time makes room, for shares and beyond them.
        for number in 6..=10 {
            assert_eq!(accept(&busy, number, 360), Ok(()), "{number}");
        }
        assert_eq!(accept(&busy, 1, 360), Err(Rule::KeyProofSpent));
        assert_eq!(accept(&busy, 11, 360), Err(Rule::Busy));
        assert_eq!(accept(&busy, 1, 720), Ok(()));
        // What is too old is forgotten without a call.
        let held = |by: &Replays| {
            let buckets = by.0.lock().unwrap();
            buckets.young.len() + buckets.old.len()
        };
        assert_eq!((held(&busy), held(&other)), (6, 3));
        for tenant in [&busy, &other] {
            tenant.forget(at(1440));
            assert_eq!(held(tenant), 0);
        }
    }
}
