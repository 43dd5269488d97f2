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
/// How many proofs the memory holds for one bucket of time.
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

/// Proofs accepted by calls that append nothing, in two buckets of time.
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
    pub(super) fn accept_once(&self, proof: &VerifiedDpop, now: Time) -> Result<(), Refusal> {
        let since_start = now.since(self.started).seconds();
        if proof.nonce().is_none() && since_start < NONCE_AFTER_START_SECONDS {
            return Err(nonce_wanted("none").hint(
                "the server started a short while ago and cannot know which proofs it saw before",
            ));
        }
        let bucket = now.seconds() / (MAX_AGE_SECONDS + MAX_AHEAD_SECONDS);
        let mut buckets = self
            .replays
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
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
        if buckets.young.len() >= REMEMBERED {
            return Err(Refusal::new(Rule::Busy)
                .field("DPoP")
                .wanted("room to remember proofs")
                .got("none"));
        }
        let name = proof.replay_key();
        if buckets.old.contains(&name) || !buckets.young.insert(name) {
            return Err(replayed());
        }
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
