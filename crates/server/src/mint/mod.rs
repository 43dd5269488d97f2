//! Keys and signing: what a token says is fixed before it is recorded, and signed only after.

mod keyring;
mod master;
mod token;

pub use keyring::{KeyInfo, KeyUse, Keyring, KeyringError, holds_keys};
pub use master::{MasterKey, MasterKeyError};
pub use token::{Minted, Sealer, WireDetails, claims_of, mint};
