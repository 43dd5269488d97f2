//! The binary as a server, with real clients: what survives a kill, what a start heeds and what it
//! does not, which bounds hold, what `proof` tells a job, backups, and pages of the runbook.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by panicking"
)]

mod backup;
mod bounds;
mod check;
mod client;
mod crash;
mod ends;
mod erase;
mod export;
mod findings;
mod front;
mod keys;
mod offboarding;
mod page;
mod pods;
mod policy;
mod proof;

mod restart;
mod restore;
mod retain;
mod runs;
mod secrets;
mod signals;
mod sinks;
mod stage;
mod stall;
#[cfg(feature = "otel")]
mod traces;
mod transmitters;
mod webhooks;
