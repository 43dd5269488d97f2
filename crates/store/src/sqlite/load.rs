//! Reads the committed state back: at start, and after a commit whose fate is not known.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::ScopedJoinHandle;

use dayfly_domain::{Block, Name, Span, TaskId, Time};
use dayfly_ledger::tile::{TILE_WIDTH, parse_hashes};
use dayfly_ledger::{Hash, ReadTiles, TileWriter};
use rusqlite::{Connection, OptionalExtension, Row};

use super::hearing::Hearing;
use super::known::{Known, Print};
use super::partition::Partitions;
use super::people;
use super::relied::Relied;
use super::schema::open_reader;
use super::value::{count, entry_id, parsed, position, task, time, uint};
use super::view::{Held, TenantView, View, lock};
use super::{OpenError, SqliteOptions};

/// What the writer keeps beside the view.
#[derive(Debug, Default)]
pub(super) struct Keep {
    /// The row of the next task.
    pub(super) next_row: i64,
    /// The minute up to which starts that count no longer are forgotten.
    pub(super) starts_forgotten: u64,
    /// The day up to which all was over when it was looked at last, and since when, by the monotonic
    /// clock.
    pub(super) over: Option<(u64, Span)>,
    /// How often a client did what is counted.
    pub(super) counters: Counters,
    /// Prints of the claims and spent keys that the batch under way has written.
    pub(super) prints: Vec<Print>,
    /// The folder of bundles.
    pub(super) bundles: PathBuf,
}

/// Counts of uses, by tenant and task, then by client and name.
type Counters = HashMap<(u32, TaskId), HashMap<(u32, String), u64>>;

/// Reads everything that is held in memory, all at one position.
pub(super) fn load(db: &Connection) -> Result<(View, Keep), OpenError> {
    let snapshot = db.unchecked_transaction()?;
    let mut view = View {
        commits: commits(&snapshot)?,
        partitions: Arc::new(Partitions::load(&snapshot)?),
        ..View::default()
    };
    load_tenants(&snapshot, &mut view)?;
    load_small(&snapshot, &mut view)?;
    people::load(&snapshot, &mut view)?;
    let next_row = load_tasks(&snapshot, &mut view)?;
    for tenant in &view.tenants {
        let hearing = lock(&tenant.hearing);
        let mut due = lock(&tenant.due);
        for (id, held) in &tenant.open {
            due.list(*id, held, &hearing);
        }
        due.compare_all();
    }
    let counters = load_counters(&snapshot)?;
    Ok((
        view,
        Keep {
            next_row,
            counters,
            starts_forgotten: 0,
            over: None,
            prints: Vec::new(),
            bundles: PathBuf::new(),
        },
    ))
}

/// The same for the one who writes, with what rows of claims and spent keys there are: these are
/// read meanwhile on a thread of their own.
pub(super) fn load_to_write(
    db: &Connection,
    options: &SqliteOptions,
) -> Result<(View, Keep), OpenError> {
    std::thread::scope(|threads| {
        let known = std::thread::Builder::new()
            .name("dayfly-known".into())
            .spawn_scoped(threads, || {
                Ok::<_, OpenError>(Known::load(&open_reader(&options.path)?)?)
            });
        let (mut view, mut keep) = load(db)?;
        keep.bundles.clone_from(&options.bundles);
        // Without them every answer lies in the rows, as it does for those who only read.
        match known.map(ScopedJoinHandle::join) {
            Ok(Ok(known)) => view.known = Some(known?),
            Ok(Err(_)) => tracing::error!("the prints of claims could not be read for a panic"),
            Err(error) => tracing::error!(%error, "no thread to read the prints of claims with"),
        }
        Ok((view, keep))
    })
}

/// How many commits there have been.
pub(super) fn commits(db: &Connection) -> rusqlite::Result<u64> {
    db.prepare_cached("SELECT n FROM commits")?
        .query_row([], |row| count(row, 0))
}

fn load_tenants(db: &Connection, view: &mut View) -> Result<(), OpenError> {
    let mut tenants =
        db.prepare("SELECT id, name, size, at, root, revision, alive FROM tenants ORDER BY id")?;
    let mut rows = tenants.query([])?;
    while let Some(row) = rows.next()? {
        let number: u32 = row.get(0)?;
        let name: Name = parsed(row, 1)?;
        let size = count(row, 2)?;
        let (tree, last) = restore_tree(db, number, size)?;
        if usize::try_from(number) != Ok(view.tenants.len())
            || last != size
            || tree.root() != Hash(row.get(4)?)
        {
            return Err(OpenError::Damaged { tenant: name });
        }
        let alive = row
            .get::<_, Option<i64>>(6)?
            .map(|at| Time::from_millis(uint(at)));
        view.numbers.insert(name, number);
        view.tenants.push(TenantView {
            tree,
            at: time(row, 3)?,
            revision: count(row, 5)?,
            hearing: Mutex::new(Hearing::restored(alive, load_deaf(db, number)?)),
            ..TenantView::default()
        });
    }
    Ok(())
}

/// The tree as its tiles and last leaves give it, and how many entries there are.
fn restore_tree(db: &Connection, tenant: u32, size: u64) -> Result<(TileWriter, u64), OpenError> {
    let last = db
        .query_row(
            "SELECT max(id) FROM entries WHERE id BETWEEN ?1 AND ?2",
            (entry_id(tenant, 0), entry_id(tenant, u64::MAX)),
            |row| row.get::<_, Option<i64>>(0),
        )?
        .map_or(0, |id| position(id) + 1);
    let first = size - size % u64::from(TILE_WIDTH);
    let mut leaves = db.prepare_cached("SELECT hash FROM entries WHERE id >= ?1 AND id < ?2")?;
    let tail = leaves
        .query_map((entry_id(tenant, first), entry_id(tenant, size)), |row| {
            row.get(0).map(Hash)
        })?
        .collect::<Result<Vec<_>, _>>()?;
    let tree = TileWriter::restore(size, &Tiles { db, tenant }, &tail)
        .map_err(|error| OpenError::Tree(error.to_string()))?;
    Ok((tree, last))
}

/// The full tiles of a tenant.
pub(super) struct Tiles<'d> {
    pub(super) db: &'d Connection,
    pub(super) tenant: u32,
}

impl ReadTiles for Tiles<'_> {
    type Error = OpenError;

    fn tile(&self, level: u8, index: u64, width: u16) -> Result<Vec<Hash>, OpenError> {
        let mut tiles = self.db.prepare_cached(
            "SELECT hashes FROM tiles WHERE tenant = ?1 AND level = ?2 AND idx = ?3",
        )?;
        let hashes = tiles
            .query_row((self.tenant, level, super::value::int(index)), |row| {
                Ok(parse_hashes(row.get_ref(0)?.as_blob()?))
            })
            .optional()?;
        let mut hashes = match hashes {
            Some(Ok(hashes)) => hashes,
            Some(Err(error)) => return Err(OpenError::Tree(error.to_string())),
            None => Vec::new(),
        };
        hashes.truncate(width.into());
        Ok(hashes)
    }
}

fn load_deaf(db: &Connection, tenant: u32) -> rusqlite::Result<Vec<(Time, Time)>> {
    db.prepare_cached("SELECT since, until FROM deaf WHERE tenant = ?1 ORDER BY since")?
        .query_map([tenant], |row| Ok((time(row, 0)?, time(row, 1)?)))?
        .collect()
}

fn load_small(db: &Connection, view: &mut View) -> Result<(), OpenError> {
    each(
        db,
        "SELECT tenant, of, value FROM epochs ORDER BY tenant, id",
        view,
        |tenant, row| {
            let of = json(row, 1)?;
            Arc::make_mut(&mut tenant.epochs).set(&of, count(row, 2)?);
            Ok(())
        },
    )?;
    each(
        db,
        "SELECT tenant, block FROM blocks ORDER BY tenant, target",
        view,
        |tenant, row| {
            tenant.blocks.set(json::<Block>(row, 1)?);
            Ok(())
        },
    )?;
    each(
        db,
        "SELECT tenant, workload, minute, n FROM starts",
        view,
        |tenant, row| {
            let tally = tenant.tallies.entry(parsed(row, 1)?).or_default();
            tally.add(count(row, 2)?, count(row, 3)?);
            Ok(())
        },
    )
}

/// Reads rows whose first column is a tenant's number.
fn each(
    db: &Connection,
    sql: &str,
    view: &mut View,
    mut read: impl FnMut(&mut TenantView, &Row<'_>) -> rusqlite::Result<()>,
) -> Result<(), OpenError> {
    let mut statement = db.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let Some(tenant) = view.tenant_mut(row.get(0)?) {
            read(tenant, row)?;
        }
    }
    Ok(())
}

pub(super) fn json<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    serde_json::from_str(row.get_ref(column)?.as_str()?)
        .map_err(|error| rusqlite::types::FromSqlError::Other(error.into()).into())
}

/// One scan of the open tasks beside one of what was heard; no snapshot is decoded.
fn load_tasks(db: &Connection, view: &mut View) -> Result<i64, OpenError> {
    let mut seen = db.prepare("SELECT row, at FROM seen ORDER BY row")?;
    let mut seen = seen.query([])?;
    let mut heard: Option<(i64, i64)> = None;
    let mut open: HashMap<(u32, String), u64> = HashMap::new();
    let mut tasks = db.prepare(
        "SELECT tenant, row, id, version, hash, deadline, grace, linger, relied, snapshot, workload
         FROM tasks ORDER BY row",
    )?;
    let mut rows = tasks.query([])?;
    let mut last = 0;
    while let Some(row) = rows.next()? {
        let held = read_held(row)?;
        last = held.row;
        while heard.is_none_or(|(row, _)| row < held.row) {
            let Some(next) = seen.next()? else { break };
            heard = Some((next.get(0)?, next.get(1)?));
        }
        if let Some((_, at)) = heard.filter(|(row, _)| *row == held.row) {
            held.seen.store(uint(at), Ordering::Relaxed);
        }
        let number: u32 = row.get(0)?;
        let workload = row.get_ref(10)?.as_str().map_err(rusqlite::Error::from)?;
        count_open(&mut open, number, workload);
        if let Some(tenant) = view.tenant_mut(number) {
            tenant.open.insert(task(row, 2)?, Arc::new(held));
        }
    }
    for ((number, workload), open) in open {
        if let (Some(tenant), Ok(workload)) = (view.tenant_mut(number), workload.parse()) {
            tenant.tallies.entry(workload).or_default().open = open;
        }
    }
    Ok(last + 1)
}

fn count_open(open: &mut HashMap<(u32, String), u64>, tenant: u32, workload: &str) {
    *open.entry((tenant, workload.to_owned())).or_default() += 1;
}

/// Reads an open task beside its snapshot.
pub(super) fn read_held(row: &Row<'_>) -> rusqlite::Result<Held> {
    let at = |column| -> rusqlite::Result<Option<u64>> {
        Ok(row.get::<_, Option<i64>>(column)?.map(uint))
    };
    Ok(Held {
        row: row.get(1)?,
        version: count(row, 3)?,
        hash: Hash(row.get(4)?),
        deadline: time(row, 5)?,
        grace: at(6)?.map(Span::from_millis),
        linger: at(7)?.map(Time::from_millis),
        relied: Relied::from_bytes(row.get_ref(8)?.as_blob()?),
        seen: 0.into(),
        listed: 0.into(),
        snapshot: row.get_ref(9)?.as_blob()?.into(),
    })
}

fn load_counters(db: &Connection) -> rusqlite::Result<Counters> {
    let mut counters = Counters::new();
    let mut statement = db.prepare("SELECT tenant, task, client, name, n FROM counters")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        counters
            .entry((row.get(0)?, task(row, 1)?))
            .or_default()
            .insert((row.get(2)?, row.get(3)?), count(row, 4)?);
    }
    Ok(counters)
}

/// Keeps what was heard since the last commit over a reload, which only knows what was saved.
pub(super) fn keep_heard(old: &View, new: &View) {
    for (old, new) in old.tenants.iter().zip(&new.tenants) {
        let mut hearing = lock(&new.hearing);
        hearing.clone_from(&lock(&old.hearing));
        let mut due = lock(&new.due);
        for (id, held) in &new.open {
            let seen = old.open.get(id).and_then(|held| held.last_seen());
            if seen.is_some_and(|seen| held.hear(seen)) {
                due.list(*id, held, &hearing);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::sqlite::view::Epochs;

    #[test]
    fn epochs_keep_their_numbers() {
        use dayfly_domain::EpochOf;
        let mut epochs = Epochs::default();
        assert_eq!(epochs.set(&EpochOf::Tenant, 0), 0);
        assert_eq!(epochs.set(&EpochOf::Issuer("a".parse().unwrap()), 3), 1);
        assert_eq!(epochs.set(&EpochOf::Tenant, 1), 0);
        assert_eq!(epochs.moved_since(&[(1, 3)]), None);
        assert_eq!(
            epochs.moved_since(&[(1, 3), (0, 0)]),
            Some(&EpochOf::Tenant)
        );
    }
}
