//! The ledger against data made elsewhere, against laws, and against forgers.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod book;
mod fsck;
mod leaves;
mod properties;
mod receipts;
mod vectors;
