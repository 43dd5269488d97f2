//! What no durable issuance can avoid, measured on this machine in this run, in CPU time.

use std::hint::black_box;
use std::path::Path;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
    RsaKeyPair, VerificationAlgorithm,
};

use super::failure::{Context, Failure};
use super::pace::Pace;
use super::{machine, probe, sqlite};

/// Microseconds of CPU for one of each, but for the sync, which is waiting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Primitives {
    pub(super) rs256_verify: f64,
    pub(super) es256_verify: f64,
    pub(super) es256_sign: f64,
    pub(super) ed25519_verify: f64,
    pub(super) ed25519_sign: f64,
    pub(super) sha256: f64,
    /// A POST of an issuance's size through a bare axum handler, the server's side alone.
    pub(super) http: f64,
    /// How many of these there are a second, with the generator on the same cores.
    pub(super) http_rate: f64,
    /// The rows of one issuance in a transaction of 128 of them.
    pub(super) sqlite: f64,
    /// The same with the waiting for the disk.
    pub(super) sqlite_elapsed: f64,
    /// The median of syncing one page.
    pub(super) sync: f64,
    /// What the pace was while all of this was measured.
    pub(super) pace: f64,
}

/// How many hashes of about 600 bytes an issuance makes beside those within signatures: three
/// leaves, three nodes, an annex, the proof, its one-time key, the DPoP proof's, a thumbprint, the
/// request, and the token's signing input.
pub(super) const HASHES: f64 = 13.0;

/// The sum of the same on the machine that the floors were set on (DESIGN, section 11): RS256 and
/// ES256 verify 15 and 37, ES256 sign 13, the hashes 4, the server's side of HTTP 12, SQLite 14.
const REFERENCE: f64 = 95.0;

impl Primitives {
    /// The primitives as they were at another pace: all of them go with it, near enough.
    pub(super) fn at_pace(&self, pace: f64) -> Self {
        let by = pace / self.pace;
        Self {
            rs256_verify: self.rs256_verify * by,
            es256_verify: self.es256_verify * by,
            es256_sign: self.es256_sign * by,
            ed25519_verify: self.ed25519_verify * by,
            ed25519_sign: self.ed25519_sign * by,
            sha256: self.sha256 * by,
            http: self.http * by,
            sqlite: self.sqlite * by,
            pace,
            ..*self
        }
    }

    /// How many times slower this machine is than the one that the floors were set on.
    pub(super) fn slowness(&self) -> f64 {
        self.issuance() / REFERENCE
    }

    /// Measures all of them.
    pub(super) fn measure(folder: &Path, quick: bool) -> Result<Self, Failure> {
        let pace = Pace::start();
        let rounds = Rounds {
            nanos: if quick { 30_000_000 } else { 100_000_000 },
        };
        let message = [0x5a; 600];
        let (rs256_verify, es256_verify) = (rsa(rounds, &message)?, ecdsa(rounds, &message)?);
        let (ed25519_sign, ed25519_verify) = ed25519(rounds, &message)?;
        let sha256 = rounds.micros(|| {
            black_box(aws_lc_rs::digest::digest(
                &aws_lc_rs::digest::SHA256,
                black_box(&message),
            ));
            Ok(())
        })?;
        let (http, http_rate) = probe::measure(quick)?;
        let (sqlite, sqlite_elapsed) = sqlite::issuance(folder, quick)?;
        let sync = sqlite::lone_sync(folder, quick)?;
        Ok(Self {
            rs256_verify,
            es256_sign: es256_verify.0,
            es256_verify: es256_verify.1,
            ed25519_sign,
            ed25519_verify,
            sha256,
            http,
            http_rate,
            sqlite,
            sqlite_elapsed,
            sync,
            pace: pace.stop()?,
        })
    }

    /// What one issuance cannot avoid: the platform's token and the DPoP proof verified, a token
    /// signed, hashes, a request, and its share of a commit.
    pub(super) fn issuance(&self) -> f64 {
        self.rs256_verify
            + self.es256_verify
            + self.es256_sign
            + HASHES * self.sha256
            + self.http
            + self.sqlite
    }

    /// What a decision about a token that is known cannot avoid: the proof verified, hashes, a
    /// request, and its row and its proof's in a commit, of the seven of an issuance.
    pub(super) fn decision(&self) -> f64 {
        self.http + self.es256_verify + 8.0 * self.sha256 + self.sqlite * 2.0 / 7.0
    }

    /// What the first introspection of a token cannot avoid; later ones need no signature.
    pub(super) fn introspection(&self, cold: bool) -> f64 {
        let signature = if cold { self.es256_verify } else { 0.0 };
        // The token by its whole text, and both secrets.
        self.http + signature + 4.0 * self.sha256
    }
}

/// How long each primitive is repeated.
#[derive(Clone, Copy)]
struct Rounds {
    nanos: u64,
}

impl Rounds {
    /// The median of seven rounds, so that one round that others disturbed does not count.
    fn micros(self, mut work: impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
        let mut times = Vec::with_capacity(7);
        let mut repeats = 16_u32;
        while times.len() < 7 {
            let before = machine::own_thread_nanos()?;
            for _ in 0..repeats {
                work()?;
            }
            let nanos = machine::own_thread_nanos()?.saturating_sub(before);
            // The kernel counts a thread's time when it looks at it, so a round must be long.
            if nanos < self.nanos {
                repeats = repeats.saturating_mul(2);
                continue;
            }
            times.push(nanos as f64 / f64::from(repeats) / 1000.0);
        }
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().context("no round")
    }
}

fn rsa(rounds: Rounds, message: &[u8]) -> Result<f64, Failure> {
    let pair = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).context("no RSA key")?;
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        message,
        &mut signature,
    )
    .context("no RSA signature")?;
    let public = pair.public_key().as_der().context("no RSA public key")?;
    verify(
        rounds,
        &RSA_PKCS1_2048_8192_SHA256,
        public.as_ref(),
        message,
        &signature,
    )
}

/// Signing and verifying.
fn ecdsa(rounds: Rounds, message: &[u8]) -> Result<(f64, f64), Failure> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).context("no EC key")?;
    let random = SystemRandom::new();
    let signature = pair.sign(&random, message).context("no EC signature")?;
    let sign = rounds.micros(|| {
        black_box(
            pair.sign(&random, black_box(message))
                .context("no EC signature")?,
        );
        Ok(())
    })?;
    let public = pair.public_key().as_ref();
    Ok((
        sign,
        verify(
            rounds,
            &ECDSA_P256_SHA256_FIXED,
            public,
            message,
            signature.as_ref(),
        )?,
    ))
}

/// Signing and verifying.
fn ed25519(rounds: Rounds, message: &[u8]) -> Result<(f64, f64), Failure> {
    let pair = Ed25519KeyPair::generate().context("no Ed25519 key")?;
    let signature = pair.sign(message);
    let sign = rounds.micros(|| {
        black_box(pair.sign(black_box(message)));
        Ok(())
    })?;
    let public = pair.public_key().as_ref();
    Ok((
        sign,
        verify(rounds, &ED25519, public, message, signature.as_ref())?,
    ))
}

fn verify(
    rounds: Rounds,
    algorithm: &'static dyn VerificationAlgorithm,
    public: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<f64, Failure> {
    let key = ParsedPublicKey::new(algorithm, public).context("a key that does not parse")?;
    rounds.micros(|| {
        key.verify_sig(black_box(message), black_box(signature))
            .context("a signature that does not verify")
    })
}
