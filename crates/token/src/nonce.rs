//! DPoP nonces that need no memory: an HMAC over the current five minutes (RFC 9449 section 8).

use core::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::rand;

use crate::b64;
use crate::hash::constant_time_eq;

/// The secret of the nonces; made anew at each start, kept nowhere.
pub struct NonceKey(hmac::Key);

impl NonceKey {
    /// Seconds for which one nonce is handed out; it is accepted for as long again.
    pub const BUCKET_SECONDS: u64 = 300;

    /// A fresh secret; fails only when the system gives no randomness.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut secret = [0; 32];
        rand::fill(&mut secret).map_err(|_| NoRandomness)?;
        Ok(Self::of(&secret))
    }

    /// A given secret.
    #[must_use]
    pub fn of(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The nonce to hand out at `now`.
    #[must_use]
    pub fn current(&self, now: u64) -> String {
        self.of_bucket(now / Self::BUCKET_SECONDS)
    }

    /// Whether `nonce` is that of `now` or of the bucket before.
    #[must_use]
    pub fn accepts(&self, nonce: &str, now: u64) -> bool {
        let bucket = now / Self::BUCKET_SECONDS;
        let is = |bucket| constant_time_eq(nonce.as_bytes(), self.of_bucket(bucket).as_bytes());
        is(bucket) | bucket.checked_sub(1).is_some_and(is)
    }

    fn of_bucket(&self, bucket: u64) -> String {
        let tag = hmac::sign(
            &self.0,
            &[b"dayfly dpop nonce ", bucket.to_be_bytes().as_slice()].concat(),
        );
        b64::encode(tag)
    }
}

impl fmt::Debug for NonceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NonceKey(..)")
    }
}

/// The system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandomness;
