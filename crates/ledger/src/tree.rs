//! The right edge of a growing tree, which is all that a root and the next leaf need.

use alloc::vec::Vec;

use crate::hash::{Hash, empty_root, node_hash};
use crate::tile::{Nodes, ReadTiles, TileError};

/// The roots of the complete subtrees that a tree of `size` leaves falls into, the largest first
/// (RFC 9162 section 2.1.2): one per bit set in `size`, at most 64. A clone is one small copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// The tree without leaves.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The tree of the first `size` leaves, read from its tiles.
    ///
    /// # Errors
    /// [`TileError`] where a tile cannot be read or is too narrow.
    pub fn from_tiles<R: ReadTiles>(size: u64, reader: &R) -> Result<Self, TileError<R::Error>> {
        let mut nodes = Nodes::new(size, reader);
        let peaks = complete_subtrees(0, size).map(|(height, index)| nodes.node(height, index));
        Ok(Self {
            size,
            peaks: peaks.collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn from_peaks(size: u64, peaks: Vec<Hash>) -> Self {
        Self { size, peaks }
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        self.push_each(leaf, |_, _| {});
    }

    /// Appends a leaf and tells of every subtree it completes: its height, from 0 for the leaf
    /// itself, and its root.
    pub(crate) fn push_each(&mut self, leaf: Hash, mut completed: impl FnMut(u32, Hash)) {
        completed(0, leaf);
        let mut node = leaf;
        // INVARIANT: a trailing one in the size is a complete subtree of that height, and the
        // peaks end with them in ascending height.
        for height in 1..=self.size.trailing_ones() {
            let Some(left) = self.peaks.pop() else { break };
            node = node_hash(&left, &node);
            completed(height, node);
        }
        self.peaks.push(node);
        // 2^64 leaves cannot be reached: at one a nanosecond they take 584 years.
        self.size = self.size.saturating_add(1);
    }

    /// Appends a complete subtree of `2^height` leaves, of which only the root is known. The tree must
    /// end where such a subtree can begin, as it does between the parts of a range.
    pub(crate) fn push_subtree(&mut self, height: u32, root: Hash) {
        let mut node = root;
        // INVARIANT: as for a leaf, `2^height` times as large.
        for _ in 0..self.size.checked_shr(height).unwrap_or(0).trailing_ones() {
            let Some(left) = self.peaks.pop() else { break };
            node = node_hash(&left, &node);
        }
        self.peaks.push(node);
        let leaves = 1_u64.checked_shl(height).unwrap_or(0);
        self.size = self.size.saturating_add(leaves);
    }

    /// How many leaves there are.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The Merkle tree hash (RFC 6962 section 2.1).
    #[must_use]
    pub fn root(&self) -> Hash {
        join(&self.peaks).unwrap_or_else(empty_root)
    }
}

/// Joins neighbouring subtrees, the largest first, into the root above them; none for no subtree.
pub(crate) fn join(peaks: &[Hash]) -> Option<Hash> {
    let (last, rest) = peaks.split_last()?;
    Some(
        rest.iter()
            .rfold(*last, |right, left| node_hash(left, &right)),
    )
}

/// The root of a complete subtree over its nodes, whose number must be a power of two.
pub(crate) fn subtree_root(nodes: &[Hash]) -> Option<Hash> {
    let mut frontier = Frontier::new();
    nodes.iter().for_each(|node| frontier.push(*node));
    match frontier.peaks.as_slice() {
        [root] => Some(*root),
        _ => None,
    }
}

/// The complete subtrees of the leaves `low..high`, from the left, each as height and index at
/// that height. `low` must be aligned to the largest of them, as it is in every RFC 6962 split.
pub(crate) fn complete_subtrees(mut low: u64, high: u64) -> impl Iterator<Item = (u32, u64)> {
    core::iter::from_fn(move || {
        let height = high.checked_sub(low)?.checked_ilog2()?;
        let index = low >> height;
        low += 1 << height;
        Some((height, index))
    })
}

/// The largest complete subtrees that the leaves `low..high` fall into wherever the range begins,
/// from the left, each as height and index at that height: at most 126.
pub(crate) fn subtrees_between(mut low: u64, high: u64) -> impl Iterator<Item = (u32, u64)> {
    core::iter::from_fn(move || {
        let left = high.checked_sub(low)?.checked_ilog2()?;
        let height = low.trailing_zeros().min(left);
        let index = low >> height;
        low += 1 << height;
        Some((height, index))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::leaf_hash;

    #[test]
    fn subtrees_of_extremes() {
        assert_eq!(complete_subtrees(0, 0).count(), 0);
        assert_eq!(complete_subtrees(0, u64::MAX).count(), 64);
        assert!(complete_subtrees(0, 7).eq([(2, 0), (1, 2), (0, 6)]));
        assert!(complete_subtrees(4, 7).eq([(1, 2), (0, 6)]));
        assert!(subtrees_between(0, 7).eq(complete_subtrees(0, 7)));
        assert!(subtrees_between(3, 12).eq([(0, 3), (2, 1), (2, 2)]));
        assert_eq!(subtrees_between(7, 7).count(), 0);
        assert_eq!(subtrees_between(1, u64::MAX).count(), 126);
    }

    #[test]
    fn completed_subtrees_are_told() {
        let mut frontier = Frontier::new();
        let mut heights = Vec::new();
        for i in 0..4_u8 {
            frontier.push_each(leaf_hash(&[i]), |height, _| heights.push(height));
        }
        assert_eq!(heights, [0, 0, 1, 0, 0, 1, 2]);
        assert_eq!(frontier.size(), 4);
        assert_eq!(Frontier::new().root(), empty_root());
    }
}
