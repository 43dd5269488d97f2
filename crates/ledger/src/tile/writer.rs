//! The growing end of a tiled tree, so that a store writes each tile once, when it is full.

use alloc::vec::Vec;

use super::{ReadTiles, TILE_HEIGHT, TILE_WIDTH, TileError, width_at};
use crate::hash::Hash;
use crate::tree::{Frontier, complete_subtrees, subtree_root};

/// The tree as a writer keeps it: its frontier and the incomplete rightmost tile of each level.
///
/// A store persists each [`FullTile`] in the transaction of the leaves that completed it and
/// nothing of the partial ones, which [`restore`](TileWriter::restore) rebuilds. A batch works on
/// a clone, 8 KiB a level at most, and a failed batch is undone by dropping it.
#[derive(Clone, Debug, Default)]
pub struct TileWriter {
    frontier: Frontier,
    /// Per level the hashes after its last full tile, 255 at most.
    tails: Vec<Vec<Hash>>,
    full: Vec<FullTile>,
}

/// A tile that has all its 256 hashes and so never changes again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullTile {
    /// 0 for hashes of leaves.
    pub level: u8,
    /// Number of the tile in its level, from the left.
    pub index: u64,
    /// Its 256 hashes.
    pub hashes: Vec<Hash>,
}

/// Why a writer could not be restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError<E> {
    /// The leaves after the last full tile are not as many as the size says.
    #[error("{got} leaves after the last full tile instead of {wanted}")]
    Tail {
        /// The size modulo 256.
        wanted: u16,
        /// How many were given.
        got: usize,
    },
    /// A full tile could not be read.
    #[error("the tiles cannot be read")]
    Tile(#[from] TileError<E>),
}

impl TileWriter {
    /// The tree without leaves.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The tree of `size` leaves, from the full tiles that were persisted and the hashes of the
    /// `size % 256` leaves after the last full tile of level 0. Asks the reader for full tiles
    /// only, 255 a level at most. Whether the result is the tree that was signed, the caller
    /// knows by comparing [`root`](TileWriter::root) with its head.
    ///
    /// # Errors
    /// [`RestoreError`] where a tile or a leaf is missing.
    pub fn restore<R: ReadTiles>(
        size: u64,
        full: &R,
        tail: &[Hash],
    ) -> Result<Self, RestoreError<R::Error>> {
        let wanted = width_at(size, 0, size / u64::from(TILE_WIDTH));
        if tail.len() != usize::from(wanted) {
            return Err(RestoreError::Tail {
                wanted,
                got: tail.len(),
            });
        }
        let mut tails = Vec::from([tail.to_vec()]);
        // Each hash of a higher level is the root of a full tile one level below.
        for level in 1..=top_level(size) {
            let hashes = size >> (TILE_HEIGHT * u32::from(level));
            let first = hashes - hashes % u64::from(TILE_WIDTH);
            let tail = (first..hashes).map(|index| full_tile_root(full, level - 1, index));
            tails.push(tail.collect::<Result<_, _>>()?);
        }
        let peaks = peaks_of(size, &tails);
        Ok(Self {
            frontier: Frontier::from_peaks(size, peaks),
            tails,
            full: Vec::new(),
        })
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let Self {
            frontier,
            tails,
            full,
        } = self;
        let position = frontier.size();
        frontier.push_each(leaf, |height, node| {
            if height % TILE_HEIGHT != 0 {
                return;
            }
            let level = height / TILE_HEIGHT;
            // A tree has eight levels at most, so the level is a byte.
            let (Ok(level), Ok(at)) = (u8::try_from(level), usize::try_from(level)) else {
                return;
            };
            if tails.len() <= at {
                tails.push(Vec::with_capacity(TILE_WIDTH.into()));
            }
            let Some(tail) = tails.get_mut(at) else {
                return;
            };
            tail.push(node);
            if tail.len() == usize::from(TILE_WIDTH) {
                let index = position
                    .checked_shr(TILE_HEIGHT * (u32::from(level) + 1))
                    .unwrap_or(0);
                let hashes = core::mem::replace(tail, Vec::with_capacity(TILE_WIDTH.into()));
                full.push(FullTile {
                    level,
                    index,
                    hashes,
                });
            }
        });
    }

    /// The tiles completed since the last call, in the order of their completion.
    #[must_use = "a tile not persisted is lost"]
    pub fn take_full(&mut self) -> Vec<FullTile> {
        core::mem::take(&mut self.full)
    }

    /// How many leaves there are.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The Merkle tree hash.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// The hashes of a level after its last full tile, 255 at most; empty where there is none.
    #[must_use]
    pub fn partial(&self, level: u8) -> &[Hash] {
        self.tails
            .get(usize::from(level))
            .map_or(&[], Vec::as_slice)
    }

    /// A reader of the whole tree: partial tiles from memory, full ones from the store.
    #[must_use]
    pub fn over<'w, R>(&'w self, full: &'w R) -> Tiles<'w, R> {
        Tiles { writer: self, full }
    }
}

/// The tiles of a writer's tree, the full ones from elsewhere.
#[derive(Debug)]
pub struct Tiles<'w, R> {
    writer: &'w TileWriter,
    full: &'w R,
}

impl<R: ReadTiles> ReadTiles for Tiles<'_, R> {
    type Error = R::Error;

    fn tile(&self, level: u8, index: u64, width: u16) -> Result<Vec<Hash>, R::Error> {
        let mut tile = if width_at(self.writer.size(), level, index) == TILE_WIDTH {
            // A tile of an older head may have been partial then and be full now.
            match self
                .writer
                .full
                .iter()
                .find(|tile| tile.level == level && tile.index == index)
            {
                Some(pending) => pending.hashes.clone(),
                None => self.full.tile(level, index, TILE_WIDTH)?,
            }
        } else if width_at(self.writer.size(), level, index) > 0 {
            self.writer.partial(level).to_vec()
        } else {
            Vec::new()
        };
        tile.truncate(width.into());
        Ok(tile)
    }
}

fn full_tile_root<R: ReadTiles>(
    reader: &R,
    level: u8,
    index: u64,
) -> Result<Hash, TileError<R::Error>> {
    let tile = reader.tile(level, index, TILE_WIDTH);
    let tile = tile.map_err(|source| TileError::Read {
        level,
        index,
        source,
    })?;
    let root = tile.get(..TILE_WIDTH.into()).and_then(subtree_root);
    root.ok_or(TileError::Short {
        level,
        index,
        wanted: TILE_WIDTH,
        got: tile.len(),
    })
}

/// The highest level that has a hash.
fn top_level(size: u64) -> u8 {
    let level = size.checked_ilog2().unwrap_or(0) / TILE_HEIGHT;
    u8::try_from(level).unwrap_or(u8::MAX)
}

/// The roots of the complete subtrees of the tree, the largest first: those of the highest
/// level's tail, then those of the next one.
fn peaks_of(size: u64, tails: &[Vec<Hash>]) -> Vec<Hash> {
    let peak = |(height, index): (u32, u64)| {
        let tail = tails.get(usize::try_from(height / TILE_HEIGHT).ok()?)?;
        let rise = height % TILE_HEIGHT;
        let start = usize::from((index << rise).to_le_bytes()[0]);
        subtree_root(tail.get(start..start + (1 << rise))?)
    };
    // INVARIANT: the tails hold what the size says, so every peak is in them.
    complete_subtrees(0, size).filter_map(peak).collect()
}
