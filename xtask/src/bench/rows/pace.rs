//! How fast the machine is while something else is measured: on shared hardware that changes from one minute to the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    ParsedPublicKey,
};

use super::clock::wait;
use super::failure::{Context, Failure};
use super::machine;

/// Verifications in a row, and the rest after them: about a hundredth of a core.
const ROW: u32 = 20;
const REST: Duration = Duration::from_millis(100);

/// A thread that verifies one signature again and again, a little at a time.
pub(super) struct Pace {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<f64, Failure>>,
}

impl Pace {
    pub(super) fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || verify_until(&stopped));
        Self { stop, thread }
    }

    /// Microseconds of CPU that one verification took since the start.
    pub(super) fn stop(self) -> Result<f64, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join();
        ended.map_err(|_| Failure::new("the thread that keeps the pace ended"))?
    }
}

fn verify_until(stopped: &AtomicBool) -> Result<f64, Failure> {
    let message = [0x5a; 600];
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).context("no EC key")?;
    let signature = pair.sign(&SystemRandom::new(), &message);
    let signature = signature.context("no EC signature")?;
    let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref())
        .context("a key that does not parse")?;
    wait(REST);
    let before = machine::own_thread_nanos()?;
    let mut done = 0.0;
    loop {
        for _ in 0..ROW {
            key.verify_sig(&message, signature.as_ref())
                .context("a signature that does not verify")?;
            done += 1.0;
        }
        // The kernel counts a thread's time when it leaves the CPU, which it does here.
        wait(REST);
        if stopped.load(Ordering::Relaxed) {
            let nanos = machine::own_thread_nanos()?.saturating_sub(before);
            return Ok(nanos as f64 / 1000.0 / done);
        }
    }
}
