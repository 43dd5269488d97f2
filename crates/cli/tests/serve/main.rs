//! The binary as a server, with real clients: what survives a kill, what `proof` tells a job, and the
//! runbook's pages on keys.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by panicking"
)]

mod client;
mod crash;
mod keys;
mod proof;
mod stage;
