//! The binary as a server, with real clients: what survives a kill, and what `proof` tells a job.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by panicking"
)]

mod check;
mod client;
mod crash;
mod front;
mod proof;
mod secrets;
mod stage;
