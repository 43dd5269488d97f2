//! C2SP tiles: how a tree lies in files or rows of 256 hashes, and how a node is found in them.

pub use bundle::{BundleError, encode_bundle, encode_hashes, parse_bundle, parse_hashes};
pub use path::{TilePath, TilePathError};
pub use writer::{FullTile, RestoreError, TileWriter, Tiles};

mod bundle;
mod path;
mod writer;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::hash::Hash;
use crate::tree::{complete_subtrees, join, subtree_root};

/// How many hashes a full tile has.
pub const TILE_WIDTH: u16 = 256;

/// How many levels of a tile lie in one tile: its hashes are `8 * level` above the leaves.
pub(crate) const TILE_HEIGHT: u32 = 8;

/// Where tiles come from: a table, a folder, a server.
pub trait ReadTiles {
    /// Why a tile could not be had.
    type Error;

    /// The first `width` hashes, 1 to 256, of the tile `index` at `level`, from the left.
    ///
    /// The hash `i` of that tile is the root of the complete subtree of `256^level` leaves that
    /// is number `256 * index + i` from the left. More hashes than asked for are cut off, fewer
    /// are an error of the caller's.
    ///
    /// # Errors
    /// Whatever keeps the source from answering.
    fn tile(&self, level: u8, index: u64, width: u16) -> Result<Vec<Hash>, Self::Error>;
}

/// Why a tree could not be read from its tiles.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileError<E> {
    /// The source failed.
    #[error("tile {index} of level {level} cannot be read")]
    Read {
        /// Level of the tile.
        level: u8,
        /// Index of the tile in its level.
        index: u64,
        /// What the source said.
        source: E,
    },
    /// The tile has fewer hashes than a tree of this size has there.
    #[error("tile {index} of level {level} has {got} hashes instead of {wanted}")]
    Short {
        /// Level of the tile.
        level: u8,
        /// Index of the tile in its level.
        index: u64,
        /// How many hashes were asked for.
        wanted: u16,
        /// How many came.
        got: usize,
    },
    /// The leaf or the older size is not within the tree.
    #[error("{wanted} is not within a tree of size {size}")]
    Range {
        /// The leaf index or the older size asked for.
        wanted: u64,
        /// The size of the tree.
        size: u64,
    },
}

/// The nodes of a tree of one size, looked up through its tiles; each tile is read once.
pub(crate) struct Nodes<'r, R> {
    size: u64,
    reader: &'r R,
    read: BTreeMap<(u8, u64), Vec<Hash>>,
}

impl<'r, R: ReadTiles> Nodes<'r, R> {
    pub(crate) fn new(size: u64, reader: &'r R) -> Self {
        Self {
            size,
            reader,
            read: BTreeMap::new(),
        }
    }

    /// The Merkle tree hash of the leaves `low..high`, which an RFC 6962 split cut out.
    pub(crate) fn range(&mut self, low: u64, high: u64) -> Result<Hash, TileError<R::Error>> {
        let peaks = complete_subtrees(low, high).map(|(height, index)| self.node(height, index));
        let peaks = peaks.collect::<Result<Vec<_>, _>>()?;
        join(&peaks).ok_or(TileError::Range {
            wanted: high,
            size: self.size,
        })
    }

    /// The root of the complete subtree number `index` among those of 2^`height` leaves.
    pub(crate) fn node(&mut self, height: u32, index: u64) -> Result<Hash, TileError<R::Error>> {
        let level = height / TILE_HEIGHT;
        let rise = height % TILE_HEIGHT;
        let outside = TileError::Range {
            wanted: index,
            size: self.size,
        };
        // INVARIANT: a complete subtree within the tree has its first hash at `index << rise`,
        // which is below 2^64, and all its 2^rise hashes in one tile.
        let (Ok(level), Some(first)) = (u8::try_from(level), index.checked_mul(1 << rise)) else {
            return Err(outside);
        };
        let tile = self.tile(level, first / u64::from(TILE_WIDTH))?;
        let start = usize::from(first.to_le_bytes()[0]);
        let hashes = tile.get(start..start + (1 << rise));
        hashes.and_then(subtree_root).ok_or(outside)
    }

    fn tile(&mut self, level: u8, index: u64) -> Result<&[Hash], TileError<R::Error>> {
        let wanted = width_at(self.size, level, index);
        match self.read.entry((level, index)) {
            alloc::collections::btree_map::Entry::Occupied(known) => Ok(known.into_mut()),
            alloc::collections::btree_map::Entry::Vacant(slot) => {
                if wanted == 0 {
                    return Err(TileError::Range {
                        wanted: index,
                        size: self.size,
                    });
                }
                let tile = self.reader.tile(level, index, wanted);
                let tile = tile.map_err(|source| TileError::Read {
                    level,
                    index,
                    source,
                })?;
                if tile.len() < usize::from(wanted) {
                    return Err(TileError::Short {
                        level,
                        index,
                        wanted,
                        got: tile.len(),
                    });
                }
                Ok(slot.insert(tile))
            }
        }
    }
}

/// How many hashes a tree of `size` leaves has in that tile: 0 where it has no such tile, 256
/// where the tile is full (C2SP tlog-tiles, "Partial Tiles").
#[must_use]
pub fn width_at(size: u64, level: u8, index: u64) -> u16 {
    let hashes = size
        .checked_shr(TILE_HEIGHT * u32::from(level))
        .unwrap_or(0);
    let Some(first) = index.checked_mul(u64::from(TILE_WIDTH)) else {
        return 0;
    };
    let left = hashes.saturating_sub(first).min(u64::from(TILE_WIDTH));
    u16::try_from(left).unwrap_or(TILE_WIDTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths() {
        assert_eq!(width_at(0, 0, 0), 0);
        assert_eq!(width_at(70_000, 0, 272), 256);
        assert_eq!(width_at(70_000, 0, 273), 112);
        assert_eq!(width_at(70_000, 0, 274), 0);
        assert_eq!(width_at(70_000, 1, 1), 17);
        assert_eq!(width_at(70_000, 2, 0), 1);
        assert_eq!(width_at(u64::MAX, 7, 0), 255);
        assert_eq!(width_at(u64::MAX, 8, 0), 0);
        assert_eq!(width_at(u64::MAX, 255, u64::MAX), 0);
    }
}
