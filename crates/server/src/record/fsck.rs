//! The check of a whole ledger against its stored hashes, tiles, annexes and open tasks.

use std::collections::BTreeSet;

use dayfly_domain::{Name, TaskId};
use dayfly_ledger::{Fsck, FsckError, FullTile, Hash, annex_hash};
use dayfly_store::{EntryRange, OpenFilter, Store, StoredEntry, Unavailable};
use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::error::RecordError;
use super::task::{Found, replay};

/// A ledger that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// How many entries it has.
    pub size: u64,
    /// The root of its tree.
    pub root: Hash,
    /// How many tasks are open.
    pub open: u64,
    /// How many annexes were erased.
    pub erased: u64,
}

/// Where a ledger first differs.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// An entry, the number of entries or their root differ.
    #[error(transparent)]
    Ledger(#[from] FsckError),
    /// An annex is not the one its entry was made with.
    #[error("the annex of the entry at position {pos} is not the one it was made with")]
    Annex {
        /// The position.
        pos: u64,
    },
    /// A stored tile is not that of the entries.
    #[error("tile {index} of level {level} differs from the entry at position {pos}")]
    Tile {
        /// Level of the tile.
        level: u8,
        /// Index of the tile in its level.
        index: u64,
        /// The first position under the first hash that differs.
        pos: u64,
    },
    /// The table of open tasks is not what the entries come to.
    #[error("{task} stands among the open tasks as its entries do not say")]
    Open {
        /// The task.
        task: TaskId,
        /// The position of its last entry, or the size of the ledger where it has none.
        pos: u64,
    },
}

impl CheckError {
    /// The first position that differs, where there is one.
    #[must_use]
    pub const fn position(&self) -> Option<u64> {
        match self {
            Self::Record(RecordError::Damaged { pos, .. })
            | Self::Ledger(FsckError::Entry { pos, .. })
            | Self::Annex { pos }
            | Self::Tile { pos, .. }
            | Self::Open { pos, .. } => Some(*pos),
            Self::Ledger(FsckError::Size { wanted, got }) => {
                Some(if *got < *wanted { *got } else { *wanted })
            }
            Self::Ledger(FsckError::Root { .. }) | Self::Record(_) => None,
        }
    }
}

impl From<Unavailable> for CheckError {
    fn from(why: Unavailable) -> Self {
        Self::Record(why.into())
    }
}

/// How many entries are read at once.
const PAGE: usize = 1024;

/// Checks a tenant's ledger entry by entry, up to the head that it has at the beginning. It may
/// grow meanwhile; open tasks are compared where it does not.
///
/// # Errors
/// [`CheckError`] with the first thing that differs.
pub fn check(store: &dyn Store, tenant: &Name) -> Result<Checked, CheckError> {
    let head = store.head(tenant)?;
    let mut fsck = Fsck::new(tenant.as_str());
    let mut erased = 0;
    while fsck.size() < head.size {
        let left = usize::try_from(head.size - fsck.size()).unwrap_or(PAGE);
        let page = store.entries(tenant, EntryRange::From(fsck.size()), left.min(PAGE))?;
        if page.is_empty() {
            break;
        }
        for stored in &page {
            let full = fsck.feed(stored.pos, stored.leaf.as_bytes(), &stored.hash)?;
            erased += u64::from(check_annex(stored)?);
            for tile in full {
                check_tile(store, tenant, &tile)?;
            }
        }
    }
    fsck.finish(head.size, &head.root)?;
    let open = check_open(store, tenant, &fsck)?;
    Ok(Checked {
        size: head.size,
        root: head.root,
        open,
        erased,
    })
}

/// Compares an annex with its leaf; true where it was erased.
fn check_annex(stored: &StoredEntry) -> Result<bool, CheckError> {
    let pos = stored.pos;
    let leaf = dayfly_ledger::ReadLeaf::parse(stored.leaf.as_bytes()).map_err(|why| {
        RecordError::Damaged {
            pos,
            why: why.to_string(),
        }
    })?;
    match (leaf.leaf.h, &stored.annex) {
        (None, None) => Ok(false),
        (Some(_), None) => Ok(true),
        (Some(h), Some(annex)) if annex_hash(&annex.salt, annex.data.as_bytes()) == h => Ok(false),
        (Some(_) | None, Some(_)) => Err(CheckError::Annex { pos }),
    }
}

fn check_tile(store: &dyn Store, tenant: &Name, tile: &FullTile) -> Result<(), CheckError> {
    let stored = store.tile(
        tenant,
        tile.level,
        tile.index,
        dayfly_ledger::tile::TILE_WIDTH,
    )?;
    if stored == tile.hashes {
        return Ok(());
    }
    let held = tile
        .hashes
        .iter()
        .zip(&stored)
        .take_while(|(a, b)| a == b)
        .count();
    let width = u64::from(dayfly_ledger::tile::TILE_WIDTH);
    let under = width.saturating_pow(u32::from(tile.level));
    Err(CheckError::Tile {
        level: tile.level,
        index: tile.index,
        pos: (tile.index * width + held as u64).saturating_mul(under),
    })
}

/// Compares the open tasks with what their entries come to, unless the ledger has grown.
fn check_open(store: &dyn Store, tenant: &Name, fsck: &Fsck) -> Result<u64, CheckError> {
    let mut wanted: BTreeSet<&str> = fsck.open_tasks().collect();
    let open = wanted.len() as u64;
    let mut differs = None;
    let mut cursor = None;
    loop {
        let page = store.open(tenant, &OpenFilter::All, cursor, PAGE)?;
        let Some(last) = page.last() else { break };
        cursor = Some(last.task.id);
        for task in page {
            let id = task.task.id;
            let known = wanted.remove(id.to_string().as_str());
            if !known || !same(store, tenant, &Found::from(task))? {
                differs = differs.or(Some(id));
            }
        }
    }
    let missing = wanted.first().and_then(|id| id.parse().ok());
    let Some(task) = differs.or(missing) else {
        return Ok(open);
    };
    if store.head(tenant)?.size > fsck.size() {
        // It moved under the check: what differs may be what happened meanwhile.
        return Ok(open);
    }
    Err(CheckError::Open {
        task,
        pos: last_position(store, tenant, task)?.unwrap_or(fsck.size()),
    })
}

/// Whether an open task is what its entries come to.
fn same(store: &dyn Store, tenant: &Name, open: &Found) -> Result<bool, RecordError> {
    let replayed = replay(store, tenant, open.task.id)?;
    Ok(replayed.is_some_and(|replayed| replayed.task == open.task))
}

fn last_position(
    store: &dyn Store,
    tenant: &Name,
    task: TaskId,
) -> Result<Option<u64>, RecordError> {
    let mut last = None;
    super::entry::each_of(store, tenant, task, |stored| {
        last = Some(Entry::read(stored)?.pos);
        Ok(())
    })?;
    Ok(last)
}
