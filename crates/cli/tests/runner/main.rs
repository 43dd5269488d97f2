//! The runner against a small server that checks every proof and remembers every call.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod approval;
mod fake;
mod harness;
mod resource;
mod terminal;

mod grants;
mod keyless;
mod loopback;
mod person;
mod printed;
mod processes;
mod proxy;
