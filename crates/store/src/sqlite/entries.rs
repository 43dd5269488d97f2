//! The entries of a database, wherever their bytes lie: in their rows, or in bundles once dropped.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;

use dayfly_domain::{Name, TaskId};
use dayfly_ledger::Hash;
use rusqlite::{Connection, OptionalExtension as _, Row, types::Type};

use super::judge::{Failure, Place};
use super::record::Desk;
use super::value::{entry_id, position};
use crate::bundle::{self, BUNDLE_ENTRIES, Bundle, BundleError, damaged};
use crate::{Annex, AppendError, StoredEntry};

/// What [`Entries::read`] wants of a row, in this order and before anything else.
pub(super) const COLUMNS: &str = "id, leaf, hash, salt, annex";

/// How many bundles are kept at hand: tasks begin in one and end in the next.
const AT_HAND: usize = 4;

/// Reads entries. A row whose leaf is empty, which no leaf is, was dropped: it keeps its task, its
/// place in it and its leaf hash, and what it had besides stands in the bundle of its tile.
pub(super) struct Entries<'d> {
    pub(super) db: &'d Connection,
    bundles: &'d Path,
    /// The bundles that were read last, with the numbers of their tenants: neighbours lie in one.
    last: RefCell<VecDeque<(u32, Bundle)>>,
}

impl<'d> Entries<'d> {
    pub(super) fn new(db: &'d Connection, bundles: &'d Path) -> Self {
        Self {
            db,
            bundles,
            last: RefCell::default(),
        }
    }

    /// Reads an entry of a tenant from a row of [`COLUMNS`]. What is wrong with a bundle is told
    /// by [`bundle_error`].
    pub(super) fn read(&self, tenant: u32, row: &Row<'_>) -> rusqlite::Result<StoredEntry> {
        let pos = position(row.get(0)?);
        let leaf: String = row.get(1)?;
        let hash = Hash(row.get(2)?);
        if leaf.is_empty() {
            return self.read_dropped(tenant, pos, hash);
        }
        let salt: Option<[u8; 16]> = row.get(3)?;
        let data: Option<String> = row.get(4)?;
        let annex = salt.zip(data).map(|(salt, data)| Annex { salt, data });
        Ok(StoredEntry {
            pos,
            leaf,
            hash,
            annex,
        })
    }

    fn read_dropped(&self, tenant: u32, pos: u64, hash: Hash) -> rusqlite::Result<StoredEntry> {
        let found = |bundle: &Bundle| {
            let place = usize::try_from(pos.checked_sub(bundle.first())?).ok()?;
            let entry = bundle.entries().get(place)?;
            (entry.hash == hash).then(|| entry.clone())
        };
        let mut last = self.last.borrow_mut();
        let mut of_tenant = last.iter().filter(|(of, _)| *of == tenant);
        if let Some(entry) = of_tenant.find_map(|(_, bundle)| found(bundle)) {
            return Ok(entry);
        }
        let name: Option<String> = self
            .db
            .prepare_cached("SELECT name FROM tenants WHERE id = ?1")?
            .query_row([tenant], |row| row.get(0))
            .optional()?;
        let path = bundle::path(self.bundles, &name.unwrap_or_default(), pos);
        let bundle = Bundle::read(&path).map_err(broken)?;
        let entry = found(&bundle).ok_or_else(|| {
            let why = format!("at position {pos}: not the entry of this ledger");
            broken(damaged(&path, &why))
        })?;
        last.truncate(AT_HAND - 1);
        last.push_front((tenant, bundle));
        Ok(entry)
    }
}

fn broken(error: BundleError) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(1, Type::Text, Box::new(error))
}

/// What is wrong with a bundle, where that is why an entry could not be read.
pub(super) fn bundle_error(error: &rusqlite::Error) -> Option<&BundleError> {
    let rusqlite::Error::FromSqlConversionFailure(_, _, source) = error else {
        return None;
    };
    source.downcast_ref()
}

/// What an error says, without what surrounds a bundle's.
pub(super) fn said(error: &rusqlite::Error) -> String {
    bundle_error(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// A range that is to be dropped, and what its bundle holds.
#[derive(Debug)]
pub(super) struct Dropping {
    pub(super) range: Range<u64>,
    /// The leaf hash of each entry, and whether its annex is there.
    held: Vec<(Hash, bool)>,
}

impl Dropping {
    /// Reads the bundle of a range that is to be dropped.
    pub(super) fn read(
        folder: &Path,
        tenant: &Name,
        range: Range<u64>,
    ) -> Result<Self, BundleError> {
        let tenant = tenant.as_str();
        let path = bundle::path(folder, tenant, range.start);
        let bundle = Bundle::read(&path)?;
        if range != (bundle.first()..bundle.first() + BUNDLE_ENTRIES) || bundle.tenant() != tenant {
            return Err(damaged(&path, &"it is of other entries"));
        }
        let entries = bundle.entries().iter();
        Ok(Self {
            range,
            held: entries
                .map(|entry| (entry.hash, entry.annex.is_some()))
                .collect(),
        })
    }
}

/// What stays of an entry that is dropped.
pub(super) struct Kept {
    id: i64,
    task: Option<TaskId>,
    seq: Option<i64>,
    hash: Hash,
}

impl Place<'_> {
    /// What stays of the entries of a range. Refused as a conflict where the bundle holds other
    /// entries or annexes than the rows, a task of them is open, or no entry comes after them.
    pub(super) fn judge_drop(&self, dropping: &Dropping) -> Result<Vec<Kept>, Failure> {
        let Range { start, end } = dropping.range;
        if end >= self.draft.tree.size() {
            return Err(AppendError::Conflict.into());
        }
        let mut rows = self.db.prepare_cached(
            "SELECT id, task, seq, hash, annex IS NOT NULL, leaf = '' FROM entries
             WHERE id >= ?1 AND id < ?2 ORDER BY id",
        )?;
        let mut rows = rows.query((entry_id(self.tenant, start), entry_id(self.tenant, end)))?;
        let mut kept = Vec::with_capacity(dropping.held.len());
        while let Some(row) = rows.next()? {
            let entry = Kept {
                id: row.get(0)?,
                task: row.get::<_, Option<[u8; 16]>>(1)?.map(TaskId),
                seq: row.get(2)?,
                hash: Hash(row.get(3)?),
            };
            let (is_annexed, is_dropped): (bool, bool) = (row.get(4)?, row.get(5)?);
            let is_open = |task| self.draft.task(task, self.view).is_some();
            if is_dropped
                || dropping.held.get(kept.len()) != Some(&(entry.hash, is_annexed))
                || entry.task.is_some_and(is_open)
            {
                return Err(AppendError::Conflict.into());
            }
            kept.push(entry);
        }
        if kept.len() != dropping.held.len() {
            return Err(AppendError::Conflict.into());
        }
        Ok(kept)
    }
}

impl Desk<'_> {
    /// Drops the bytes of entries. The rows are deleted and written anew: SQLite joins pages that
    /// deletes have emptied, so that they can be used again, and leaves apart those that updates
    /// have.
    pub(super) fn drop_entries(&mut self, kept: &[Kept]) -> rusqlite::Result<()> {
        for Kept { id, .. } in kept {
            self.db
                .prepare_cached("DELETE FROM entries WHERE id = ?1")?
                .execute([id])?;
        }
        for Kept {
            id,
            task,
            seq,
            hash,
        } in kept
        {
            self.db
                .prepare_cached(
                    "INSERT INTO entries (id, task, seq, leaf, hash) VALUES (?1, ?2, ?3, '', ?4)",
                )?
                .execute((id, task.map(|task| task.0), seq, hash.0))?;
        }
        Ok(())
    }
}
