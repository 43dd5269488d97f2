//! The control plane: use cases, verification of proofs, minting and the HTTP faces.

pub mod app;
pub mod config;
pub mod declared;
pub mod finding;
pub mod http;
pub mod mint;
pub mod policy;
mod random;
mod rate;
pub mod record;
pub mod restore;
pub mod sinks;
pub mod telemetry;
pub mod transmitters;
pub mod verify;

pub use random::NoRandomness;
