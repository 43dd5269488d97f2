//! Ranges of leaves: the proof that leaves which follow each other stand at their place in a tree.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::tile::{Nodes, ReadTiles, TileError};
use crate::tree::{Frontier, subtrees_between};

/// What the rest of a tree comes to, for whoever holds the leaves of a range: the roots of the
/// complete subtrees before it and after it, from the left. With the leaves between them they make
/// the root (RFC 6962 section 2.1), and no other leaves do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RangeProof {
    /// Those before the first leaf.
    pub before: Vec<Hash>,
    /// Those after the last.
    pub after: Vec<Hash>,
}

/// Why leaves are not those of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// They reach beyond the tree.
    #[error("the leaves up to position {end} are not within a tree of size {size}")]
    Range {
        /// The position after the last of them.
        end: u64,
        /// The size of the tree.
        size: u64,
    },
    /// The proof has more or fewer hashes than such a range calls for.
    #[error("the proof has {got} hashes instead of {wanted}")]
    Length {
        /// How many it needs.
        wanted: usize,
        /// How many it has.
        got: usize,
    },
    /// Leaves and proof make another root.
    #[error("the leaves lead to root `{got}` instead of `{wanted}`")]
    Root {
        /// The root of the tree.
        wanted: Hash,
        /// The root they lead to.
        got: Hash,
    },
}

/// The proof of the leaves `from..to` in the tree of `size` leaves.
///
/// # Errors
/// [`TileError`] where the range is not within the tree or the tiles do not give the proof.
pub fn range_proof<R: ReadTiles>(
    from: u64,
    to: u64,
    size: u64,
    reader: &R,
) -> Result<RangeProof, TileError<R::Error>> {
    if from > to || to > size {
        let wanted = from.max(to);
        return Err(TileError::Range { wanted, size });
    }
    let mut nodes = Nodes::new(size, reader);
    let mut roots = |low, high| {
        subtrees_between(low, high)
            .map(|(height, index)| nodes.node(height, index))
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(RangeProof {
        before: roots(0, from)?,
        after: roots(to, size)?,
    })
}

/// Checks that these leaves, the first of them at position `from`, are those of the tree of this
/// size and root.
///
/// # Errors
/// [`RangeError`].
pub fn verify_range(
    from: u64,
    leaves: impl IntoIterator<Item = Hash>,
    size: u64,
    root: &Hash,
    proof: &RangeProof,
) -> Result<(), RangeError> {
    check_length(subtrees_between(0, from).count(), proof.before.len())?;
    let mut tree = Frontier::from_peaks(from, proof.before.clone());
    for leaf in leaves {
        tree.push(leaf);
    }
    let end = tree.size();
    if end > size {
        return Err(RangeError::Range { end, size });
    }
    check_length(subtrees_between(end, size).count(), proof.after.len())?;
    for ((height, _), node) in subtrees_between(end, size).zip(&proof.after) {
        tree.push_subtree(height, *node);
    }
    let got = tree.root();
    if got == *root {
        return Ok(());
    }
    Err(RangeError::Root { wanted: *root, got })
}

fn check_length(wanted: usize, got: usize) -> Result<(), RangeError> {
    if wanted == got {
        return Ok(());
    }
    Err(RangeError::Length { wanted, got })
}
