//! DPoP proofs: verified against the configured URL, their nonce checked, each accepted once.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dayfly_domain::{Digest, Refusal, Rule, Span, Time};
use dayfly_store::OneTimeKey;
use dayfly_token::dpop::{DpopExpect, MAX_AGE_SECONDS, MAX_AHEAD_SECONDS, VerifiedDpop};
use dayfly_token::nonce::NonceKey;
use dayfly_token::{alg::Alg, hash};

use super::refuse::unavailable;
use super::{App, Tenant};
use crate::declared::DpopNonce;
use crate::random::{self, NoRandomness};
use crate::verify;

/// How far a clock that is read for one request may lie before one that is read for another, and yet
/// nobody has set it back.
const ASTRAY_SECONDS: u64 = 30;
/// How long a bucket of time is: what was accepted before it began can be shown no more when it is
/// over, even by a request whose clock was read so much earlier.
const BUCKET_SECONDS: u64 = MAX_AGE_SECONDS + MAX_AHEAD_SECONDS + ASTRAY_SECONDS;
/// For how long after a start proofs that are remembered in memory only must carry a nonce: any
/// proof shown before the start, one dated ahead too, is older than a proof may be by then.
const NONCE_AFTER: Span = Span::from_seconds(MAX_AGE_SECONDS + MAX_AHEAD_SECONDS + 1);
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

/// The secret of the nonces, and until when proofs of calls that append nothing have to carry one.
///
/// What was forgotten while the clock was ahead could be shown again once it is set back. So a clock
/// that is set back is like a start: a proof made before carries no nonce of the new secret, and from
/// then on one is wanted until the clock is where it was.
pub(super) struct Nonces(Mutex<Drawn>);

struct Drawn {
    key: NonceKey,
    /// The latest time that was seen.
    latest: Time,
    wanted_until: Time,
}

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
            Some(nonce) if !self.nonces.accepts(nonce, now)? => Err(nonce_wanted("another")),
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
        // Looked at before the memory turns back, and so before anything it forgot can be shown.
        if self.nonces.are_wanted(now)? && proof.nonce().is_none() {
            return Err(nonce_wanted("none").hint(
                "the server or its clock was set anew and cannot know which proofs it saw before",
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
        if let Err(why) = self.nonces.are_wanted(now) {
            tracing::error!(%why, "no secret for nonces can be drawn");
            return;
        }
        for tenant in self.tenants() {
            tenant.replays.forget(now);
        }
    }
}

impl Nonces {
    /// Those of a server that starts now.
    pub(super) fn drawn(now: Time) -> Result<Self, NoRandomness> {
        Ok(Self(Mutex::new(Drawn {
            key: drawn()?,
            latest: now,
            wanted_until: now + NONCE_AFTER,
        })))
    }

    /// The nonce to hand out; of the former secret, which no proof gets on with, where none can be
    /// drawn.
    pub(super) fn current(&self, now: Time) -> String {
        let drawn = self.looked(now).unwrap_or_else(|_| self.locked());
        drawn.key.current(now.seconds())
    }

    fn accepts(&self, nonce: &str, now: Time) -> Result<bool, Refusal> {
        let drawn = self.looked(now)?;
        Ok(drawn.key.accepts(nonce, now.seconds()))
    }

    /// Whether a proof of a call that appends nothing has to carry one.
    fn are_wanted(&self, now: Time) -> Result<bool, Refusal> {
        Ok(now < self.looked(now)?.wanted_until)
    }

    /// Looks at the clock: where it was set back, nothing made before is worth anything.
    fn looked(&self, now: Time) -> Result<MutexGuard<'_, Drawn>, Refusal> {
        let mut drawn = self.locked();
        if drawn.latest > now + Span::from_seconds(ASTRAY_SECONDS) {
            drawn.key = self::drawn().map_err(|why| unavailable(&why))?;
            drawn.wanted_until = drawn.wanted_until.max(drawn.latest + NONCE_AFTER);
            drawn.latest = now;
        }
        drawn.latest = drawn.latest.max(now);
        Ok(drawn)
    }

    fn locked(&self) -> MutexGuard<'_, Drawn> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn drawn() -> Result<NonceKey, NoRandomness> {
    let secret = zeroize::Zeroizing::new(random::bytes::<32>()?);
    Ok(NonceKey::of(&secret))
}

impl Beyond {
    /// Takes room for one more proof of a bucket of time, of which there are `most`.
    fn take(&self, number: u64, most: usize) -> bool {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.number < number || number + 1 < taken.number {
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
    /// Turns to the bucket of a time. Not back by one: a request that read its clock just before the
    /// turn may come just after it. By more the clock was set back, and there must be room again
    /// before it is where it was; what is known is kept for one more bucket.
    fn turn(&mut self, now: Time) {
        let bucket = now.seconds() / BUCKET_SECONDS;
        if self.number < bucket {
            self.old = std::mem::take(&mut self.young);
            self.number = bucket;
        } else if bucket + 1 < self.number {
            self.old.extend(self.young.drain());
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

    const BUCKET: u64 = BUCKET_SECONDS;

    #[test]
    fn a_tenant_has_its_share_for_sure_and_more_while_there_is_room() {
        let (busy, other) = (Replays::default(), Replays::default());
        let common = Beyond::default();
        let at = |seconds: u64| Time::from_seconds(BUCKET * 1000 + seconds);
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
            assert_eq!(accept(&busy, number, BUCKET), Ok(()), "{number}");
        }
        assert_eq!(accept(&busy, 1, BUCKET), Err(Rule::KeyProofSpent));
        assert_eq!(accept(&busy, 11, BUCKET), Err(Rule::Busy));
        assert_eq!(accept(&busy, 1, 2 * BUCKET), Ok(()));
        // What is too old is forgotten without a call.
        let held = |by: &Replays| {
            let buckets = by.0.lock().unwrap();
            buckets.young.len() + buckets.old.len()
        };
        assert_eq!((held(&busy), held(&other)), (6, 3));
        for tenant in [&busy, &other] {
            for buckets in [4, 5] {
                tenant.forget(at(buckets * BUCKET));
            }
            assert_eq!(held(tenant), 0);
        }
    }

    /// A clock that was ahead and is set back takes neither the room nor what is known.
    #[test]
    fn a_clock_that_is_set_back_leaves_room_and_forgets_nothing_that_came_since() {
        let (replays, common) = (Replays::default(), Beyond::default());
        let at = |seconds: u64| Time::from_seconds(BUCKET * 1000 + seconds);
        let accept = |number: u8, seconds: u64| {
            let beyond = |bucket| common.take(bucket, 1);
            let accepted = replays.accept([number; 32], at(seconds), 1, beyond);
            accepted.map_err(|refusal| refusal.rule)
        };
        let ahead = 60 * BUCKET;
        for number in 1..=2 {
            assert_eq!(accept(number, ahead), Ok(()));
        }
        assert_eq!(accept(3, ahead), Err(Rule::Busy));
        for bucket in 0..4 {
            let number = 10 + 2 * u8::try_from(bucket).unwrap();
            assert_eq!(accept(number, bucket * BUCKET), Ok(()), "{bucket}");
            assert_eq!(accept(number + 1, bucket * BUCKET), Ok(()), "{bucket}");
            assert_eq!(accept(number, bucket * BUCKET), Err(Rule::KeyProofSpent));
        }
        // And ahead for one request more: what came just before it is known.
        assert_eq!(accept(100, ahead), Ok(()));
        assert_eq!(accept(16, 3 * BUCKET), Err(Rule::KeyProofSpent));
    }

    #[test]
    fn a_clock_that_is_set_back_asks_for_nonces_made_since() {
        let at = |seconds: u64| Time::from_seconds(900_000 + seconds);
        let nonces = Nonces::drawn(at(0)).unwrap();
        let wanted = |seconds| nonces.are_wanted(at(seconds)).unwrap();
        let after = NONCE_AFTER.seconds();
        assert!(wanted(0) && wanted(after - 1) && !wanted(after));
        let before = nonces.current(at(after));
        assert!(nonces.accepts(&before, at(after)).unwrap());
        // Read a little earlier: nobody has set it back.
        assert!(!wanted(after) && nonces.accepts(&before, at(after - 1)).unwrap());
        let ahead = after + 6 * 3600;
        assert!(!wanted(ahead));
        for seconds in [after + 1, ahead, ahead + after - 1] {
            assert!(wanted(seconds), "{seconds}");
            assert!(!nonces.accepts(&before, at(seconds)).unwrap());
            let fresh = nonces.current(at(seconds));
            assert!(nonces.accepts(&fresh, at(seconds)).unwrap());
        }
        assert!(!wanted(ahead + after));
    }
}
