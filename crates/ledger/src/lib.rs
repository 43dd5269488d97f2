//! The Merkle ledger: leaves, tree, tiles, proofs, heads and receipts; all an auditor links.
//!
//! Nothing here reads a clock, a file, a socket or a source of randomness; every function is a
//! pure check or a pure construction over bytes (DESIGN sections 6 and 9).
//!
//! | module | holds |
//! |---|---|
//! | [`hash`] | SHA-256, leaf and node hashes of RFC 6962 |
//! | [`tree`] | the compact right edge of a growing tree |
//! | [`tile`] | C2SP tiles: geometry, paths, reading, writing, bundles of entries |
//! | [`proof`] | inclusion and consistency proofs, made and verified |
//! | [`range`] | proofs of leaves that follow each other |
//! | [`note`] | C2SP signed notes and their keys |
//! | [`head`] | signed checkpoints |
//! | [`leaf`] | the bytes of one entry |
//! | [`receipt`] | all entries of one task, verifiable offline |
//! | [`fsck`] | the whole ledger, entry by entry |

#![no_std]

extern crate alloc;

#[cfg(test)]
extern crate std;

pub mod fsck;
pub mod hash;
pub mod head;
pub mod leaf;
pub mod note;
pub mod proof;
pub mod range;
pub mod receipt;
pub mod tile;
pub mod tree;

mod chain;
mod json;

pub use chain::ChainError;
pub use fsck::{Fsck, FsckError};
pub use hash::{Hash, empty_root, leaf_hash, node_hash, sha256};
pub use head::{Head, cosign_head, open_head, sign_head, verify_extends};
pub use leaf::{Leaf, Link, ReadLeaf, annex_hash};
pub use note::{SignerKey, VerifierKey};
pub use proof::{
    consistency_proof, inclusion_proof, inclusion_proofs, root_at, verify_consistency,
    verify_inclusion,
};
pub use range::{RangeProof, range_proof, verify_range};
pub use receipt::{Receipt, ReceiptError, Verified};
pub use serde_json::value::RawValue;
pub use tile::{FullTile, ReadTiles, TileWriter};
pub use tree::Frontier;
