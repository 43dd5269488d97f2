//! The control plane: use cases, verification of proofs, minting and the HTTP faces.

pub mod app;
pub mod config;
pub mod declared;
pub mod http;
pub mod mint;
pub mod policy;
mod random;
pub mod record;
pub mod verify;

pub use random::NoRandomness;
