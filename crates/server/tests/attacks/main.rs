//! Attacks on a running server, each named after what must hold, none of them waiting for time.

mod access;
mod audience;
mod contention;
mod declared;
mod dpop;
mod ends;
mod faults;
mod input;
mod job;
mod proofs;
mod refusals;
mod resources;
mod silence;
mod tenants;
mod world;
