//! The binary as a server, with real clients: what survives a kill, what a start heeds and what it
//! does not, which bounds hold, and what `proof` tells a job.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by panicking"
)]

mod bounds;
mod client;
mod crash;
mod offboarding;
mod proof;
mod restart;
mod stage;
