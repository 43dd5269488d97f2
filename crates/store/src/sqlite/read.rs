//! Reads of committed state: from the view where it holds the answer, else from the database.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dayfly_domain::{Cause, Claim, ClaimState, Digest, Epoch, EpochOf, Name, TaskId};
use dayfly_ledger::tile::{TILE_WIDTH, width_at};
use dayfly_ledger::{Hash, ReadTiles};
use rusqlite::{Connection, Row};
use serde::Deserialize;

use super::SqliteOptions;
use super::close::closed;
use super::due::{compare_epochs, due_ids};
use super::entries::{COLUMNS, Entries, said};
use super::load::{Tiles, commits, load};
use super::partition::Partitions;
use super::people;
use super::schema::open_reader;
use super::spend::spent;
use super::value::{count, entry_id, int, parsed, task, uint};
use super::view::{Peeked, Published, TenantView, View, lock};
use crate::clock::Clock;
use crate::{
    EntryRange, Facts, FactsQuery, OpenFilter, OpenTask, StoredEntry, TreeHead, Unavailable,
};

/// How long a read waits until a commit it can see in the database is in the view too.
const LAG: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 5000 });

/// Reads one database file.
pub(super) struct Reader {
    pub(super) path: PathBuf,
    pub(super) bundles: PathBuf,
    pub(super) clock: Arc<dyn Clock>,
    /// Connections that nobody reads with now.
    pub(super) idle: Mutex<Vec<Connection>>,
    /// Whether no writer of this process keeps the view, so that reads do.
    pub(super) alone: bool,
}

impl Reader {
    pub(super) fn new(options: &SqliteOptions, alone: bool) -> Self {
        Self {
            path: options.path.clone(),
            bundles: options.bundles.clone(),
            clock: Arc::clone(&options.clock),
            idle: Mutex::default(),
            alone,
        }
    }

    pub(super) fn facts(
        &self,
        published: &Published,
        tenant: &Name,
        query: &FactsQuery<'_>,
    ) -> Result<Facts, Unavailable> {
        self.catch_up(published)?;
        let in_memory = {
            let view = published.read();
            let known = view.tenant(tenant);
            (!wants_rows(&view, known, query)).then(|| self.facts_in_memory(known, query))
        };
        if let Some((mut facts, tasks)) = in_memory {
            facts.tasks = decode(tasks)?;
            return Ok(facts);
        }
        self.with(|db| {
            loop {
                let snapshot = Snapshot::begin(db)?;
                let seen = commits(db)?;
                let view = published.read();
                if seen > view.commits {
                    // A commit that is still to be published: what is in memory would be older.
                    drop((view, snapshot));
                    if self.alone {
                        reload(db, published)?;
                    } else {
                        published.wait_for(seen, LAG)?;
                    }
                    continue;
                }
                if seen < view.commits {
                    continue;
                }
                let known = view.tenant(tenant);
                let number = known.map(|(number, _)| number);
                let partitions = Arc::clone(&view.partitions);
                let (mut facts, tasks) = self.facts_in_memory(known, query);
                drop(view);
                if let Some(number) = number {
                    read_rows(db, number, &partitions, query, &mut facts)?;
                }
                drop(snapshot);
                facts.tasks = decode(tasks)?;
                return Ok(facts);
            }
        })
    }

    fn facts_in_memory(
        &self,
        known: Option<(u32, &TenantView)>,
        query: &FactsQuery<'_>,
    ) -> (Facts, Vec<Option<Peeked>>) {
        let epoch = |at: u64, of: &EpochOf| Epoch { of: of.clone(), at };
        let Some((_, tenant)) = known else {
            let facts = Facts {
                standings: query.standings.iter().map(|_| None).collect(),
                epochs: query.epochs.iter().map(|of| epoch(0, of)).collect(),
                ..Facts::default()
            };
            return (facts, query.tasks.iter().map(|_| None).collect());
        };
        let hearing = lock(&tenant.hearing);
        let peek = |id| tenant.open.get(id).map(|held| tenant.peek(held, &hearing));
        let tasks = query.tasks.iter().map(peek).collect();
        let standing = |id| Some(tenant.standing(tenant.open.get(id)?, &hearing));
        let tally = query
            .counts
            .and_then(|workload| tenant.tallies.get(workload));
        let facts = Facts {
            standings: query.standings.iter().map(standing).collect(),
            counts: tally
                .map(|tally| tally.counts(self.clock.now()))
                .unwrap_or_default(),
            epochs: query
                .epochs
                .iter()
                .map(|of| epoch(tenant.value(of), of))
                .collect(),
            blocks: tenant.blocks.clone(),
            revision: tenant.revision,
            ..Facts::default()
        };
        (facts, tasks)
    }

    pub(super) fn open(
        &self,
        published: &Published,
        tenant: &Name,
        filter: &OpenFilter,
        (cursor, limit): (Option<TaskId>, usize),
    ) -> Result<Vec<OpenTask>, Unavailable> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.catch_up(published)?;
        if let OpenFilter::Due(_) = filter {
            compare_epochs(published, tenant);
        }
        let view = published.read();
        let Some((_, tenant)) = view.tenant(tenant) else {
            return Ok(Vec::new());
        };
        let ids = match filter {
            OpenFilter::All => {
                let after = cursor.map_or(Unbounded, Excluded);
                tenant
                    .open
                    .range((after, Unbounded))
                    .take(limit)
                    .map(|(id, _)| *id)
                    .collect()
            }
            OpenFilter::Due(now) => due_ids(tenant, *now, cursor, limit),
        };
        let hearing = lock(&tenant.hearing);
        let found: Vec<Peeked> = ids
            .iter()
            .filter_map(|id| tenant.open.get(id))
            .map(|held| tenant.peek(held, &hearing))
            .collect();
        drop(hearing);
        drop(view);
        found.into_iter().map(Peeked::decode).collect()
    }

    pub(super) fn entries(
        &self,
        published: &Published,
        tenant: &Name,
        range: EntryRange,
        limit: usize,
    ) -> Result<Vec<StoredEntry>, Unavailable> {
        self.catch_up(published)?;
        let (number, size) = match published.read().tenant(tenant) {
            Some((number, tenant)) => (number, tenant.tree.size()),
            None => return Ok(Vec::new()),
        };
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.with(|db| {
            let entries = Entries::new(db, &self.bundles);
            let read = |row: &Row<'_>| entries.read(number, row);
            // What is committed and not yet published ends beyond `size`.
            let rows = match range {
                EntryRange::From(first) => db
                    .prepare_cached(&format!(
                        "SELECT {COLUMNS} FROM entries
                         WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3"
                    ))?
                    .query_map(
                        (entry_id(number, first), entry_id(number, size), limit),
                        read,
                    )?
                    .collect(),
                EntryRange::Of(task, seq) => db
                    .prepare_cached(&format!(
                        "SELECT {COLUMNS} FROM entries
                         WHERE task = ?1 AND seq >= ?2 AND id >= ?3 AND id < ?4
                         ORDER BY task, seq LIMIT ?5"
                    ))?
                    .query_map(
                        (
                            task.0,
                            int(seq),
                            entry_id(number, 0),
                            entry_id(number, size),
                            limit,
                        ),
                        read,
                    )?
                    .collect::<rusqlite::Result<Vec<_>>>(),
            };
            Ok(rows?)
        })
    }

    pub(super) fn head(
        &self,
        published: &Published,
        tenant: &Name,
    ) -> Result<TreeHead, Unavailable> {
        self.catch_up(published)?;
        let view = published.read();
        Ok(match view.tenant(tenant) {
            Some((_, tenant)) => TreeHead {
                size: tenant.tree.size(),
                root: tenant.tree.root(),
                at: tenant.at,
            },
            None => TreeHead {
                size: 0,
                root: dayfly_ledger::empty_root(),
                at: dayfly_domain::Time::default(),
            },
        })
    }

    pub(super) fn tile(
        &self,
        published: &Published,
        tenant: &Name,
        (level, index, width): (u8, u64, u16),
    ) -> Result<Vec<Hash>, Unavailable> {
        self.catch_up(published)?;
        let missing = || Unavailable("the tree does not hold that tile".into());
        let view = published.read();
        let (number, tenant) = view.tenant(tenant).ok_or_else(missing)?;
        let present = width_at(tenant.tree.size(), level, index);
        if width > present {
            return Err(missing());
        }
        if present < TILE_WIDTH {
            let partial = tenant.tree.partial(level).iter();
            return Ok(partial.take(width.into()).copied().collect());
        }
        drop(view);
        let tile = self.with(|db| {
            let tiles = Tiles { db, tenant: number };
            tiles
                .tile(level, index, width)
                .map_err(|error| Unavailable(error.to_string()).into())
        })?;
        if tile.len() < usize::from(width) {
            return Err(missing());
        }
        Ok(tile)
    }

    /// Without a writer that keeps the view, reads everything anew when there was a commit.
    pub(super) fn catch_up(&self, published: &Published) -> Result<(), Unavailable> {
        if !self.alone {
            return Ok(());
        }
        self.with(|db| {
            if commits(db)? > published.read().commits {
                reload(db, published)?;
            }
            Ok(())
        })
    }

    /// Reads with a connection of its own.
    pub(super) fn with<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, ReadError>,
    ) -> Result<T, Unavailable> {
        let idle = lock(&self.idle).pop();
        let db = match idle {
            Some(db) => db,
            None => open_reader(&self.path).map_err(|error| Unavailable(error.to_string()))?,
        };
        let done = read(&db).map_err(|ReadError(why)| why);
        // A connection that failed is not worth keeping.
        if done.is_ok() {
            lock(&self.idle).push(db);
        }
        done
    }
}

fn reload(db: &Connection, published: &Published) -> Result<(), Unavailable> {
    let (view, _) = load(db).map_err(|error| Unavailable(error.to_string()))?;
    published.change(|old| *old = view);
    Ok(())
}

/// Why a read failed.
pub(super) struct ReadError(Unavailable);

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self(Unavailable(said(&error)))
    }
}

impl From<Unavailable> for ReadError {
    fn from(why: Unavailable) -> Self {
        Self(why)
    }
}

/// A read transaction; ends when dropped.
struct Snapshot<'d>(&'d Connection);

impl<'d> Snapshot<'d> {
    fn begin(db: &'d Connection) -> rusqlite::Result<Self> {
        db.prepare_cached("BEGIN")?.execute([])?;
        Ok(Self(db))
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        // A read transaction that cannot be ended keeps its connection from being used again,
        // which the next `BEGIN` on it says.
        let ended = self
            .0
            .prepare_cached("COMMIT")
            .and_then(|mut end| end.execute([]));
        if let Err(error) = ended {
            tracing::warn!(%error, "a read transaction could not be ended");
        }
    }
}

/// Whether an answer may lie in a row; where not, the memory alone has all of it.
fn wants_rows(view: &View, known: Option<(u32, &TenantView)>, query: &FactsQuery<'_>) -> bool {
    let Some((number, tenant)) = known else {
        return false;
    };
    let said = |person: &Digest| tenant.people.get(person).is_some();
    let claims = |(issuer, series): (&Name, &str)| view.may_hold_series(number, issuer, series);
    query.documents.is_some()
        || query.person.is_some_and(said)
        || query.series.is_some_and(claims)
        || query.one_time.is_some_and(|key| view.may_hold_key(key))
}

fn decode(tasks: Vec<Option<Peeked>>) -> Result<Vec<Option<OpenTask>>, Unavailable> {
    tasks
        .into_iter()
        .map(|task| task.map(Peeked::decode).transpose())
        .collect()
}

fn read_rows(
    db: &Connection,
    tenant: u32,
    partitions: &Partitions,
    query: &FactsQuery<'_>,
    facts: &mut Facts,
) -> rusqlite::Result<()> {
    if let (Some((issuer, series)), Some(sql)) = (query.series, &partitions.series) {
        facts.claims = db
            .prepare_cached(sql)?
            .query_map((tenant, issuer.as_str(), series), read_claim)?
            .collect::<Result<_, _>>()?;
    }
    if let Some((issuer, series)) = query.series {
        facts.closed = closed(db, partitions, (tenant, issuer, series))?;
    }
    if let Some(key) = query.one_time {
        facts.spent = spent(db, partitions, tenant, key)?;
    }
    if let Some(person) = query.person {
        facts.person = people::read(db, partitions, tenant, person)?;
    }
    if let Some(prefix) = query.documents {
        // Names that begin so lie together; the bytes of the prefix are compared, no pattern.
        facts.documents = db
            .prepare_cached(
                "SELECT name, bytes FROM documents WHERE tenant = ?1 AND name >= ?2
                   AND substr(name, 1, length(?2)) = ?2 ORDER BY name",
            )?
            .query_map((tenant, prefix), |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
    }
    Ok(())
}

pub(super) fn read_claim(row: &Row<'_>) -> rusqlite::Result<Claim> {
    let cause: Option<String> = row.get(5)?;
    Ok(Claim {
        key: row.get(1)?,
        workload: parsed(row, 2)?,
        attempt: row.get::<_, Option<i64>>(3)?.map(uint),
        task: task(row, 4)?,
        state: match cause {
            None => ClaimState::Open,
            Some(word) => ClaimState::Ended {
                cause: cause_of(&word)?,
                deadline: dayfly_domain::Time::from_millis(count(row, 6)?),
            },
        },
    })
}

fn cause_of(word: &str) -> rusqlite::Result<Cause> {
    let word = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(word);
    Cause::deserialize(word)
        .map_err(|error| rusqlite::types::FromSqlError::Other(error.into()).into())
}
