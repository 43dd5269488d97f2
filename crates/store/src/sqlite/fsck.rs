//! The check of a whole database: every entry read again, every table that follows from them.

mod hot;
mod replay;

use std::path::Path;

use dayfly_domain::{Name, TaskId};
use dayfly_ledger::tile::{TILE_WIDTH, encode_hashes};
use dayfly_ledger::{Fsck, FullTile, Hash};
use rusqlite::{Connection, OptionalExtension};

use self::replay::Replay;
use super::entries::{COLUMNS, Entries, bundle_error};
use super::schema::open_reader;
use super::value::{count, entry_id, int, parsed, position};
use super::{BUNDLES, OpenError};
use crate::BundleError;

/// A database that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsckReport {
    /// Each tenant, in the order of their first entries.
    pub tenants: Vec<TenantReport>,
}

/// A tenant whose ledger holds, but for bundles that were lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantReport {
    /// Its name.
    pub name: Name,
    /// How many entries it has.
    pub size: u64,
    /// The root over them, recomputed.
    pub root: Hash,
    /// How many of its tasks are open.
    pub open: u64,
    /// Bundles of dropped entries that are missing or damaged. Their leaf hashes hold as part of
    /// the tree; what the entries say is not there.
    pub lost: Vec<BundleError>,
}

/// Why a database does not hold, or cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum FsckFailure {
    /// It cannot be opened.
    #[error("the database cannot be opened")]
    Open(#[from] OpenError),
    /// It cannot be read.
    #[error("the database cannot be read")]
    Database(#[from] rusqlite::Error),
    /// SQLite itself finds the file damaged.
    #[error("sqlite finds the file damaged: {0}")]
    Integrity(String),
    /// The entries are not a ledger, or not the one that was committed.
    #[error("the ledger of `{tenant}` does not hold")]
    Ledger {
        /// The tenant.
        tenant: Name,
        /// The first position that differs, what was wanted and what was got.
        source: Box<dayfly_ledger::FsckError>,
    },
    /// What is stored beside an entry does not fit it.
    #[error("the {what} of `{tenant}` at position {pos} is {got} instead of {wanted}")]
    Beside {
        /// The tenant.
        tenant: Name,
        /// The position.
        pos: u64,
        /// What of it.
        what: &'static str,
        /// What it should be.
        wanted: String,
        /// What it is.
        got: String,
    },
    /// A tile is missing, doubled or holds other hashes.
    #[error("tile {index} of level {level} of `{tenant}` is not that of the entries")]
    Tile {
        /// The tenant.
        tenant: Name,
        /// Its level.
        level: u8,
        /// Its index in the level.
        index: u64,
    },
    /// A table of what is open now differs from what the entries say.
    #[error("{table} of `{tenant}`, {task}: {got} instead of {wanted}")]
    Hot {
        /// The tenant.
        tenant: Name,
        /// The table.
        table: &'static str,
        /// The task that it is about.
        task: String,
        /// What the entries say.
        wanted: String,
        /// What the table says.
        got: String,
    },
}

/// Checks a database, served or not, with the bundles beside it. See [`fsck_with`].
///
/// # Errors
/// The first [`FsckFailure`].
pub fn fsck(path: &Path) -> Result<FsckReport, FsckFailure> {
    fsck_with(path, &path.with_file_name(BUNDLES))
}

/// Checks a database, served or not, as of one moment, with the bundles of a folder. Nothing is written. Memory grows with the
/// open tasks of one tenant, not with history.
///
/// # Errors
/// The first [`FsckFailure`].
pub fn fsck_with(path: &Path, bundles: &Path) -> Result<FsckReport, FsckFailure> {
    let db = open_reader(path)?;
    let snapshot = db.unchecked_transaction()?;
    check_integrity(&snapshot)?;
    let tenants = snapshot
        .prepare("SELECT id, name, size, root, at FROM tenants ORDER BY id")?
        .query_map([], |row| {
            Ok(Tenant {
                number: row.get(0)?,
                name: parsed(row, 1)?,
                size: count(row, 2)?,
                root: Hash(row.get(3)?),
                at: count(row, 4)?,
            })
        })?
        .collect::<Result<Vec<_>, _>>()?;
    let mut report = FsckReport {
        tenants: Vec::new(),
    };
    for tenant in tenants {
        report
            .tenants
            .push(check_tenant(&Entries::new(&snapshot, bundles), tenant)?);
    }
    Ok(report)
}

fn check_integrity(db: &Connection) -> Result<(), FsckFailure> {
    let found: String = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found == "ok" {
        Ok(())
    } else {
        Err(FsckFailure::Integrity(found))
    }
}

/// A tenant as its last commit left it.
struct Tenant {
    number: u32,
    name: Name,
    size: u64,
    root: Hash,
    at: u64,
}

fn check_tenant(stored: &Entries<'_>, tenant: Tenant) -> Result<TenantReport, FsckFailure> {
    let ledger = |error| FsckFailure::Ledger {
        tenant: tenant.name.clone(),
        source: Box::new(error),
    };
    let mut fsck = Fsck::new(tenant.name.as_str());
    let mut replay = Replay::new(&tenant.name);
    let mut tiles = 0;
    let mut lost = Vec::new();
    let db = stored.db;
    let mut entries = db.prepare(&format!(
        "SELECT {COLUMNS}, task, seq FROM entries WHERE id BETWEEN ?1 AND ?2 ORDER BY id"
    ))?;
    let range = (
        entry_id(tenant.number, 0),
        entry_id(tenant.number, u64::MAX),
    );
    let mut rows = entries.query(range)?;
    while let Some(row) = rows.next()? {
        let task = row.get::<_, Option<[u8; 16]>>(5)?.map(TaskId);
        let seq = row.get::<_, Option<i64>>(6)?.map(super::value::uint);
        let entry = match stored.read(tenant.number, row) {
            Ok(entry) => Ok(entry),
            Err(error) => Err(bundle_error(&error).cloned().ok_or(error)?),
        };
        let full = match &entry {
            Ok(entry) => fsck.feed(entry.pos, entry.leaf.as_bytes(), &entry.hash),
            Err(_) => {
                let named = task.map(|task| task.to_string());
                let (pos, hash) = (position(row.get(0)?), Hash(row.get(2)?));
                fsck.pass(pos, named.as_deref().zip(seq), &hash)
            }
        };
        for tile in full.map_err(ledger)? {
            check_tile(db, &tenant, &tile)?;
            tiles += 1;
        }
        match entry {
            Ok(entry) => replay.feed(&entry, task, seq)?,
            Err(why) => {
                replay.pass(task);
                if lost.last().map(BundleError::path) != Some(why.path()) {
                    lost.push(why);
                }
            }
        }
    }
    fsck.finish(tenant.size, &tenant.root).map_err(ledger)?;
    replay.finish(tenant.size, tenant.at)?;
    check_no_other_tiles(db, &tenant, tiles)?;
    let open = replay.into_open();
    hot::check(db, (tenant.number, &tenant.name), &open)?;
    Ok(TenantReport {
        name: tenant.name,
        size: tenant.size,
        root: tenant.root,
        open: open.len() as u64,
        lost,
    })
}

fn check_tile(db: &Connection, tenant: &Tenant, tile: &FullTile) -> Result<(), FsckFailure> {
    let stored: Option<Vec<u8>> = db
        .prepare_cached("SELECT hashes FROM tiles WHERE tenant = ?1 AND level = ?2 AND idx = ?3")?
        .query_row((tenant.number, tile.level, int(tile.index)), |row| {
            row.get(0)
        })
        .optional()?;
    if stored.is_some_and(|stored| stored == encode_hashes(&tile.hashes)) {
        return Ok(());
    }
    Err(FsckFailure::Tile {
        tenant: tenant.name.clone(),
        level: tile.level,
        index: tile.index,
    })
}

/// Finds tiles that the entries do not complete, given how many they do.
fn check_no_other_tiles(db: &Connection, tenant: &Tenant, tiles: u64) -> Result<(), FsckFailure> {
    let stored = db.query_row(
        "SELECT count(*), max(level), max(idx) FROM tiles WHERE tenant = ?1",
        [tenant.number],
        |row| {
            let level = row.get::<_, Option<u8>>(1)?.unwrap_or_default();
            let index = row.get::<_, Option<i64>>(2)?.map_or(0, position);
            Ok((count(row, 0)?, level, index))
        },
    )?;
    if stored.0 == tiles {
        return Ok(());
    }
    Err(FsckFailure::Tile {
        tenant: tenant.name.clone(),
        level: stored.1,
        index: stored.2.max(tenant.size / u64::from(TILE_WIDTH)),
    })
}
