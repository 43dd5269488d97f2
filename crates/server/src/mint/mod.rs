//! Keys and signing: what a token says is fixed before it is recorded, and signed only after.

mod keyring;
mod life;
mod master;
mod stored;
#[cfg(test)]
mod tests;
mod token;

pub use keyring::{Keyring, KeyringError, ledger_keys, wanted};
pub use life::{
    ChangeError, JWKS_MAX_AGE, KeyInfo, KeyUse, Kind, Life, PUBLISHED_FOR, Step,
    accepted_offline_until, compromise, due, rotate,
};
pub use master::{MasterKey, MasterKeyError};
pub(crate) use stored::{Occasion, annexed, give_way, take};
pub use stored::{check_keys, compromise_offline, holds_keys, infos};
pub use token::{Behalf, Minted, NamedPerson, Sealer, WireDetails, claims_of, mint};
