//! Proofs that a leaf is in a tree and that a tree grew from another, made and verified.

use alloc::vec::Vec;

use crate::hash::{Hash, empty_root, node_hash};
use crate::tile::{Nodes, ReadTiles, TileError};
use crate::tree::Frontier;

/// Why a proof does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The leaf or the older tree is not within the tree.
    #[error("{got} is not within a tree of size {size}")]
    Range {
        /// The leaf index or the older size.
        got: u64,
        /// The size of the tree.
        size: u64,
    },
    /// The proof has more or fewer hashes than these sizes call for.
    #[error("the proof has the wrong number of hashes: {got}")]
    Length {
        /// How many it has.
        got: usize,
    },
    /// The leaf and the proof make another root.
    #[error("the proof leads to root `{got}` instead of `{wanted}`")]
    Root {
        /// The root of the tree.
        wanted: Hash,
        /// The root the proof leads to.
        got: Hash,
    },
    /// The older root is not that of the tree's first leaves.
    #[error("the proof leads to the older root `{got}` instead of `{wanted}`")]
    OldRoot {
        /// The older root.
        wanted: Hash,
        /// The older root the proof leads to.
        got: Hash,
    },
}

/// The root of the tree of the first `size` leaves.
///
/// # Errors
/// [`TileError`] where the tiles do not give it.
pub fn root_at<R: ReadTiles>(size: u64, reader: &R) -> Result<Hash, TileError<R::Error>> {
    Ok(Frontier::from_tiles(size, reader)?.root())
}

/// The proof that the leaf `index` is in the tree of `size` leaves (RFC 6962 section 2.1.1).
///
/// # Errors
/// [`TileError`] where the index is not within the tree or the tiles do not give the proof.
pub fn inclusion_proof<R: ReadTiles>(
    index: u64,
    size: u64,
    reader: &R,
) -> Result<Vec<Hash>, TileError<R::Error>> {
    include(index, &mut Nodes::new(size, reader), size)
}

/// The [`inclusion_proof`] of many leaves, reading each tile once.
///
/// # Errors
/// As [`inclusion_proof`], for the first leaf that has none.
pub fn inclusion_proofs<R: ReadTiles>(
    indexes: &[u64],
    size: u64,
    reader: &R,
) -> Result<Vec<Vec<Hash>>, TileError<R::Error>> {
    let mut nodes = Nodes::new(size, reader);
    indexes
        .iter()
        .map(|index| include(*index, &mut nodes, size))
        .collect()
}

fn include<R: ReadTiles>(
    index: u64,
    nodes: &mut Nodes<'_, R>,
    size: u64,
) -> Result<Vec<Hash>, TileError<R::Error>> {
    if index >= size {
        return Err(TileError::Range {
            wanted: index,
            size,
        });
    }
    let (mut low, mut high) = (0, size);
    let mut proof = Vec::new();
    while high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            proof.push(nodes.range(middle, high)?);
            high = middle;
        } else {
            proof.push(nodes.range(low, middle)?);
            low = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The proof that the tree of `n` leaves begins with the tree of `m` (RFC 6962 section 2.1.2);
/// empty where `m` is 0 or `n`.
///
/// # Errors
/// [`TileError`] where `m` is more than `n` or the tiles do not give the proof.
pub fn consistency_proof<R: ReadTiles>(
    m: u64,
    n: u64,
    reader: &R,
) -> Result<Vec<Hash>, TileError<R::Error>> {
    if m > n {
        return Err(TileError::Range { wanted: m, size: n });
    }
    let mut proof = Vec::new();
    if m == 0 {
        return Ok(proof);
    }
    let mut nodes = Nodes::new(n, reader);
    let (mut low, mut high) = (0, n);
    while m != high {
        let middle = low + split(high - low);
        if m <= middle {
            proof.push(nodes.range(middle, high)?);
            high = middle;
        } else {
            proof.push(nodes.range(low, middle)?);
            low = middle;
        }
    }
    // The verifier has the older root already, and needs this subtree only where it is another.
    if low > 0 {
        proof.push(nodes.range(low, high)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The largest power of two below `width`, which is at least 2.
fn split(width: u64) -> u64 {
    1 << width.saturating_sub(1).checked_ilog2().unwrap_or(0)
}

/// Checks that the leaf is number `index` in the tree of that size and root
/// (RFC 9162 section 2.1.3.2).
///
/// # Errors
/// [`ProofError`] naming what differs.
pub fn verify_inclusion(
    index: u64,
    size: u64,
    leaf: &Hash,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    let Some(last) = size.checked_sub(1).filter(|last| index <= *last) else {
        return Err(ProofError::Range { got: index, size });
    };
    let mut climb = Climb { node: index, last };
    let mut got = *leaf;
    for sibling in proof {
        got = match climb
            .step()
            .ok_or(ProofError::Length { got: proof.len() })?
        {
            Side::Left => node_hash(sibling, &got),
            Side::Right => node_hash(&got, sibling),
        };
    }
    climb.finish(proof)?;
    if got == *root {
        Ok(())
    } else {
        Err(ProofError::Root { wanted: *root, got })
    }
}

/// Checks that the tree of `n` leaves begins with the tree of `m`
/// (RFC 9162 section 2.1.4.2). A tree without leaves says nothing about its successors, so
/// `m` = 0 is refused.
///
/// # Errors
/// [`ProofError`] naming what differs.
pub fn verify_consistency(
    m: u64,
    n: u64,
    root_m: &Hash,
    root_n: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    let length = ProofError::Length { got: proof.len() };
    if m == 0 || m > n {
        return Err(ProofError::Range { got: m, size: n });
    }
    if m == n {
        return match (proof.is_empty(), root_m == root_n) {
            (false, _) => Err(length),
            (true, false) => Err(ProofError::Root {
                wanted: *root_n,
                got: *root_m,
            }),
            (true, true) => Ok(()),
        };
    }
    let mut climb = Climb {
        node: m - 1,
        last: n - 1,
    };
    climb.skip_right_edges();
    // An older tree that is one complete subtree starts the climb itself.
    let (mut old, rest) = if climb.node == 0 {
        (*root_m, proof)
    } else {
        let (first, rest) = proof.split_first().ok_or(length)?;
        (*first, rest)
    };
    let mut new = old;
    for sibling in rest {
        match climb.step().ok_or(length)? {
            Side::Left => {
                old = node_hash(sibling, &old);
                new = node_hash(sibling, &new);
            }
            Side::Right => new = node_hash(&new, sibling),
        }
    }
    climb.finish(proof)?;
    if old != *root_m {
        return Err(ProofError::OldRoot {
            wanted: *root_m,
            got: old,
        });
    }
    if new == *root_n {
        Ok(())
    } else {
        Err(ProofError::Root {
            wanted: *root_n,
            got: new,
        })
    }
}

/// The way from a node to the root: its index and that of its level's last node.
struct Climb {
    node: u64,
    last: u64,
}

/// On which side of the node its sibling stands.
enum Side {
    Left,
    Right,
}

impl Climb {
    /// Goes to the parent and says where the sibling stood; none at the root.
    fn step(&mut self) -> Option<Side> {
        if self.last == 0 {
            return None;
        }
        let side = if self.node % 2 == 1 || self.node == self.last {
            // A last node without a right sibling is its own parent until it is a right child.
            while self.node.is_multiple_of(2) && self.node != 0 {
                self.up();
            }
            Side::Left
        } else {
            Side::Right
        };
        self.up();
        Some(side)
    }

    /// Goes up while the node is a right child.
    fn skip_right_edges(&mut self) {
        while self.node % 2 == 1 {
            self.up();
        }
    }

    fn up(&mut self) {
        self.node >>= 1;
        self.last >>= 1;
    }

    fn finish(&self, proof: &[Hash]) -> Result<(), ProofError> {
        if self.last == 0 {
            Ok(())
        } else {
            Err(ProofError::Length { got: proof.len() })
        }
    }
}

/// Checks that a tree of size 0 has the root of nothing.
pub(crate) fn is_empty_tree(size: u64, root: &Hash) -> bool {
    size == 0 && *root == empty_root()
}
